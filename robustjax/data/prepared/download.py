"""Fetching published archives over HTTP: checked against their sums, resumable, all or nothing."""

import hashlib
import os
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from robustjax.data.dataset import DataError

_CHUNK = 1 << 20
_HEADERS = {"User-Agent": "robustjax"}

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Archive:
    """A published file.

    Attributes:
        filename: Its name, on the server and here.
        size: Its length in bytes.
        sha256: Its published sum, in hexadecimal.
    """

    filename: str
    size: int
    sha256: str


def is_complete(path: Path, archive: Archive) -> bool:
    """Whether a file is there, with the published size and sum."""
    return (
        path.is_file() and path.stat().st_size == archive.size and _sha256(path) == archive.sha256
    )


def why_unreachable(urls: Sequence[str], timeout: float) -> str | None:
    """Find out, within a time, whether any server answers at all (with whatever status).

    The requests run in threads that are left behind: looking a name up has no time limit of its
    own and may block for much longer.

    Args:
        urls: Addresses to ask, all at once.
        timeout: Seconds to wait in all.

    Returns:
        None as soon as one answers, else a line that says why none did.
    """
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def ask(url: str) -> None:
        try:
            request = urllib.request.Request(url, method="HEAD", headers=_HEADERS)
            urllib.request.urlopen(request, timeout=timeout).close()
            answers.put(None)
        except urllib.error.HTTPError:
            answers.put(None)
        except (OSError, HTTPException, ValueError) as error:
            answers.put(f"{url}: {_reason(error)}")

    for url in urls:
        threading.Thread(target=ask, args=(url,), daemon=True).start()
    deadline = time.monotonic() + timeout
    failures: list[str] = []
    for _ in urls:
        try:
            failure = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return "; ".join(
                [*failures, f"no answer from {' or '.join(urls)} within {timeout:g} s"]
            )
        if failure is None:
            return None
        failures.append(failure)
    return "; ".join(failures)


def fetch(
    archive: Archive,
    directory: Path,
    base_urls: Sequence[str],
    *,
    timeout: float = 30.0,
    progress: Progress | None = None,
) -> Path:
    """Have a published file in a directory, downloading it if it is not there yet.

    Bytes go to FILENAME.part, which is continued if a connection broke off and takes its final name
    only once size and sum are right. A file with a wrong sum is deleted. A file that a person put
    there by hand is accepted if its sum is right.

    Args:
        archive: What to fetch.
        directory: Where to, an existing folder.
        base_urls: Addresses of folders that hold the file, tried in order.
        timeout: Seconds without a byte after which a server counts as lost.
        progress: Called with a line of text now and then.

    Returns:
        Path of the complete file.

    Raises:
        DataError: If no server delivered the file as published.
    """
    path = directory / archive.filename
    if is_complete(path, archive):
        return path
    failures = []
    for base_url in base_urls:
        url = f"{base_url.rstrip('/')}/{archive.filename}"
        part = path.with_name(path.name + ".part")
        try:
            _download(url, part, archive, timeout, progress)
        except (OSError, HTTPException, ValueError) as error:
            failures.append(f"{url}: {_reason(error)}")
            continue
        found = _sha256(part)
        if found != archive.sha256:
            part.unlink()
            failures.append(
                f"{url}: wrong checksum: sha256 {found} instead of the published {archive.sha256} "
                "(the file was deleted)"
            )
            continue
        os.replace(part, path)
        return path
    raise DataError("; ".join(failures))


def _download(
    url: str, part: Path, archive: Archive, timeout: float, progress: Progress | None
) -> None:
    """Bring `part` to its full length, continuing what an earlier attempt left."""
    have = part.stat().st_size if part.exists() else 0
    if have >= archive.size:
        have = 0
    headers = dict(_HEADERS)
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=timeout) as response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(
            f"bytes {have}-"
        )
        if not resumed:
            have = 0
        with open(part, "ab" if resumed else "wb") as file:
            reported = have
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                have += len(chunk)
                if have > archive.size:
                    break
                if progress and (have == archive.size or have - reported >= archive.size / 10):
                    progress(f"{archive.filename}: {have / 1e6:.1f} of {archive.size / 1e6:.1f} MB")
                    reported = have
    if have < archive.size:
        raise OSError(
            f"the connection ended after {have} of {archive.size} bytes; run the command again to "
            "continue"
        )
    if have > archive.size:
        part.unlink()
        raise OSError(f"the file is longer than the published {archive.size} bytes")


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__


def _sha256(path: Path) -> str:
    total = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            total.update(chunk)
    return total.hexdigest()
