"""Black-box evaluation by transfer: adversarial images of every network, shown to every other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from robustjax import attacks, data
from robustjax.arguments import did_you_mean, shown
from robustjax.attacks import registry
from robustjax.attacks.engine.model import clean_logits
from robustjax.attacks.engine.rows import predicted
from robustjax.batching import batches_of_one_shape
from robustjax.errors import UserError
from robustjax.evaluation.one_attack import run_attack
from robustjax.evaluation.spec import AttackSpec, parse_attack
from robustjax.evaluation.verdicts import paired, wilson_interval
from robustjax.runs.resumable import Unfinished

LogitsFn = Callable[[jax.Array], jax.Array]

Progress = Callable[[str, int, int], None]
"""Told the source, how many of all adversarial images are made, and of how many."""

ACCEPTED = registry.accepted(registry.GRADIENT_STEPS)


class TransferMatrix(NamedTuple):
    """What each network makes of each network's adversarial images, for N examples.

    Attributes:
      clean: target -> bool [N], classified correctly as they are.
      correct: source -> target -> bool [N], classified correctly by the target at the source's
        adversarial image, whatever it says of the clean one. Where source and target are one
        network: white-box.
      settings: of the attack, JSON.
    """

    clean: dict[str, np.ndarray]
    correct: dict[str, dict[str, np.ndarray]]
    settings: dict[str, Any]

    @property
    def robust(self) -> dict[str, dict[str, np.ndarray]]:
        """Source -> target -> bool [N], correct there and clean as well."""
        return {
            source: {target: right & self.clean[target] for target, right in by_target.items()}
            for source, by_target in self.correct.items()
        }


def parse_transfer_attack(name: str) -> AttackSpec:
    """An attack by its name, if it makes images that are worth showing to another network.

    Attacks that stop at the boundary of the network that they attack, or leave alone what it
    misclassifies, transfer worse than they need to.

    Raises:
      ValueError: it is not one of `ACCEPTED`.
    """
    try:
        spec = parse_attack(name)
    except ValueError:
        spec = None
    if spec is None or spec.kind not in registry.GRADIENT_STEPS:
        hint = did_you_mean(name, ("fgsm", "fgsm-random", "pgd-20", "cw-30"))
        raise UserError(f"attack={shown(name)}: accepted are {ACCEPTED}{hint}")
    return spec


def transfer_matrix(
    attack: str,
    key: jax.Array,
    sources: Mapping[str, LogitsFn],
    targets: Mapping[str, LogitsFn],
    dataset: data.Dataset,
    threat: attacks.ThreatModel,
    *,
    step_size: float | None = None,
    start: str = "uniform",
    batch_size: int = 128,
    progress: Progress | None = None,
    unfinished: Mapping[str, Unfinished] | None = None,
) -> TransferMatrix:
    """Attacks every source once, and judges the images on every target.

    All sources are attacked from the same starts. Every image is attacked, also what its source
    misclassifies, because a target may be right about it.

    Args:
      attack: one of `ACCEPTED`.
      key: the draws of example i are a function of (key, i).
      sources: name -> images [B, H, W, C] to logits [B, K]; as `jax.tree_util.Partial` they are
        traced once.
      targets: likewise.
      dataset: what to attack.
      threat: the norm ball and the box.
      step_size: of PGD and CW, in units of the images; None: see
        `step_size.default_step_size`.
      start: of PGD and CW, see `attacks.pgd`.
      batch_size: examples attacked at once.
      progress: told after every batch.
      unfinished: for each source, keeps its images, to go on where it was interrupted.

    Raises:
      ValueError: the attack is not accepted, or not made for the norm, or there is no source or
        target.

    Source: MART (Wang et al., 2020), table 3; LRM (Summers & Dinneen, 2019), tables 2 and 4; SENSE
      (Kim & Wang, 2022), table 4. They count accuracy on the adversarial images, which is
      `correct`; that the clean image is right as well, `robust`, is ours, as for all robust
      accuracies of this package.
    """
    spec = parse_transfer_attack(attack)
    if not sources or not targets:
        raise UserError("sources and targets must hold a network each")
    clean_images = np.asarray(data.to_float(dataset.images))
    judge = _Judge(np.asarray(dataset.labels), batch_size)
    clean = {name: judge(logits_fn, clean_images) for name, logits_fn in targets.items()}
    total = len(sources) * len(dataset)
    correct: dict[str, dict[str, np.ndarray]] = {}
    settings: dict[str, Any] = {}
    for place, (source, source_fn) in enumerate(sources.items()):

        def report(name: str, done: int, of: int, accuracy: float, place=place, source=source):
            if progress is not None:
                progress(source, place * len(dataset) + done, total)

        score = run_attack(
            spec,
            key,
            source_fn,
            dataset,
            threat,
            step_size=step_size,
            start=start,
            batch_size=batch_size,
            report=report,
            keep_images=True,
            unfinished=None if unfinished is None else unfinished[source],
        )
        settings = {"name": spec.name, **score.settings}
        assert score.images is not None  # They are kept.
        correct[source] = {
            target: judge(logits_fn, score.images) for target, logits_fn in targets.items()
        }
    return TransferMatrix(clean, correct, settings)


class _Judge(NamedTuple):
    """Forward passes over all examples."""

    labels: np.ndarray
    batch_size: int

    def __call__(self, logits_fn: LogitsFn, images: np.ndarray) -> np.ndarray:
        """Classified correctly, bool [N]; never where a logit is not finite."""
        right = np.zeros(len(images), bool)
        for batch in batches_of_one_shape(len(images), self.batch_size):
            labels = self.labels[batch.rows]
            some = jnp.asarray(images[batch.rows])
            logits = clean_logits(logits_fn, some, jnp.asarray(labels))
            right[batch.kept] = batch.without_filling(predicted(np.asarray(logits)) == labels)
        return right


def summarize(matrix: TransferMatrix, **about: Any) -> dict[str, Any]:
    """The content of transfer.json; accuracies are fractions of all examples.

    Of each source and target `accuracy` is that on the adversarial images, as the papers count, and
    `robust_accuracy` asks for the clean image as well. Files of earlier versions have the latter
    alone, with its interval as interval_95. Under `paired` McNemar's exact test compares, on the
    adversarial images of each source, the best target with each other one.

    Args:
      matrix: of `transfer_matrix`.
      **about: what else is to be recorded.
    """
    examples, robust = len(next(iter(matrix.clean.values()))), matrix.robust
    return {
        "attack": matrix.settings,
        "examples": examples,
        "clean": {target: _share("accuracy", correct) for target, correct in matrix.clean.items()},
        "transfer": {
            source: {
                target: {
                    **_share("accuracy", correct),
                    **_share("robust_accuracy", robust[source][target], "robust_interval_95"),
                    "white_box": source == target,
                }
                for target, correct in by_target.items()
            }
            for source, by_target in matrix.correct.items()
        },
        "paired": {
            source: _beside_the_best(by_target)
            for source, by_target in matrix.correct.items()
            if len(by_target) > 1
        },
        **about,
    }


def _beside_the_best(correct: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """The target with the highest accuracy on a source's images beside each other one."""
    best = max(correct, key=lambda name: correct[name].mean())
    found = []
    for name, verdicts in correct.items():
        if name != best:
            _, first, second, p_value = paired(correct[best], verdicts)
            alone = {"best_alone": first, "other_alone": second}
            found.append({"best": best, "other": name, **alone, "p_value": p_value})
    return found


def _share(name: str, correct: np.ndarray, interval: str = "interval_95") -> dict[str, Any]:
    return {
        name: float(correct.mean()),
        interval: wilson_interval(int(correct.sum()), len(correct)),
    }
