"""One run of a sweep, in a process of its own: trains it (or resumes it), then evaluates it."""

import json
import sys

from absl import flags

from robustjax import evaluation
from robustjax.cli import app, train
from robustjax.cli.evaluate import evaluate_run
from robustjax.files import Path
from robustjax.flags import define_flags
from robustjax.text import parse_number


def main() -> None:
    """Called by `robustjax.cli.sweep` with the evaluation's options and the training flags."""
    options = json.loads(sys.argv[1])
    options["step_size"] = parse_number(options["step_size"]) if options["step_size"] else None

    def train_and_evaluate() -> None:
        result = train.run_training()
        if not result.finished:
            raise app.CommandError("stopped; the same sweep resumes it")
        summary = evaluate_run(flags.FLAGS.workdir, quiet=True, **options)
        evaluation.write_report(summary, Path(flags.FLAGS.workdir))
        print("  ".join(evaluation.to_table(summary).split("\n")))

    app.run(train_and_evaluate, define_flags, description="", groups={}, arguments=sys.argv[2:])


if __name__ == "__main__":
    main()
