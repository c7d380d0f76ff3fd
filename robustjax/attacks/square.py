"""Square: random search with square windows, which needs no gradient."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robustjax import losses
from robustjax.arguments import checked_count, checked_number, kind, refusal, shown
from robustjax.attacks import _checks as checks
from robustjax.attacks import _square_windows as windows
from robustjax.attacks.attack import run_whole
from robustjax.attacks.engine.keys import checked_key, fold_in_each, per_example_keys
from robustjax.attacks.engine.model import clean_logits, logits_model
from robustjax.attacks.engine.prepared import Prepared
from robustjax.attacks.engine.rows import misclassified, where_rows
from robustjax.attacks.result import AttackResult
from robustjax.attacks.threat_model import ThreatModel
from robustjax.shapes import CleanImages, ImageClasses

# So many queries are one step of the loop, lest starting the steps take longer than the queries.
_QUERIES_PER_STEP = 20


@dataclasses.dataclass(frozen=True)
class Square:
    """`square` as a value; see there for the settings.

    Attributes:
      queries: proposals after the start, of each restart, at least 1.
      initial_share: of the image that the first windows cover, in (0, 1].
      rescale_schedule: stretches the schedule to the number of queries.
      restarts: how often the attack is run on what has withstood it.
    """

    queries: int = 5000
    initial_share: float = 0.8
    rescale_schedule: bool = False
    restarts: int = 1

    def prepare(
        self,
        key: jax.Array,
        logits_fn: Callable[[jax.Array], jax.Array],
        images: CleanImages,
        labels: ImageClasses,
        threat: ThreatModel,
    ) -> Prepared:
        """Checks the arguments, and looks at the clean images."""
        checks.checked_logits_fn(logits_fn)
        images = checks.checked_images(images)
        if images.ndim != 4:
            raise refusal("images", kind(images), "[B, H, W, C]")
        batch_size = len(images)
        labels = checks.checked_hard_labels(labels, batch_size)
        queries = checked_count("queries", self.queries, 1)
        restarts = checked_count("restarts", self.restarts, 1)
        initial_share = checked_number("initial_share", self.initial_share, 0, 1)
        if not initial_share:
            raise refusal("initial_share", f"{initial_share:g}", "more than 0 to 1")
        threat = checks.checked_threat(threat, batch_size, images.dtype)
        checks.check_inside_box(images, threat)
        if not checks.has_finite_epsilon(threat):
            raise refusal("threat.epsilon", shown(threat.epsilon), "finite numbers")
        key = checked_key(key, batch_size)
        logits = clean_logits(logits_fn, images, labels)
        attack = _Search(queries, initial_share, bool(self.rescale_schedule))
        inputs = _Inputs(key, images, labels, threat, ~misclassified(logits, labels))
        model = logits_model(logits_fn, labels)
        # The look at the start is one more.
        steps = -(-(queries + 1) // _QUERIES_PER_STEP)
        return Prepared(attack, model, (images,), inputs, steps, restarts, _outcome)

    def __call__(
        self,
        key: jax.Array,
        logits_fn: Callable[[jax.Array], jax.Array],
        images: CleanImages,
        labels: ImageClasses,
        threat: ThreatModel,
    ) -> AttackResult:
        """Attacks images, as `square` does."""
        return run_whole(self, key, logits_fn, images, labels, threat)


def square(
    key: jax.Array,
    logits_fn: Callable[[jax.Array], jax.Array],
    images: CleanImages,
    labels: ImageClasses,
    threat: ThreatModel,
    *,
    queries: int = 5000,
    initial_share: float = 0.8,
    rescale_schedule: bool = False,
    restarts: int = 1,
) -> AttackResult:
    r"""The Square attack on the margin :math:`z_y - \max_{k \ne y} z_k`.

    Under "linf" it starts from vertical stripes of :math:`\pm \epsilon`. Every query then moves a
    window, each channel by :math:`\pm 2 \epsilon`, and projects; under "l2" and "l1" it starts from
    a grid of pseudo-Gaussian tiles and moves mass between two windows. A proposal is kept if it
    lowers the margin. The windows shrink on a schedule made for 10,000 queries.

    Every example draws its own windows, where the authors' code draws one for the whole batch: each
    example sees the same distribution, and its verdict does not depend on its company. Success is
    an argmax other than the label: where the two largest logits tie, the authors' code leaves the
    example alone, and here the search goes on. Images that are misclassified before are not
    attacked.

    Args:
      key: one random key, or `[B]` keys.
      logits_fn: maps images `[B, H, W, C]` to logits `[B, K]`; row i must depend on image i alone.
      images: clean images, floating, `[B, H, W, C]`.
      labels: int `[B]` in [0, K).
      threat: the norm ball, of finite epsilon, and the box.
      queries: proposals after the start, of each restart, at least 1.
      initial_share: of the image that the first windows cover, in (0, 1].
      rescale_schedule: stretches the schedule to the number of queries. AutoAttack does not.
      restarts: how often the attack is run on what has withstood it.

    Returns:
      An `AttackResult`; backward_passes is 0 everywhere.

    Raises:
      ValueError: an argument has a shape, dtype or value that is not accepted; the message says
        which.

    Example:
      >>> from robustjax.attacks import ThreatModel
      >>> images, labels = jnp.full((1, 1, 2, 1), 0.55), jnp.array([0])
      >>> threat = ThreatModel("linf", epsilon=0.1)
      >>> network = lambda x: (x.reshape(len(x), -1) - 0.5) @ jnp.array([[1.0, -1.0], [0.0, 0.0]])
      >>> result = square(jax.random.key(0), network, images, labels, threat, queries=20)
      >>> print(result.success)
      [ True]

    Source: Square Attack (Andriushchenko et al., 2020), Algorithms 1 to 3, with the margin loss and
      the settings of AutoAttack (Croce & Hein, 2020). Under "l1" Mind the Box (Croce & Hein, 2021).
    """
    return Square(queries, initial_share, rescale_schedule, restarts)(
        key, logits_fn, images, labels, threat
    )


def _outcome(kept: _Kept) -> AttackResult:
    return AttackResult(kept.images, kept.success, jnp.zeros(len(kept.images), jnp.int32))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Inputs:
    """The arguments of the attack; `attacked` `[B]` are the rows that are right so far."""

    key: jax.Array
    images: jax.Array
    labels: jax.Array
    threat: ThreatModel
    attacked: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Rows:
    """The state of the loop; every leaf has a leading axis of the batch.

    `images` have the lowest `margin` so far; `taken` counts the queries, the start's included.
    """

    images: jax.Array
    clean: jax.Array
    labels: jax.Array
    threat: ThreatModel
    keys: jax.Array
    margin: jax.Array
    taken: jax.Array
    success: jax.Array
    active: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Kept:
    """The best of the restarts so far."""

    images: jax.Array
    margin: jax.Array
    success: jax.Array


@dataclasses.dataclass(frozen=True)
class _Search:
    """Square in the parts that `iteration` repeats."""

    queries: int
    initial_share: float
    rescale_schedule: bool

    def nothing_kept(self, inputs: _Inputs) -> _Kept:
        unseen = jnp.full(len(inputs.images), jnp.inf, inputs.images.dtype)
        return _Kept(inputs.images, unseen, ~inputs.attacked)

    def start(self, inputs: _Inputs, kept: _Kept | None, restart: jax.Array | np.int32) -> _Rows:
        clean = inputs.images
        batch_size = len(clean)
        threat = inputs.threat.for_batch(batch_size, clean.dtype)
        keys = fold_in_each(per_example_keys(inputs.key, batch_size), restart)
        success = ~inputs.attacked if kept is None else kept.success
        begin = windows.stripes if threat.norm == "linf" else windows.tiles
        return _Rows(
            images=where_rows(success, clean, begin(fold_in_each(keys, 0), clean, threat)),
            clean=clean,
            labels=inputs.labels,
            threat=threat,
            keys=keys,
            margin=jnp.full(batch_size, jnp.inf, clean.dtype),
            taken=jnp.zeros(batch_size, jnp.int32),
            success=success,
            active=~success,
        )

    def step(self, model: Callable[..., Any], rows: _Rows) -> _Rows:
        def query(rows, _):
            return self._query(model, rows), None

        return jax.lax.scan(query, rows, None, length=_QUERIES_PER_STEP)[0]

    def result(self, model: Callable[..., Any], rows: _Rows, kept: _Kept | None) -> _Kept:
        found = _Kept(rows.images, rows.margin, rows.success)
        if kept is None:
            return found
        better = ~kept.success & (found.success | (found.margin < kept.margin))
        return jax.tree.map(lambda new, old: where_rows(better, new, old), found, kept)

    def _query(self, model: Callable[..., Any], rows: _Rows) -> _Rows:
        at_start = rows.taken == 0
        proposal = where_rows(at_start, rows.images, self._proposal(rows))
        logits = model(proposal)
        margin = -losses.cw_margin(logits, rows.labels).astype(rows.margin.dtype)
        wrong = misclassified(logits, rows.labels)
        accepted = rows.active & (at_start | (margin < rows.margin) | wrong)
        success = rows.success | (accepted & wrong)
        taken = rows.taken + rows.active.astype(rows.taken.dtype)
        return dataclasses.replace(
            rows,
            images=where_rows(accepted, proposal, rows.images),
            margin=jnp.where(accepted, margin, rows.margin),
            taken=taken,
            success=success,
            active=rows.active & ~success & (taken <= self.queries),
        )

    def _proposal(self, rows: _Rows) -> jax.Array:
        _, height, width, _ = rows.clean.shape
        norm = rows.threat.norm
        sides = windows.window_sides(
            self.queries,
            height,
            width,
            self.initial_share,
            norm=norm,
            rescale=self.rescale_schedule,
        )
        # The first proposal comes after the start.
        query = jnp.clip(rows.taken - 1, 0, self.queries - 1)
        keys = jax.vmap(jax.random.fold_in)(rows.keys, rows.taken + 1)
        side = jnp.asarray(sides)[query]
        arguments = (keys, rows.images, rows.clean, rows.threat, side)
        if norm == "linf":
            return windows.moved_window(*arguments)
        patterns, which = windows.padded_patterns(sides, max(height, width), norm)
        return windows.exchanged_window(
            *arguments, jnp.asarray(patterns)[jnp.asarray(which)[query]]
        )
