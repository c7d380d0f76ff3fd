"""launch/reproduce.py: what it lists, what it makes, what it leaves alone, and what it refuses."""

import csv
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from robustjax.cli.reproduce import command, running
from robustjax.cli.sweep.plan import PlannedRun
from robustjax.cli.sweep.processes import Turn
from robustjax.papers import catalogue
from robustjax.papers.item import Experiment
from robustjax.papers.planned import Request, networks_of
from robustjax.reports.sweep import SweepRun
from robustjax.runs.lock import Lock

ROOT = Path(__file__).resolve().parents[2]
DIGITS = (
    "--dataset=digits", "--model=digits_cnn", "--data_dir=", "--train_split=train",
    "--augmentation=none", "--batch_size=64", "--holdout=64", "--train_examples=280",
    "--attack_batch_size=16", "--measure_examples=32",
)  # fmt: skip

# What is run here is compiled far longer than it runs.
QUICKLY_COMPILED = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"


@pytest.fixture
def launch(run_command):
    return functools.partial(run_command, command, command.define)


def reproduce(*arguments, timeout=900):
    return subprocess.run(
        [sys.executable, "launch/reproduce.py", *arguments],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": QUICKLY_COMPILED},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.mark.parametrize("paper", ["lrm", pytest.param("", marks=pytest.mark.slow)])
def test_the_list_has_every_item_its_cost_and_why_some_cannot_be_had(launch, paper):
    code, printed = launch("--list", f"--item={paper}")
    assert code == 0
    for name, item in catalogue.items().items():
        if name.startswith(paper):
            assert f"  {name} " in printed.out
            assert item.reason in printed.out
    assert "FLOP: " in printed.out and "on an H100" in printed.out


def test_the_list_needs_nothing_that_draws():
    hidden = "import sys; sys.modules['matplotlib'] = None; "
    program = hidden + "from robustjax.__main__ import main; main()"
    arguments = [sys.executable, "-c", program, "reproduce", "--item=sense/fig2"]
    listed, made = (
        subprocess.run([*arguments, argument], cwd=ROOT, capture_output=True, text=True)
        for argument in ("--list", "--report_only")
    )
    assert listed.returncode == 0 and "  sense/fig2 " in listed.stdout, listed.stderr
    # What makes a table says so at once, and not when its networks are trained.
    assert made.returncode == 1 and "pip install 'robustjax[figures]'" in made.stderr


def test_the_rows_of_an_item_are_listed_with_the_published_numbers(launch):
    code, printed = launch("--list", "--item=mart/table5a,lrm/table1")
    assert code == 0
    assert "none of its 3 rows can be trained here" in printed.out
    assert "80 Million Tiny Images" in printed.out and "61.88" in printed.out
    assert "launch/lrm.flags" in printed.out and "nap/table1" not in printed.out


def test_mistakes_are_named_before_anything_is_written(launch, tmp_path):
    folder = f"--workdir={tmp_path}"
    for arguments, message in (
        ([], "--item is not given"),
        (["--item=mart/table44"], "did you mean 'mart/table4'"),
        (["--item=mart/table4", "--rows=Mart"], "--rows=Mart: mart/table4 has no such row"),
        (["--item=mart/table4", "--scale=2"], "--scale=2: accepted are"),
        (["--item=mart/table4", "--seeds=a"], "--seeds: 'a'"),
        (["--item=mart/table4", "--seed=1"], "--seed: what each network has"),
        (["--item=mart/table4", "--model=resnet_19"], "resnet_19"),
        (["--item=mart/table4", "--parallel=0"], "--parallel=0"),
    ):
        code, printed = launch(folder, *arguments)
        assert code == 1 and message in printed.err, (arguments, printed.err)
        assert printed.err.startswith("error: ") and "Traceback" not in printed.err
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A row of a table, and the same network under black-box attacks, on digits."""
    folder = tmp_path_factory.mktemp("reproduced")
    ran = reproduce(
        "--item=lrm/table1,lrm/section5_3", "--rows=Label Smoothing", "--scale=0.01", *DIGITS,
        f"--workdir={folder}",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return folder, ran


def test_a_table_has_the_papers_numbers_ours_and_the_difference(made):
    folder, ran = made
    table = json.loads((folder / "lrm_table1" / "table.json").read_text())
    cells = {cell["column"]: cell for cell in table["cells"]}
    assert cells["FGSM"]["published"] == 54.7 and cells["Natural"]["published"] == 86.9
    for cell in cells.values():
        (seed,) = cell["seeds"].values()
        assert cell["ours"] == seed["value"] and seed["examples"] == 10
        assert cell["difference"] == pytest.approx(cell["ours"] - cell["published"])
        low, high = cell["interval_95"]
        assert 0 <= low <= cell["ours"] <= high <= 100
    page = (folder / "lrm_table1" / "table.md").read_text()
    assert "a try at scale 0.01" in page.splitlines()[0] and "86.9" in page
    assert page.splitlines()[0] in ran.stdout
    drawn = list(csv.DictReader((folder / "lrm_table1" / "figure.csv").open()))
    assert {row["column"] for row in drawn} == set(cells)
    assert (folder / "lrm_table1" / "figure.png").stat().st_size > 1000


def test_black_box_cells_are_measured_on_independent_networks(made):
    folder, _ = made
    table = json.loads((folder / "lrm_section5_3" / "table.json").read_text())
    assert all(cell["ours"] is not None for cell in table["cells"])
    pairs = [json.loads(path.read_text()) for path in (folder / "black_box").glob("*.json")]
    assert len(pairs) == 2
    for pair in pairs:
        assert pair["source"] != pair["target"] and pair["source"].endswith("seed=1001")
        assert pair["robust_accuracy"] <= pair["accuracy"]


def test_what_is_there_is_not_made_again_and_another_item_shares_it(made):
    folder, _ = made
    before = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/metrics.jsonl")}
    again = reproduce(
        "--item=lrm/fig2_left", "--rows=label smoothing: s = 0.75", "--scale=0.01", *DIGITS,
        f"--workdir={folder}",
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert "1 of 1 networks are done" in again.stderr
    after = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/metrics.jsonl")}
    assert after == before


def test_several_rows_may_be_given_between_commas(launch, tmp_path):
    code, _ = launch(
        "--item=mart/table4,fat/fig4", "--rows=MART,TRADES", "--rows=Small CNN, τ = 0",
        "--report_only", f"--workdir={tmp_path}",
    )  # fmt: skip
    assert code == 0
    table = (tmp_path / "mart_table4" / "table.md").read_text()
    assert "| MART |" in table and "| TRADES |" in table and "| Dynamic |" not in table


def test_a_report_alone_trains_nothing(launch, tmp_path):
    output = tmp_path / "results"
    code, printed = launch(
        "--item=mart/table4", "--report_only", f"--workdir={tmp_path / 'runs'}",
        f"--results_dir={output}",
    )  # fmt: skip
    assert code == 0, printed.err
    assert "– / 58.56" in (output / "mart_table4" / "table.md").read_text()
    assert not list(tmp_path.rglob("metrics.jsonl"))


@pytest.fixture
def planned(tmp_path):
    """A network that is not trained, and one that begins with it."""
    item = catalogue.items()["sense/section5_2_1"]
    found = networks_of({"sense/section5_2_1": (item, item.rows)}, Request(tmp_path))
    runs = [PlannedRun(SweepRun({}, one.config.seed, one.workdir), one.config) for one in found]
    return {one.workdir: one for one in found}, runs


def test_a_network_that_another_process_is_at_is_left_to_it_until_that_ends(planned):
    networks, (run, _) = planned
    claim = run.run.workdir.parent / f"{run.run.workdir.name}.claim"
    claims = running.Claims(networks, {})
    with Lock(claim, "another"):
        assert claims.turn(run) is Turn.WAIT
    with claims:
        assert claims.turn(run) is Turn.START
        assert running.Claims(networks, {}).turn(run) is Turn.WAIT
    with running.Claims(networks, {}) as taken_over:
        assert taken_over.turn(run) is Turn.START


def test_a_network_waits_for_what_it_begins_with_and_is_left_out_where_that_failed(planned):
    networks, (start, other) = planned
    with running.Claims(networks, {}) as claims:
        assert claims.turn(other) is Turn.WAIT
    failures = {start.run.workdir: "it failed"}
    with running.Claims(networks, failures) as claims:
        assert claims.turn(other) is Turn.SKIP
    assert f"{start.run.workdir.name}, which it begins with" in failures[other.run.workdir]


def of_each_kind():
    """The items that can be made."""
    for name, item in catalogue.items().items():
        if not item.reason and (isinstance(item.figure, Experiment) or _trained(item)):
            yield name


def _trained(item):
    return [row.name for row in item.rows if row.training is not None]


@pytest.mark.slow
@pytest.mark.parametrize("name", list(of_each_kind()))
def test_every_item_runs_end_to_end_on_digits(name, reproduced):
    """With its first and its last row."""
    item = catalogue.items()[name]
    rows = _trained(item)
    chosen = [f"--rows={label}" for label in dict.fromkeys((*rows[:1], *rows[-1:]))]
    scale = 0.02 if isinstance(item.figure, Experiment) else 0.01
    # The small network has no batch norm, by whose statistics of the batch some attacks go.
    own = ["--attack_batch_norm=eval"] if name.startswith("nap/") and name != "nap/table6" else []
    own += ["--model=cifar_resnet_8"] if name == "sense/table4" else []
    # An attack is shown where it turns a right answer into a wrong one.
    own += ["--epochs=4", "--learning_rate=0.05"] if name == "sense/fig1" else []
    # Digits are misclassified only where the attack is strong.
    own += ["--epsilon=0.2", "--step_size=0.05"] if name == "mart/fig1" else []
    ran = reproduce(
        f"--item={name}", *chosen, f"--scale={scale}", "--seeds=1", *DIGITS,
        *own, f"--workdir={reproduced}",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    folder = reproduced / name.replace("/", "_")
    assert list(folder.glob("*.png")), ran.stderr[-3000:]
    if item.columns:
        cells = json.loads((folder / "table.json").read_text())["cells"]
        missing = [(cell["row"], cell["column"]) for cell in cells if cell["ours"] is None]
        assert cells and not missing


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    """One folder for all items: a network that several show is trained once."""
    return tmp_path_factory.mktemp("reproduced")
