"""Runs the attacks that a diagnosis of gradient masking compares on the same examples."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robustjax import attacks, data
from robustjax.analysis.model_statistics import checked_subject
from robustjax.arguments import refusal
from robustjax.attacks.engine.keys import checked_key, keys_of_examples
from robustjax.diagnosis.probes import Arrays, Attacked, LogitsFn, Measurement
from robustjax.diagnosis.records import Evidence, Settings
from robustjax.errors import UserError
from robustjax.runs.resumable import Unfinished

Progress = Callable[[str, float, float], None]
"""Told what is measured, how much of the work is done, and of how much."""

# Multiples of epsilon on the way to the radius at which the ball holds every image.
_BELOW = (0.25, 0.5, 0.75, 1.0)
_ABOVE = 4


def gather(
    key: jax.Array,
    logits_fn: LogitsFn,
    dataset: data.Dataset,
    threat: attacks.ThreatModel,
    settings: Settings,
    *,
    source_fn: LogitsFn | None = None,
    batch_size: int = 128,
    progress: Progress | None = None,
    unfinished: Unfinished | None = None,
) -> Evidence:
    """Runs the attacks that `gradient_masking.judge` compares.

    Args:
      key: the draws of example i are a function of (key, i).
      logits_fn: images [B, H, W, C] -> logits [B, K]; a `jax.tree_util.Partial` spares tracing it
        for every batch.
      dataset: what to attack.
      threat: the norm ball, of finite epsilon above 0, and the box.
      settings: how strong the attacks are.
      source_fn: another network, whose adversarial images are tried on this one.
      batch_size: examples attacked at once.
      progress: told after every batch.
      unfinished: keeps what is found, and goes on where it was interrupted.

    Raises:
      ValueError: epsilon is not a finite number above 0, there is no box, or an argument is of
        another kind.
    """
    _, batch_size = checked_subject(logits_fn, dataset, threat, batch_size)
    key = checked_key(key, len(dataset))
    if key.ndim:
        raise UserError(f"key holds {len(key)} keys: accepted is one, from which others follow")
    if not isinstance(settings, Settings):
        raise refusal("settings", type(settings).__name__, "values of Settings")
    if any(np.ndim(leaf) for leaf in jax.tree.leaves(threat)):
        raise UserError("threat has a number for each example; a diagnosis needs one for all")
    if threat.bounds is None or not 0 < float(threat.epsilon) < math.inf:
        raise UserError(
            f"threat has epsilon {threat.epsilon} and bounds {threat.bounds}; a diagnosis needs a "
            "finite epsilon above 0 and a box"
        )
    network = Attacked(logits_fn, threat, settings, source_fn)
    about = {
        "norm": threat.norm,
        "epsilon": float(threat.epsilon),
        **dataclasses.asdict(settings),
    }
    run = _Runner(key, dataset, batch_size, progress or _silent, unfinished, about)
    shape, num_classes = dataset.images.shape[1:], dataset.num_classes
    epsilons = radii(threat, math.prod(shape))
    plan = network.plan(epsilons, num_classes)
    found: dict[str, Arrays] = {}
    run.total = len(dataset) * sum(part.passes for part in plan)
    for part in plan:
        found[part.name] = run(part, part.attacked(found))
    clean = found["clean"]["right"]

    def columns(name: str, numbers: tuple) -> np.ndarray:
        return np.stack([found[f"{name} {number:.6g}"]["right"] for number in numbers], axis=1)

    def optional(name: str) -> np.ndarray | None:
        return found[name]["right"] if name in found else None

    return Evidence(
        clean=clean,
        steps=network.curve,
        compared_steps=settings.steps,
        after_steps=found["pgd"]["right"],
        loss=np.where(clean[:, None], found["pgd"]["loss"], np.nan),
        fgsm=found["fgsm"]["right"],
        random_search=found["random search"]["right"],
        restarts=columns("restart", tuple(range(1, settings.restarts + 1))),
        epsilons=epsilons,
        at_epsilon=columns("epsilon", epsilons),
        margin=found["margin"]["right"],
        dlr=optional("dlr"),
        square=optional("square"),
        transfer=optional("transfer"),
        gradient=found["clean"]["gradient"],
        clean_loss=found["clean"]["loss"],
        alignment=found["clean"]["alignment"],
    )


def radii(threat: attacks.ThreatModel, pixels: int) -> tuple[float, ...]:
    """Radii from a fraction of epsilon to the one at which the ball holds every image.

    Args:
      threat: the norm, epsilon and the box.
      pixels: numbers in an image.
    """
    assert threat.bounds is not None  # Probes need a box.
    epsilon, (low, high) = float(threat.epsilon), threat.bounds
    lengths = {"linf": 1.0, "l2": math.sqrt(pixels), "l1": float(pixels)}
    widest = float(high - low) * lengths[threat.norm]
    inside = [epsilon * scale for scale in _BELOW if epsilon * scale < widest]
    grown = np.geomspace(epsilon, widest, _ABOVE + 1)[1:-1] if epsilon < widest else ()
    return (*inside, *(float(value) for value in grown), widest)


@dataclasses.dataclass
class _Runner:
    """Runs one measurement after the other over batches of the examples that it asks for."""

    key: jax.Array
    dataset: data.Dataset
    batch_size: int
    progress: Progress
    unfinished: Unfinished | None
    about: dict[str, Any]
    total: int = 0
    finished: int = 0

    def __call__(self, part: Measurement, attacked: np.ndarray | None) -> Arrays:
        """What was measured, scattered over all examples; zeros (False) where none was asked."""
        everyone = len(self.dataset)
        rows = np.arange(everyone) if attacked is None else np.flatnonzero(attacked)
        found = self._load(part)
        done = 0 if found is None else int(found.pop("done"))
        while done < len(rows) or found is None:
            chosen = rows[done : done + self.batch_size]
            values = self._measure(part, chosen)
            if found is None:
                found = {
                    name: np.zeros((everyone, *value.shape[1:]), value.dtype)
                    for name, value in values.items()
                }
            for name, value in values.items():
                found[name][chosen] = value[: len(chosen)]
            done += len(chosen)
            self._save(part, found, done, done >= len(rows))
            self.progress(part.name, self.finished + part.passes * done, self.total)
        self.finished += part.passes * everyone
        self.progress(part.name, self.finished, self.total)
        return found

    def _measure(self, part: Measurement, chosen: np.ndarray) -> Arrays:
        """One batch, filled up so that all have one size."""
        size = min(self.batch_size, len(self.dataset))
        filled = np.resize(chosen if len(chosen) else np.zeros(1, int), size)
        images = data.to_float(jnp.asarray(self.dataset.images[filled]))
        labels = jnp.asarray(self.dataset.labels[filled])
        keys = keys_of_examples(self.key, filled)
        measured = part.measure(keys, images, labels)
        return {name: np.asarray(value) for name, value in measured.items()}

    def _load(self, part: Measurement) -> Arrays | None:
        if self.unfinished is None:
            return None
        return self.unfinished.load(part.name, self.about, len(self.dataset))

    def _save(self, part: Measurement, found: Arrays, done: int, whole: bool) -> None:
        if self.unfinished is not None:
            arrays = {"done": np.asarray(done), **found}
            self.unfinished.save(part.name, self.about, now=whole, **arrays)


def _silent(name: str, done: float, total: float) -> None:
    pass
