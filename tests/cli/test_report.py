"""`launch/report.py` as a person calls it."""

import functools
import json
import os

import pytest

from robustjax.cli import report
from robustjax.config import TrainConfig


@pytest.fixture
def launch(run_command):
    return functools.partial(run_command, report, report.define_report_flags)


def write_run(folder, **options):
    folder.mkdir(parents=True)
    config = TrainConfig(dataset="digits", workdir=str(folder), **options)
    (folder / "flags.txt").write_text(config.to_flags())
    evaluation = {
        "clean_accuracy": 0.9,
        "interval_95": [0.8, 0.95],
        "attacks": {"pgd-20": {"robust_accuracy": 0.5, "interval_95": [0.4, 0.6]}},
        "examples": 100,
    }
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    return folder


def test_a_report_lies_in_the_run(launch, tmp_path):
    run = write_run(tmp_path / "run")
    code, printed = launch(f"--workdirs={run}")
    assert code == 0, printed.err
    assert str(run / "report.html") in printed.err and str(run / "report.md") in printed.err
    assert "<h1>" in (run / "report.html").read_text()
    assert "| pgd-20 | 50.00 |" in (run / "report.md").read_text()
    first = (run / "report.html").read_bytes()
    assert launch(f"--workdirs={run}")[0] == 0
    assert (run / "report.html").read_bytes() == first
    assert not list(run.glob("*.partial"))


def test_a_comparison_lies_beside_the_first_run(launch, tmp_path):
    runs = [write_run(tmp_path / name / "run", seed=len(name)) for name in ("a", "bb")]
    code, printed = launch(f"--workdirs={runs[0]},{runs[1]}")
    assert code == 0, printed.err
    page = (tmp_path / "a" / "report.html").read_text()
    assert "a/run" in page and "bb/run" in page and "--seed" in page


def test_a_report_goes_where_it_is_sent(launch, tmp_path):
    run = write_run(tmp_path / "run")
    output = tmp_path / "new" / "page.html"
    assert launch(f"--workdirs={run}", f"--output={output}")[0] == 0
    assert output.exists() and output.with_suffix(".md").exists()
    assert sorted(os.listdir(run)) == ["evaluation.json", "flags.txt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--workdirs is not given"),
        (["--workdirs={root}/none"], "/none holds no run: there is no such folder"),
        (["--workdirs={root}/empty"], "/empty holds no run: it has no flags.txt"),
        (["--workdirs={root}/run,{root}/run"], "/run is given twice; name each run once"),
        (["--workdirs={root}/run,{root}/empty/../run/"], "(the same folder as {root}/run)"),
        (["--workdirs={root}/run", "--output=page.pdf"], "--output=page.pdf: accepted is the name"),
        (["--workdirs={root}/run", "--output={root}/folder.html"], "folder.html is a folder"),
        (["--workdirs={root}/damaged"], "damaged/evaluation.json is damaged"),
        (["--workdirs={root}/list"], "evaluation.json is not an evaluation"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(launch, tmp_path, arguments, message):
    write_run(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.html").mkdir()
    for name, content in (("damaged", '{"clean'), ("list", "[1]")):
        (write_run(tmp_path / name) / "evaluation.json").write_text(content)
    code, printed = launch(*(text.format(root=tmp_path) for text in arguments))
    assert code == 1
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert message.format(root=tmp_path) in printed.err
    assert not list(tmp_path.rglob("report.*"))


def test_help_names_the_flags(launch):
    code, printed = launch("--help")
    assert code == 0 and "--workdirs" in printed.out and "--output" in printed.out
    assert max(map(len, printed.out.splitlines())) <= 101
