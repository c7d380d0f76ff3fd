"""Code that a user names, `package.module:function`: when it is run, and when it is not."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks, cite, config, data, evaluation, flags, methods, models, own_code
from robustjax.errors import UserError
from robustjax.files import Path
from robustjax.training import create_experiment, create_method, create_model, load_run, train

SOURCE = """
import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from robustjax import attacks, losses, methods

number = 3


class Layer(nn.Module):
    num_classes: int = 10

    @nn.compact
    def __call__(self, images, *, train=False):
        return nn.Dense(self.num_classes)(images.reshape(len(images), -1))


def build(num_classes=10):
    "One dense layer."
    return Layer(num_classes)


def build_nothing(num_classes=10):
    return num_classes


def create(*, weight=1.0):
    "Standard, weighted."
    standard = methods.create("standard")

    def outer(problem):
        objective = standard.outer(problem)
        return objective._replace(loss=weight * objective.loss)

    return methods.Method(name="weighted", perturb=standard.perturb, outer=outer)


def loss(clean_logits, adversarial_logits, labels):
    return 3 * losses.cross_entropy(adversarial_logits, labels)


def reduced(clean_logits, adversarial_logits, labels):
    return losses.cross_entropy(adversarial_logits, labels).mean()


def to_the_corner(key, logits_fn, images, labels, threat):
    signs = jnp.sign(jax.random.uniform(key, images.shape, minval=-1))
    return threat.project(images + threat.epsilon * signs, images)


def too_far(key, logits_fn, images, labels, threat):
    return jnp.clip(images + 0.5, 0, 1)


@dataclasses.dataclass(frozen=True)
class Boasting:
    steps: int = 2

    def __call__(self, key, logits_fn, images, labels, threat):
        result = attacks.PGD(self.steps)(key, logits_fn, images, labels, threat)
        return dataclasses.replace(result, images=images, success=jnp.ones(len(images), bool))
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module in the working directory, which is not on the import path; its name."""
    name = f"own_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    monkeypatch.setattr(own_code, "_named_by_a_person", set())
    yield name
    sys.modules.pop(name, None)


def experiment(own, tmp_path, **options):
    settings = {
        "model": f"{own}:build", "dataset": "digits", "augmentation": "none", "epsilon": 0.1,
        "steps": 2, "epochs": 1, "batch_size": 32, "train_examples": 64, "holdout": 0,
        "measure_steps": 1, "measure_examples": 16, "devices": 1, "workdir": str(tmp_path / "run"),
    }  # fmt: skip
    return config.TrainConfig(**{**settings, **options})


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("mine:build", True),
        ("package.module:build", True),
        ("package.module:Class.build", True),
        ("resnet_18", False),
        ("gs://bucket/run", False),
        ("host:1234", False),
        ("mine:build()", False),
        ("pgd-20(start=a:b)", False),
        ("", False),
        (3, False),
    ],
)
def test_what_is_a_name_of_code(name, is_one):
    assert own_code.is_own(name) is is_one


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--model=mine:build"], {"mine:build"}),
        (["-model", "mine:build"], {"mine:build"}),
        (["--set", "loss=mine:loss", "--set=x=a.b:c"], {"mine:loss", "a.b:c"}),
        (["--attacks=clean,mine:attack,mine:Other(steps=3)"], {"mine:attack", "mine:Other"}),
        (["--workdir=gs://bucket/run", "--flagfile=x.flags"], set()),
    ],
)
def test_what_a_command_line_names(arguments, named, monkeypatch):
    found = set()
    monkeypatch.setattr(own_code, "_named_by_a_person", found)
    own_code.trust_command_line(arguments)
    assert found == named


def test_a_network_a_method_and_a_loss_are_made_by_their_names(own):
    model = models.create(f"{own}:build", num_classes=3)
    assert type(model).__name__ == "Layer" and model.num_classes == 3
    assert models.describe(f"{own}:build") == "One dense layer."
    assert methods.create(f"{own}:create", weight=2.0).name == "weighted"
    assert methods.hyperparameters(f"{own}:create") == {"weight": 1.0}
    assert methods.create("standard", loss=f"{own}:loss").soft_labels is False
    # What was loaded is no part of what there is for everybody.
    assert not any(":" in name for name in (*models.names(), *methods.names(), *attacks.names()))


@pytest.mark.parametrize(
    ("attempt", "said"),
    [
        (lambda own: models.create("no_such_module_at_all:build"), "there is no module no_such"),
        (lambda own: models.create(f"{own}:biuld"), "py has no biuld; did you mean 'build'"),
        (lambda own: models.create(f"{own}:number"), "is 3; accepted are functions and classes"),
        (lambda own: models.create(f"{own}:build_nothing"), "it builds=int: accepted are netw"),
        (lambda own: methods.create(f"{own}:build"), "it gives=Layer.*values of methods"),
        (lambda own: methods.create(f"{own}:create", wait=1), "did you mean 'weight'"),
        (lambda own: methods.create("standard", loss=f"{own}:loss", alpha=0.5), "alpha=0.5: loss="),
        (lambda own: methods.create("natural", loss=f"{own}:loss"), "loss=.*accepted are ce, bce"),
        (lambda own: attacks.create(f"{own}:to_the_corner(steps=3)"), "steps is no setting of"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_sentence(own, attempt, said):
    with pytest.raises(UserError, match=said):
        attempt(own)


@pytest.mark.parametrize("library", ["a_library_that_nobody_has", "own"])
def test_an_error_of_the_code_itself_keeps_its_traceback(own, tmp_path, library):
    # Also where the library's name begins as the module's own does.
    (tmp_path / f"{own}.py").write_text(f"import {library}")
    with pytest.raises(ModuleNotFoundError, match=f"'{library}'"):
        models.create(f"{own}:build")


def test_a_folder_of_data_does_not_stand_in_for_a_library(own, tmp_path):
    (tmp_path / "json").mkdir()
    models.create(f"{own}:build")
    assert sys.path[-1] == str(tmp_path)


def test_training_with_all_of_them_is_training_of_the_parts(own, tmp_path):
    weighted = experiment(own, tmp_path, method=f"{own}:create", set=("weight=3",))
    lossy = experiment(own, tmp_path, set=(f"loss={own}:loss",), workdir=str(tmp_path / "other"))
    first, second = (train(options, stream=None) for options in (weighted, lossy))
    # Without batch norm the clean pass of a loss of one's own changes nothing.
    np.testing.assert_allclose(first.rows[0]["loss"], second.rows[0]["loss"], rtol=1e-5)
    for one, other in zip(
        *(jax.tree.leaves(run.state.params) for run in (first, second)), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_loss_that_is_no_number_per_example_is_refused(own, tmp_path):
    with pytest.raises(UserError, match=r"loss=.*:reduced: what it gives.*one number per exam"):
        train(experiment(own, tmp_path, set=(f"loss={own}:reduced",)), stream=None)


def foreign(own, tmp_path):
    """The folder of a run as somebody else has sent it, in a process that knows nothing of it."""
    options = experiment(own, tmp_path, method=f"{own}:create", set=(f"loss={own}:loss",))
    folder = tmp_path / "foreign"
    folder.mkdir()
    (folder / "flags.txt").write_text(options.to_flags())
    return folder / "flags.txt"


def test_the_flags_of_a_foreign_run_run_no_code(own, tmp_path):
    read = flags.read_flags(Path(foreign(own, tmp_path)), alone=True)
    assert read.model == f"{own}:build" and own not in sys.modules
    for make in (lambda: create_model(read, 10), lambda: create_method(read)):
        with pytest.raises(UserError, match="is code that a file names.* add m.*=own_"):
            make()
    standard = dataclasses.replace(read, method="standard", beta=None)
    with pytest.raises(UserError, match=f"loss={own}:loss is code that a file names"):
        create_method(standard)
    with pytest.raises(UserError, match="is code that a file names"):
        create_experiment(dataclasses.replace(read, epochs=2))
    assert own not in sys.modules


def test_naming_the_code_again_runs_it(own, tmp_path):
    read = flags.read_flags(Path(foreign(own, tmp_path)), alone=True)
    own_code.trust_command_line([f"--model={own}:build"])
    assert create_model(read, 10).num_classes == 10
    with pytest.raises(UserError, match="is code that a file names"):
        create_method(read)


def test_attacks_that_a_file_names_are_not_run(own):
    with pytest.raises(UserError, match="is code that a file names"):
        evaluation.parse_attack(f"{own}:to_the_corner")
    with pytest.raises(ValueError, match="unknown method"):
        cite(f"{own}_not_there")
    assert own not in sys.modules


def test_a_run_of_one_s_own_is_read_back_by_who_trained_it(own, tmp_path):
    options = experiment(own, tmp_path)
    train(options, stream=None)
    run = load_run(options.workdir)
    assert create_model(run.config, 10).num_classes == 10
    again = train(dataclasses.replace(options, epochs=2), stream=None)
    assert [row["epoch"] for row in again.rows] == [2]


def linear_problem():
    """Images in the middle of the box, of which a linear network tells two classes apart."""
    random = np.random.default_rng(0)
    images = random.uniform(0.4, 0.6, (24, 2, 2, 1)).astype(np.float32)
    weights = jnp.asarray(random.normal(size=(4, 2)), jnp.float32)

    def logits_fn(images):
        return images.reshape(len(images), -1) @ weights

    labels = np.argmax(np.asarray(logits_fn(images)), -1).astype(np.int32)
    return logits_fn, data.Dataset("linear", images, labels, 2), np.asarray(weights)


def evaluated(name, **options):
    logits_fn, dataset, weights = linear_problem()
    threat = attacks.ThreatModel("linf", 0.2)
    scores = evaluation.evaluate(
        [name], jax.random.key(0), logits_fn, dataset, threat, batch_size=8, **options
    )
    return scores[name], dataset, weights


def test_images_alone_are_an_attack_and_are_judged_by_the_network(own):
    score, dataset, weights = evaluated(f"{own}:to_the_corner", keep_images=True)
    logits = score.images.reshape(len(score.images), -1) @ weights
    np.testing.assert_array_equal(score.correct, np.argmax(logits, -1) == dataset.labels)
    assert 0 < score.correct.mean() < 1
    np.testing.assert_allclose(np.abs(score.images - dataset.images), 0.2, atol=1e-6)
    assert score.settings["norm"] == "linf" and score.settings["function"] == "to_the_corner"


def test_what_an_attack_says_of_itself_does_not_count(own):
    score, _, _ = evaluated(f"{own}:Boasting(steps=3)")
    assert score.correct.all() and score.settings["steps"] == 3


def test_images_outside_of_the_ball_are_refused(own):
    with pytest.raises(UserError, match=r"8 of 8 images lie outside of the linf ball of epsilon=0"):
        evaluated(f"{own}:too_far")
