"""`launch/report.py`: a page about a run, or one that compares runs, from the files they left."""

import sys

from absl import flags

from robustjax.cli import app
from robustjax.errors import UserError
from robustjax.reports.html.page import write_html_report

DESCRIPTION = """\
Writes a report as one HTML page with its figures inside, and its table in Markdown beside it. Reads
only the files of the runs: their flags, logs, evaluations, diagnoses and figures.

  python launch/report.py --workdirs=runs/trades
  python launch/report.py --workdirs=runs/trades,runs/standard --output=compared.html

Several runs are compared: one table over runs and attacks, what differs between their flags, and
below it each run's own part."""

GROUPS = {"report": ["workdirs", "output"]}


def main() -> None:
    """Parses the command line and writes the report."""
    app.run(_main, define_report_flags, description=DESCRIPTION, groups=GROUPS)


def define_report_flags(values: flags.FlagValues | None = None) -> None:
    """Defines the flags of a report."""
    values = flags.FLAGS if values is None else values
    flags.DEFINE_list("workdirs", [], "folders of runs", flag_values=values)
    help_text = (
        "the page, NAME.html; report.html in the run's folder, or beside the first of several"
    )
    flags.DEFINE_string("output", "", help_text, flag_values=values)


def _main() -> None:
    left_out: list[str] = []
    page, table = write_html_report(flags.FLAGS.workdirs, flags.FLAGS.output, left_out.append)
    size = page.stat().length / 1e6
    print(f"report: {page} ({size:.1f} MB)   table: {table}", file=sys.stderr)
    if left_out:
        raise UserError("left out of the report: " + "; ".join(left_out))
