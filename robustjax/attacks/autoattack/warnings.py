"""What in a network makes gradient attacks misleading, looked for before they run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robustjax import losses
from robustjax.attacks.engine import run as engine
from robustjax.attacks.engine.captured_arrays import equations
from robustjax.attacks.engine.model import gradient_model
from robustjax.attacks.engine.rows import where_rows

# Examples that the gradient is looked at on, and repetitions of the forward pass.
_EXAMPLES, _REPETITIONS = 32, 5

_SAME_ROW = 1e-3
"""Of the largest logit: by how much a row may differ from one batch to another, by rounding."""

_CALLBACKS = ("pure_callback", "io_callback", "debug_callback", "outside_call")
_RANDOMNESS = ("random_bits", "threefry2x32", "random_fold_in", "random_split", "rng_bit_generator")


def inspect(
    logits_fn: Callable[[jax.Array], jax.Array],
    images: np.ndarray,
    labels: np.ndarray,
    logits: np.ndarray,
    *,
    random: bool = False,
) -> tuple[str, ...]:
    """Warnings about a network, as AutoAttack gives them.

    Looked for are: a forward pass that varies from call to call or draws random numbers; rows that
    depend on what else is in the batch; outputs that are probabilities instead of logits; gradients
    that vanish; a forward pass that takes gradients itself; calls back to the host. The last two
    are read off the traced program: the name stack of an operation says if differentiation made it.

    Args:
      logits_fn: maps images `[B, H, W, C]` to logits `[B, K]`; called as it was given, so that a
        function with a state of its own shows it.
      images: float `[N, H, W, C]`, at least one.
      labels: int `[N]`.
      logits: `[N, K]`, at these images.
      random: the network is one draw of a random one, which then is not worth a warning.

    Returns:
      One sentence for each finding.

    Source: the checks of AutoAttack's authors' code (Croce & Hein, 2020), which look at the running
      program where this looks at the traced one.
    """
    some = jnp.asarray(images[:_EXAMPLES])
    program = jax.make_jaxpr(lambda batch: logits_fn(batch))(some)
    names = {equation.primitive.name for equation in equations(program)}
    found = []
    if not random and (names.intersection(_RANDOMNESS) or varies(logits_fn, some)):
        found.append(
            "the network is random (its output varies, or it draws random numbers): "
            'version "rand" is made for that'
        )
    elif rows_depend_on_each_other(logits_fn, some):
        found.append(
            "the network's rows depend on each other (batch norm in training mode?): what it says "
            "of an image, and every verdict, depends on which images share its batch"
        )
    if _are_probabilities(logits):
        found.append(
            "the network's outputs look like probabilities, not logits: "
            "gradients vanish where a softmax is sure"
        )
    vanishing = _vanishing_gradients(logits_fn, some, jnp.asarray(labels[:_EXAMPLES]))
    if vanishing:
        found.append(
            f"the gradient of the cross-entropy is zero at {vanishing} of {len(some)} images: "
            "gradient attacks see nothing there"
        )
    if any(_takes_gradients(equation) for equation in equations(program)):
        found.append(
            "the forward pass takes gradients itself (an optimisation at test time?): "
            "this evaluation is not made for adaptive defences"
        )
    if names.intersection(_CALLBACKS):
        found.append(
            "the forward pass calls back to the host: what happens there has no gradient, and may "
            "change between calls"
        )
    return tuple(found)


def rows_depend_on_each_other(
    logits_fn: Callable[[jax.Array], jax.Array], images: jax.Array
) -> bool:
    """Whether what a network says of an image depends on what else is in the batch.

    The same rows are compared in two companies: the other images as they are, and mirrored in the
    middle of all pixels. Two passes over the images say so; that they do not is no proof.

    Args:
      logits_fn: maps images `[B, ...]` to logits `[B, K]`, without randomness.
      images: float `[B, ...]`; one alone is looked at beside itself.
    """
    if len(images) == 1:
        images = jnp.concatenate([images, images])
    kept = jnp.arange(len(images)) % 2 == 0
    highest, lowest = jnp.max(images), jnp.min(images)
    # Images of one grey are their own mirror images.
    others = jnp.where(highest > lowest, highest + lowest - images, images / 2 + 0.25)
    first = np.asarray(logits_fn(images), np.float64)[::2]
    second = np.asarray(logits_fn(where_rows(kept, images, others)), np.float64)[::2]
    allowed = _SAME_ROW * max(np.max(np.abs(first), initial=0, where=np.isfinite(first)), 1e-30)
    with np.errstate(invalid="ignore"):
        return bool(
            np.any(
                (first != second)
                & ~(np.abs(first - second) <= allowed)
                & ~(np.isnan(first) & np.isnan(second))
            )
        )


def is_deterministic(
    logits_fn: Callable[[jax.Array, jax.Array], jax.Array], images: np.ndarray, key: jax.Array
) -> tuple[str, ...]:
    """A warning where a network that is said to be random says the same whatever it draws.

    Args:
      logits_fn: maps images `[B, ...]` and a key to logits `[B, K]`.
      images: float `[N, ...]`, at least one.
      key: one key.
    """
    some = jnp.asarray(images[:_EXAMPLES])
    one, other = (np.asarray(logits_fn(some, jax.random.fold_in(key, draw))) for draw in range(2))
    if not np.array_equal(one, other, equal_nan=True):
        return ()
    return (
        'the network is not random: version "rand" has but the two attacks that the standard '
        "version begins and goes on with; take that",
    )


def few_classes(num_classes: int, num_targets: int) -> tuple[str, ...]:
    """A warning where there are fewer classes than the targeted attacks are made for."""
    if num_classes > num_targets:
        return ()
    weaker = f"only {num_classes} classes: {num_classes - 1} targets instead of {num_targets}"
    if num_classes >= 4:
        return (weaker,)
    return (f"{weaker}, and the difference of logits instead of the targeted DLR loss",)


def square_alone(robust_accuracy: dict[str, float]) -> tuple[str, ...]:
    """A warning where Square, without gradients, broke what gradients could not.

    Args:
      robust_accuracy: after each attack, in their order; the check is of the last if it is Square.
    """
    *_, before, after = robust_accuracy.values()
    if "square" not in robust_accuracy or before - after <= 0.002:
        return ()
    return (
        f"Square alone lowers the robust accuracy by {100 * (before - after):.2f} points: "
        "the gradients may be masked",
    )


def calls_the_host(logits_fn: Callable[..., jax.Array], *examples: jax.Array) -> bool:
    """Whether a network computes in the host, where neither gradients nor digests look."""
    program = jax.make_jaxpr(lambda *arguments: logits_fn(*arguments))(*examples)
    return any(equation.primitive.name in _CALLBACKS for equation in equations(program))


def varies(logits_fn: Callable[[jax.Array], jax.Array], images: jax.Array) -> bool:
    """Whether a network says one thing of the same images in one call, and another in the next."""
    first = np.asarray(logits_fn(images))
    return any(
        not np.array_equal(first, np.asarray(logits_fn(images)), equal_nan=True)
        for _ in range(_REPETITIONS - 1)
    )


def _are_probabilities(logits: np.ndarray) -> bool:
    in_range = np.all((logits >= 0) & (logits <= 1))
    return bool(in_range and np.all(np.abs(logits.sum(axis=1) - 1) < 1e-5))


def _vanishing_gradients(
    logits_fn: Callable[[jax.Array], jax.Array], images: jax.Array, labels: jax.Array
) -> int:
    model = gradient_model(losses.cross_entropy, logits_fn, labels)
    _, _, gradient = engine.apply(model, images, labels)
    return int(np.sum(~np.any(np.asarray(gradient), axis=tuple(range(1, images.ndim)))))


def _takes_gradients(equation: Any) -> bool:
    return "transpose(" in str(equation.source_info.name_stack)
