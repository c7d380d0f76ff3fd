"""What an earlier command has left in a folder, kept where a new one measures something else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from robustjax.files import Path, read_json, set_aside

_SUFFIXES = (".json", ".md", ".csv", ".png")


def keep_earlier(path: Path, new: Mapping[str, Any], subject: Sequence[str]) -> Path | None:
    """Gives an earlier result another name, with its table and figure, unless it is replaced.

    Args:
      path: of a .json file that is about to be written; files of other kinds that are called like
        it go with it.
      new: what it is to hold.
      subject: the keys that say what was measured; where they are the same, the new result takes
        the place of the earlier one.

    Returns:
      The new path of the earlier .json; None if there is none, or it is to be replaced.
    """
    if not path.exists():
        return None
    wanted = json.loads(json.dumps({key: new.get(key) for key in subject}))
    try:
        before = read_json(path)
    except (OSError, ValueError):
        before = {}
    if {key: before.get(key) for key in subject} == wanted:
        return None
    kept = set_aside(path)
    for suffix in _SUFFIXES:
        beside = path.with_suffix(suffix)
        if beside.is_file():
            beside.rename(kept.with_suffix(suffix))
    return kept
