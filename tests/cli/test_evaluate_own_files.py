"""Evaluating and verifying on test files of one's own, and what becomes of one attack's failure."""

import json
import shutil

import numpy as np
import pytest

from robustjax import attacks, data, training
from robustjax.cli import verify
from robustjax.cli.evaluate import command as evaluate
from robustjax.config import TrainConfig
from robustjax.evaluation import adversarial_images
from robustjax.files import Path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A network trained on digits in a file of the user's own."""
    folder = tmp_path_factory.mktemp("own")
    digits = {split: data.load("digits", split) for split in ("train", "test")}
    np.savez(
        folder / "own.npz",
        images=digits["train"].images,
        labels=digits["train"].labels,
        test_images=digits["test"].images,
        test_labels=digits["test"].labels,
    )
    config = TrainConfig(
        method="natural", model="digits_cnn", dataset="npz", data_dir=str(folder / "own.npz"),
        epsilon=0.1, epochs=2, batch_size=64, holdout=0, learning_rate=0.05, schedule="constant",
        measure_steps=1, measure_examples=16, workdir=str(folder / "run"),
    )  # fmt: skip
    training.train(config, stream=None)
    return folder / "run"


DEFINED = {evaluate: evaluate.define_evaluate_flags, verify: verify.define_verify_flags}


@pytest.fixture
def launch(run_command):
    return lambda command, *arguments: run_command(command, DEFINED[command], *arguments)


@pytest.fixture
def folder(run, tmp_path):
    """A copy of the run, and files beside it."""
    shutil.copytree(run, tmp_path / "run")
    return tmp_path


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def summary(folder):
    return json.loads((folder / "run" / "evaluation.json").read_text())


def test_a_test_file_without_the_highest_classes(launch, folder):
    digits = data.load("digits", "test")
    few = digits.labels < 7
    path = save(folder / "few.npz", test_images=digits.images[few], test_labels=digits.labels[few])
    code, printed = launch(
        evaluate, f"--workdir={folder / 'run'}", "--attacks=clean", f"--data_dir={path}"
    )
    assert code == 0, printed.err
    _, printed = launch(evaluate, f"--workdir={folder / 'run'}", "--attacks=clean")
    found = summary(folder)
    assert found["examples"] == len(digits.labels) and found["others"][0]["examples"] == few.sum()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"test_images": np.zeros((9, 12, 12, 1), np.uint8), "test_labels": np.arange(9)},
            "images of 12x12x1 do not fit the network: --model=digits_cnn was trained on",
        ),
        (
            {"test_images": np.zeros((9, 8, 8, 1), np.uint8), "test_labels": np.arange(9) + 5},
            "13",
        ),
        (
            {"test_images": np.full((9, 8, 8, 1), 2, np.float32), "test_labels": np.arange(9)},
            r"[0, 1]",
        ),
    ],
    ids=["size", "class", "range"],
)
def test_files_that_do_not_fit_are_one_sentence(launch, folder, arrays, message):
    path = save(folder / "other.npz", **arrays)
    before = sorted((folder / "run").iterdir())
    code, printed = launch(evaluate, f"--workdir={folder / 'run'}", f"--data_dir={path}")
    assert code == 1 and message in printed.err and "Traceback" not in printed.err
    assert len(printed.err.splitlines()) == 1 and sorted((folder / "run").iterdir()) == before


def test_adversarial_images_read_back_as_they_were_made(launch, folder):
    arguments = (f"--workdir={folder / 'run'}", "--attacks=deepfool", "--examples=60")
    code, printed = launch(evaluate, *arguments, "--save_images")
    assert code == 0, printed.err
    made = summary(folder)["attacks"]["deepfool"]["robust_accuracy"]
    assert made < 0.9
    with np.load(folder / "run" / "adversarial" / "deepfool.npz") as saved:
        path = save(
            folder / "back.npz",
            test_images=saved["images"], test_labels=saved["labels"], num_classes=10,
        )  # fmt: skip
    code, printed = launch(
        evaluate, f"--workdir={folder / 'run'}", "--attacks=clean", f"--data_dir={path}"
    )
    assert code == 0, printed.err
    (other,) = summary(folder)["others"]
    assert other["clean_accuracy"] == pytest.approx(made)


def test_one_failing_attack_does_not_cost_the_others(launch, folder, monkeypatch):
    def fails(*arguments, **options):
        raise ValueError("square has no windows today")

    fails.__module__ = "robustjax.attacks.square"
    monkeypatch.setattr(attacks.Square, "prepare", fails)
    code, printed = launch(
        evaluate, f"--workdir={folder / 'run'}", "--attacks=square,fgsm", "--examples=20"
    )
    assert code == 1 and "square has no windows today" in printed.err
    assert list(summary(folder)["attacks"]) == ["fgsm"]
    assert "fgsm" in printed.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--attacks=fgsm,pgd-0"], "--attacks=pgd-0: "),
        (["--attacks=fgsm,sqare"], "did you mean 'square'?"),
        (["--protocol=trade"], "--protocol=trade"),
        (["--epsilon=8"], "--epsilon=8: within a distance of 8 (linf)"),
        (["--step_size=2"], "--step_size=2: within a distance"),
        (["--seed=-1"], "--seed=-1: accepted are whole numbers"),
        (["--examples=9999999999"], "--examples=9999999999: accepted are"),
        (["--checkpoint=bset"], "--checkpoint=bset: accepted are best, latest; did you mean"),
        (["--start=unifrom"], "--start=unifrom: accepted are uniform, clean; did you mean"),
        (["--worker=1"], "--worker: there is no such flag; did you mean --workdir?"),
        (["--eps=1"], "--eps: there is no such flag; did you mean --epsilon?"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_is_asked_for_is_checked_before_the_first_attack(launch, folder, arguments, message):
    code, printed = launch(evaluate, f"--workdir={folder / 'run'}", *arguments)
    assert code == 1 and message in printed.err and printed.out == ""
    assert "clean:" not in printed.err and "Traceback" not in printed.err
    assert not (folder / "run" / "evaluation.json").exists()


def test_verifying_goes_by_the_ball_that_the_file_names(launch, folder):
    arguments = (f"--workdir={folder / 'run'}", "--attacks=fgsm", "--examples=20")
    code, printed = launch(evaluate, *arguments, "--epsilon=0.2", "--save_images")
    assert code == 0, printed.err
    code, printed = launch(verify, f"--workdir={folder / 'run'}")
    assert code == 0 and "linf ball of 0.2 (the run's own: linf 0.1)" in printed.out
    code, printed = launch(verify, f"--workdir={folder / 'run'}", "--epsilon=0.1")
    assert code == 1 and "outside of the ball or the box" in printed.out


def test_images_of_another_attack_are_kept_beside_the_new_ones(launch, folder):
    arguments = (f"--workdir={folder / 'run'}", "--attacks=fgsm", "--save_images")
    place = folder / "run" / "adversarial"
    for epsilon, examples in (("0.2", 20), ("0.05", 20), ("0.05", 10), ("0.05", 20)):
        code, printed = launch(
            evaluate, *arguments, f"--epsilon={epsilon}", f"--examples={examples}"
        )
        assert code == 0, printed.err
    assert sorted(path.name for path in place.iterdir()) == [
        "fgsm.1.npz", "fgsm.2.npz", "fgsm.npz",
    ]  # fmt: skip
    held = {path.name: adversarial_images.load(path) for path in map(Path, place.iterdir())}
    found = {
        name: (images.settings["epsilon"], len(images.images)) for name, images in held.items()
    }
    assert found == {"fgsm.1.npz": (0.2, 20), "fgsm.2.npz": (0.05, 20), "fgsm.npz": (0.05, 20)}
    code, printed = launch(verify, f"--workdir={folder / 'run'}")
    assert code == 0 and printed.out.count("  holds") == 3


def test_images_of_other_data_or_another_seed_are_kept(launch, folder):
    workdir = f"--workdir={folder / 'run'}"
    test = data.load("digits", "test")
    other = save(folder / "other.npz", test_images=test.images[9:], test_labels=test.labels[9:])
    for arguments in ((), (f"--data_dir={other}",), ("--seed=1",)):
        code, printed = launch(
            evaluate, workdir, "--attacks=pgd-1", "--examples=8", "--save_images", *arguments
        )
        assert code == 0, printed.err
    assert sorted(path.name for path in (folder / "run" / "adversarial").iterdir()) == [
        "pgd-1.1.npz", "pgd-1.2.npz", "pgd-1.npz",
    ]  # fmt: skip
    code, printed = launch(verify, workdir)
    assert code == 0 and printed.out.count("  holds") == 2
    assert "pgd-1.2.npz: other images were attacked, of another --data_dir" in printed.out
    code, printed = launch(verify, workdir, f"--data_dir={other}", "--images=pgd-1.2.npz")
    assert code == 0 and printed.out.count("  holds") == 1
    code, printed = launch(verify, workdir, "--epsilon=8")
    assert code == 1 and "--epsilon=8: " in printed.err and "8/255?" in printed.err


@pytest.mark.parametrize("content", ["", "damaged\n"])
def test_records_that_are_gone_are_made_from_the_table(launch, folder, content):
    arguments = (f"--workdir={folder / 'run'}", "--examples=20")
    code, printed = launch(evaluate, *arguments, "--attacks=fgsm")
    assert code == 0, printed.err
    (folder / "run" / "evaluations.jsonl").write_text(content)
    code, printed = launch(evaluate, *arguments, "--attacks=clean")
    assert code == 0, printed.err
    # The table says neither the images nor the weights: what it had stands apart.
    assert [list(other["attacks"]) for other in summary(folder)["others"]] == [["fgsm"]]


@pytest.mark.parametrize("name", ["evaluation.json", "evaluation.md", "evaluations.jsonl"])
def test_a_folder_in_the_place_of_the_report_is_found_before_the_first_attack(launch, folder, name):
    (folder / "run" / name).mkdir()
    code, printed = launch(evaluate, f"--workdir={folder / 'run'}", "--attacks=clean")
    assert code == 1 and f"{name} is a folder, and is to be a file" in printed.err
    assert "clean:" not in printed.err


def test_what_no_attack_goes_by_is_said(launch, folder):
    code, printed = launch(
        evaluate, f"--workdir={folder / 'run'}", "--attacks=fgsm", "--examples=5", "--start=clean"
    )
    assert code == 0 and "warning: --start: no attack of --attacks goes by it" in printed.err


def test_images_of_other_weights_are_looked_at_only_if_they_are_named(launch, folder):
    path = forged(folder, weights=np.array("others"))
    (folder / "run" / "adversarial").mkdir()
    shutil.copy(path, folder / "run" / "adversarial")
    code, printed = launch(verify, f"--workdir={folder / 'run'}")
    assert code == 1 and "other weights were attacked" in printed.out
    assert "none of its files is of this checkpoint" in printed.err
    code, printed = launch(verify, f"--workdir={folder / 'run'}", f"--images={path}")
    assert "images.npz: 1 images" in printed.out


def forged(folder, **arrays):
    whole = {
        "images": np.full((1, 8, 8, 1), 0.5, np.float32), "labels": np.array([0]),
        "robust": np.array([True]), "settings": np.array('{"norm": "linf", "epsilon": 1.5}'),
    }  # fmt: skip
    whole |= arrays
    path = folder / "images.npz"
    return save(path, **{name: array for name, array in whole.items() if array is not None})


@pytest.mark.parametrize(
    "arrays",
    [
        {"images": None},
        {"images": np.zeros((0, 8, 8, 1), np.float32)},
        {"images": np.zeros((8, 8), np.float32)},
        {"images": np.zeros((1, 9, 9, 1), np.float32)},
        {"robust": np.array([2])},
        {"robust": np.array(True)},
        {"settings": np.array("{")},
        {"settings": np.array("[" * 100_000)},
        {"settings": np.array('{"norm": "linf"}')},
        {"settings": np.array('{"norm": "linf", "epsilon": 1e999}')},
        {"settings": np.array(5)},
    ],
    ids=[
        "no images",
        "empty",
        "one axis too few",
        "size",
        "robust is 2",
        "robust is one",
        "settings are no JSON",
        "settings are deep",
        "no radius",
        "radius",
        "settings are a number",
    ],
)
def test_odd_files_are_one_sentence_that_names_them(launch, folder, arrays):
    path = forged(folder, **arrays)
    code, printed = launch(verify, f"--workdir={folder / 'run'}", f"--images={path}")
    assert code == 1 and str(path) in printed.err and "Traceback" not in printed.err
    assert printed.err.startswith("error: ") and len(printed.err.splitlines()) == 1


def test_images_of_nan_lie_in_no_ball(launch, folder):
    path = forged(folder, images=np.full((1, 8, 8, 1), np.nan, np.float32))
    code, printed = launch(verify, f"--workdir={folder / 'run'}", f"--images={path}")
    assert code == 1 and "1 outside of the ball or the box: 0" in printed.out


def test_what_is_no_npz_file_is_named(launch, folder):
    np.save(folder / "one.npy", np.zeros((1, 8, 8, 1), np.float32))
    code, printed = launch(verify, f"--workdir={folder / 'run'}", f"--images={folder / 'one.npy'}")
    assert code == 1 and "one.npy" in printed.err and "numpy.save" in printed.err


def test_one_image_is_verified(launch, folder):
    label = data.load("digits", "test").labels[:1]
    path = forged(folder, labels=label)
    code, printed = launch(verify, f"--workdir={folder / 'run'}", f"--images={path}")
    assert "images.npz: 1 images, linf ball of 1.5" in printed.out
    assert code in (0, 1) and "Traceback" not in printed.err


def test_the_same_evaluation_is_there_until_it_is_asked_for_again(launch, folder):
    run = folder / "run"
    arguments = (f"--workdir={run}", "--attacks=clean,fgsm", "--examples=30")
    code, first = launch(evaluate, *arguments)
    assert code == 0 and "it is there" not in first.err, first.err
    lines = (run / "evaluations.jsonl").read_text().splitlines()
    clean, fgsm = map(json.loads, lines)
    assert clean["labels"] and fgsm["labels"] is None
    assert clean["about"]["seed"] == 0 and fgsm["about"]["attack_seconds"] > 0
    assert fgsm["about"]["versions"]["device"] and fgsm["about"]["command"]
    before = summary(folder)
    code, second = launch(evaluate, *arguments)
    assert code == 0 and second.out == first.out and summary(folder) == before
    assert second.err.count("it is there") == 2 and "--again repeats it" in second.err
    # Of what is asked for, what is missing alone is measured.
    code, third = launch(evaluate, f"--workdir={run}", "--attacks=random-2,fgsm", "--examples=30")
    assert code == 0 and third.err.count("it is there") == 1
    assert [line.split()[0] for line in third.out.splitlines()[:3]] == ["clean", "random-2", "fgsm"]
    assert len((run / "evaluations.jsonl").read_text().splitlines()) == 3
    code, fourth = launch(evaluate, *arguments, "--again")
    assert code == 0 and "it is there" not in fourth.err and fourth.out == first.out
    assert len((run / "evaluations.jsonl").read_text().splitlines()) == 5
    # The weights are the latest too: that is noted, and nothing is measured.
    code, fifth = launch(evaluate, *arguments, "--checkpoint=latest")
    assert code == 0 and fifth.err.count("it is there") == 2 and fifth.out == first.out
    *_, again, noted = map(json.loads, (run / "evaluations.jsonl").read_text().splitlines())
    assert noted["checkpoint"]["kind"] == "latest" and noted["attack"] == "fgsm"
    assert noted["about"] == json.loads(lines[1])["about"] | {
        name: noted["about"][name] for name in ("attack_seconds", "elapsed_seconds", "command")
    }
    assert again["attack"] == "clean" and noted["correct"] == fgsm["correct"]


def test_the_report_shows_images_of_one_ball_and_not_of_several(launch, folder):
    run = folder / "run"
    arguments = (f"--workdir={run}", "--attacks=fgsm", "--examples=30")
    code, printed = launch(evaluate, *arguments, "--epsilons=0.2,0.3")
    assert code == 0 and not (run / "adversarial_examples.json").exists(), printed.err
    # The clean accuracy is of all radii: it was measured with the first.
    assert printed.err.count("clean:") == 1 and printed.err.count("fgsm:") == 2
    assert launch(evaluate, *arguments, "--epsilon=0.25")[0] == 0
    shown = json.loads((run / "adversarial_examples.json").read_text())["attacks"]["fgsm"]
    assert shown["epsilon"] == 0.25 and shown["examples"]
    assert launch(evaluate, *arguments, "--epsilons=0.1,0.2", "--again")[0] == 0
    assert json.loads((run / "adversarial_examples.json").read_text())["attacks"]["fgsm"] == shown


def test_images_that_are_wanted_are_made_once(launch, folder):
    run = folder / "run"
    arguments = (f"--workdir={run}", "--attacks=fgsm", "--examples=20")
    assert launch(evaluate, *arguments)[0] == 0
    code, printed = launch(evaluate, *arguments, "--save_images")
    assert code == 0 and "fgsm: it is there" not in printed.err
    saved = run / "adversarial" / "fgsm.npz"
    before = saved.stat().st_mtime_ns
    code, printed = launch(evaluate, *arguments, "--save_images")
    assert code == 0 and "fgsm: it is there" in printed.err
    assert saved.stat().st_mtime_ns == before


def test_saved_images_are_an_attack_too_and_stay_one_in_the_records(launch, folder):
    run = folder / "run"
    arguments = (f"--workdir={run}", "--examples=20")
    assert launch(evaluate, *arguments, "--attacks=fgsm", "--save_images")[0] == 0
    made = run / "adversarial" / "fgsm.npz"
    code, printed = launch(evaluate, *arguments, f"--attacks={made}")
    assert code == 0, printed.err
    found = summary(folder)["attacks"]
    assert found[str(made)]["robust_accuracy"] == found["fgsm"]["robust_accuracy"]
    code, printed = launch(evaluate, *arguments, f"--attacks={made}")
    assert code == 0 and f"{made}: it is there" in printed.err
    np.savez(made, images=data.load("digits", "test").images[:20])
    code, printed = launch(evaluate, *arguments, f"--attacks={made}", "--epsilon=0.01")
    assert code == 0 and f"{made}: it is there" not in printed.err
    (other,) = summary(folder)["others"]
    assert other["attacks"][str(made)]["robust_accuracy"] == other["clean_accuracy"]
    np.savez(made, images=data.load("digits", "test").images[1:21])
    code, printed = launch(evaluate, *arguments, f"--attacks={made}", "--epsilon=0.01")
    assert code == 1 and f"error: --attacks={made}: 20 of 20 images" in printed.err


def test_a_curve_is_made_of_what_is_there_and_of_what_is_missing(launch, folder):
    run = folder / "run"
    arguments = (f"--workdir={run}", "--attacks=fgsm", "--examples=30")
    assert launch(evaluate, *arguments, "--epsilon=0.05")[0] == 0
    code, printed = launch(evaluate, *arguments, "--epsilons=0.2,0,0.05")
    assert code == 0, printed.err
    assert "fgsm: it is there" in printed.err and "at epsilon 0.05" in printed.err
    assert "clean" not in printed.err  # It was measured with the first radius.
    assert printed.err.index("epsilon 0.05:") < printed.err.index("epsilon 0.2:")
    assert [line.split()[:3] for line in printed.out.splitlines()[1:]] == [
        ["fgsm", "at", "0.05"],
        ["fgsm", "at", "0.2"],
    ]
    found = summary(folder)
    (curve,) = found["curves"]
    assert curve["epsilons"] == [0, 0.05, 0.2] and curve["examples"] == 30
    assert curve["robust_accuracy"][0] == found["clean_accuracy"]
    assert sorted(curve["robust_accuracy"], reverse=True) == curve["robust_accuracy"]
    assert len((run / "evaluations.jsonl").read_text().splitlines()) == 3
    assert (run / "figures" / "epsilon_curves.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epsilons=0"], "--epsilons=0: accepted are different radii, one or more above 0"),
        (["--epsilons=0.1,0.1"], "--epsilons=0.1,0.1: accepted are different radii"),
        (["--epsilons=-0.1,0.1"], "--epsilons=-0.1: accepted are finite numbers, 0 or more"),
        (["--epsilons="], "--epsilons=: accepted are different radii"),
        (["--epsilons=0.1,8"], "--epsilons=8: within a distance of 8"),
        (["--epsilons=a"], "--epsilons"),
        (["--epsilons=0.1", "--epsilon=0.2"], "--epsilon: --epsilons says what it is"),
        (["--epsilons=0.1", "--save_images"], "--save_images: --epsilons has several balls"),
        (["--epsilons=0.1", "--attacks=a.npz"], "--attacks=a.npz: its images are of one radius"),
        (["--epsilons=0.1", "--protocol=nap"], "--epsilons: --protocol=nap says what it is"),
        (["--attacks=absent.npz"], "--attacks=absent.npz: there is no such file"),
    ],
)
def test_mistakes_with_radii_and_files_are_named(launch, folder, arguments, message):
    code, printed = launch(evaluate, f"--workdir={folder / 'run'}", *arguments)
    assert code == 1 and message in printed.err and "Traceback" not in printed.err
    assert not (folder / "run" / "evaluations.jsonl").exists()
