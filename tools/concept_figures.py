"""Draws the figures of docs/concepts.md: the same search under three stop rules, on two classes.

python tools/concept_figures.py [FOLDER]
"""

import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

matplotlib.use("agg")
from matplotlib import pyplot as plt
from matplotlib.patches import Circle, Rectangle

from robustjax import attacks, losses

EPSILON, STEPS, STEP_SIZE = 0.25, 10, 0.05
POINTS = np.array([[0.22, 0.35], [0.42, 0.72], [0.62, 0.28]], np.float32)

NORMS = {"linf": "ℓ∞: every pixel by at most ε", "l2": "ℓ2: all pixels together"}

RULES = {
    "PGD: all K steps": None,
    "FAT: stops at the first mistake (τ = 0)": attacks.stopping.misclassified(0),
    "SENSE: stops while the loss is small": attacks.stopping.loss_above(0.6),
}


def logits_fn(images: jax.Array) -> jax.Array:
    """Two classes on the two sides of a wave; "images" of one pixel with two channels."""
    x, y = images[:, 0, 0, 0], images[:, 0, 0, 1]
    height = 8 * (y - 0.5 - 0.18 * jnp.sin(2 * jnp.pi * x))
    return jnp.stack([-height, height], axis=-1)


def paths(stop: attacks.stopping.StopRule | None, norm: str = "linf") -> np.ndarray:
    """The iterates of a search from the clean points, [STEPS + 1, B, 2]."""
    images = jnp.asarray(POINTS)[:, None, None, :]
    labels = jnp.argmax(logits_fn(images), -1)
    threat = attacks.ThreatModel(norm=norm, epsilon=EPSILON)
    seen = [POINTS]
    for steps in range(1, STEPS + 1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # The first few steps alone do not cross the ball.
            found = attacks.pgd(
                jax.random.key(0), logits_fn, images, labels, threat, steps=steps,
                step_size=STEP_SIZE, start="clean", stop=stop,
            )  # fmt: skip
        seen.append(np.asarray(found.images)[:, 0, 0])
    return np.stack(seen)


def _plane(axes: plt.Axes) -> None:
    """The loss of the lower class over the plane, and the line where the prediction changes."""
    grid = np.linspace(0, 1, 101, dtype=np.float32)
    x, y = np.meshgrid(grid, grid)
    logits = logits_fn(jnp.stack([x.ravel(), y.ravel()], -1)[:, None, None, :])
    loss = losses.cross_entropy(logits, jnp.zeros(x.size, jnp.int32)).reshape(x.shape)
    axes.contourf(x, y, loss, levels=12, cmap="Blues", alpha=0.6)
    axes.contour(x, y, (logits[:, 1] - logits[:, 0]).reshape(x.shape), levels=[0], colors="black")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=[], yticks=[])


def stop_rules(path: Path) -> None:
    """One panel for each stop rule."""
    figure, panels = plt.subplots(1, len(RULES), figsize=(12, 4.2), layout="constrained")
    for axes, (title, stop) in zip(panels, RULES.items(), strict=True):
        _plane(axes)
        for trail in paths(stop).swapaxes(0, 1):
            corner = trail[0] - EPSILON
            axes.add_patch(Rectangle(corner, 2 * EPSILON, 2 * EPSILON, fill=False, ls=":"))
            axes.plot(*trail.T, "o-", ms=3, color="tab:red")
            axes.plot(*trail[0], "o", ms=7, color="black")
        axes.set_title(title, fontsize=11)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def balls(path: Path) -> None:
    """Where a search may go in each norm."""
    figure, panels = plt.subplots(1, 2, figsize=(8, 4.2), layout="constrained")
    for axes, norm in zip(panels, NORMS, strict=True):
        _plane(axes)
        for trail in paths(None, norm).swapaxes(0, 1):
            if norm == "linf":
                corner = trail[0] - EPSILON
                edge = Rectangle(corner, 2 * EPSILON, 2 * EPSILON, fill=False, ls=":")
            else:
                edge = Circle(trail[0], EPSILON, fill=False, ls=":")
            axes.add_patch(edge)
            axes.plot(*trail.T, "o-", ms=3, color="tab:red")
            axes.plot(*trail[0], "o", ms=7, color="black")
        axes.set_title(NORMS[norm])
    figure.savefig(path, dpi=110)
    plt.close(figure)


FIGURES = {"stop_rules.png": stop_rules, "balls.png": balls}

if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "figures"
    folder.mkdir(exist_ok=True)
    for name, draw in FIGURES.items():
        draw(folder / name)
        print(folder / name)
