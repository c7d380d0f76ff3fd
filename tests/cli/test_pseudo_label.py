"""Pseudo-labels: what they are, that no label leaks into them, and training on them."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from robustjax import data, training
from robustjax.cli.pseudo_label import label_images
from robustjax.config import TrainConfig

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A network trained on the first 400 digits."""
    folder = tmp_path_factory.mktemp("run") / "natural"
    config = TrainConfig(
        method="natural", model="digits_cnn", epsilon=0.1, epochs=4, batch_size=40,
        train_examples=400, holdout=0, learning_rate=0.05, schedule="constant", steps=1,
        measure_steps=1, measure_examples=20, workdir=str(folder),
    )  # fmt: skip
    training.train(config, stream=None)
    return folder


def call(*arguments):
    return subprocess.run(
        [sys.executable, "launch/pseudo_label.py", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_the_labels_are_the_network_s_own(run, tmp_path):
    whole = data.load("digits", "train")
    output = tmp_path / "pseudo.npz"
    found = call(
        f"--workdir={run}", "--dataset=digits", "--skip_first=400", f"--output={output}",
        "--batch_size=300",
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert "1037 images" in found.stdout
    loaded = training.load_run(run)
    model = training.create_model(loaded.config, 10)
    logits = model.apply(loaded.variables, whole.images[400:] / np.float32(255), train=False)
    with np.load(output) as archive:
        np.testing.assert_array_equal(archive["images"], whole.images[400:])
        np.testing.assert_array_equal(archive["labels"], np.argmax(logits, -1))
        confidence = np.max(jax.nn.softmax(logits), -1)
        np.testing.assert_allclose(archive["confidence"], confidence, rtol=1e-4)
        assert json.loads(str(archive["made_by"]))["step"] == 40
    accuracy = (np.argmax(logits, -1) == whole.labels[400:]).mean()
    assert 0.5 < accuracy < 1


def test_labels_that_the_images_come_with_change_nothing(run, tmp_path):
    images = data.load("digits", "test").images
    results = []
    for labels in (np.zeros(len(images), int), np.full(len(images), 10**6)):
        source, output = tmp_path / "source.npz", tmp_path / "out.npz"
        np.savez(source, images=images, labels=labels)
        label_images(str(run), data.load_images(str(source)), _path(output))
        with np.load(output) as archive:
            results.append(archive["labels"])
    np.testing.assert_array_equal(*results)


def _path(path):
    from robustjax.files import Path

    return Path(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output=a.npz", "--dataset=digits"], "--workdir is not given"),
        (["--workdir=w", "--output=a.txt", "--dataset=digits"], "--output=a.txt: accepted is"),
        (["--workdir=w", "--output=a.npz"], "give either --images=FILE.npz or --dataset=NAME"),
        (["--workdir=w", "--output=a.npz", "--images=none.npz"], "--images=none.npz: no such file"),
        (["--workdir=w", "--output=a.npz", "--dataset=digits"], "--workdir=w holds no run"),
    ],
)
def test_each_mistake_is_one_sentence(arguments, message):
    found = call(*arguments)
    assert found.returncode == 1
    assert message in found.stderr and "Traceback" not in found.stderr
    assert not (ROOT / "a.npz").exists()


def test_images_of_another_shape_are_refused(run, tmp_path):
    images = np.zeros((3, 12, 12, 1), np.uint8)
    with pytest.raises(ValueError, match="images of 12x12x1 do not fit the network"):
        label_images(str(run), images, _path(tmp_path / "out.npz"))
    assert not list(tmp_path.iterdir())


def test_an_output_that_cannot_be_written_leaves_nothing(run, tmp_path, monkeypatch):
    def full(*arguments, **arrays):
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="no space left"):
        label_images(str(run), data.load("digits", "test").images, _path(tmp_path / "out.npz"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no pickle", "was not read"),
        (pickle.dumps({"data": np.zeros((2, 4, 4, 3), np.uint8)}), "has no arrays"),
        (
            pickle.dumps(
                {
                    "data": np.zeros((2, 4, 4, 3), np.uint8),
                    "extrapolated_targets": np.array([0.5, 1.0]),
                }
            ),
            "float64 [2]; expected",
        ),
    ],
)
def test_another_pickle_is_refused_in_one_sentence(tmp_path, content, message):
    source, target = tmp_path / "source.pickle", tmp_path / "target.npz"
    source.write_bytes(content)
    found = subprocess.run(
        [sys.executable, "tools/convert_rst_pickle.py", source, target],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert found.returncode == 1 and message in found.stderr and "Traceback" not in found.stderr
    assert not target.exists()


def test_the_published_pickle_is_converted_and_a_harmful_one_refused(tmp_path):
    convert = [sys.executable, "tools/convert_rst_pickle.py"]
    source, target = tmp_path / "source.pickle", tmp_path / "target.npz"
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    content = {"data": images, "extrapolated_targets": np.arange(5), "index": [1, 2]}
    source.write_bytes(pickle.dumps(content))
    found = subprocess.run([*convert, source, target], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    read, labels = data.load_extra(str(target), 10, (4, 4, 3))
    np.testing.assert_array_equal(read, images)
    np.testing.assert_array_equal(labels, np.arange(5))

    class Harmful:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    source.write_bytes(pickle.dumps({"data": Harmful()}))
    found = subprocess.run([*convert, source, target], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 1 and "which is no NumPy array" in found.stderr
    assert not (tmp_path / "harm").exists()
