"""MART's figure 1: what a subset of the training examples does to robustness, treated apart.

A network trained adversarially chooses the subsets: what it misclassifies, and as many examples
that it does not. Then the same network is trained again, one subset treated apart.
"""

import dataclasses
import io
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from robustjax import data, training
from robustjax.arguments import require_whole
from robustjax.attacks.engine.rows import predicted
from robustjax.config import TrainConfig
from robustjax.errors import UserError
from robustjax.files import Path, write_whole
from robustjax.methods.mart_subset import TREATMENTS
from robustjax.models.forward import forward
from robustjax.reports.figures.canvas import save
from robustjax.runs.names import METRICS

SUMMARY = "MART, figure 1: misclassified examples treated apart (unperturbed, FGSM, regularised)"

SUBSETS = ("misclassified", "correct")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What may be changed; the defaults are a small version for the CPU, on digits.

    The paper's own: dataset=cifar10 model=fat_small_cnn (8 layers) epsilon=8/255 and
    step_size=2/255, steps=10, and enough epochs that 13 % of the images are misclassified.

    Attributes:
      dataset: its name, as `data.load` takes it.
      data_dir: where it lies.
      model: the network.
      epsilon: radius of the ball.
      steps: of PGD in training.
      step_size: of PGD.
      selection_epochs: of the network that chooses the subsets.
      epochs: of the others.
      batch_size: of all.
      learning_rate: peak of a cosine.
      beta: weight of the KL of "regularised"; the paper does not give it.
      seed: of everything.
    """

    dataset: str = "digits"
    data_dir: str = ""
    model: str = "digits_cnn"
    epsilon: float = 0.2
    steps: int = 10
    step_size: float = 0.05
    selection_epochs: int = 4
    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 0.05
    beta: float = 6.0
    seed: int = 0

    def __post_init__(self) -> None:
        require_whole("selection_epochs", self.selection_epochs, 1)


def run(settings: Settings, output: Path, report: Callable[[str], None]) -> dict[str, Any]:
    """Trains the network that chooses, then the seven of the figure; every run resumes.

    Returns:
      {"chosen": subset -> how many, "examples": of training, "robust_accuracy": run -> per epoch}.
    """
    selector = output / "runs" / "selector"
    training.train_to_the_end(
        _config(settings, selector, method="standard", epochs=settings.selection_epochs),
        stream=None,
    )
    subsets = choose(selector, settings.seed)
    curves = {"standard": _robust_accuracies(settings, output, "standard", report)}
    for subset, chosen in subsets.items():
        path = output / f"{subset}.npz"
        content = io.BytesIO()
        np.savez(content, chosen=chosen)
        write_whole(path, content.getvalue())
        for treatment in TREATMENTS[1:]:
            name = f"{subset}_{treatment}"
            curves[name] = _robust_accuracies(
                settings, output, name, report,
                method="mart_subset",
                set=(f"subset={path}", f"treatment={treatment}", f"beta={settings.beta}"),
            )  # fmt: skip
    path = draw(curves, output / "mart_misclassified_figure_1.png")
    report(f"figure: {path}")
    return {
        "chosen": {subset: int(chosen.sum()) for subset, chosen in subsets.items()},
        "examples": len(subsets["correct"]),
        "robust_accuracy": curves,
    }


def to_markdown(numbers: Mapping[str, Any]) -> str:
    """The robust accuracy after the last epoch, on the hold-out."""
    chosen, examples = numbers["chosen"], numbers["examples"]
    lines = [
        f"{chosen['misclassified']} of {examples} training examples are misclassified by the "
        f"network that chooses; {chosen['correct']} of the others are chosen at random.",
        "",
        "| treatment | of the misclassified (%) | of as many correct (%) |",
        "| --- | ---: | ---: |",
    ]
    curves = numbers["robust_accuracy"]
    for treatment in TREATMENTS[1:]:
        last = [100 * curves[f"{subset}_{treatment}"][-1] for subset in SUBSETS]
        lines.append(f"| {treatment} | {last[0]:.1f} | {last[1]:.1f} |")
    standard = 100 * curves["standard"][-1]
    lines.append(f"| none (standard adversarial training) | {standard:.1f} | {standard:.1f} |")
    return "\n".join(lines)


def choose(selector: Path, seed: int) -> dict[str, np.ndarray]:
    """The two subsets of the training examples of a run, bool [N] each, equally many.

    Args:
      selector: folder of the run whose network decides.
      seed: of the draw among the correctly classified.

    Raises:
      ValueError: the network misclassifies none, or more than it classifies correctly.
    """
    run = training.load_run(selector, "latest")
    train_set, _ = training.create_train_set(run.config)
    model = training.create_model(run.config, train_set.num_classes)

    @jax.jit
    def predict(images: jax.Array) -> jax.Array:
        return predicted(forward(model, run.variables, data.to_float(images)))

    batches = np.array_split(train_set.images, max(len(train_set) // 500, 1))
    misclassified = np.concatenate([predict(images) for images in batches]) != train_set.labels
    candidates = np.flatnonzero(~misclassified)
    if not 0 < misclassified.sum() <= len(candidates):
        raise UserError(
            f"the network that chooses misclassifies {misclassified.sum()} of {len(train_set)} "
            "training examples; set other selection_epochs"
        )
    drawn = np.random.default_rng(seed).choice(candidates, misclassified.sum(), replace=False)
    correct = np.zeros(len(train_set), bool)
    correct[drawn] = True
    return {"misclassified": misclassified, "correct": correct}


def draw(curves: Mapping[str, list[float]], path: Path) -> Path:
    """Draws robust accuracy against the epoch, a panel for each treatment."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    for panel, treatment in zip(panels, TREATMENTS[1:], strict=True):
        shown = {"standard": curves["standard"]}
        shown |= {subset: curves[f"{subset}_{treatment}"] for subset in SUBSETS}
        for name, values in shown.items():
            style = "--" if name == "standard" else "-"
            label = name if name == "standard" else f"{name}, {treatment}"
            epochs = range(1, len(values) + 1)
            panel.plot(epochs, [100 * value for value in values], style, label=label)
        panel.set(title=treatment, xlabel="epoch")
        panel.grid(alpha=0.3)
        panel.legend(fontsize="small")
    panels[0].set(ylabel="robust accuracy, hold-out (%)")
    return save(figure, path)


def _robust_accuracies(
    settings: Settings, output: Path, name: str, report: Callable[[str], None], **changes: Any
) -> list[float]:
    """Trains (or resumes) a run; its robust accuracy on the hold-out after each epoch."""
    changes = {"method": "standard", "epochs": settings.epochs, **changes}
    folder = output / "runs" / name
    training.train_to_the_end(_config(settings, folder, **changes), stream=None)
    values = [row["holdout_robust_accuracy"] for row in training.read_rows(folder / METRICS)]
    report(f"{name}: {100 * values[-1]:.1f} % robust")
    return values


def _config(settings: Settings, folder: Path, **changes: Any) -> TrainConfig:
    shared = {
        name: getattr(settings, name)
        for name in (
            "dataset", "data_dir", "model", "epsilon", "steps", "step_size", "batch_size",
            "learning_rate", "seed",
        )
    }  # fmt: skip
    return TrainConfig(
        **shared,
        schedule="cosine",
        measure_steps=20,
        measure_examples=100,
        workdir=str(folder),
        **changes,
    )
