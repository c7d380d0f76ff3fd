"""A report as one HTML page, with its figures inside, and its table in Markdown beside it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from robustjax import __version__
from robustjax.files import Path, require_writable, write_whole
from robustjax.reports import markdown as markdown_report
from robustjax.reports.html import comparison as html_comparison
from robustjax.reports.html import one_run as html_run
from robustjax.reports.html.elements import Child, Markup, element, heading, join
from robustjax.reports.html.style import STYLE
from robustjax.runs.folder import RunFolder, read_runs

# The page loads nothing and runs nothing; the empty icon spares the request for one.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'"

_NOTES = (
    "A robust accuracy is an upper bound: an attack that is stronger, or has more steps or "
    "restarts, can only lower it. AutoAttack is the usual measure; FGSM and short PGD are not.",
    "An example counts as correct under an attack only if it is classified correctly without one, "
    "too, so that no robust accuracy lies above the clean one.",
    "The worst case counts an example as robust only if it withstands every attack of the list; it "
    "is the figure to quote, and falls with every attack that is added.",
    "The 95 % intervals (Wilson) say how well the number of examples fixes the accuracy of this "
    "one network: about ±3 points with 1,000 examples, ±1 with 10,000. What another seed of "
    "training would give is not in them; compare several seeds for that.",
    "Runs are compared by these intervals. Where they were measured on the same examples this is "
    "cautious: a difference that is not marked may still be real.",
    "Accuracies during training are measured on few examples with a short attack, and show the "
    "course of training alone.",
    "Nothing here was computed again: the page shows what the files of the run say.",
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
        raise ValueError(f"--output={output}: accepted is the name of an .html file")
    runs = read_runs(workdirs, report)
    page = Path(output) if output else _default_output(workdirs)
    beside = page.with_suffix(".md")
    require_writable(page.parent, f"--output={page}", files=(page.name, beside.name))
    if beside.exists() and not _is_ours(beside):
        raise ValueError(
            f"--output={page}: the table would overwrite {beside}, which is no report; name another"
        )
    if len(runs) == 1:
        title = f"Report: {html_run.headline(runs[0])}"
        content, markdown = page_of_run(runs[0]), markdown_report.of_run(runs[0], title)
    else:
        title = f"Report: {len(runs)} runs compared"
        content, markdown = page_of_runs(runs), markdown_report.of_runs(runs, title)
    return write_whole(page, content), write_whole(beside, markdown)


def page_of_run(run: RunFolder) -> str:
    """The page about one run."""
    title = html_run.headline(run)
    return _page(
        title,
        [element("p", "Run ", element("code", run.workdir), class_="quiet"), html_run.tiles(run)],
        [html_run.sections(run, level=2), _notes()],
    )


def page_of_runs(runs: Sequence[RunFolder]) -> str:
    """The page that compares runs, with the details of each below."""
    details = [
        element(
            "article",
            heading(2, run.name),
            element("p", html_run.headline(run), class_="quiet"),
            html_run.tiles(run),
            html_run.sections(run, level=3, anchor=f"run-{number}-"),
            id=f"run-{number}",
        )
        for number, run in enumerate(runs)
    ]
    links = [
        element("li", element("a", label, href=f"#{place}"))
        for place, label in (
            ("accuracy", "Accuracy"),
            ("differs", "What differs between the runs"),
            ("notes", "How to read the figures"),
            *((f"run-{number}", run.name) for number, run in enumerate(runs)),
        )
    ]
    return _page(
        f"{len(runs)} runs compared",
        [element("p", "Side by side first; below, each run by itself.", class_="quiet")],
        [html_comparison.sections(runs), _notes(), details],
        element("nav", element("ul", links), aria_label="Contents"),
    )


def _page(title: str, lead: Child, content: Child, contents: Child = None) -> str:
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{title}: robustness report"),
        element("link", rel="icon", href="data:,"),
        element("style", Markup(STYLE)),
    )
    body = element(
        "body",
        element("header", heading(1, title), lead),
        contents,
        element("main", content),
        element(
            "footer", element("p", f"Made by robustjax {__version__} from the files of the run.")
        ),
    )
    return f"<!DOCTYPE html>\n{element('html', join(head, body), lang='en')}\n"


def _notes() -> Markup:
    return element(
        "section",
        heading(2, "How to read the figures"),
        element("ul", [element("li", note) for note in _NOTES]),
        id="notes",
    )


def _default_output(workdirs: Sequence[str]) -> Path:
    folder = Path(workdirs[0]) if len(workdirs) == 1 else Path(workdirs[0]).parent
    return folder / "report.html"


def _is_ours(path: Path) -> bool:
    return path.read_bytes().startswith(markdown_report.FIRST_LINE.encode())
