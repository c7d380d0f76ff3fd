"""A model of Flax NNX as a pure function of its variables."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx, traverse_util

from robustjax.arguments import refusal
from robustjax.models.classifier import as_dtype, as_floats, dropout_key, with_statistics


@dataclasses.dataclass(frozen=True)
class NNXAdapter:
    """See `from_nnx`."""

    create: Callable[[nnx.Rngs], nnx.Module]

    def init(self, key: jax.Array, images: jax.Array) -> dict[str, Any]:
        """See `models.Classifier`; the images say nothing that the model does not know."""
        del images
        _, params, statistics, _ = _split(self.create(nnx.Rngs(key)))
        return with_statistics(_flat(params), jax.tree.map(as_floats, _flat(statistics)))

    def apply(
        self,
        variables: Any,
        images: jax.Array,
        *,
        train: bool = False,
        batch_statistics: bool | None = None,
        rngs: Mapping[str, jax.Array] | None = None,
        mutable: Any = False,
    ) -> Any:
        """See `models.Classifier`."""
        batch_statistics = train if batch_statistics is None else batch_statistics
        graph, params, statistics, draws = _split(self._abstract)
        _fill(params, variables["params"])
        _fill(statistics, variables.get("batch_stats", {}))
        _fill(draws, _streams(_flat(draws), dropout_key(rngs)))
        model = nnx.merge(graph, params, statistics, draws)
        model.set_attributes(
            deterministic=not train,
            use_running_average=not batch_statistics,
            raise_if_not_found=False,
        )
        logits = model(images).astype(jnp.float32)
        if not mutable:
            return logits
        moved = jax.tree.map(as_floats, _flat(_split(model)[2]))
        return logits, {"batch_stats": moved} if moved else {}

    @functools.cached_property
    def _abstract(self) -> nnx.Module:
        """The model without numbers."""
        return nnx.eval_shape(lambda: self.create(nnx.Rngs(0)))


def from_nnx(create: Callable[[nnx.Rngs], nnx.Module]) -> NNXAdapter:
    """A model of Flax NNX as a network that is trained and attacked.

    Its `nnx.Param` are trained, its `nnx.BatchStat` are the statistics of batch norm; layers that
    have an attribute `deterministic` or `use_running_average`, as NNX's dropout and batch norm,
    are told by it whether they train.

    Args:
      create: makes the model from `nnx.Rngs`; it maps images [B, H, W, C] in [0, 1] to logits
        [B, K].

    Raises:
      ValueError: when it is initialised, the model has variables of another kind.

    Example:
      >>> class Dense(nnx.Module):
      ...     def __init__(self, rngs):
      ...         self.layer = nnx.Linear(64, 10, rngs=rngs)
      ...     def __call__(self, images):
      ...         return self.layer(images.reshape(len(images), -1))
      >>> variables = from_nnx(Dense).init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
      >>> sorted(variables["params"])
      ['layer.bias', 'layer.kernel']
    """
    return NNXAdapter(create)


def _split(model: nnx.Module) -> tuple[Any, Any, Any, Any]:
    """The graph, the parameters, the statistics, and the streams of random numbers."""
    graph, *states = nnx.split(model, nnx.Param, nnx.BatchStat, nnx.RngState, ...)
    params, statistics, draws, others = states
    if _flat(others):
        raise refusal(
            f"model={type(model).__name__}: its variable",
            next(iter(_flat(others))),
            "nnx.Param and nnx.BatchStat",
        )
    return graph, params, statistics, draws


def _flat(state: Any) -> dict[str, Any]:
    """The arrays of a state by their paths, as "layers.0.kernel"."""
    found = traverse_util.flatten_dict(nnx.to_pure_dict(state))
    return {".".join(map(str, path)): value for path, value in found.items()}


def _fill(state: Any, arrays: Mapping[str, Any]) -> None:
    """Puts arrays by their paths into a state."""
    found = traverse_util.flatten_dict(nnx.to_pure_dict(state))
    filled = {
        path: as_dtype(arrays[".".join(map(str, path))], value.dtype)
        if jnp.issubdtype(value.dtype, jnp.number) or value.dtype == jnp.bool_
        else arrays[".".join(map(str, path))]
        for path, value in found.items()
    }
    nnx.replace_by_pure_dict(state, traverse_util.unflatten_dict(filled))


def _streams(draws: Mapping[str, Any], key: jax.Array) -> dict[str, jax.Array]:
    """Keys and counters of a model's streams: all from one key, each its own."""
    return {
        path: jax.random.fold_in(key, number)
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
        else jnp.zeros(value.shape, value.dtype)
        for number, (path, value) in enumerate(sorted(draws.items()))
    }
