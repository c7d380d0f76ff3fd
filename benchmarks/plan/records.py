"""What a plan has found so far: a JSON file for each step, whole at any moment."""

import json
from pathlib import Path
from typing import Any

from benchmarks.plan.part import Step
from robustjax import files

RUNNING, DONE, FAILED, CUT_OFF = "running", "done", "failed", "cut off"
FINISHED = (DONE, FAILED)
"""States of a part that is not tried again."""

Entry = dict[str, Any]


class Records:
    """The entries of all parts.

    An entry has "state", "seconds", "command", "content" (what the command wrote, or None) and
    "said" (the end of its output, where it failed).

    Args:
      folder: of the files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def entries(self, step: Step) -> dict[str, Entry]:
        """Name of a part -> its entry, for those that were begun.

        Raises:
          UserError: a file is damaged.
        """
        path = self._path(step)
        return files.read_json(path)["parts"] if path.exists() else {}

    def put(self, step: Step, part: str, entry: Entry) -> None:
        """Writes the entry of a part; rows that a shorter, later attempt lacks are kept."""
        entries = self.entries(step)
        before = entries.get(part, {}).get("content")
        if entry["state"] != DONE and _rows(before) > _rows(entry["content"]):
            entry = {**entry, "content": before}
        content = {"step": step.name, "parts": {**entries, part: entry}}
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        files.write_whole(self._path(step), text)

    def _path(self, step: Step) -> Path:
        return self._folder / f"{step.letter}_{step.name}.json"


def _rows(content: dict[str, Any] | None) -> int:
    return len((content or {}).get("rows", ()))
