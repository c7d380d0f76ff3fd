"""Tiny published archives, a loopback server that delivers them, and a cache of the test's own."""

import contextlib
import gzip
import hashlib
import http.server
import io
import shutil
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from scipy import io as scipy_io

from robustjax import data
from robustjax.data.prepared.download import Archive


@pytest.fixture(autouse=True)
def cache_directory(tmp_path, monkeypatch):
    directory = tmp_path / "cache"
    monkeypatch.setenv("ROBUSTJAX_CACHE", str(directory))
    return directory


@dataclass
class Published:
    """Archives as their authors would publish them, and what is inside."""

    files: dict[str, bytes]
    splits: dict[str, tuple[np.ndarray, np.ndarray]]
    tfds_name: str
    coarse: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def archives(self) -> list[Archive]:
        return [
            Archive(name, len(data), hashlib.sha256(data).hexdigest())
            for name, data in self.files.items()
        ]


def _random_split(
    seed: int, count: int, shape: tuple[int, ...], num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, *shape), dtype=np.uint8)
    labels = np.concatenate([[num_classes - 1, 0], generator.integers(0, num_classes, count - 2)])
    return images, labels.astype(np.int64)


def _mnist() -> Published:
    splits = {"train": _random_split(0, 23, (28, 28, 1), 10)}
    splits["test"] = _random_split(1, 9, (28, 28, 1), 10)
    files = {}
    for prefix, (images, labels) in zip(("train", "t10k"), splits.values(), strict=True):
        header = struct.pack(">iiii", 2051, len(images), 28, 28)
        files[f"{prefix}-images-idx3-ubyte.gz"] = gzip.compress(header + images.tobytes())
        header = struct.pack(">ii", 2049, len(labels))
        files[f"{prefix}-labels-idx1-ubyte.gz"] = gzip.compress(
            header + labels.astype(np.uint8).tobytes()
        )
    return Published(files, splits, "mnist")


def _tar(members: dict[str, bytes]) -> bytes:
    """A .tar.gz whose other members must never reach the disk."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        for name, data in {"../escaped": b"x", "/robustjax-escaped": b"x", **members}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _record(image: np.ndarray, *labels: int) -> bytes:
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    return bytes(labels) + red.tobytes() + green.tobytes() + blue.tobytes()


def _cifar10() -> Published:
    train = _random_split(2, 25, (32, 32, 3), 10)
    test = _random_split(3, 6, (32, 32, 3), 10)
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship"]
    members = {"cifar-10-batches-bin/batches.meta.txt": "\n".join([*names, "truck", ""]).encode()}
    for batch in range(5):
        rows = zip(train[0][5 * batch : 5 * batch + 5], train[1][5 * batch :], strict=False)
        data = b"".join(_record(image, int(label)) for image, label in rows)
        members[f"cifar-10-batches-bin/data_batch_{batch + 1}.bin"] = data
    members["cifar-10-batches-bin/test_batch.bin"] = b"".join(
        _record(image, int(label)) for image, label in zip(*test, strict=True)
    )
    return Published(
        {"cifar-10-binary.tar.gz": _tar(members)}, {"train": train, "test": test}, "cifar10"
    )


def _cifar100() -> Published:
    splits = {"train": _random_split(4, 20, (32, 32, 3), 100)}
    splits["test"] = _random_split(5, 7, (32, 32, 3), 100)
    coarse = {split: labels * 7 % 20 for split, (_, labels) in splits.items()}
    members = {
        "cifar-100-binary/coarse_label_names.txt": b"".join(b"group_%d\n" % k for k in range(20)),
        "cifar-100-binary/fine_label_names.txt": b"".join(b"thing_%d\n" % k for k in range(100)),
    }
    for split, (images, labels) in splits.items():
        members[f"cifar-100-binary/{split}.bin"] = b"".join(
            _record(image, int(group), int(label))
            for image, group, label in zip(images, coarse[split], labels, strict=True)
        )
    return Published({"cifar-100-binary.tar.gz": _tar(members)}, splits, "cifar100", coarse)


def _svhn() -> Published:
    splits, files = {}, {}
    for seed, (split, count) in enumerate({"train": 11, "test": 5, "extra": 17}.items()):
        images, labels = splits[split] = _random_split(6 + seed, count, (32, 32, 3), 10)
        published = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
        buffer = io.BytesIO()
        scipy_io.savemat(buffer, {"X": images.transpose(1, 2, 3, 0), "y": published})
        files[f"{split}_32x32.mat"] = buffer.getvalue()
    return Published(files, splits, "svhn_cropped")


@pytest.fixture(scope="session")
def published() -> dict[str, Published]:
    return {"mnist": _mnist(), "cifar10": _cifar10(), "cifar100": _cifar100(), "svhn": _svhn()}


@dataclass
class Server:
    """What a loopback server has and how it misbehaves."""

    url: str
    files: dict[str, bytes]
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    break_after: int | None = None
    ranges: bool = True


@pytest.fixture
def serve() -> Iterator[Callable[[dict[str, bytes]], Server]]:
    """Start a server for some files; it can break off and can refuse ranges."""
    with contextlib.ExitStack() as stack:

        def start(files: dict[str, bytes]) -> Server:
            class Handler(http.server.BaseHTTPRequestHandler):
                def do_HEAD(self):
                    self.answer(send_body=False)

                def do_GET(self):
                    self.answer(send_body=True)

                def answer(self, send_body):
                    wanted = self.headers.get("Range")
                    server.requests.append((self.command, self.path, wanted))
                    data = server.files.get(self.path.lstrip("/"))
                    if data is None:
                        self.send_error(404)
                        return
                    start = 0
                    if wanted and server.ranges:
                        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                        self.send_response(206)
                        last = f"{len(data) - 1}/{len(data)}"
                        self.send_header("Content-Range", f"bytes {start}-{last}")
                    else:
                        self.send_response(200)
                    body = data[start:]
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    if send_body:
                        self.wfile.write(body[: server.break_after])

                def log_message(self, *arguments):
                    pass

            listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            server = Server(f"http://127.0.0.1:{listener.server_port}", dict(files))
            thread = threading.Thread(target=listener.serve_forever, args=(0.01,), daemon=True)
            thread.start()
            stack.callback(listener.server_close)
            stack.callback(listener.shutdown)
            return server

        yield start


@pytest.fixture
def no_network(monkeypatch) -> list:
    """Refuse every connection, and list what was tried."""
    import socket

    tried = []

    def refuse(*arguments, **options):
        tried.append(arguments)
        raise OSError("this test has no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tried


@pytest.fixture(scope="session")
def master(published, tmp_path_factory):
    """A folder with MNIST, prepared once from archives that lie there already."""
    directory = tmp_path_factory.mktemp("master")
    (directory / "downloads").mkdir()
    for name, content in published["mnist"].files.items():
        (directory / "downloads" / name).write_bytes(content)
    data.prepare("mnist", str(directory), archives=published["mnist"].archives)
    return directory


@pytest.fixture
def folder(master, tmp_path):
    """A copy of it that a test may change."""
    return Path(shutil.copytree(master, tmp_path / "prepared"))
