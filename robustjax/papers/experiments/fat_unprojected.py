"""FAT's figures 9 and 10: friendly images searched without the projection, by the step size.

Without the ball nothing but the steps and the stop limits how far a friendly image may lie: besides
the accuracy of the figures, the experiment measures that distance.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from robustjax import attacks, data, evaluation, methods, training
from robustjax.arguments import require_finite, require_whole
from robustjax.batching import batches_of_one_shape
from robustjax.config import TrainConfig
from robustjax.errors import UserError
from robustjax.files import Path
from robustjax.models.forward import forward
from robustjax.reports.figures.canvas import line_style, save, write_numbers
from robustjax.reports.figures.sweep import accuracy_against_value
from robustjax.text import format_value, parse_number

SUMMARY = "FAT, figures 9 and 10: friendly images without the projection, by the step size"

STANDARD = "standard"
ATTACKS = ("clean", "fgsm", "pgd-20", "pgd-100", "cw-30")

Found = dict[str, float]
"""What is measured of a run: attack -> accuracy, and "distance", "largest_distance", "passes"."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What may be changed; the defaults are a small version for the CPU, on digits.

    The paper's own: dataset=cifar10 model=fat_small_cnn (figure 9) or resnet_18 (figure 10),
    epsilon=8/255, step_sizes=0.003,0.006,0.009,0.012,0.015, epochs=80, batch_size=128 and
    learning_rate=0.01.

    Attributes:
      dataset: its name, as `data.load` takes it.
      data_dir: where it lies.
      model: the network.
      epsilon: radius of the ball of standard training and of the attacks that measure.
      steps: K of every search.
      step_sizes: α of the searches, numbers between commas.
      taus: τ of the searches, whole numbers between commas.
      epochs: of each run; the learning rate falls by 10 after three quarters of them.
      batch_size: of all.
      learning_rate: of SGD with momentum 0.9.
      examples: of the test set that are attacked, and of the training set whose friendly images
        are measured; 0: all.
      seed: of everything.
    """

    dataset: str = "digits"
    data_dir: str = ""
    model: str = "digits_cnn"
    epsilon: float = 0.15
    steps: int = 10
    step_sizes: str = "0.015,0.045,0.075"
    taus: str = "0,1,3"
    epochs: int = 12
    batch_size: int = 64
    learning_rate: float = 0.05
    examples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("step_sizes", "taus"):
            _numbers(name, getattr(self, name))
        require_whole("examples", self.examples)


def run(settings: Settings, output: Path, report: Callable[[str], None]) -> dict[str, Any]:
    """Trains a run for each step size and search, and standard training besides; runs resume.

    Returns:
      {"epsilon": ε, "found": search -> step size -> what was measured}.

    Raises:
      TrainingError: a signal stopped a run.
    """
    taus = [int(tau) for tau in _numbers("taus", settings.taus)]
    step_sizes = _numbers("step_sizes", settings.step_sizes)
    found: dict[str, dict[str, Found]] = {}
    for tau, step_size in itertools.product((None, *taus), step_sizes):
        name = STANDARD if tau is None else f"tau={tau}"
        folder = output / "runs" / f"{name}-step_size={step_size:g}"
        training.train_to_the_end(_config(settings, folder, tau, step_size), stream=None)
        measured = measure(folder, settings)
        found.setdefault(name, {})[f"{step_size:g}"] = measured
        report(
            f"{name}, step {step_size:g}: {100 * measured['clean']:.1f} % natural, "
            f"{100 * measured['pgd-20']:.1f} % PGD-20, distance {measured['distance']:.3g}"
        )
    figure = draw_accuracy(found, output / "fat_unprojected_figures_9_10.png")
    distances = draw_distance(found, settings.epsilon, output / "fat_unprojected_distance.png")
    report(f"figures: {figure}, {distances}")
    return {"epsilon": settings.epsilon, "found": found}


def to_markdown(numbers: Mapping[str, Any]) -> str:
    """The accuracies on the test set, and how far the friendly images lie."""
    attacked = [*ATTACKS, _twice("pgd-20")]
    lines = [
        "Accuracy (%) at the last epoch; the distance of the images that the search finds for the "
        f"training set with the last weights, where ε = {format_value(numbers['epsilon'])}; and "
        "how many steps it takes on average.",
        "",
        f"| search | step size | {' | '.join(attacked)} | mean distance | largest | steps |",
        "| --- |" + " ---: |" * (len(attacked) + 4),
    ]
    for search, by_step_size in numbers["found"].items():
        for step_size, found in by_step_size.items():
            accuracies = " | ".join(f"{100 * found[attack]:.1f}" for attack in attacked)
            lines.append(
                f"| {search} | {step_size} | {accuracies} | {found['distance']:.3f} | "
                f"{found['largest_distance']:.3f} | {found['passes']:.2f} |"
            )
    return "\n".join(lines)


def measure(folder: Path, settings: Settings) -> Found:
    """The accuracy of a run's last network, and the distance of its friendly images.

    Args:
      folder: of a finished run.
      settings: of the experiment.
    """
    run = training.load_run(folder, "latest")
    test_set = data.load(settings.dataset, "test", data_dir=settings.data_dir or None)
    test_set = data.first(test_set, _at_most(settings.examples, len(test_set)))
    model = training.create_model(run.config, test_set.num_classes)
    variables = jax.tree.map(jnp.asarray, run.variables)
    logits_fn = jax.tree_util.Partial(
        lambda variables, images: forward(model, variables, images), variables
    )
    accuracy = {}
    for radius, names in ((1, ATTACKS), (2, ("pgd-20",))):
        scores = evaluation.evaluate(
            names,
            jax.random.key(settings.seed),
            logits_fn,
            test_set,
            attacks.ThreatModel("linf", radius * settings.epsilon),
            step_size=settings.epsilon / 4,
            batch_size=min(500, len(test_set)),
        )
        for name in names:
            shown = name if radius == 1 else _twice(name)
            accuracy[shown] = float(np.mean(scores[name].correct))
    return {**accuracy, **distances(run, settings.examples)}


def distances(run: training.TrainedRun, examples: int) -> Found:
    """How far the images lie that a run's method finds, and the steps that it takes to them.

    Args:
      run: a trained network and how it was trained.
      examples: of the training set, in proportion to the classes; 0: all.

    Returns:
      "distance" and "largest_distance", in the maximum norm, and "passes", the mean steps.
    """
    train_set, _ = training.create_train_set(run.config)
    sample = train_set.sample(_at_most(examples, len(train_set)))
    method = training.create_method(run.config)
    model = training.create_model(run.config, train_set.num_classes)
    # As after the last epoch of training, where a schedule has reached its end.
    scalars = jax.tree.map(jnp.float32, method.scalars_at(float(run.config.epochs)))

    @jax.jit
    def search(variables: Any, batch: methods.Batch, keys: jax.Array) -> methods.Perturbation:
        network = training.BoundNetwork(
            model, variables["params"], variables.get("batch_stats", {})
        )
        return method.perturb(
            methods.Inner(
                keys=keys,
                positions=jnp.arange(len(keys)),
                batch_size=len(keys),
                logits_fn=network.logits_fn(method.attack_batch_norm),
                batch=batch,
                threat=attacks.ThreatModel(run.config.norm, run.config.epsilon),
                steps=run.config.steps,
                step_size=jnp.float32(run.config.step_size),
                scalars=scalars,
            )
        )

    moved, passes = [], []
    size = min(500, len(sample))
    for part in batches_of_one_shape(len(sample), size):
        rows, first = part.rows, part.kept.start
        batch = methods.Batch(
            data.to_float(jnp.asarray(sample.images[rows])),
            jnp.asarray(sample.labels[rows]),
            jnp.asarray(rows),
            jnp.ones(size),
        )
        keys = jax.random.split(jax.random.fold_in(jax.random.key(run.config.seed), first), size)
        found = search(run.variables, batch, keys)
        difference = np.abs(np.asarray(found.images) - np.asarray(batch.images))
        moved.append(part.without_filling(difference.reshape(size, -1).max(axis=1)))
        passes.append(part.without_filling(found.backward_passes))
    distances = np.concatenate(moved)
    return {
        "distance": float(distances.mean()),
        "largest_distance": float(distances.max()),
        "passes": float(np.concatenate(passes).mean()),
    }


def draw_accuracy(found: Mapping[str, Mapping[str, Found]], path: Path) -> Path:
    """Draws accuracy against the step size, a panel for each attack as in figures 9 and 10."""
    entries = [
        {
            "name": f"{search} {step_size}",
            "values": {"step_size": step_size, "search": search},
            "accuracy": {
                attack: {"centre": measured[attack], "deviation": 0.0}
                for attack in (*ATTACKS, _twice("pgd-20"))
            },
        }
        for search, by_step_size in found.items()
        for step_size, measured in by_step_size.items()
    ]
    return accuracy_against_value({"FAT": entries}, path, flag="step_size")


def draw_distance(found: Mapping[str, Mapping[str, Found]], epsilon: float, path: Path) -> Path:
    """Draws the mean distance of the images that are found against the step size."""
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    panel = figure.subplots()
    rows = []
    for number, (search, by_step_size) in enumerate(found.items()):
        values = [float(step_size) for step_size in by_step_size]
        means = [measured["distance"] for measured in by_step_size.values()]
        panel.plot(values, means, marker="o", label=search, **line_style(number))
        rows += [(search, *pair) for pair in zip(values, means, strict=True)]
    panel.axhline(epsilon, color="tab:gray", linestyle=":", label="ε of the attacks")
    panel.set(xlabel="step size", ylabel="mean distance (maximum norm)", ylim=(0, None))
    panel.grid(alpha=0.3)
    panel.legend(fontsize="small")
    write_numbers(path, ("search", "step_size", "distance"), rows)
    return save(figure, path)


def _config(settings: Settings, folder: Path, tau: int | None, step_size: float) -> TrainConfig:
    shared = {
        name: getattr(settings, name)
        for name in (
            "dataset", "data_dir", "model", "epsilon", "steps", "epochs", "batch_size",
            "learning_rate", "seed",
        )
    }  # fmt: skip
    search = (
        {"method": "standard"}
        if tau is None
        else {"method": "fat", "set": (f"tau={tau}", "projection=false")}
    )
    return TrainConfig(
        **shared,
        **search,
        step_size=step_size,
        decay_epochs=(0.75 * settings.epochs,),
        measure_examples=100,
        workdir=str(folder),
    )


def _numbers(name: str, text: str) -> Sequence[float]:
    """The numbers between the commas of a setting.

    Raises:
      ValueError: there is none, one of them is no such number, or they are not all different.
    """
    try:
        values = [parse_number(part) for part in text.split(",")]
        for value in values:
            require_finite(name, value, 0)
        valid = len(set(values)) == len(values)
    except ValueError:
        valid = False
    if not valid or (name == "taus" and any(value % 1 for value in values)):
        kind = "whole numbers" if name == "taus" else "numbers"
        raise UserError(
            f"{name}={text}: accepted are different {kind}, 0 or more, with commas between them"
        )
    return values


def _at_most(examples: int, available: int) -> int:
    return min(examples, available) if examples else available


def _twice(attack: str) -> str:
    """The name of an attack in a ball of twice the radius."""
    return f"{attack}, 2ε"
