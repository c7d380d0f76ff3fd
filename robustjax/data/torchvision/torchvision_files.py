"""What torchvision has downloaded: MNIST and its kin, CIFAR and SVHN, in the files as they lie."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robustjax.arguments import did_you_mean
from robustjax.data.dataset import DataError, Dataset
from robustjax.data.prepared.originals import ORIGINALS
from robustjax.data.torchvision.pickled_data import read_pickled_data


@dataclasses.dataclass(frozen=True)
class _Kept:
    """How torchvision keeps a data set.

    Attributes:
        folder: Within torchvision's `root`.
        file: One of those that are in it, by which it is known.
        num_classes: That the data set has.
    """

    folder: str
    file: str
    num_classes: int = 10


_KEPT: Mapping[str, _Kept] = {
    "mnist": _Kept("MNIST/raw", "train-images-idx3-ubyte"),
    "fashion_mnist": _Kept("FashionMNIST/raw", "train-images-idx3-ubyte"),
    "kmnist": _Kept("KMNIST/raw", "train-images-idx3-ubyte"),
    "cifar10": _Kept("cifar-10-batches-py", "data_batch_1"),
    "cifar100": _Kept("cifar-100-python", "train", 100),
    "svhn": _Kept(".", "train_32x32.mat"),
}

NAMES = tuple(_KEPT)

_BATCHES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "cifar10": {
        "train": tuple(f"data_batch_{number}" for number in range(1, 6)),
        "test": ("test_batch",),
    },
    "cifar100": {"train": ("train",), "test": ("test",)},
}
_LABELS = {"cifar10": "labels", "cifar100": "fine_labels"}
_CLASS_NAMES = {
    "cifar10": ("batches.meta", "label_names"),
    "cifar100": ("meta", "fine_label_names"),
}


def find_torchvision(name: str, directory: str) -> str | None:
    """The folder with a data set's files as torchvision has downloaded them.

    Args:
        name: Of the data set, as `data.load` takes it: mnist, fashion_mnist, kmnist, cifar10,
            cifar100 or svhn.
        directory: torchvision's `root`, or the folder within it.

    Returns:
        The folder; None if there is none, or torchvision has no such set.
    """
    if name not in _KEPT or "://" in directory:
        return None
    kept, root = _KEPT[name], Path(directory).expanduser()
    for folder in (root / kept.folder, root):
        if any((folder / file).is_file() for file in (kept.file, f"{kept.file}.gz")):
            return str(folder)
    return None


def load_torchvision(name: str, folder: str, split: str) -> Dataset:
    """Read one split of a data set from the files that torchvision has downloaded.

    The images come in the order of the files, which is torchvision's and not that of tfds. CIFAR's
    files are pickles; nothing in them is run (`read_pickled_data`).

    Args:
        name: As for `find_torchvision`.
        folder: What that has found.
        split: "train" or "test"; of SVHN also "extra".

    Returns:
        The split, images uint8 [N, H, W, C].

    Raises:
        DataError: If there is no such split, or a file is missing or damaged.
    """
    root, num_classes = Path(folder), _KEPT[name].num_classes
    class_names: tuple[str, ...] = ()
    if name in _BATCHES:
        _require_split(folder, split, tuple(_BATCHES[name]))
        images, labels = _read_batches(name, root, _BATCHES[name][split])
        class_names = _read_class_names(name, root)
    else:
        published = ORIGINALS["svhn" if name == "svhn" else "mnist"].read(root).splits
        _require_split(folder, split, tuple(published))
        found = published[split]()
        images, labels = found.images, found.labels["label"]
    if not len(labels) or int(labels.max()) >= num_classes:
        raise DataError(
            f"{folder}: {len(labels)} labels of {split!r} up to {labels.max(initial=0)}; accepted "
            f"are those of {name}, 0 to {num_classes - 1}"
        )
    return Dataset(
        name, np.ascontiguousarray(images), labels.astype(np.int32), num_classes, class_names
    )


def _require_split(folder: str, split: str, accepted: Sequence[str]) -> None:
    if split not in accepted:
        raise DataError(
            f"{folder} has no split {split!r}; accepted are {', '.join(accepted)}"
            f"{did_you_mean(split, accepted)}"
        )


def _read_batches(name: str, root: Path, files: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Images [N, 32, 32, 3] and labels of CIFAR."""
    images: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for file in files:
        path, content = root / file, _read(root / file)
        rows, classes = content.get("data"), content.get(_LABELS[name])
        if (
            not isinstance(rows, np.ndarray)
            or rows.shape[1:] != (3 * 32 * 32,)
            or not isinstance(classes, list)
            or len(classes) != len(rows)
            or not all(type(label) is int and 0 <= label < 256 for label in classes)
        ):
            raise DataError(
                f"{path} is no file of {name}: accepted are 'data', bytes [N, 3072], and "
                f"{_LABELS[name]!r}, a class for each row"
            )
        images.append(rows)
        labels.append(np.array(classes, np.int64))
    pixels = np.concatenate(images).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return pixels, np.concatenate(labels)


def _read_class_names(name: str, root: Path) -> tuple[str, ...]:
    file, key = _CLASS_NAMES[name]
    found = _read(root / file).get(key) if (root / file).exists() else None
    names = tuple(map(str, found)) if isinstance(found, list) else ()
    return names if len(names) == _KEPT[name].num_classes else ()


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_pickled_data(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(
            f"{path} is damaged, or no file of CIFAR's, and nothing in it was run: {error}"
        ) from error
