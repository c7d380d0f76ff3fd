"""The commands, each as its module and what defines its flags: for tests that try all of them."""

from robustjax.cli import (
    diagnose,
    experiment,
    figures,
    prepare_data,
    pseudo_label,
    quickstart,
    report,
    train,
    transfer,
    verify,
)
from robustjax.cli.analyze import command as analyze
from robustjax.cli.evaluate import command as evaluate
from robustjax.cli.export_weights import command as export_weights
from robustjax.cli.import_weights import command as import_weights
from robustjax.cli.reproduce import command as reproduce
from robustjax.cli.sweep import command as sweep
from robustjax.flags import define_flags


def _in_the_process(command):
    """Of a command that defines its flags among those of the process, whichever these are."""
    return lambda values: command._define_flags()


COMMANDS = {
    "train": (train, define_flags),
    "evaluate": (evaluate, evaluate.define_evaluate_flags),
    "quickstart": (quickstart, _in_the_process(quickstart)),
    "reproduce": (reproduce, reproduce.define),
    "sweep": (sweep, sweep.define_sweep_flags),
    "report": (report, report.define_report_flags),
    "diagnose": (diagnose, diagnose.define_diagnosis_flags),
    "transfer": (transfer, transfer.define_transfer_flags),
    "verify": (verify, verify.define_verify_flags),
    "analyze": (analyze, analyze.define_analysis_flags),
    "figures": (figures, figures.define_figure_flags),
    "experiment": (experiment, _in_the_process(experiment)),
    "prepare_data": (prepare_data, prepare_data.define_flags),
    "pseudo_label": (pseudo_label, _in_the_process(pseudo_label)),
    "import_weights": (import_weights, import_weights.define_import_flags),
    "export_weights": (export_weights, export_weights.define_export_flags),
}
