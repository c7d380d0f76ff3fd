"""The transfer matrix of runs as a command."""

import csv
import dataclasses
import functools
import json

import pytest

from robustjax import training
from robustjax.cli import transfer
from robustjax.cli.evaluate import evaluate_run
from robustjax.config import TrainConfig


def trained(folder, **changed):
    config = TrainConfig(
        method="natural", model="digits_cnn", epsilon=0.1, epochs=1, batch_size=40, holdout=0,
        train_examples=400, learning_rate=0.05, schedule="constant", steps=1, measure_steps=1,
        measure_examples=20, workdir=str(folder),
    )  # fmt: skip
    training.train(dataclasses.replace(config, **changed), stream=None)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return [trained(folder / f"seed{seed}", seed=seed) for seed in (0, 1)]


@pytest.fixture
def launch(run_command):
    return functools.partial(run_command, transfer, transfer.define_transfer_flags)


def test_the_diagonal_is_what_evaluating_finds(launch, runs, tmp_path):
    output = tmp_path / "out"
    code, printed = launch(
        f"--workdirs={runs[0]},{runs[1]}", "--attack=pgd-3", "--checkpoint=latest",
        "--examples=100", f"--output_dir={output}",
    )  # fmt: skip
    assert code == 0, printed.err
    summary = json.loads((output / "transfer.json").read_text())
    assert summary["examples"] == 100 and summary["seed"] == 0
    assert summary["attack"]["step_size"] == pytest.approx(2 * 0.1 / 3)
    for number, run in enumerate(runs):
        alone = evaluate_run(
            str(run), ["pgd-3"], checkpoint="latest", examples=100, quiet=True
        ).summary
        name = f"seed{number}"
        entry = summary["transfer"][name][name]
        assert entry["robust_accuracy"] == alone["attacks"]["pgd-3"]["robust_accuracy"]
        assert entry["accuracy"] >= entry["robust_accuracy"]
        assert summary["clean"][name]["accuracy"] == alone["clean_accuracy"]
        other = summary["transfer"][f"seed{1 - number}"][name]
        assert other["robust_accuracy"] >= entry["robust_accuracy"] and not other["white_box"]
        assert summary["runs"][name]["workdir"] == str(run)
    assert "| seed1 |" in printed.out and "making adversarial images of seed1" in printed.err
    assert (output / "transfer.png").exists() and not (output / transfer.UNFINISHED).exists()


def test_sources_and_targets_may_differ(launch, runs):
    code, printed = launch(
        f"--sources={runs[0]}", f"--targets={runs[1]},{runs[0]}", "--attack=fgsm",
        "--checkpoint=latest", "--examples=40", "--epsilon=0",
    )  # fmt: skip
    assert code == 0, printed.err
    folder = runs[0].parent
    summary = json.loads((folder / "transfer.json").read_text())
    assert list(summary["transfer"]) == ["seed0"]
    for name, entry in summary["transfer"]["seed0"].items():
        clean = summary["clean"][name]["accuracy"]
        assert entry["robust_accuracy"] == entry["accuracy"] == clean
    with open(folder / "transfer.csv") as file:
        assert [row["target"] for row in csv.DictReader(file)] == ["seed1", "seed0"] * 2


def test_a_file_of_an_earlier_version_gives_way_or_is_kept(launch, runs, tmp_path):
    """It has robust accuracies alone; what it was measured with is said as now."""
    arguments = (
        f"--workdirs={runs[0]}", "--attack=fgsm", "--checkpoint=latest", f"--output_dir={tmp_path}",
    )  # fmt: skip
    assert launch(*arguments, "--examples=40")[0] == 0
    path = tmp_path / "transfer.json"
    now = json.loads(path.read_text())
    entry = now["transfer"]["seed0"]["seed0"]
    earlier = {
        "robust_accuracy": entry["robust_accuracy"],
        "interval_95": entry["robust_interval_95"],
        "white_box": True,
    }
    path.write_text(json.dumps({**now, "transfer": {"seed0": {"seed0": earlier}}}))
    assert launch(*arguments, "--examples=40")[0] == 0
    assert json.loads(path.read_text())["transfer"] == now["transfer"]
    assert not list(tmp_path.glob("transfer.*.json"))
    path.write_text(json.dumps({**now, "transfer": {"seed0": {"seed0": earlier}}}))
    code, printed = launch(*arguments, "--examples=20")
    assert code == 0 and "what it was before is" in printed.err
    (kept,) = tmp_path.glob("transfer.*.json")
    assert json.loads(kept.read_text())["transfer"]["seed0"]["seed0"] == earlier


def test_runs_that_do_not_belong_together_are_refused(launch, runs, tmp_path):
    classes = trained(tmp_path / "classes", classes=(3, 5), train_examples=80)
    ball = trained(tmp_path / "ball", epsilon=0.2, train_examples=80)
    for other, message in (
        (classes, "classes on digits with --classes=3,5 ("),
        (ball, "--epsilon is not given, and the runs have different ones: seed0 0.1, ball 0.2"),
    ):
        code, printed = launch(f"--workdirs={runs[0]},{other}", "--checkpoint=latest")
        assert code == 1 and message in printed.err and "Traceback" not in printed.err
    assert not list(tmp_path.rglob("transfer.*"))


def test_runs_of_two_norms_meet_in_a_ball_of_one(launch, runs, tmp_path):
    other = trained(tmp_path / "l2", norm="l2", epsilon=1.0, train_examples=80)
    both = (f"--workdirs={runs[0]},{other}", "--checkpoint=latest", "--examples=40")
    for flags, message in (
        ((), "--norm is not given, and the runs have different ones: seed0 linf, l2 l2"),
        (("--norm=l2",), "norm=l2: the run's ball is linf, and its radius no measure of another"),
        (("--norm=l2", "--epsilon=9"), "--epsilon=9: within a distance of 9 (l2) any image"),
    ):
        code, printed = launch(*both, *flags, f"--output_dir={tmp_path}")
        assert code == 1 and message in printed.err, printed.err
    code, printed = launch(
        *both, "--attack=pgd-3", "--norm=l2", "--epsilon=0.5", f"--output_dir={tmp_path}"
    )
    assert code == 0, printed.err
    summary = json.loads((tmp_path / "transfer.json").read_text())
    assert summary["attack"]["norm"] == "l2" and summary["attack"]["epsilon"] == 0.5
    alone = evaluate_run(
        str(runs[0]), ["pgd-3"], checkpoint="latest", examples=40, norm="l2", epsilon=0.5,
        quiet=True,
    ).summary  # fmt: skip
    entry = summary["transfer"]["seed0"]["seed0"]
    assert entry["robust_accuracy"] == alone["attacks"]["pgd-3"]["robust_accuracy"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--sources, --workdirs: neither is given"),
        (["--sources=a"], "--targets, --workdirs: neither is given"),
        (["--workdirs=a,a"], "is given twice"),
        (["--workdirs=a", "--sources=b", "--targets=c"], "--workdirs: --sources and --targets are"),
        (["--workdirs=a", "--attack=autoattack"], "--attack=autoattack: accepted"),
        (["--workdirs=a", "--epsilon=-1"], "--epsilon=-1.0: accepted are finite numbers"),
        (["--workdirs=a", "--start=sign"], "--start=sign: accepted are uniform, clean"),
        (["--workdirs=nowhere"], "nowhere holds no run"),
    ],
)
def test_mistakes_are_one_sentence(launch, arguments, message):
    code, printed = launch(*arguments)
    assert code == 1 and message in printed.err and "Traceback" not in printed.err


def test_help_lists_every_flag(launch):
    code, printed = launch("--help")
    assert code == 0 and "--sources" in printed.out and "pgd-K" in printed.out
    assert max(map(len, printed.out.splitlines())) <= 101
