"""SPSA: gradients estimated from the losses at random points nearby, and ascended by Adam."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robustjax import losses
from robustjax.arguments import checked_count, refusal
from robustjax.arguments.arrays import checked_scale, known
from robustjax.attacks import _checks as checks
from robustjax.attacks.engine import run as engine
from robustjax.attacks.engine.keys import checked_key, per_example_keys
from robustjax.attacks.engine.model import logits_model
from robustjax.attacks.engine.rows import misclassified, where_rows
from robustjax.attacks.result import AttackResult
from robustjax.attacks.threat_model import ThreatModel, per_example
from robustjax.shapes import CleanImages, ImageClasses

Model = Callable[[jax.Array], jax.Array]

_SHARE_OF_BOX = 0.01


@dataclasses.dataclass(frozen=True)
class SPSA:
    """`spsa` as a value; see there for the settings.

    Attributes:
      steps: number of steps, at least 1.
      samples: points per step at which the loss is taken, an even number.
      delta: the distance of these points; None: see `default_scales`.
      learning_rate: Adam's; None: see `default_scales`.
      chunk: how many of the points the network is shown at once, an even number.
    """

    steps: int = 100
    samples: int = 8192
    delta: jax.Array | float | None = None
    learning_rate: jax.Array | float | None = None
    chunk: int = 256

    def completed(self, threat: ThreatModel, num_classes: int) -> SPSA:
        """With the distance and the learning rate as numbers."""
        delta, learning_rate = map(float, default_scales(threat, self.steps))
        return dataclasses.replace(
            self,
            delta=delta if self.delta is None else self.delta,
            learning_rate=learning_rate if self.learning_rate is None else self.learning_rate,
        )

    def __call__(
        self,
        key: jax.Array,
        logits_fn: Callable[[jax.Array], jax.Array],
        images: CleanImages,
        labels: ImageClasses,
        threat: ThreatModel,
    ) -> AttackResult:
        """Attacks images, as `spsa` does."""
        checks.checked_logits_fn(logits_fn)
        images = checks.checked_images(images)
        batch_size = len(images)
        labels = checks.checked_hard_labels(labels, batch_size)
        steps = checked_count("steps", self.steps, 1)
        samples = _checked_even("samples", self.samples)
        chunk = min(_checked_even("chunk", self.chunk), samples)
        threat = checks.checked_threat(threat, batch_size, images.dtype)
        if threat.norm != "linf":
            raise refusal("threat.norm", threat.norm, "linf")
        checks.check_inside_box(images, threat)
        usual_delta, usual_rate = default_scales(threat, steps)
        delta, learning_rate = (
            checked_scale(name, usual if value is None else value, batch_size, images.dtype)
            for name, value, usual in (
                ("delta", self.delta, usual_delta),
                ("learning_rate", self.learning_rate, usual_rate),
            )
        )
        values = known(delta)
        if values is not None and not np.all(values > 0):
            raise refusal("delta", f"{values.min():g}", "numbers above 0")
        # A step of Adam's moves a pixel by about the learning rate.
        checks.warn_if_short(threat.epsilon, steps, learning_rate)
        key = checked_key(key, batch_size)
        if not batch_size:
            return AttackResult.empty(images)
        inputs = _Inputs(key, images, labels, threat, delta, learning_rate)
        attack = _Ascent(samples // 2, chunk)
        # The network always sees so many images: of one example to estimate, of all to judge.
        example = jax.ShapeDtypeStruct((chunk, *images.shape[1:]), images.dtype)
        kept = engine.run(attack, logits_model(logits_fn, labels), (example,), inputs, steps)
        return AttackResult(kept.images, kept.success, jnp.zeros(batch_size, jnp.int32))


def spsa(
    key: jax.Array,
    logits_fn: Callable[[jax.Array], jax.Array],
    images: CleanImages,
    labels: ImageClasses,
    threat: ThreatModel,
    *,
    steps: int = 100,
    samples: int = 8192,
    delta: jax.Array | float | None = None,
    learning_rate: jax.Array | float | None = None,
    chunk: int = 256,
) -> AttackResult:
    r"""Simultaneous perturbation stochastic approximation of the margin's gradient.

    With :math:`f = \max_{k \ne y} z_k - z_y` and n random sign vectors v, a step is Adam's on

    .. math:: g = \frac{1}{n} \sum_{i=1}^{n}
              \frac{f(x + \delta v_i) - f(x - \delta v_i)}{2 \delta} v_i

    and projected. It needs no gradient, and so looks behind those that are masked. The points
    :math:`x \pm \delta v` may lie outside of the ball and the box. It starts at the clean image; an
    example is left alone from its first misclassified iterate on, and costs nothing from then on.

    A call costs `samples` forward passes per example and step, and one more to judge: with the
    defaults 819,200 for an example that withstands.

    Args:
      key: one random key, or `[B]` keys.
      logits_fn: maps images `[B, H, W, C]` to logits `[B, K]`; row i must depend on image i alone.
        It is called on `chunk` images.
      images: clean images, floating, `[B, H, W, C]` (any `[B, ...]` works).
      labels: int `[B]` in [0, K).
      threat: an "linf" ball and the box. Adam's step, which moves every pixel by about the learning
        rate, is made for no other.
      steps: number of steps, at least 1.
      samples: points per step at which the loss is taken: an even number, 2 n.
      delta: the distance of these points in every pixel, in units of the images, above 0; a scalar
        or `[B]`. None: see `default_scales`, 0.01 in the box (0, 1).
      learning_rate: Adam's, in units of the images, at least 0; a scalar or `[B]`; its other
        constants are the usual ones. None: see `default_scales`, 0.01 in the box (0, 1) unless so
        many steps of that cannot cross the ball.
      chunk: how many of the points the network is shown at once, an even number. It bounds the
        memory, and is to fill the device.

    Returns:
      An `AttackResult`; backward_passes is 0 everywhere.

    Raises:
      ValueError: the norm is not "linf", or an argument has a shape, dtype or value that is not
        accepted; the message says which.

    Example:
      >>> from robustjax.attacks import ThreatModel
      >>> images, labels = jnp.full((1, 1, 2, 1), 0.55), jnp.array([0])
      >>> threat = ThreatModel("linf", epsilon=0.1)
      >>> network = lambda x: (x.reshape(len(x), -1) - 0.5) @ jnp.array([[1.0, -1.0], [0.0, 0.0]])
      >>> result = spsa(jax.random.key(0), network, images, labels, threat, steps=10, samples=64)
      >>> print(result.success)
      [ True]

    Source: Adversarial Risk and the Dangers of Evaluating Against Weak Attacks (Uesato et al.,
      2018), Algorithm 1 with Adam. `samples` counts as the first author's code in CleverHans does,
      which starts at a random point of the ball, stops at a given loss, and has 128 samples by
      default; AdverTorch counts the n directions, so that its samples are half of those here, and
      shares them among the images of a batch. 100 steps and 8192 are the numbers in the code of
      NAP's authors (test_spsa.py), whose paper does not evaluate SPSA; there 8192 is the size of
      AdverTorch's batches, and the samples are its default, 128.
    """
    return SPSA(steps, samples, delta, learning_rate, chunk)(key, logits_fn, images, labels, threat)


def default_scales(threat: ThreatModel, steps: int) -> tuple[jax.Array, jax.Array]:
    r"""The distance of the points and the learning rate, where they are not given.

    Args:
      threat: the norm ball and the box.
      steps: K.

    Returns:
      A hundredth of the box's width each, as published for (0, 1), but a learning rate of at least
      :math:`2 \epsilon / K`, so that the steps can cross the ball. Without a box its width is taken
      to be 255/8 times epsilon, as where epsilon is 8/255.
    """
    epsilon = threat.epsilon
    low, high = (0, epsilon * (255 / 8)) if threat.bounds is None else threat.bounds
    plain = all(isinstance(part, int | float) for part in (epsilon, low, high))
    xp = np if plain else jnp
    scale = _SHARE_OF_BOX * (high - low)
    crossing = xp.where(xp.isfinite(epsilon), 2 * epsilon / max(steps, 1), 0)
    return scale, xp.maximum(scale, crossing)


def sign_vectors(key: jax.Array, first: jax.Array | int, count: int, shape: Any) -> jax.Array:
    """Random signs of equal odds, `[count, *shape]`: numbers `first` and following of a key's."""
    size = math.prod(shape)

    def signs(number):
        drawn = jax.random.bits(jax.random.fold_in(key, number), (-(-size // 8),), jnp.uint8)
        return 2 * jnp.unpackbits(drawn, count=size).astype(jnp.float32) - 1

    return jax.vmap(signs)(first + jnp.arange(count)).reshape(count, *shape)


def estimated_gradient(
    model: Model,
    key: jax.Array,
    image: jax.Array,
    label: jax.Array,
    *,
    directions: int,
    chunk: int,
    delta: jax.Array | float,
) -> jax.Array:
    """The estimate of the margin's gradient at one image.

    Args:
      model: maps `[chunk, ...]` images to logits `[chunk, K]`.
      key: a typed key; its first so many sign vectors are the directions.
      image: of any shape.
      label: int.
      directions: how many there are.
      chunk: how many images the model takes, an even number.
      delta: the distance of the points, in every pixel.

    Returns:
      Shaped like the image. A direction at whose points the loss is not finite counts for nothing.
    """
    at_once = chunk // 2

    def add(total, first):
        vectors = sign_vectors(key, first, at_once, image.shape).astype(image.dtype)
        points = jnp.concatenate([image + delta * vectors, image - delta * vectors])
        margins = losses.cw_margin(model(points), jnp.broadcast_to(label, (chunk,)))
        slopes = (margins[:at_once] - margins[at_once:]).astype(image.dtype) / (2 * delta)
        counted = (first + jnp.arange(at_once) < directions) & jnp.isfinite(slopes)
        return total + jnp.tensordot(jnp.where(counted, slopes, 0), vectors, axes=1), None

    firsts = jnp.arange(0, directions, at_once)
    return jax.lax.scan(add, jnp.zeros_like(image), firsts)[0] / directions


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Inputs:
    """The arguments of the attack."""

    key: jax.Array
    images: jax.Array
    labels: jax.Array
    threat: ThreatModel
    delta: jax.Array
    learning_rate: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Rows:
    """The state of the loop; every leaf has a leading axis of the batch, Adam's state included."""

    images: jax.Array
    clean: jax.Array
    labels: jax.Array
    threat: ThreatModel
    delta: jax.Array
    learning_rate: jax.Array
    keys: jax.Array
    adam: Any
    taken: jax.Array
    success: jax.Array
    active: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Kept:
    """What was found."""

    images: jax.Array
    success: jax.Array


@functools.cache
def _adam() -> Any:
    """The optimiser; Optax takes as long to import as all attacks together."""
    import optax

    return optax.scale_by_adam()


@dataclasses.dataclass(frozen=True)
class _Ascent:
    """SPSA in the parts that `iteration` repeats. A step looks at the current point and moves."""

    directions: int
    chunk: int

    def nothing_kept(self, inputs: _Inputs) -> _Kept:
        return _Kept(inputs.images, jnp.zeros(len(inputs.images), bool))

    def start(self, inputs: _Inputs, kept: _Kept | None, restart: jax.Array | np.int32) -> _Rows:
        del kept, restart
        batch_size = len(inputs.images)
        return _Rows(
            images=inputs.images,
            clean=inputs.images,
            labels=inputs.labels,
            threat=inputs.threat.for_batch(batch_size, inputs.images.dtype),
            delta=jnp.broadcast_to(inputs.delta, (batch_size,)),
            learning_rate=jnp.broadcast_to(inputs.learning_rate, (batch_size,)),
            keys=per_example_keys(inputs.key, batch_size),
            adam=jax.vmap(_adam().init)(inputs.images),
            taken=jnp.zeros(batch_size, jnp.int32),
            success=jnp.zeros(batch_size, bool),
            active=jnp.ones(batch_size, bool),
        )

    def step(self, model: Model, rows: _Rows) -> _Rows:
        rows = self._judged(model, rows)
        gradients = self._gradients(model, rows)
        # Optax raises numbers to whole powers, which JAX forbids where it is strict about dtypes.
        with jax.numpy_dtype_promotion("standard"):
            update: Any  # Like the images, which Optax's types do not say.
            update, adam = jax.vmap(_adam().update)(gradients, rows.adam)
        ahead = per_example(rows.learning_rate, rows.images) * update
        moved = rows.threat.project(rows.images + ahead, rows.clean)
        return dataclasses.replace(
            rows,
            images=where_rows(rows.active, moved, rows.images),
            adam=adam,
            taken=rows.taken + rows.active.astype(rows.taken.dtype),
        )

    def result(self, model: Model, rows: _Rows, kept: _Kept | None) -> _Kept:
        del kept
        rows = self._judged(model, rows)
        return _Kept(rows.images, rows.success)

    def _judged(self, model: Model, rows: _Rows) -> _Rows:
        """Ends the attack on the examples that are misclassified where they stand."""
        batch_size, *shape = rows.images.shape
        chunks = -(-batch_size // self.chunk)
        padding = [(0, chunks * self.chunk - batch_size)] + [(0, 0)] * len(shape)
        padded = jnp.pad(rows.images, padding).reshape(chunks, self.chunk, *shape)
        logits = jax.lax.map(model, padded)
        logits = logits.reshape(chunks * self.chunk, logits.shape[-1])[:batch_size]
        found = rows.active & misclassified(logits, rows.labels)
        return dataclasses.replace(rows, success=rows.success | found, active=rows.active & ~found)

    def _gradients(self, model: Model, rows: _Rows) -> jax.Array:
        """The estimates `[B, ...]`, one example after the other; 0 without work where inactive."""

        def of_one(row: tuple[jax.Array, ...]) -> jax.Array:
            active, key, taken, image, label, delta = row
            return jax.lax.cond(
                active,
                lambda: estimated_gradient(
                    model,
                    jax.random.fold_in(key, taken),
                    image,
                    label,
                    directions=self.directions,
                    chunk=self.chunk,
                    delta=delta,
                ),
                lambda: jnp.zeros_like(image),
            )

        parts = (rows.active, rows.keys, rows.taken, rows.images, rows.labels, rows.delta)
        return jax.lax.map(of_one, parts)


def _checked_even(name: str, value: Any) -> int:
    count = checked_count(name, value, 2)
    if count % 2:
        raise refusal(name, str(count), "even numbers, for points come in pairs")
    return count
