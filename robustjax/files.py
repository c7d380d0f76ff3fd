"""The files of a run: in a local folder or a bucket (gs://), written whole or not at all."""

import os

from etils import epath

Path = epath.Path

PARTIAL = ".partial"
"""Ends the name of a file that is being written."""


def write_whole(path: str | os.PathLike, content: str | bytes) -> Path:
    """Writes a file under another name and then renames it, so that no reader sees half of it.

    Args:
      path: of the file; its folder is made.
      content: text is written as UTF-8.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL)
    if isinstance(content, str):
        content = content.encode()
    partial.write_bytes(content)
    return partial.replace(path)
