"""One run in a process of its own: trains it (or resumes it), then evaluates it, once or often."""

import json
import os
import signal
import sys
import threading
import time

from absl import flags

from robustjax import reports
from robustjax.cli import app, train
from robustjax.cli.evaluate import evaluate_run
from robustjax.cli.start import forget_working_directory
from robustjax.errors import UserError
from robustjax.flags import define_flags
from robustjax.text import parse_number


def main() -> None:
    """Called by `robustjax.cli.sweep.processes`: the evaluations' options, the training flags."""
    _stop_with(os.getppid())
    evaluations = json.loads(sys.argv[1])
    for options in evaluations:
        for name in ("step_size", "epsilon"):
            options[name] = parse_number(options[name]) if options.get(name) else None

    def train_and_evaluate() -> None:
        result = train.run_training()
        if not result.finished:
            raise UserError("stopped; the same sweep resumes it")
        whole_box = flags.FLAGS.allow_whole_box
        workdir = flags.FLAGS.workdir
        for options in evaluations:
            found = evaluate_run(
                workdir, quiet=True, resume=True, allow_whole_box=whole_box, **options
            )
            print("  ".join(reports.to_table(found.summary).split("\n")), flush=True)
            found.raise_failures()

    app.run(train_and_evaluate, define_flags, description="", groups={}, arguments=sys.argv[2:])


def _stop_with(parent: int) -> None:
    """Saves and stops when the sweep is gone, so that its restart finds nobody in the folder."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    forget_working_directory()
    main()
