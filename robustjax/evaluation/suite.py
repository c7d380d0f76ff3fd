"""Scores a network under each attack of a list, once it was seen that all of them can be run."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from robustjax import attacks, data
from robustjax.arguments import checked_count, refusal, shown
from robustjax.attacks import naming
from robustjax.attacks.autoattack.warnings import rows_depend_on_each_other, varies
from robustjax.errors import UserError
from robustjax.evaluation.given_images import fitting_images
from robustjax.evaluation.one_attack import AttackScore, run_attack
from robustjax.evaluation.spec import CLEAN, IMAGES, AttackSpec, parse_attack, require_possible
from robustjax.evaluation.subject import LogitsFn, check_subject, num_classes_of
from robustjax.text import split_names

__all__ = ["AttackScore", "AttackSpec", "evaluate", "parse_attack", "run_attack"]

_LOOKED_AT = 8
"""Examples that are looked at in two companies, before any attack."""


def evaluate(
    names: Sequence[str | AttackSpec | attacks.Attack] | str,
    key: jax.Array,
    logits_fn: LogitsFn,
    dataset: data.Dataset,
    threat: attacks.ThreatModel,
    *,
    step_size: float | None = None,
    failures: dict[str, Exception] | None = None,
    with_clean: bool = True,
    **options: Any,
) -> dict[str, AttackScore]:
    """Scores a network under each attack of a list; "clean" is among the scores, named or not.

    Args:
      names: of attacks, see `evaluation.accepted_attacks()`, or values such as
        `attacks.PGD(steps=20)`; a text holds names between commas.
      key: as for `run_attack`.
      logits_fn: as for `run_attack`.
      dataset: what to attack.
      threat: the norm ball and the box.
      step_size: of PGD and CW, in units of the images; None: see
        `step_size.default_step_size`.
      failures: is told which attacks failed, and why; the others go on. None: a failure ends all.
      with_clean: whether "clean" is measured where nobody names it; needless where it is known.
      **options: as for `run_attack`.

    Returns:
      The scores by the attacks' names, "clean" first; without those that failed.

    Raises:
      ValueError: a name is not accepted, or an attack is not made for the norm, or for so few
        classes; nothing has been run.

    Warns:
      UserWarning: the network is random; its rows depend on each other, so that every score
        depends on which images share a batch; or an attack's steps reach less far than epsilon.
    """
    names = split_names(names) if isinstance(names, str) else names
    if not isinstance(names, list | tuple):
        raise refusal("names", shown(names), "names of attacks, as ('pgd-20',)")
    naming.trust(*names)
    wanted = [parse_attack(name) for name in names]
    clean = [parse_attack(CLEAN)] if with_clean else []
    specs = {spec.name: spec for spec in (*clean, *wanted)}
    if any(spec != specs[spec.name] for spec in wanted):
        said = ", ".join(spec.name for spec in wanted)
        raise UserError(f"names holds two attacks of one name: {said}")
    batch_size = checked_count("batch_size", options.get("batch_size", 128), 1)
    check_subject(key, logits_fn, dataset, threat)
    num_classes = num_classes_of(logits_fn, dataset, batch_size)
    for spec in specs.values():
        require_possible(spec, threat.norm, num_classes)
        if spec.kind == IMAGES:
            fitting_images(spec.name, dataset, threat)
    some = jnp.asarray(data.to_float(dataset.images[:_LOOKED_AT]))
    if varies(logits_fn, some):
        warnings.warn(
            "the network is random: every score is of one draw, and an attack that stops at the "
            "first that is wrong finds more than there is; autoattack-rand is made for it",
            stacklevel=2,
        )
    elif rows_depend_on_each_other(logits_fn, some):
        warnings.warn(
            "the network's rows depend on each other (batch norm in training mode?): every score "
            "depends on which images share a batch",
            stacklevel=2,
        )
    scores = {}
    for name, spec in specs.items():
        started = time.monotonic()
        try:
            score = run_attack(
                spec, key, logits_fn, dataset, threat, step_size=step_size, **options
            )
            scores[name] = score._replace(seconds=time.monotonic() - started)
        except Exception as error:
            if failures is None or name == CLEAN:
                raise
            failures[name] = error
    return scores
