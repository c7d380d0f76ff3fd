"""Figures of trained networks as a person asks for them, and their numbers."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from robustjax import data, training
from robustjax.cli.analyze import command as analyze
from robustjax.cli.evaluate import evaluate_run
from robustjax.config import TrainConfig

ROOT = Path(__file__).resolve().parents[2]


def trained(folder, **changed):
    options = {
        "method": "natural", "model": "digits_cnn", "epsilon": 0.15, "epochs": 2, "batch_size": 40,
        "train_examples": 400, "holdout": 0, "learning_rate": 0.05, "schedule": "constant",
        "steps": 1, "measure_steps": 1, "measure_examples": 20, "workdir": str(folder),
    }  # fmt: skip
    training.train(TrainConfig(**(options | changed)), stream=None)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("runs") / "natural")


@pytest.fixture
def launch(run_command):
    def launch(*arguments):
        return run_command(
            analyze, analyze.define_analysis_flags, *arguments, "--checkpoint=latest"
        )

    return launch


def numbers(path):
    with open(path.with_suffix(".csv")) as file:
        return list(csv.DictReader(file))


def table(printed, columns):
    """The rows that were printed, by their first columns."""
    rows = [re.split(r"  +", line) for line in printed.out.splitlines()[1:]]
    return {tuple(row[:columns]): [float(cell) for cell in row[columns:]] for row in rows}


def test_convergence_ends_where_the_evaluation_does(launch, run):
    code, printed = launch(
        "--kind=convergence", f"--workdirs={run}", "--attack=pgd-4x2", "--examples=50"
    )
    assert code == 0, printed.err
    path = run / "figures" / "convergence.png"
    assert str(path) in printed.err and path.stat().st_size > 20_000
    summary = evaluate_run(
        str(run), ["pgd-4x2", "pgd-4"], checkpoint="latest", examples=50, quiet=True
    ).summary
    rows = {(row["restarts"], row["step"]): row for row in numbers(path)}
    assert len(rows) == 2 * 5
    for restarts, name in (("1", "pgd-4"), ("2", "pgd-4x2")):
        robust = 100 * summary["attacks"][name]["robust_accuracy"]
        assert float(rows[restarts, "4"]["robust_accuracy"]) == pytest.approx(robust)
    assert table(printed, 2)["natural", "4"][0] == pytest.approx(robust, rel=1e-3)
    with np.load(path.with_suffix(".npz")) as stored:
        assert stored["natural/loss"].shape == (2, 5, 50)


def test_probabilities_and_logits_agree_with_the_evaluation(launch, run, tmp_path):
    summary = evaluate_run(str(run), ["fgsm"], checkpoint="latest", examples=60, quiet=True).summary
    arguments = (f"--workdirs={run}", "--attack=fgsm", "--examples=60")
    for kind in ("probabilities", "logits"):
        code, printed = launch(f"--kind={kind}", f"--output={tmp_path / kind}.png", *arguments)
        assert code == 0, printed.err
        assert (tmp_path / f"{kind}.png").stat().st_size > 15_000
    rows = numbers(tmp_path / "logits.png")
    for images, accuracy in (
        ("clean", summary["clean_accuracy"]),
        ("adversarial", summary["attacks"]["fgsm"]["robust_accuracy"]),
    ):
        own = [row for row in rows if (row["images"], row["quantity"]) == (images, "gap")]
        surely = sum(float(row["share"]) for row in own if float(row["left"]) >= 0)
        perhaps = sum(float(row["share"]) for row in own if float(row["right"]) > 0)
        assert surely - 1e-3 <= 100 * accuracy <= perhaps + 1e-3
    means = table(printed, 3)
    assert means["natural", "adversarial", "gap"][0] < means["natural", "clean", "gap"][0]
    assert means["natural", "clean", "gap"][0] == pytest.approx(
        means["natural", "clean", "true"][0] - means["natural", "clean", "largest wrong"][0],
        abs=2e-3 * means["natural", "clean", "true"][3],
    )


def test_examples_are_the_first_that_the_attack_changes_or_those_that_are_named(
    launch, run, tmp_path
):
    path = tmp_path / "figure.png"
    arguments = ("--kind=examples", f"--workdirs={run}", f"--output={path}", "--attack=pgd-3")
    code, printed = launch(*arguments, "--examples=60", "--count=3")
    assert code == 0, printed.err
    test_set = data.load("digits", "test")
    with np.load(path.with_suffix(".npz")) as stored:
        positions = stored["positions"]
        assert len(positions) == 3 and (np.diff(positions) > 0).all()
        clean = test_set.images[positions] / np.float32(255)
        np.testing.assert_allclose(stored["clean"], clean, atol=1e-7)
        np.testing.assert_array_equal(stored["labels"], test_set.labels[positions])
        assert (stored["clean_logits"].argmax(axis=1) == stored["labels"]).all()
        assert (stored["adversarial_logits"].argmax(axis=1) != stored["labels"]).all()
        assert np.abs(stored["adversarial"] - clean).max() <= 0.15 + 1e-6
        assert stored["factor"] == pytest.approx(0.5 / 0.15, rel=1e-3)
    code, printed = launch(*arguments, "--indices=7,2")
    assert code == 0, printed.err
    with np.load(path.with_suffix(".npz")) as stored:
        assert stored["positions"].tolist() == [7, 2]
    code, printed = launch(*arguments, "--indices=7,2", "--step_size=0.01")
    assert code == 0, printed.err
    with np.load(path.with_suffix(".npz")) as stored:
        # From a uniform start three steps of 0.01 leave most pixels short of the ball's edge.
        moved = np.abs(stored["adversarial"] - stored["clean"])
        assert (moved < 0.15 - 1e-4).mean() > 0.5
    code, printed = launch(*arguments, "--indices=7,2", "--norm=l2", "--epsilon=1.5")
    assert code == 0, printed.err
    with np.load(path.with_suffix(".npz")) as stored:
        moved = np.linalg.norm((stored["adversarial"] - stored["clean"]).reshape(2, -1), axis=1)
        assert (moved > 0.9).all() and (moved <= 1.5 + 1e-6).all()
        assert np.abs(stored["adversarial"] - stored["clean"]).max() > 0.15
    code, printed = launch(*arguments, "--examples=20", "--epsilon=0")
    assert code == 1 and "changes no right prediction of 20 examples" in printed.err


def test_an_embedding_shows_the_classes_that_are_asked_for(launch, run, tmp_path):
    path = tmp_path / "figure.png"
    arguments = ("--kind=embedding", f"--workdirs={run}", f"--output={path}", "--attack=pgd-3")
    code, printed = launch(*arguments, "--classes=3,5", "--examples=40", "--tau=1")
    assert code == 0, printed.err
    rows = numbers(path)
    assert {row["label"] for row in rows} == {"3", "5"}
    assert len(rows) == 3 * 40
    crossed = table(printed, 2)
    assert list(crossed) == [
        ("natural", "clean"), ("natural", "PGD-3"), ("natural", "friendly PGD-3-1")
    ]  # fmt: skip
    assert crossed["natural", "PGD-3"][0] > crossed["natural", "clean"][0]
    code, printed = launch(*arguments, "--layer=dense")
    assert code == 1
    assert f"--layer=dense: the layers of {run} are conv1, conv2, conv3, pen" in printed.err


def test_surfaces_show_the_same_images_for_every_run(launch, run, tmp_path):
    other = trained(tmp_path / "other", epochs=1, seed=1)
    path = tmp_path / "figure.png"
    code, printed = launch(
        "--kind=surface", f"--workdirs={run},{other}", f"--output={path}", "--count=2", "--extent=2"
    )
    assert code == 0, printed.err
    with np.load(path.with_suffix(".npz")) as stored:
        for name in ("natural", "other"):
            assert stored[f"{name}/loss"].shape == (2, 41, 41)
            assert stored[f"{name}/offsets"][[0, 20, 40]].tolist() == [-2, 0, 2]
            # They are right where they are.
            assert not stored[f"{name}/wrong"][:, 20, 20].any()
            # A step along the gradient raises the loss.
            assert (stored[f"{name}/loss"][:, 20, 23] > stored[f"{name}/loss"][:, 20, 20]).all()


def test_classes_are_numbered_as_the_data_set_does(launch, tmp_path):
    run = trained(tmp_path / "two", classes=(3, 5), epochs=1, train_examples=0)
    arguments = ("--kind=probabilities", f"--workdirs={run}", "--attack=fgsm", "--examples=10")
    code, printed = launch(*arguments, "--classes=5")
    assert code == 0, printed.err
    code, printed = launch(*arguments, "--classes=1")
    assert code == 1 and "--classes: '1'; accepted are 3, 5" in printed.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kind=logits", "--layer=fc"], "--layer: --kind=logits has no use for it; embedding"),
        (["--kind=surface", "--attack=fgsm"], "--attack: --kind=surface has no use for it"),
        (["--kind=convergence", "--attack=cw-3"], "--attack=cw-3: --kind=convergence accepts pgd-"),
        (
            ["--kind=convergence", "--attack=pgd-3(start=clean,loss=cw_margin)"],
            "--kind=convergence draws steps from a uniform start on the cross-entropy, and accepts "
            "no loss, start",
        ),
        (["--attack=clean"], "--attack=clean: accepted are attacks"),
        (["--attack=pdg-3"], "--attack=pdg-3: accepted are"),
        (["--norm=l2"], "norm=l2: the run's ball is linf, and its radius no measure of another"),
        (["--epsilon=-1"], "--epsilon=-1.0: accepted are finite numbers, 0 or more"),
        (["--examples=-1"], "--examples=-1: accepted are whole numbers, 0 to"),
        (["--kind=surface", "--extent=0"], "--extent=0: accepted are finite numbers above 0"),
        (["--kind=embedding", "--method=umap"], "--method=umap: accepted are pca, tsne"),
        (["--kind=examples", "--indices=9999"], "'9999' is none of the positions 0 to 359"),
        (["--kind=examples", "--indices=1", "--classes=3"], "--indices names the images"),
        (["--classes=12"], "--classes: '12'; accepted are 0, 1, 2"),
        (["--output=figure.pdf"], "--output=figure.pdf: accepted is the name of a .png file"),
    ],
)
def test_every_mistake_is_one_sentence(launch, run, arguments, message):
    code, printed = launch(f"--workdirs={run}", *arguments)
    assert code == 1 and message in printed.err, printed.err
    assert printed.err.startswith("error: ") and "Traceback" not in printed.err


def test_folders_are_asked_for(launch, run):
    for arguments, message in (
        ([], "--workdirs is not given"),
        ([f"--workdirs={run},{run}"], "is given twice"),
        (["--workdirs=a,b", "--kind=examples"], "--kind=examples is drawn from one run"),
        (["--workdirs=nowhere"], "nowhere holds no run"),
    ):
        code, printed = launch(*arguments)
        assert code == 1 and message in printed.err and "Traceback" not in printed.err
