"""Looks at the classes that a prepared data set names, before tfds imports them.

tfds makes a data set's features of classes that its features.json names, and imports whatever
module they are said to be in: a folder that came from somebody else could run any code. Only the
classes of tfds itself are let through, wherever in the file they are named.
"""

import inspect
import json
from collections.abc import Iterator
from typing import Any

from robustjax.data.dataset import DataError

_NAMES = ("pythonClassName", "python_class_name", "type")
"""Where a feature says its class, in today's form of the file and in the earlier one."""

_OWN = "tensorflow_datasets.core.features."


def require_own_classes(content: bytes | str, where: str) -> None:
    """Refuses a features.json that names a class which is not one of tfds's features.

    Args:
        content: Of the file.
        where: Path of the file, for the message.

    Raises:
        DataError: If it does, or cannot be read.
    """
    text = content.decode(errors="replace") if isinstance(content, bytes) else content
    if "names_file" in text or "namesFile" in text:
        raise DataError(
            f"{where} names a file to read class names from, which may be any of this machine's; "
            "prepare the data set again"
        )
    try:
        named = set(_named_classes(json.loads(text)))
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{where} is damaged ({type(error).__name__}: {error}); prepare the data set again"
        ) from None
    foreign = sorted(named - _own_classes())
    if foreign:
        raise DataError(
            f"{where} names the class {foreign[0]:.100}, which is none of tfds's own features: "
            "reading the data set could run code of whoever made it. Robustjax reads images and "
            "labels of tfds's own classes alone"
        )


def _named_classes(value: Any) -> Iterator[str]:
    """The classes that a JSON value names, also in texts that hold JSON themselves."""
    if isinstance(value, dict):
        for name, part in value.items():
            if name in _NAMES and isinstance(part, str):
                yield part
            yield from _named_classes(part)
    elif isinstance(value, list):
        for part in value:
            yield from _named_classes(part)
    elif isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            inner = json.loads(value)
        except ValueError:
            return
        yield from _named_classes(inner)


def _own_classes() -> set[str]:
    """The names of tfds's features, also those of earlier versions that it still knows."""
    import tensorflow_datasets as tfds

    base = tfds.features.FeatureConnector
    found = {
        f"{feature.__module__}.{feature.__name__}"
        for feature in vars(tfds.features).values()
        if inspect.isclass(feature) and issubclass(feature, base)
    }
    found |= set(getattr(base, "_registered_features", ()))
    return {name for name in found if name.startswith(_OWN)}
