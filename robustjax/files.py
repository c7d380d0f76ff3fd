"""Files in a local folder or a bucket (gs://): written whole or not at all, read with one error."""

import contextlib
import errno
import json
import os
import uuid
from collections.abc import Iterable
from typing import Any

from etils.epath import Path

from robustjax.errors import UserError

PARTIAL = ".partial"
"""Ends the name of a file that is being written."""


def as_file_name(name: str) -> str:
    """A name, such as "pgd-20(step_size=2/255)", as that of a file: "_" where it has "/"."""
    return name.replace("/", "_")


def write_whole(path: str | os.PathLike, content: str | bytes | memoryview) -> Path:
    """Writes a file under another name and then renames it, so that no reader sees half of it.

    The content has reached the disk before the name is given to it: after a power cut there is the
    old file or the new one, never an empty one. Two processes that write the same file at once do
    not mix: one of them is the last.

    Args:
      path: of the file; its folder is made.
      content: text is written as UTF-8.

    Raises:
      OSError: it cannot be written; nothing is left behind, and what was there before stays.
    """
    path = Path(path)
    content = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{PARTIAL}")
    try:
        if is_local(path):
            with open(os.fspath(partial), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
            sync_folder(path.parent)
        else:
            partial.write_bytes(bytes(content))
            partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        # The person asked for this file, and knows nothing of the other name.
        raise type(error)(
            error.errno or errno.EIO, error.strerror or str(error), str(path)
        ) from error
    return path


def sync_folder(folder: str | os.PathLike) -> None:
    """Sees that the names in a local folder have reached the disk, where the system can tell."""
    with contextlib.suppress(OSError):
        handle = os.open(os.fspath(folder), os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def is_local(path: str | os.PathLike) -> bool:
    """Whether a path lies on this machine, and not in a bucket."""
    return "://" not in os.fspath(path)


def read_json(path: str | os.PathLike, kind: type[dict] | type[list] = dict) -> Any:
    """The content of a JSON file.

    Args:
      path: of the file.
      kind: what the outermost value has to be, `dict` or `list`.

    Raises:
      ValueError: the file is damaged, or of another kind; names it.
      OSError: it cannot be read.
    """
    try:
        content = parse_json(Path(path).read_bytes())
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); make it again, or remove it") from None
    if not isinstance(content, kind):
        wanted = "object" if kind is dict else "list"
        raise UserError(
            f"{path} is damaged (it holds no JSON {wanted}); make it again, or remove it"
        )
    return content


def parse_json(content: bytes | str) -> Any:
    """The value that a JSON text describes.

    Raises:
      ValueError: it describes none, or one nested too deeply to be read.
    """
    text = content.decode(errors="replace") if isinstance(content, bytes) else content
    try:
        found = json.loads(text)
        _require_shallow(found, _DEEPEST)
        if "\\ud" in text.lower():  # Half of a pair of UTF-16, which no file can be written with.
            json.dumps(found, ensure_ascii=False).encode()
        return found
    except UnicodeEncodeError as error:
        raise UserError(f"it is no JSON of whole characters: {error.reason}") from None
    except json.JSONDecodeError as error:
        raise UserError(f"it is no JSON: {error}") from None
    except RecursionError:
        raise UserError("it is no JSON that can be read: it is nested too deeply") from None


_DEEPEST = 100
"""Of values within values; who shows them visits one within the other."""


def _require_shallow(value: Any, left: int) -> None:
    if isinstance(value, dict | list):
        if not left:
            raise RecursionError
        for part in value.values() if isinstance(value, dict) else value:
            _require_shallow(part, left - 1)


def set_aside(path: Path) -> Path:
    """Gives a file the first free name beside it, as "x.1.json" for "x.json".

    Returns:
      The new path.
    """
    number = 1
    while (kept := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
        number += 1
    return path.rename(kept)


def require_free(
    folder: Path, flag: str, files: Iterable[str] = (), folders: Iterable[str] = ()
) -> None:
    """Refuses names in a folder that are taken by what is of the other kind; see below."""
    for name in files:
        if (folder / name).is_dir():
            raise UserError(f"{flag}: {folder / name} is a folder, and is to be a file")
    for name in folders:
        if (folder / name).exists() and not (folder / name).is_dir():
            raise UserError(f"{flag}: {folder / name} is a file, and is to be a folder")


def require_writable(
    folder: str | os.PathLike, flag: str, *, files: Iterable[str] = (), folders: Iterable[str] = ()
) -> Path:
    """Makes a folder, and sees that a file can be written there, before any work is done.

    Args:
      folder: to be written into.
      flag: what named it, for the message, as "output=x.png".
      files: names of files that are to be written there.
      folders: names of folders that are to be made there.

    Raises:
      ValueError: it cannot be made or written into, or a name is taken by what is of the other
        kind; names the flag, and leaves nothing behind.
    """
    folder = Path(folder)
    require_free(folder, flag, files, folders)
    probe = folder / f"{uuid.uuid4().hex[:8]}{PARTIAL}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"{flag}: the folder {folder} cannot be written into: {error.strerror or error}"
        ) from error
    return folder
