"""The diagnosis of a run as a command."""

import functools
import json

import jax
import jax.numpy as jnp
import pytest

from robustjax import training
from robustjax.cli import diagnose
from robustjax.config import TrainConfig

SMALL = (
    "--checkpoint=latest", "--examples=80", "--batch_size=80", "--steps=1,4",
    "--attack_steps=4", "--restarts=2", "--queries=20", "--random_points=3",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "standard"
    config = TrainConfig(
        method="standard", model="digits_cnn", epsilon=0.1, epochs=2, batch_size=40, holdout=0,
        train_examples=400, learning_rate=0.05, schedule="constant", steps=1, measure_steps=1,
        measure_examples=20, workdir=str(folder),
    )  # fmt: skip
    training.train(config, stream=None)
    return folder


@pytest.fixture
def launch(run_command):
    return functools.partial(run_command, diagnose, diagnose.define_diagnosis_flags)


def hide_gradient(weight, logits_fn, images):
    return logits_fn(images + weight * (jax.lax.stop_gradient(images) - images))


def test_a_network_passes_until_its_gradient_is_hidden(launch, run, tmp_path, monkeypatch):
    load = diagnose.load_network
    hidden = 0.0

    def load_changed(*arguments, **options):
        network = load(*arguments, **options)
        changed = jax.tree_util.Partial(hide_gradient, jnp.float32(hidden), network.logits_fn)
        return network._replace(logits_fn=changed)

    monkeypatch.setattr(diagnose, "load_network", load_changed)
    code, printed = launch(f"--workdir={run}", *SMALL)
    assert code == 0, printed.err
    # With so few examples a check may find nothing and still be undecided.
    assert printed.out.splitlines()[-1].startswith(
        ("verdict: pass (12 checks", "verdict: undecided (")
    )
    summary = json.loads((run / "diagnosis.json").read_text())
    assert summary["examples"] == 80 and summary["source"] == "none"
    assert summary["attacks"]["epsilon"] == 0.1 and summary["attacks"]["steps"] == [1, 4]
    for suffix in ("md", "csv", "png"):
        assert (run / f"diagnosis.{suffix}").exists()
    assert not (run / diagnose.UNFINISHED).exists()

    hidden = 1.0
    output = tmp_path / "out"
    code, printed = launch(f"--workdir={run}", f"--output_dir={output}", *SMALL)
    assert code == 0, printed.err
    *_, verdict = printed.out.splitlines()
    assert verdict.startswith("verdict: suspicious (") and "zero gradients" in verdict
    masked = json.loads((output / "diagnosis.json").read_text())
    assert masked["clean_accuracy"] == summary["clean_accuracy"]
    assert "unbounded epsilon" in masked["suspicious"]


def test_another_norm_is_that_of_the_whole_diagnosis(launch, run, tmp_path):
    code, printed = launch(f"--workdir={run}", "--norm=l2", *SMALL)
    assert code == 1 and "norm=l2: the run's ball is linf, and its radius" in printed.err
    code, printed = launch(
        f"--workdir={run}", "--norm=l2", "--epsilon=3", f"--output_dir={tmp_path}", *SMALL
    )
    assert code == 0, printed.err
    summary = json.loads((tmp_path / "diagnosis.json").read_text())
    assert summary["attacks"]["norm"] == "l2" and summary["attacks"]["epsilon"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--workdir is not given"),
        (["--workdir=nowhere"], "nowhere holds no run"),
        (["--workdir=a", "--steps=5,1"], "--steps=5,1: accepted are two numbers or more"),
        (["--workdir=a", "--steps=1,x"], "--steps=1,x: accepted are two numbers or more"),
        (["--workdir=a", "--restarts=1"], "--restarts=1: accepted are whole numbers, 2 to"),
        (["--workdir=a", "--norm=l0"], "--norm=l0: accepted are linf, l2, l1"),
        (["--workdir=a", "--epsilon=0"], "--epsilon=0: accepted are finite numbers above 0"),
    ],
)
def test_mistakes_are_one_sentence(launch, arguments, message):
    code, printed = launch(*arguments)
    assert code == 1 and message in printed.err and "Traceback" not in printed.err


def test_help_lists_every_flag(launch):
    code, printed = launch("--help")
    assert code == 0 and "--random_points" in printed.out
    assert max(map(len, printed.out.splitlines())) <= 101
