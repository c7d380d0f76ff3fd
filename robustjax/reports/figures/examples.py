"""Clean images, what an attack adds to them, and what the network says of both."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustjax.analysis.model_statistics import LogitStatistics
from robustjax.files import Path, write_whole
from robustjax.reports.figures.canvas import save


class AttackedExamples(NamedTuple):
    """Images and what a network says of them.

    Attributes:
      positions: int [N], in the test set.
      clean: float32 [N, H, W, C] in [0, 1].
      adversarial: float32 [N, H, W, C] in [0, 1].
      before: the network at the clean images.
      after: the network at the adversarial ones.
    """

    positions: np.ndarray
    clean: np.ndarray
    adversarial: np.ndarray
    before: LogitStatistics
    after: LogitStatistics

    def select(self, rows: np.ndarray) -> AttackedExamples:
        """Those at positions [M] of these."""
        before, after = (
            LogitStatistics(*(part[rows] for part in found)) for found in (self.before, self.after)
        )
        return AttackedExamples(
            self.positions[rows], self.clean[rows], self.adversarial[rows], before, after
        )

    def newly_misclassified(self) -> np.ndarray:
        """Which of these are right clean and wrong adversarially: int [M], in order."""
        return np.flatnonzero(~self.before.wrong & self.after.wrong)


def example_grid(
    examples: AttackedExamples, class_names: Sequence[str], path: Path, title: str = ""
) -> Path:
    """Draws for each example the clean image, the perturbation and the adversarial image.

    The perturbations are scaled by one factor, which the figure states: the largest change of a
    pixel in any of them becomes black or white; what is grey has not changed.

    Args:
      examples: at least one, a column each.
      class_names: the name of each class.
      path: of the PNG; the images, logits and the factor are written beside it, as a .npz.
      title: of the figure.

    Source of the form: SENSE (Kim & Wang), figure 1.
    """
    perturbations = examples.adversarial - examples.clean
    largest = float(np.abs(perturbations).max())
    factor = 0.5 / largest if largest > 0 else 1.0
    count = len(examples.positions)
    figure = Figure(figsize=(max(1.7 * count, 4.5) + 0.5, 6.4), layout="constrained")
    grid = figure.subplots(3, count, squeeze=False)
    for column in range(count):
        clean, middle, adversarial = grid[:, column]
        _show(clean, examples.clean[column])
        label = class_names[examples.before.labels[column]]
        said = _said(examples.before, column, class_names)
        clean.set_title(f"no. {examples.positions[column]}: {label}\n{said}", fontsize="small")
        _show(middle, 0.5 + factor * perturbations[column])
        _show(adversarial, examples.adversarial[column])
        colour = "tab:red" if examples.after.wrong[column] else "black"
        said = _said(examples.after, column, class_names)
        adversarial.set_title(said, fontsize="small", color=colour)
    for axes, name in zip(
        grid[:, 0], ("clean", f"perturbation\n× {factor:.3g}, around grey", "adversarial"),
        strict=True,
    ):  # fmt: skip
        axes.set_ylabel(name)
    figure.suptitle(title, fontsize="medium", wrap=True)
    content = io.BytesIO()
    np.savez_compressed(
        content,
        positions=examples.positions,
        labels=examples.before.labels,
        clean=examples.clean,
        adversarial=examples.adversarial,
        clean_logits=examples.before.logits,
        adversarial_logits=examples.after.logits,
        factor=factor,
    )
    write_whole(path.with_suffix(".npz"), content.getvalue())
    return save(figure, path)


def _show(axes: Axes, image: np.ndarray) -> None:
    """Draws a grey [H, W, 1] or a colour image [H, W, 3]; of others the mean over channels."""
    if image.shape[-1] != 3:
        image = image.mean(axis=-1)
    axes.imshow(np.clip(image, 0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])


def _said(found: LogitStatistics, row: int, class_names: Sequence[str]) -> str:
    prediction = found.prediction[row]
    if prediction < 0:
        return "→ not finite"
    return f"→ {class_names[prediction]}, {100 * found.confidence[row]:.1f} %"
