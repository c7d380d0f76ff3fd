"""`launch/evaluate.py --corruptions`: the table, its mean, and what a second command measures."""

import csv
import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from robustjax import data, training
from robustjax.cli.evaluate import command as evaluate
from robustjax.config import TrainConfig
from robustjax.evaluation import corruptions
from robustjax.evaluation.trained import load_network

NOISE = {"gaussian_noise": 1.0, "fog": 0.5, "speckle_noise": 2.0}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    config = TrainConfig(
        method="natural", model="digits_cnn", epsilon=0.1, epochs=2, batch_size=64, holdout=0,
        learning_rate=0.05, schedule="constant", measure_steps=1, measure_examples=16,
        workdir=str(tmp_path_factory.mktemp("corruptions") / "run"),
    )  # fmt: skip
    training.train(config, stream=None)
    return config.workdir


@pytest.fixture
def folder(tmp_path):
    """50 digits under three kinds of noise that grows with the severity."""
    digits, random = data.load("digits", "test"), np.random.default_rng(0)
    clean = digits.images[:50].astype(np.float64)
    for name, strength in NOISE.items():
        noisy = [
            clean + strength * 25 * severity * random.normal(size=clean.shape)
            for severity in range(1, 6)
        ]
        images = np.clip(np.concatenate(noisy), 0, 255).astype(np.uint8)
        np.save(tmp_path / f"{name}.npy", images)
    np.save(tmp_path / "labels.npy", np.tile(digits.labels[:50], 5))
    return tmp_path


@pytest.fixture
def launch(run_command):
    return lambda *arguments: run_command(evaluate, evaluate.define_evaluate_flags, *arguments)


@pytest.fixture
def measured(monkeypatch):
    """The corruptions and severities that were measured, not taken from the records."""
    calls, run = [], corruptions.run_attack

    def count(spec, key, logits_fn, dataset, *rest, **options):
        calls.append(dataset.name)
        return run(spec, key, logits_fn, dataset, *rest, **options)

    monkeypatch.setattr(corruptions, "run_attack", count)
    return calls


def oracle(trained, folder, examples=50):
    """Accuracies by corruption and severity, from the logits alone."""
    logits_fn = load_network(trained).logits_fn
    labels = np.load(folder / "labels.npy").reshape(5, 50)
    found = {}
    for name in NOISE:
        images = np.load(folder / f"{name}.npy").reshape(5, 50, 8, 8, 1)
        logits = np.stack([logits_fn(jnp.asarray(part / np.float32(255))) for part in images])
        right = logits.argmax(-1) == labels
        found[name] = right[:, :examples].mean(axis=1)
    return found


def test_the_table_and_its_mean(trained, folder, launch, measured):
    code, printed = launch(f"--workdir={trained}", f"--corruptions={folder}")
    assert code == 0, printed.err
    assert len(measured) == 15
    run = load_network(trained)
    expected = oracle(trained, folder)
    summary = json.loads((folder / trained / "corruptions.json").read_text())
    for name, accuracies in expected.items():
        entry = summary["corruptions"][name]
        np.testing.assert_allclose(entry["accuracy"], accuracies)
        assert entry["in_mean"] == (name != "speckle_noise")
    benchmark = np.stack([expected["gaussian_noise"], expected["fog"]])
    assert summary["mean_accuracy"] == pytest.approx(benchmark.mean())
    np.testing.assert_allclose(summary["mean_by_severity"], benchmark.mean(axis=0))
    assert len(summary["missing"]) == 13 and summary["checkpoint"]["step"] == run.step
    assert f"{100 * benchmark.mean():.2f}" in printed.out and "not in the mean" in printed.err
    workdir = folder / trained
    assert (workdir / "corruptions.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader((workdir / "corruptions.csv").open()))
    assert len(rows) == 15
    assert float(rows[4]["accuracy"]) == pytest.approx(expected["gaussian_noise"][4])
    assert "| speckle_noise * |" in (workdir / "corruptions.md").read_text()
    assert not (workdir / "evaluation.json").exists()

    # Nothing is measured twice; of fewer images neither, and what was there before is kept.
    measured.clear()
    code, printed = launch(f"--workdir={trained}", f"--corruptions={folder}", "--examples=20")
    assert code == 0 and not measured, printed.err
    summary = json.loads((workdir / "corruptions.json").read_text())
    fewer = oracle(trained, folder, 20)["fog"]
    np.testing.assert_allclose(summary["corruptions"]["fog"]["accuracy"], fewer)
    assert summary["examples"] == 20 and "what it was before is" in printed.err


def as_folders(folder, root):
    """The same images in the layout of ImageNet-C."""
    labels = np.load(folder / "labels.npy")
    for name in NOISE:
        for row, pixels in enumerate(np.load(folder / f"{name}.npy")):
            place = root / name / str(1 + row // 50) / str(labels[row])
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[..., 0]).save(place / f"{row % 50:02d}.png")


def test_folders_of_image_files_give_the_same_table(trained, folder, launch, measured, tmp_path):
    root = tmp_path / "folders"
    as_folders(folder, root)
    command = (f"--workdir={trained}", f"--corruptions={root}")
    code, printed = launch(*command)
    assert code == 0, printed.err
    assert len(measured) == 15
    summary = json.loads((folder / trained / "corruptions.json").read_text())
    for name, accuracies in oracle(trained, folder).items():
        np.testing.assert_allclose(summary["corruptions"][name]["accuracy"], accuracies)
    assert summary["examples"] == summary["available_examples"] == 50
    measured.clear()
    assert launch(*command)[0] == 0 and not measured
    assert launch(*command, "--examples=20")[0] == 0
    summary = json.loads((folder / trained / "corruptions.json").read_text())
    assert (summary["examples"], summary["available_examples"]) == (20, 50)
    for severity in range(1, 6):
        for name in NOISE:
            shutil.rmtree(root / name / str(severity) / "9")
    code, printed = launch(*command)
    assert code == 1 and "folders of 9 classes, and the network has 10" in printed.err


def test_an_interrupted_evaluation_goes_on(trained, folder, launch, measured):
    damaged = folder / "fog.npy"
    whole = damaged.read_bytes()
    images = np.load(damaged)
    damaged.write_bytes(whole[:-100])
    (folder / trained / "corruptions.jsonl").unlink(missing_ok=True)
    command = (f"--workdir={trained}", f"--corruptions={folder}", "--examples=30")
    code, printed = launch(*command)
    assert code == 1 and "fog.npy cannot be read" in printed.err
    assert measured == [f"gaussian_noise {severity}" for severity in range(1, 6)]
    measured.clear()
    images[50] = 255 - images[50]
    np.save(damaged, images)
    code, printed = launch(*command)
    assert code == 0, printed.err
    assert len(measured) == 10 and "gaussian_noise 1" not in measured
    # Other images under the same name are measured anew, and only they.
    measured.clear()
    damaged.write_bytes(whole)
    code, printed = launch(*command)
    assert code == 0 and measured == ["fog 2"], printed.err


@pytest.mark.parametrize(
    "flag", ["--attacks=clean", "--epsilon=0.1", "--split=train", "--dataset=digits"]
)
def test_flags_of_attacks_do_not_go_with_it(trained, folder, launch, flag):
    code, printed = launch(f"--workdir={trained}", f"--corruptions={folder}", flag)
    assert code == 1 and f"{flag.partition('=')[0]}: --corruptions=" in printed.err


def test_images_of_another_size_are_refused(trained, folder, launch):
    np.save(folder / "gaussian_noise.npy", np.zeros((250, 12, 12, 1), np.uint8))
    code, printed = launch(f"--workdir={trained}", f"--corruptions={folder}")
    assert code == 1 and "images of 12x12x1 do not fit the network" in printed.err
    np.save(folder / "gaussian_noise.npy", np.zeros((250, 8, 8, 1), np.uint8))
    np.save(folder / "fog.npy", np.zeros((250, 12, 12, 1), np.uint8))
    code, printed = launch(f"--workdir={trained}", f"--corruptions={folder}")
    assert code == 1 and "fog 1: images of [12, 12, 1]" in printed.err
