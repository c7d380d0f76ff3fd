"""A model of Equinox, which sees one image at a time, as a function of variables and a batch."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from robustjax.errors import UserError
from robustjax.models.classifier import as_dtype, as_floats, dropout_key, with_statistics

PyTree = Any


@dataclasses.dataclass(frozen=True)
class EquinoxAdapter:
    """See `from_equinox`."""

    create: Callable[[jax.Array], Any]
    axis_name: str
    channels_first: bool

    def init(self, key: jax.Array, images: jax.Array) -> dict[str, Any]:
        """See `models.Classifier`; the images say nothing that the model does not know."""
        del images
        model, state = _model_and_state(self.create(key))
        statistics = {path: as_floats(leaf) for path, leaf in _arrays(state).items()}
        return with_statistics(_arrays(model), statistics)

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
        model, state = self._abstract
        model = _filled(model, variables["params"])
        state = _filled(state, variables.get("batch_stats", {}))
        model = _in_modes(model, train, train if batch_statistics is None else batch_statistics)
        rows = jnp.moveaxis(images, -1, 1) if self.channels_first else images
        has_state = state is not None
        takes_key = "key" in inspect.signature(type(model).__call__).parameters

        def of_one(image: jax.Array, key: jax.Array) -> Any:
            options = {"key": key} if takes_key else {}
            if not has_state:
                return model(image, **options), None
            return model(image, state, **options)

        keys = jax.random.split(dropout_key(rngs), len(images))
        mapped = jax.vmap(of_one, axis_name=self.axis_name, out_axes=(0, None))
        logits, state = mapped(rows, keys)
        logits = logits.astype(jnp.float32)
        if not mutable:
            return logits
        moved = {path: as_floats(leaf) for path, leaf in _arrays(state).items()}
        return logits, {"batch_stats": moved} if moved else {}

    @functools.cached_property
    def _abstract(self) -> tuple[Any, Any]:
        """The model and its state, without numbers."""
        made = _equinox().filter_eval_shape(self.create, jax.random.key(0))
        return _model_and_state(made)


def from_equinox(
    create: Callable[[jax.Array], Any], *, axis_name: str = "batch", channels_first: bool = True
) -> EquinoxAdapter:
    """A model of Equinox as a network that is trained and attacked.

    Args:
      create: makes the model from a key, or the pair of model and state that
        `equinox.nn.make_with_state` gives. It is called on one image, with the state where there is
        one, and with `key=` where its `__call__` takes that.
      axis_name: of the batch, as its batch norm is told.
      channels_first: whether an image is [C, H, W], as Equinox's convolutions have it, and not
        [H, W, C].

    Raises:
      ValueError: Equinox is not installed.
    """
    _equinox()
    return EquinoxAdapter(create, axis_name, channels_first)


def _equinox() -> ModuleType:
    try:
        import equinox
    except ModuleNotFoundError:
        raise UserError(
            "models.from_equinox needs the package equinox, which is not installed: "
            "pip install equinox"
        ) from None
    return equinox


def _model_and_state(made: Any) -> tuple[Any, Any]:
    return made if isinstance(made, tuple) and len(made) == 2 else (made, None)


def _is_array(leaf: Any) -> bool:
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")


def _arrays(tree: PyTree) -> dict[str, jax.Array]:
    """The arrays of a tree by their paths; of a model those alone that are trained."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {_text(path): leaf for path, leaf in leaves if _is_array(leaf)}


def _filled(tree: PyTree, arrays: Mapping[str, jax.Array]) -> PyTree:
    """A tree with arrays by their paths in the places of those without numbers."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: as_dtype(arrays[_text(path)], leaf.dtype) if _is_array(leaf) else leaf,
        tree,
    )


def _text(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _in_modes(model: Any, train: bool, batch_statistics: bool) -> Any:
    """The model with dropout and batch norm told whether they train."""
    equinox = _equinox()
    model = equinox.nn.inference_mode(model, value=not train)

    def is_batch_norm(node: Any) -> bool:
        return isinstance(node, equinox.nn.BatchNorm)

    def told(node: Any) -> Any:
        if not is_batch_norm(node):
            return node
        return equinox.tree_at(lambda layer: layer.inference, node, not batch_statistics)

    return jax.tree.map(told, model, is_leaf=is_batch_norm)
