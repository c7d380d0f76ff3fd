"""An extension of griffe: the sections of our docstrings by the names that it knows."""

import re
from typing import Any

import griffe


class DocstringSections(griffe.Extension):
    """Reads "Example:" as "Examples:", and shows "Source:" as a paragraph."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called for everything that has a docstring, or could have one."""
        if obj.docstring is not None:
            obj.docstring.value = as_known(obj.docstring.value)


def as_known(text: str) -> str:
    """A docstring, which begins at the first column, with its last two sections rewritten."""
    text = re.sub(r"(?m)^Example:$", "Examples:", text)
    return re.sub(r"(?m)^Source:((?:.*)(?:\n[ \t]+\S.*)*)", _as_paragraph, text)


def _as_paragraph(found: re.Match[str]) -> str:
    return f"**Source:** {' '.join(found[1].split())}"
