"""How a broken rule is said, and the small problem that every part is tried on."""

from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from robustjax.errors import UserError

BATCH, SHAPE, CLASSES, EPSILON = 8, (2, 2, 1), 4, 0.1
"""Of the problem: examples, shape of an image, classes, radius."""

KEPT = np.isin(np.arange(BATCH), (1, 4, 6))
"""The rows that are looked at in two companies."""


class BrokenRule(UserError):
    """What was checked does not keep to the contract; the text says which rule, in one sentence."""


def require(condition: Any, subject: str, rule: str) -> None:
    """Raises unless a rule is kept.

    Args:
      condition: whether it is.
      subject: what is checked, as "method unsure".
      rule: what is wrong, and what is accepted.
    """
    if not condition:
        broken(subject, rule)


def broken(subject: str, rule: str) -> NoReturn:
    """Raises: a rule is not kept."""
    raise BrokenRule(f"{subject}: {rule}")


def require_rows(value: Any, subject: str, what: str, shape: tuple[int, ...], kind: Any) -> None:
    """Raises unless something is an array of a shape, and of a kind of numbers such as floats."""
    came = f"{value.dtype}{list(value.shape)}" if hasattr(value, "dtype") else f"{value!r:.60}"
    fits = hasattr(value, "dtype") and value.shape == shape and jnp.issubdtype(value.dtype, kind)
    require(fits, subject, f"{what} is {came}; accepted is {kind.__name__} {list(shape)}")


def require_finite_numbers(tree: Any, subject: str, what: str) -> None:
    """Raises where an array of a tree has an entry that is not finite."""
    finite = all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(tree))
    require(finite, subject, f"{what} has entries that are not finite")


def have_one_form(one: Any, other: Any) -> bool:
    """Whether two trees have the same leaves, of the same shapes."""

    def form(tree: Any) -> list[tuple[str, tuple[int, ...]]]:
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return [(jax.tree_util.keystr(path), np.shape(leaf)) for path, leaf in leaves]

    return form(one) == form(other)


def same(one: Any, other: Any, rows: np.ndarray | None = None, tolerance: float = 0.0) -> bool:
    """Whether two trees of arrays are equal, in some rows alone if these are given."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(
        np.allclose(
            np.asarray(a)[... if rows is None else rows],
            np.asarray(b)[... if rows is None else rows],
            rtol=tolerance,
            atol=tolerance,
            equal_nan=True,
        )
        for a, b in pairs
    )


def images_near_the_edges(seed: int = 1) -> np.ndarray:
    """float32 [B, H, W, C], many of whose pixels are 0 or 1."""
    random = np.random.default_rng(seed)
    return np.clip(random.uniform(-0.3, 1.3, (BATCH, *SHAPE)), 0, 1).astype(np.float32)


def some_labels(seed: int = 1) -> np.ndarray:
    """int32 [B]."""
    return np.random.default_rng(seed + 100).integers(0, CLASSES, BATCH).astype(np.int32)


def linear_weights(scale: float = 1.0) -> np.ndarray:
    """float32 [H·W·C, K], of the network of the problem."""
    random = np.random.default_rng(7)
    return (scale * random.normal(size=(int(np.prod(SHAPE)), CLASSES))).astype(np.float32)
