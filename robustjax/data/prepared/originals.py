"""The data sets that robustjax prepares itself: where they are published, and their file formats.

Every format read here is plain bytes (IDX, the CIFAR binary version, MATLAB 5 arrays): none of them
needs a pickle to be loaded.
"""

import functools
import gzip
import math
import tarfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robustjax.data.dataset import DataError
from robustjax.data.prepared.download import Archive


@dataclass(frozen=True)
class OriginalSplit:
    """One split as published.

    Attributes:
        images: uint8 [N, H, W, C].
        labels: The labels of each kind ("label", and "coarse_label" for CIFAR-100), int [N].
    """

    images: np.ndarray
    labels: dict[str, np.ndarray]


@dataclass(frozen=True)
class Contents:
    """What the archives of a data set hold.

    Attributes:
        splits: Reads one split, by the name of the split. Splits are read one at a time, because
            the largest fill gigabytes.
        label_names: Names of the classes of each kind of label, where the archives give them.
    """

    splits: Mapping[str, Callable[[], OriginalSplit]]
    label_names: dict[str, list[str]]


@dataclass(frozen=True)
class Original:
    """A published data set, and the tfds data set that it becomes.

    Attributes:
        name: Name in robustjax.
        tfds_name: Name in tfds.
        version: Version of the tfds data set.
        image_shape: (H, W, C) in pixels.
        num_classes: Number of classes of each kind of label.
        id_digits: Digits of the number in an example's id, or None for no id.
        archives: The published files.
        base_urls: Folders on the web that hold them, in order of preference.
        homepage: Where the authors describe the set.
        description: One line for `dataset_info.json`.
        read: Opens the archives, given the folder they lie in.
    """

    name: str
    tfds_name: str
    version: str
    image_shape: tuple[int, int, int]
    num_classes: Mapping[str, int]
    id_digits: int | None
    archives: tuple[Archive, ...]
    base_urls: tuple[str, ...]
    homepage: str
    description: str
    read: Callable[[Path], Contents]


def _read_mnist(directory: Path) -> Contents:
    def read_split(prefix: str) -> OriginalSplit:
        images = _read_idx(directory / f"{prefix}-images-idx3-ubyte", dimensions=3)
        labels = _read_idx(directory / f"{prefix}-labels-idx1-ubyte", dimensions=1)
        if len(images) != len(labels):
            raise DataError(
                f"{directory}, {prefix}: {len(images)} images, but {len(labels)} labels"
            )
        return OriginalSplit(images[..., None], {"label": labels})

    splits = {"train": lambda: read_split("train"), "test": lambda: read_split("t10k")}
    return Contents(splits, {})


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Read an IDX file of bytes: 0, 0, 8, rank, one big-endian int32 per axis, the data.

    It is gzipped, as published, and its name ends in .gz, or somebody has unpacked it.
    """
    published = path.with_name(f"{path.name}.gz")
    try:
        if path.exists():
            data = path.read_bytes()
        else:
            path = published
            data = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path} is not there, nor unpacked without the .gz") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    start = 4 + 4 * dimensions
    if len(data) < start or data[:4] != bytes([0, 0, 8, dimensions]):
        raise DataError(f"{path} is not an IDX file of bytes with {dimensions} axes")
    shape = np.frombuffer(data, ">i4", dimensions, offset=4).tolist()
    if len(data) - start != math.prod(shape):
        raise DataError(f"{path} announces {shape} bytes, but {len(data) - start} follow")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _cifar_reader(
    archive: str,
    folder: str,
    members: Mapping[str, tuple[str, ...]],
    label_files: Mapping[str, str],
) -> Callable[[Path], Contents]:
    """Reader of a CIFAR binary archive; a record is one byte per label, then 3x32x32 pixels."""

    def read(directory: Path) -> Contents:
        path = directory / archive
        wanted = [name for names in members.values() for name in names] + [*label_files.values()]
        files = _read_members(path, [f"{folder}/{name}" for name in wanted])

        def read_split(names: tuple[str, ...]) -> OriginalSplit:
            data = b"".join(files[f"{folder}/{name}"] for name in names)
            length = len(label_files) + 3072
            if len(data) % length:
                raise DataError(f"{path}: {', '.join(names)} do not hold whole records")
            records = np.frombuffer(data, np.uint8).reshape(-1, length)
            labels = {kind: records[:, column] for column, kind in enumerate(label_files)}
            images = records[:, len(label_files) :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            return OriginalSplit(images, labels)

        names = {
            kind: files[f"{folder}/{name}"].decode().split() for kind, name in label_files.items()
        }
        splits = {split: functools.partial(read_split, part) for split, part in members.items()}
        return Contents(splits, names)

    return read


def _read_members(path: Path, names: list[str]) -> dict[str, bytes]:
    """Read some regular files of a .tar.gz into memory; nothing is unpacked to disk."""
    files = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                if member.isreg() and member.name in names:
                    content = archive.extractfile(member)
                    assert content is not None  # It is a regular file.
                    files[member.name] = content.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a .tar.gz archive: {error}") from error
    missing = sorted(set(names) - set(files))
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}")
    return files


def _read_svhn(directory: Path) -> Contents:
    def read_split(split: str) -> OriginalSplit:
        from scipy import io

        path = directory / f"{split}_32x32.mat"
        try:
            arrays = io.loadmat(path, variable_names=["X", "y"])
            images, labels = np.moveaxis(arrays["X"], -1, 0), arrays["y"].reshape(-1)
        except Exception as error:
            # A damaged file raises whatever the parser stumbles over.
            raise DataError(f"{path} is not a MATLAB file with X and y: {error}") from error
        if images.dtype != np.uint8 or len(images) != len(labels):
            raise DataError(f"{path}: X is {images.dtype} {arrays['X'].shape}, y {labels.shape}")
        # The digit 0 is published as class 10.
        return OriginalSplit(images, {"label": labels.astype(np.int64) % 10})

    splits = ("train", "test", "extra")
    return Contents({split: functools.partial(read_split, split) for split in splits}, {})


_MNIST = Original(
    name="mnist",
    tfds_name="mnist",
    version="3.0.1",
    image_shape=(28, 28, 1),
    num_classes={"label": 10},
    id_digits=None,
    archives=(
        Archive(
            "train-images-idx3-ubyte.gz",
            9912422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        Archive(
            "train-labels-idx1-ubyte.gz",
            28881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        Archive(
            "t10k-images-idx3-ubyte.gz",
            1648877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        Archive(
            "t10k-labels-idx1-ubyte.gz",
            4542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    ),
    base_urls=(
        "https://storage.googleapis.com/cvdf-datasets/mnist",
        "https://ossci-datasets.s3.amazonaws.com/mnist",
    ),
    homepage="http://yann.lecun.com/exdb/mnist/",
    description="MNIST: 28x28 images of handwritten digits, 60,000 for training, 10,000 to test.",
    read=_read_mnist,
)

_CIFAR_URLS = ("https://www.cs.toronto.edu/~kriz", "https://cave.cs.toronto.edu/kriz")

_CIFAR10 = Original(
    name="cifar10",
    tfds_name="cifar10",
    version="3.0.2",
    image_shape=(32, 32, 3),
    num_classes={"label": 10},
    id_digits=5,
    archives=(
        Archive(
            "cifar-10-binary.tar.gz",
            170052171,
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
    ),
    base_urls=_CIFAR_URLS,
    homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
    description="CIFAR-10: 32x32 photographs of 10 classes, 50,000 for training, 10,000 to test.",
    read=_cifar_reader(
        "cifar-10-binary.tar.gz",
        "cifar-10-batches-bin",
        {
            "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
            "test": ("test_batch.bin",),
        },
        {"label": "batches.meta.txt"},
    ),
)

_CIFAR100 = Original(
    name="cifar100",
    tfds_name="cifar100",
    version="3.0.2",
    image_shape=(32, 32, 3),
    num_classes={"label": 100, "coarse_label": 20},
    id_digits=5,
    archives=(
        Archive(
            "cifar-100-binary.tar.gz",
            168513733,
            "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        ),
    ),
    base_urls=_CIFAR_URLS,
    homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
    description="CIFAR-100: 32x32 photographs of 100 classes in 20 superclasses, 50,000 + 10,000.",
    read=_cifar_reader(
        "cifar-100-binary.tar.gz",
        "cifar-100-binary",
        {"train": ("train.bin",), "test": ("test.bin",)},
        # In the order of the label bytes of a record.
        {"coarse_label": "coarse_label_names.txt", "label": "fine_label_names.txt"},
    ),
)

_SVHN = Original(
    name="svhn",
    tfds_name="svhn_cropped",
    version="3.1.0",
    image_shape=(32, 32, 3),
    num_classes={"label": 10},
    id_digits=6,
    archives=(
        Archive(
            "train_32x32.mat",
            182040794,
            "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
        ),
        Archive(
            "test_32x32.mat",
            64275384,
            "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
        ),
        Archive(
            "extra_32x32.mat",
            1329278602,
            "a133a4beb38a00fcdda90c9489e0c04f900b660ce8a316a5e854838379a71eb3",
        ),
    ),
    base_urls=("http://ufldl.stanford.edu/housenumbers",),
    homepage="http://ufldl.stanford.edu/housenumbers/",
    description="SVHN, cropped: 32x32 images of house numbers, 73,257 + 26,032, 531,131 extra.",
    read=_read_svhn,
)

ORIGINALS: Mapping[str, Original] = {
    original.name: original for original in (_MNIST, _CIFAR10, _CIFAR100, _SVHN)
}
