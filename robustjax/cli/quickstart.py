"""`launch/quickstart.py`: natural training beside TRADES on real digits, in a few minutes."""

import dataclasses
import sys
import time

from absl import flags

from robustjax import installed, reports, training
from robustjax.cache import enable_compilation_cache
from robustjax.cli import app
from robustjax.cli.evaluate import evaluate_run
from robustjax.files import Path
from robustjax.flags import read_flags

DESCRIPTION = """\
Trains a small network on scikit-learn's digits twice, naturally and with TRADES, and attacks both.
Needs no network and no accelerator. A second call shows the results of the first again."""


def main() -> None:
    """Parses the command line and runs the comparison."""
    app.run(_main, _define_flags, description=DESCRIPTION, groups={"run": ["workdir"]})


def _define_flags() -> None:
    flags.DEFINE_string("workdir", "runs/quickstart", "where the two runs and the figure are kept")


def _main() -> None:
    started = time.monotonic()
    workdir = Path(flags.FLAGS.workdir)
    draw = reports.compare_runs  # Refused here where it is not installed, not in two minutes.
    enable_compilation_cache()
    base = read_flags(Path(installed.flag_file("quickstart.flags")))
    accuracies = {}
    for method in ("natural", "trades"):
        config = dataclasses.replace(
            base,
            method=method,
            beta=base.beta if method == "trades" else None,
            workdir=str(workdir / method),
        )
        print(f"training: {method}", file=sys.stderr, flush=True)
        training.train_to_the_end(config)
        # The robust accuracy of natural training is noise, nothing to choose a checkpoint by.
        found = evaluate_run(config.workdir, ["clean", "pgd-20"], checkpoint="latest", quiet=True)
        summary = found.summary
        accuracies[method] = {
            "clean": summary["clean_accuracy"],
            "PGD-20": summary["attacks"]["pgd-20"]["robust_accuracy"],
        }
    figure = draw(
        accuracies,
        workdir / "quickstart.png",
        f"digits, {base.norm}, ε = {base.epsilon:g}, {summary['examples']} test images",
    )
    print(f"\n{'training':<10} {'clean':>8} {'PGD-20':>8}   (ε = {base.epsilon:g}, {base.norm})")
    for method, values in accuracies.items():
        print(f"{method:<10} {100 * values['clean']:6.1f} % {100 * values['PGD-20']:6.1f} %")
    print(f"\nfigure: {figure}\nlogs:   {workdir}/natural, {workdir}/trades")
    print(f"took {time.monotonic() - started:.0f} s")
