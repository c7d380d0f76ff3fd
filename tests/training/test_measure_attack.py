"""What measures robust accuracy after each epoch: which attacks, checked when, said where."""

import dataclasses
import io
import warnings

import jax
import numpy as np
import pytest

from robustjax import attacks
from robustjax.config import TrainConfig
from robustjax.flags import read_flags
from robustjax.runs.log import read_rows
from robustjax.training import check_experiment, create_experiment, load_run, train
from robustjax.training.experiment import create_model
from robustjax.training.measure_attack import describe, measuring_attack


def config(folder="", **changes):
    options = {
        "method": "natural", "model": "digits_cnn", "dataset": "digits", "epsilon": 0.1,
        "measure_examples": 32, "holdout": 32, "train_examples": 256, "epochs": 1,
        "batch_size": 64, "schedule": "constant", "learning_rate": 0.05, "devices": 1,
    }  # fmt: skip
    return TrainConfig(workdir=str(folder), **{**options, **changes})


@pytest.mark.parametrize(
    ("options", "attack"),
    [
        ({}, attacks.PGD(10, 0.1 / 5)),
        ({"measure_steps": 40, "measure_epsilon": 0.2}, attacks.PGD(40, 0.2 / 10)),
        ({"measure_attack": "pgd-20"}, attacks.PGD(20, 0.1 / 10)),
        ({"measure_attack": "pgd-4x3(start=sign)"}, attacks.PGD(4, 0.05, start="sign", restarts=3)),
        ({"measure_attack": "pgd-20(step_size=0.8/255)"}, attacks.PGD(20, 0.8 / 255)),
        ({"measure_attack": "cw-30", "measure_epsilon": 0.2}, attacks.CW(30, 0.02)),
        ({"measure_attack": "fgsm"}, attacks.FGSM()),
        ({"measure_attack": "fgsm-random"}, attacks.FGSM(start="uniform")),
    ],
)
def test_the_options_name_the_attack(options, attack):
    found = measuring_attack(config(**options))
    assert type(found) is type(attack)
    assert dataclasses.asdict(found) == pytest.approx(dataclasses.asdict(attack))
    check_experiment(config(**options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("autoattack", "measure_attack=autoattack: accepted are fgsm, .*, pgd-K, pgd-KxR .* cw-K"),
        ("clean", "measure_attack=clean: accepted are fgsm"),
        ("square", "measure_attack=square: accepted are fgsm"),
        ("apgd-ce(steps=3)", r"measure_attack=apgd-ce\(steps=3\): accepted are fgsm"),
        ("pgd", "measure_attack=pgd: accepted are .* did you mean 'pgd-20'"),
        ("pgd-0", "measure_attack=pgd-0: accepted are fgsm"),
        ("pgd-20(", r"measure_attack=pgd-20\(: accepted are fgsm"),
        ("pgd-20(start=clean", "measure_attack=pgd-20.start=clean: accepted are fgsm"),
        ("pgd-20(step_size=0)", "measure_attack=pgd-20.*: step_size is 0; accepted are"),
        ("pgd-20(step=1)", "measure_attack=pgd-20.*: step is no setting of it; .*'steps'"),
        ("fgsm-random(start=clean)", "measure_attack=fgsm-random.*: start is given twice"),
        ("pgd-20(start=cold)", "measure_attack=pgd-20.*: not accepted .start=cold: accepted are"),
        ("pgd-2x2(start=clean)", "measure_attack=pgd-2x2.*: not accepted .restarts=2 with"),
        ("pgd-20(step_size=8)", r"measure_attack=pgd-20.*: step_size 8: .* did you mean 8/255\?"),
        ({"measure_attack": "cw-30", "norm": "l2"}, "measure_attack=cw-30: not accepted .*linf"),
        ({"measure_attack": "pgd-20", "measure_steps": 40}, "measure_steps=40: .*=pgd-20 says"),
    ],
)
def test_what_cannot_measure_is_refused_before_training(tmp_path, options, message):
    options = options if isinstance(options, dict) else {"measure_attack": options}
    with pytest.raises(ValueError, match=f"^{message}"):
        check_experiment(config(**options))
    with pytest.raises(ValueError, match=f"^{message}"):
        train(config(tmp_path / "run", **options), stream=None)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_needs_more_classes_is_refused_once_they_are_known():
    made = config(measure_attack="pgd-5(loss=dlr)", classes=(3, 5), batch_size=16)
    check_experiment(made)
    with pytest.raises(ValueError, match="^measure_attack=pgd-5.*: not accepted .*3"):
        create_experiment(made)


def test_steps_that_fall_short_are_warned_of():
    made = create_experiment(config(measure_attack="pgd-2(step_size=0.01)"))
    (warning,) = made.warnings()
    assert warning.startswith("measure_attack=pgd-2(step_size=0.01): 2 steps of step_size 0.01")
    assert create_experiment(config(measure_attack="pgd-2")).warnings() == []


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"epsilon": 8 / 255}, "pgd-10, step size 0.00627, ε 0.0314"),
        ({"measure_attack": "pgd-20(step_size=0.8/255)", "epsilon": 8 / 255},
         "pgd-20, step size 0.00314, ε 0.0314"),
        ({"measure_attack": "pgd-5(start=clean)"}, "pgd-5(start=clean), step size 0.04, ε 0.1"),
        ({"measure_attack": "fgsm-random"}, "fgsm-random, ε 0.1"),
        ({"norm": "l2", "epsilon": 0.5}, "pgd-10, step size 0.1, ε 0.5 (l2)"),
    ],
)  # fmt: skip
def test_what_measures_is_said_in_one_line(options, line):
    said = f"robust accuracy after each epoch: {line}, on 1000 training examples"
    assert describe(config(**options), 1000, None) == said
    assert describe(config(**options), 1000, 900) == f"{said} and 900 held-out"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that another attack measured, and what it said."""
    folder, stream = tmp_path_factory.mktemp("runs") / "run", io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(config(folder, measure_attack="fgsm"), stream)
    return folder, stream.getvalue()


def test_the_attack_is_what_measures(run):
    """By NumPy: one step of ε along the sign of the gradient, for a network that is read back."""
    folder, _ = run
    made = create_experiment(config(folder))
    network, variables = create_model(made.config, 10), load_run(folder, "latest").variables
    images = np.float32(made.holdout_set.images) / 255
    labels = made.holdout_set.labels

    def loss(images):
        logits = network.apply(variables, images, train=False)
        return -jax.nn.log_softmax(logits)[np.arange(len(labels)), labels].sum()

    def right(images):
        return np.argmax(network.apply(variables, images, train=False), axis=1) == labels

    moved = np.clip(images + 0.1 * np.sign(jax.grad(loss)(images)), 0, 1)
    (row,) = read_rows(folder / "metrics.jsonl")
    assert row["holdout_clean_accuracy"] == right(images).mean()
    assert row["holdout_robust_accuracy"] == (right(images) & right(moved)).mean()


def test_it_is_said_once_and_stands_in_the_flags(run):
    folder, said = run
    line = "robust accuracy after each epoch: fgsm, ε 0.1, on 32 training examples and 32 held-out"
    assert said.count(line) == 1
    assert "--measure_attack=fgsm\n" in (folder / "flags.txt").read_text()
    again = io.StringIO()
    train(config(folder, measure_attack="fgsm"), again)
    assert "robust accuracy after each epoch" not in again.getvalue()  # Nothing is left to do.


def test_another_one_is_another_run(run):
    folder, _ = run
    for other, theirs in (("pgd-2", "pgd-2"), ("", "")):
        message = rf"measure_attack={theirs} \(was fgsm\)"
        with pytest.raises(ValueError, match=message):
            train(config(folder, measure_attack=other, epochs=2), stream=None)


def test_a_run_from_before_the_option_goes_on(tmp_path):
    train(config(tmp_path / "run"), stream=None)
    path = tmp_path / "run" / "flags.txt"
    lines = [line for line in path.read_text().splitlines() if "measure_attack" not in line]
    path.write_text("\n".join(lines) + "\n")
    assert read_flags(path) == config(tmp_path / "run", devices=0)
    assert train(config(tmp_path / "run", epochs=2), stream=None).finished
