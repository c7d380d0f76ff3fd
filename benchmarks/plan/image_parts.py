"""Images in parts that travel singly: packed where they lie prepared, joined where they are needed.

A machine without a network is handed its data set a file at a time. A part holds decoded images and
their digest, and is looked at before it is used.
"""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from robustjax import files
from robustjax.data import Dataset
from robustjax.digest import digest
from robustjax.errors import UserError
from robustjax.npz import NpzError, NpzFile

PARTS = {"train": 3, "test": 1}
"""Split -> into how many files it is packed."""

MOST_BYTES = 60 * 2**20
"""Of a file."""

JOINED = "images.npz"


def names() -> list[str]:
    """The files that the images are packed into."""
    return [
        f"{split}_{number}_of_{parts}.npz"
        for split, parts in PARTS.items()
        for number in range(1, parts + 1)
    ]


def pack(sets: Mapping[str, Dataset], folder: Path) -> list[Path]:
    """Writes the images of both splits in parts.

    Args:
      sets: "train" and "test", with images uint8 [N, H, W, C].
      folder: where to; it is made.

    Returns:
      The files, those of "train" first.

    Raises:
      UserError: a part has more than `MOST_BYTES`, or no image.
    """
    written = []
    for split, parts in PARTS.items():
        dataset = sets[split]
        for number, rows in enumerate(np.array_split(np.arange(len(dataset.labels)), parts), 1):
            name = f"{split}_{number}_of_{parts}.npz"
            images, labels = dataset.images[rows], dataset.labels[rows].astype(np.int32)
            if not len(rows):
                raise UserError(f"{name}: {len(dataset.labels)} images do not fill {parts} parts")
            stream = io.BytesIO()
            np.savez(
                stream,
                images=images,
                labels=labels,
                num_classes=dataset.num_classes,
                digest=digest(images, labels),
            )
            if stream.tell() > MOST_BYTES:
                raise UserError(
                    f"{name} has {stream.tell() / 2**20:.1f} MiB; accepted are "
                    f"{MOST_BYTES / 2**20:.0f}, images of uint8 as CIFAR-10 has them"
                )
            written.append(files.write_whole(folder / name, stream.getvalue()))
    return [Path(path) for path in written]


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays "images", "labels", "num_classes" and "digest" of a part, which fit each other.

    Raises:
      UserError: it is no such file, or not what it was.
    """
    try:
        with NpzFile(path) as archive:
            names = ("images", "labels", "num_classes", "digest")
            arrays = {name: archive[name] for name in names}
            expected = archive.text("digest")
    except (NpzError, KeyError) as error:
        raise UserError(f"{path} is no part of packed images: {error}") from error
    if digest(arrays["images"], arrays["labels"]) != expected:
        raise UserError(f"{path}: its images are not those that were packed; copy it again")
    return arrays


def take_in(folder: Path, store: Path) -> None:
    """Copies the parts that a folder has into the store, and joins them once all are there.

    Args:
      folder: has some of the parts, or none.
      store: a folder on this machine, which keeps what earlier calls have brought.

    Raises:
      UserError: a part is damaged.
    """
    for name in names():
        if (folder / name).exists() and not (store / name).exists():
            read(folder / name)
            files.write_whole(store / name, (folder / name).read_bytes())
    if not missing(store) and not (store / JOINED).exists():
        _join(store)


def missing(store: Path) -> list[str]:
    """The parts that the store still lacks."""
    return [name for name in names() if not (store / name).exists()]


def _join(store: Path) -> None:
    """Makes one archive of all parts, as `--dataset=npz` reads it."""
    arrays: dict[str, np.ndarray] = {}
    for split in PARTS:
        parts = [read(store / name) for name in names() if name.startswith(f"{split}_")]
        prefix = "" if split == "train" else f"{split}_"
        for kind in ("images", "labels"):
            arrays[prefix + kind] = np.concatenate([part[kind] for part in parts])
        arrays["num_classes"] = parts[0]["num_classes"]
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    files.write_whole(store / JOINED, stream.getbuffer())
