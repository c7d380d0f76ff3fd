"""A report as one HTML page, with its figures inside, and its table in Markdown beside it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jinja2

from robustjax import __version__
from robustjax.errors import UserError
from robustjax.files import Path, require_writable, write_whole
from robustjax.reports import markdown as markdown_report
from robustjax.reports.html.comparison import comparison
from robustjax.reports.html.one_run import headline, one_run
from robustjax.reports.html.sweep import sweep
from robustjax.runs.folder import RunFolder, read_runs

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader(__package__),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)

# Not allowed in HTML, or not in UTF-8.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)


def write_html_report(
    workdirs: Sequence[str],
    output: str | os.PathLike = "",
    report: Callable[[str], None] | None = None,
) -> tuple[Path, Path]:
    """Writes a report of runs, each file whole or not at all.

    Reads only files: flags.txt, metrics.jsonl, evaluation.json, and where they are diagnosis.json,
    transfer.json and PNGs. What is missing is said in the report.

    Args:
      workdirs: folders of runs; several are compared.
      output: the page, "NAME.html", beside which the table is written as "NAME.md"; if not given
        report.html in the run's folder, or in the folder that holds the first of several.
      report: told of a run of several that has a damaged file, and is left out; not given, such
        a file is an error.

    Returns:
      The paths of the page and of the table.

    Raises:
      ValueError: a folder is given twice or holds no run, a file of it is damaged, `output` is no
        name of an HTML page, or the table would overwrite another file.
    """
    if output and not str(output).endswith(".html"):
        raise UserError(f"output={output}: accepted is the name of an .html file")
    runs = read_runs(workdirs, report)
    page = Path(output) if output else _default_output(workdirs)
    beside = page.with_suffix(".md")
    require_writable(page.parent, f"output={page}", files=(page.name, beside.name))
    if beside.exists() and not _is_ours(beside):
        raise UserError(
            f"output={page}: the table would overwrite {beside}, which is no report; name another"
        )
    if len(runs) == 1:
        title = f"Report: {headline(runs[0])}"
        content, markdown = page_of_run(runs[0]), markdown_report.of_run(runs[0], title)
    else:
        title = f"Report: {len(runs)} runs compared"
        content, markdown = page_of_runs(runs), markdown_report.of_runs(runs, title)
    return write_whole(page, content), write_whole(beside, markdown)


def page_of_run(run: RunFolder) -> str:
    """The page about one run."""
    return _page("one.html", headline(run), run=one_run(run))


def page_of_runs(runs: Sequence[RunFolder]) -> str:
    """The page that compares runs, with the details of each below."""
    title = f"{len(runs)} runs compared"
    return _page("several.html", title, runs=list(map(one_run, runs)), compared=comparison(runs))


def page_of_sweep(
    name: str, settings: Sequence[Mapping[str, Any]], about: Mapping[str, Any]
) -> str:
    """The page of a sweep.

    Args:
      name: of the sweep.
      settings: of `reports.sweep.gather`.
      about: the "command", the "center", and what else was recorded.
    """
    return _page("sweep.html", f"Sweep: {name}", swept=sweep(settings, about))


def _page(template: str, title: str, **values: Any) -> str:
    page = _TEMPLATES.get_template(template).render(title=title, version=__version__, **values)
    return _UNPRINTABLE.sub("\ufffd", re.sub("\r\n?", "\n", page))


def _default_output(workdirs: Sequence[str]) -> Path:
    folder = Path(workdirs[0]) if len(workdirs) == 1 else Path(workdirs[0]).parent
    return folder / "report.html"


def _is_ours(path: Path) -> bool:
    return path.read_bytes().startswith(markdown_report.FIRST_LINE.encode())
