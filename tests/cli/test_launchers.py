"""The launchers as a person calls them: help, lists, mistakes, and every flag file."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from robustjax import methods, models
from robustjax.config import TrainConfig
from robustjax.flags import read_flags
from robustjax.training.experiment import create_method, create_model

ROOT = Path(__file__).resolve().parents[2]
FLAG_FILES = sorted((ROOT / "launch").glob("*.flags"))


def call(name, *arguments):
    return subprocess.run(
        [sys.executable, f"launch/{name}.py", *arguments],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_train_explains_itself():
    found = call("train", "--help")
    assert found.returncode == 0
    for text in ("--epsilon", "8/255 is a legal value", "optimisation:", "--method=help"):
        assert text in found.stdout
    assert max(map(len, found.stdout.splitlines())) <= 101


def test_lists_of_methods_and_networks():
    from robustjax.cli.train import describe_methods, describe_models

    for name in methods.names():
        assert f"\n{name} " in "\n" + describe_methods()
    assert "--beta=6 " in describe_methods()
    for name in models.names():
        assert f"\n{name} " in "\n" + describe_models()
    assert "in other sizes: wide_resnet_D_W, resnet_D, cifar_resnet_D" in describe_models()


@pytest.mark.parametrize("name", methods.names())
def test_each_method_says_what_its_hyperparameters_mean(name):
    text = methods.explain(name)
    for hyperparameter in methods.hyperparameters(name):
        assert f"\n  {hyperparameter}: " in text
    assert "Source: " in text


def test_a_method_is_explained_by_its_name():
    found = call("train", "--method=help-mart")
    assert found.returncode == 0 and found.stdout == methods.explain("mart") + "\n"
    found = call("train", "--method=help-mrat")
    assert found.returncode == 1 and "did you mean 'mart'?" in found.stderr


def test_help_says_what_an_option_accepts():
    for field in dataclasses.fields(TrainConfig):
        for choice in field.metadata["choices"]:
            assert str(choice) in field.metadata["help"], field.name


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("train", ["--epsilom=1"], "did you mean --epsilon?"),
        ("train", ["--flagfile=launch/quickstart.flags", "--tau=3"], "'tau'"),
        ("evaluate", ["--" + "long" * 300], "error: --longlong"),
        ("evaluate", [], "--workdir is not given"),
        ("evaluate", ["--workdir=nowhere"], "--workdir=nowhere holds no run"),
        ("evaluate", ["--workdir=nowhere", "--attacks=pdg-20"], "--attacks=pdg-20: accepted are"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(name, arguments, message):
    found = call(name, *arguments)
    assert found.returncode == 1
    assert message in found.stderr and "Traceback" not in found.stderr
    assert not (ROOT / "nowhere").exists()


@pytest.mark.parametrize("arguments", [[], ["--epochs=1", "--workdir=nowhere"]])
def test_with_nothing_named_nothing_is_trained_and_three_ways_to_start_are_shown(arguments):
    found = call("train", *arguments)
    assert found.returncode == 1 and found.stdout == ""
    *ways, error = found.stderr.splitlines()
    assert error.startswith("error: nothing is named to train: accepted is a --flagfile, or some")
    commands = [line for line in ways if line.startswith("  python launch/train.py --")]
    assert len(commands) == 3
    assert not (ROOT / "nowhere").exists()


@pytest.mark.parametrize("path", FLAG_FILES, ids=lambda path: path.stem)
def test_every_flag_file_is_an_experiment_and_says_where_it_comes_from(path):
    lines = path.read_text().splitlines()
    comment = "\n".join(line for line in lines if line.startswith("#"))
    assert f"--flagfile=launch/{path.name}" in comment
    assert "Source: " in comment
    config = read_flags(path)
    create_method(config)
    create_model(config, num_classes=10)


def test_there_is_a_flag_file_for_every_experiment_named_in_the_readme():
    names = {path.stem for path in FLAG_FILES}
    assert {"natural", "standard", "trades", "trades_mnist", "quickstart"} <= names


def test_trades_is_set_as_in_the_paper():
    config = read_flags(ROOT / "launch" / "trades.flags")
    assert (config.epsilon, config.step_size, config.steps) == (0.031, 0.007, 10)
    assert (config.beta, config.epochs, config.decay_epochs) == (6.0, 76, (74.0,))
    assert (config.model, config.weight_decay) == ("wide_resnet_34_10", 2e-4)
