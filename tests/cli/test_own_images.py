"""A folder of PNGs from training to judgement, and networks judged on images not their own."""

import json
import types

import jax
import numpy as np
import pytest
from absl import flags
from PIL import Image

from robustjax import data, training
from robustjax.cli import diagnose, pseudo_label, transfer, verify
from robustjax.cli.analyze import command as analyze
from robustjax.cli.evaluate import command as evaluate
from robustjax.cli.judged_images import DATA
from robustjax.config import TrainConfig
from robustjax.evaluation.trained import load_network

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def write_images(root, dataset, count):
    for row in range(count):
        folder = root / NAMES[dataset.labels[row]]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(dataset.images[row, :, :, 0]).save(folder / f"{row:04d}.png")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Digits as files: 300 for training, 100 for testing."""
    root = tmp_path_factory.mktemp("images")
    for split, count in (("train", 300), ("test", 100)):
        write_images(root / split, data.load("digits", split), count)
    return root


def config(images, workdir, **changed):
    options = {
        "method": "standard", "model": "digits_cnn", "dataset": "folder", "data_dir": str(images),
        "epsilon": 0.1, "steps": 1, "epochs": 2, "batch_size": 60, "holdout": 30,
        "learning_rate": 0.05, "schedule": "constant", "augmentation": "crop1", "measure_steps": 1,
        "measure_examples": 16, "workdir": str(workdir),
    }  # fmt: skip
    return TrainConfig(**(options | changed))


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    """A run of two epochs that nothing interrupted."""
    return training.train(config(images, tmp_path_factory.mktemp("unbroken") / "run"), stream=None)


@pytest.fixture
def launch(run_command):
    define = {
        evaluate: evaluate.define_evaluate_flags,
        transfer: transfer.define_transfer_flags,
        verify: verify.define_verify_flags,
    }
    return lambda command, *arguments: run_command(command, define[command], *arguments)


def test_a_run_on_a_folder_is_resumed_bit_for_bit(images, trained, tmp_path):
    first = training.train(config(images, tmp_path / "run", epochs=1), stream=None)
    assert len(first.rows) == 1
    resumed = training.train(config(images, tmp_path / "run"), stream=None)
    jax.tree.map(np.testing.assert_array_equal, resumed.state, trained.state)


def test_a_changed_file_is_other_data(images, trained, tmp_path):
    changed = tmp_path / "images"
    for split, count in (("train", 300), ("test", 100)):
        write_images(changed / split, data.load("digits", split), count)
    training.train(config(changed, tmp_path / "run", epochs=1), stream=None)
    path = sorted((changed / "train" / "zero").iterdir())[0]
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    with pytest.raises(ValueError, match="was trained on other data"):
        training.train(config(changed, tmp_path / "run"), stream=None)


def summary(run):
    return json.loads((run / "evaluation.json").read_text())


def test_a_run_is_judged_on_its_folder_another_split_and_another_set(images, trained, launch):
    run = images.parent / "judged"
    training.train(config(images, run), stream=None)
    judge = (evaluate, f"--workdir={run}", "--attacks=clean")
    code, printed = launch(*judge)
    assert code == 0, printed.err
    own = summary(run)
    assert own["dataset"] == "folder test" and own["examples"] == 100 and "others" not in own
    code, printed = launch(*judge, "--split=train")
    assert code == 0, printed.err
    code, printed = launch(*judge, "--dataset=folder")
    assert code == 0, printed.err
    code, printed = launch(*judge, "--dataset=digits", "--examples=50")
    assert code == 0, printed.err
    found = summary(run)
    assert {key: found[key] for key in ("dataset", "examples", "clean_accuracy")} == {
        key: own[key] for key in ("dataset", "examples", "clean_accuracy")
    }
    others = {other["dataset"]: other["examples"] for other in found["others"]}
    assert others == {"folder train": 300, "digits test": 50}


def test_classes_have_the_numbers_of_their_names(images, trained):
    """The folders are sorted by name, so class 0 is eight; the digits' own 0 is another class."""
    network = load_network(trained.workdir)
    assert network.test_set.class_names == tuple(sorted(NAMES)) and network.own
    assert not load_network(trained.workdir, dataset="digits").own
    assert load_network(trained.workdir, dataset="folder", data_dir=str(images)).own
    assert not load_network(trained.workdir, split="train").own


def test_what_is_missing_or_does_not_fit_is_named(images, trained, launch, tmp_path):
    judge = (evaluate, f"--workdir={trained.workdir}", "--attacks=clean")
    for arguments, message in (
        (["--split=dev"], "has no folder 'dev', but test, train"),
        (["--split="], "--split= is empty"),
        (["--image_size=-1"], "--image_size=-1"),
        (["--dataset=npz"], "add --data_dir=FILE.npz"),
        (["--image_size=12"], "images of 12x12x1 do not fit the network"),
        ([f"--data_dir={tmp_path}"], "has no folder in it, one for each class"),
    ):
        code, printed = launch(*judge, *arguments)
        assert code == 1 and message in printed.err, printed.err


@pytest.mark.parametrize(
    ("module", "define"),
    [
        (analyze, "define_analysis_flags"),
        (diagnose, "define_diagnosis_flags"),
        (evaluate, "define_evaluate_flags"),
        (transfer, "define_transfer_flags"),
        (verify, "define_verify_flags"),
    ],
)
def test_every_command_that_judges_says_on_which_images(module, define):
    values = flags.FlagValues()
    getattr(module, define)(values)
    listed = {name for group in module.GROUPS.values() for name in group}
    assert set(DATA) <= set(values) and set(DATA) <= listed


def test_pseudo_labels_of_a_folder(images, trained):
    values = types.SimpleNamespace(
        images="", workdir=trained.workdir, checkpoint="best", dataset="folder", split="test",
        data_dir="", image_size=0, skip_first=10,
    )  # fmt: skip
    expected = data.load("folder", "test", data_dir=str(images)).images
    np.testing.assert_array_equal(pseudo_label._images(values), expected[10:])


def test_transfer_and_a_second_look_at_the_training_images(trained, launch, tmp_path):
    code, printed = launch(
        transfer, f"--workdirs={trained.workdir}", "--attack=fgsm", "--split=train",
        "--examples=20", f"--output_dir={tmp_path}",
    )  # fmt: skip
    assert code == 0, printed.err
    assert json.loads((tmp_path / "transfer.json").read_text())["dataset"] == "folder train"
    code, printed = launch(
        evaluate, f"--workdir={trained.workdir}", "--attacks=fgsm", "--split=train",
        "--examples=20", "--save_images",
    )  # fmt: skip
    assert code == 0, printed.err
    code, printed = launch(verify, f"--workdir={trained.workdir}", "--split=train")
    assert code == 0, printed.err + printed.out
    code, printed = launch(verify, f"--workdir={trained.workdir}")
    assert code == 1 and "other images were attacked" in printed.out
