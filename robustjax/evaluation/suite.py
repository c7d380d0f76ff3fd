"""Runs a list of attacks over a data set and scores the network under each of them."""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from robustjax import attacks, data

LogitsFn = Callable[[jax.Array], jax.Array]

ACCEPTED = "clean, fgsm, pgd-K, pgd-KxR (R restarts), cw-K"


class AttackSpec(NamedTuple):
    """One attack of a suite, parsed from its name.

    Attributes:
      name: as given, such as "pgd-20".
      kind: "clean", "fgsm", "pgd" or "cw".
      steps: gradient steps; 0 for clean.
      restarts: random starts.
    """

    name: str
    kind: str
    steps: int
    restarts: int


class AttackScore(NamedTuple):
    """How a network did under one attack.

    Attributes:
      correct: bool [N], classified correctly under the attack (and clean).
      settings: the attack's exact settings, JSON.
    """

    correct: np.ndarray
    settings: dict[str, Any]


def parse_attack(name: str) -> AttackSpec:
    """An attack by its name.

    Raises:
      ValueError: it is not one of `ACCEPTED`.
    """
    if name in ("clean", "fgsm"):
        return AttackSpec(name, name, int(name == "fgsm"), 1)
    match = re.fullmatch(r"(pgd|cw)-(\d+)(?:x(\d+))?", name)
    if match is None or int(match[2]) < 1 or int(match[3] or 1) < 1:
        raise ValueError(f"unknown attack {name!r} in --attacks: accepted are {ACCEPTED}")
    return AttackSpec(name, match[1], int(match[2]), int(match[3] or 1))


def run_attack(
    spec: AttackSpec,
    key: jax.Array,
    logits_fn: LogitsFn,
    dataset: data.Dataset,
    threat: attacks.ThreatModel,
    *,
    step_size: float,
    start: str = "uniform",
    batch_size: int = 128,
    report: Callable[[int, int], None] = lambda done, correct: None,
) -> AttackScore:
    """Scores a network under one attack.

    An example counts as correct only if the clean image is classified correctly too, so a score
    never lies above the clean accuracy.

    Args:
      spec: the attack.
      key: the draws of example i are a function of (key, i).
      logits_fn: images -> logits; a `jax.tree_util.Partial` spares tracing it for every batch.
      dataset: what to attack.
      threat: the norm ball and the box.
      step_size: of PGD and CW, in the units of the norm.
      start: of PGD and CW, see `attacks.pgd`.
      batch_size: the last batch is padded to it.
      report: told after every batch how many examples are done and how many of them are correct.
    """
    total = len(dataset.labels)
    correct = np.zeros(total, bool)
    for first in range(0, total, batch_size):
        positions = np.arange(first, first + batch_size)
        rows = np.minimum(positions, total - 1)
        images, labels = _to_float(dataset.images[rows]), jnp.asarray(dataset.labels[rows])
        right = _is_right(logits_fn, images, labels)
        if spec.kind != "clean":
            keys = _fold_in_each(key, positions)
            result = _perturb(spec, keys, logits_fn, images, labels, threat, step_size, start)
            right &= ~np.asarray(result.success)
        last = min(first + batch_size, total)
        correct[first:last] = right[: last - first]
        report(last, int(correct[:last].sum()))
    return AttackScore(correct, _settings(spec, threat, step_size, start))


def _perturb(
    spec: AttackSpec,
    keys: jax.Array,
    logits_fn: LogitsFn,
    images: jax.Array,
    labels: jax.Array,
    threat: attacks.ThreatModel,
    step_size: float,
    start: str,
) -> attacks.AttackResult:
    if spec.kind == "fgsm":
        return attacks.fgsm(keys, logits_fn, images, labels, threat)
    attack = attacks.pgd if spec.kind == "pgd" else attacks.cw_linf
    return attack(
        keys,
        logits_fn,
        images,
        labels,
        threat,
        steps=spec.steps,
        step_size=step_size,
        start=start,
        restarts=spec.restarts,
    )


def _settings(
    spec: AttackSpec, threat: attacks.ThreatModel, step_size: float, start: str
) -> dict[str, Any]:
    if spec.kind == "clean":
        return {}
    ball = {"norm": threat.norm, "epsilon": float(threat.epsilon)}
    if spec.kind == "fgsm":
        return {**ball, "steps": 1, "step_size": float(threat.epsilon), "start": "clean"}
    return {
        **ball,
        "steps": spec.steps,
        "step_size": float(step_size),
        "start": start,
        "restarts": spec.restarts,
        "loss": "cross-entropy" if spec.kind == "pgd" else "cw margin",
    }


_to_float = jax.jit(data.to_float)


@jax.jit
def _fold_in_each(key: jax.Array, positions: jax.Array) -> jax.Array:
    return jax.vmap(lambda position: jax.random.fold_in(key, position))(positions)


def _is_right(logits_fn: LogitsFn, images: jax.Array, labels: jax.Array) -> np.ndarray:
    predict = _predict_partial if isinstance(logits_fn, jax.tree_util.Partial) else _predict
    return np.array(predict(logits_fn, images) == labels)


def _predict(logits_fn: LogitsFn, images: jax.Array) -> jax.Array:
    """The predicted classes; -1, which is never right, where a logit is not finite."""
    logits = logits_fn(images)
    return jnp.where(jnp.all(jnp.isfinite(logits), axis=-1), jnp.argmax(logits, axis=-1), -1)


_predict_partial = jax.jit(_predict)


def wilson_interval(successes: int, total: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a fraction (Wilson, 1927).

    Args:
      successes: how many of them.
      total: of how many, at least 1.
    """
    z = 1.959963984540054
    fraction = successes / total
    centre = fraction + z**2 / (2 * total)
    half = z * np.sqrt(fraction * (1 - fraction) / total + z**2 / (4 * total**2))
    scale = 1 + z**2 / total
    return float(max(centre - half, 0.0) / scale), float(min(centre + half, scale) / scale)


def evaluate(
    names: Sequence[str],
    key: jax.Array,
    logits_fn: LogitsFn,
    dataset: data.Dataset,
    threat: attacks.ThreatModel,
    *,
    step_size: float,
    start: str = "uniform",
    batch_size: int = 128,
    report: Callable[[str, int, int], None] = lambda name, done, correct: None,
) -> dict[str, AttackScore]:
    """Scores a network under each attack of a list; "clean" is always among the scores.

    Args:
      names: of attacks, see `ACCEPTED`.
      key: as for `run_attack`.
      logits_fn: as for `run_attack`.
      dataset: what to attack.
      threat: the norm ball and the box.
      step_size: of PGD and CW, in units of the images.
      start: of PGD and CW.
      batch_size: the last batch is padded to it.
      report: told the attack's name, how many examples are done, and how many are correct.

    Raises:
      ValueError: a name is not accepted; nothing has been run.
    """
    specs = [parse_attack(name) for name in dict.fromkeys(["clean", *names])]
    if threat.norm != "linf" and any(spec.kind == "cw" for spec in specs):
        raise ValueError(f"cw-K in --attacks is an linf attack; the threat model is {threat.norm}")

    def report_of(name: str) -> Callable[[int, int], None]:
        return lambda done, correct: report(name, done, correct)

    return {
        spec.name: run_attack(
            spec,
            key,
            logits_fn,
            dataset,
            threat,
            step_size=step_size,
            start=start,
            batch_size=batch_size,
            report=report_of(spec.name),
        )
        for spec in specs
    }
