"""Folders as torchvision leaves them, written here byte by byte, sound, damaged and hostile."""

import gzip
import os
import pickle
import struct

import numpy as np
import pytest
from scipy import io

from robustjax import data
from robustjax.data.dataset import DataError
from robustjax.data.torchvision.pickled_data import read_pickled_data

RANDOM = np.random.default_rng(0)


def pixels(*shape):
    return RANDOM.integers(0, 256, shape).astype(np.uint8)


def text(value):
    """A string as Python 2 pickles it."""
    content = value if isinstance(value, bytes) else value.encode()
    if len(content) < 256:
        return b"U" + struct.pack("<B", len(content)) + content
    return b"T" + struct.pack("<i", len(content)) + content


def whole(number):
    return b"K" + bytes([number]) if 0 <= number < 256 else b"J" + struct.pack("<i", number)


def listed(parts):
    return b"]q\x01(" + b"".join(parts) + b"e"


def array(values, by_columns=False):
    """An array as NumPy pickled it under Python 2."""
    shape = b"(" + b"".join(map(whole, values.shape)) + b"t"
    of_bytes = b"cnumpy\ndtype\n" + text("u1") + b"K\x00K\x01\x87R(K\x03" + text("|")
    of_bytes += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    begun = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text("b") + b"\x87R"
    )
    order = b"\x88" if by_columns else b"\x89"
    numbers = text(values.tobytes("F" if by_columns else "C"))
    return begun + b"(K\x01" + shape + of_bytes + order + numbers + b"tb"


def python_2_pickle(**entries):
    pairs = b"".join(text(name) + content for name, content in entries.items())
    return b"\x80\x02}q\x02(" + pairs + b"u."


def batch(images, classes, labels="labels"):
    rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return python_2_pickle(
        batch_label=text("a batch"),
        **{labels: listed(map(whole, classes))},
        data=array(rows),
        filenames=listed(text(f"{row}.png") for row in range(len(images))),
    )


@pytest.fixture
def cifar10(tmp_path):
    """torchvision's root with CIFAR-10 of three images a file; gives them too."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    images, labels = pixels(18, 32, 32, 3), RANDOM.integers(0, 10, 18)
    files = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    for number, file in enumerate(files):
        rows = slice(3 * number, 3 * number + 3)
        (folder / file).write_bytes(batch(images[rows], labels[rows]))
    names = listed(text(f"class {number}") for number in range(10))
    (folder / "batches.meta").write_bytes(python_2_pickle(label_names=names, num_vis=whole(3072)))
    return tmp_path, images, labels


def load(name, root, split="train", **options):
    return data.load(name, split, data_dir=str(root), allow_prepare=False, **options)


def refusal(name, root, split="train", **options):
    with pytest.raises(DataError) as caught:
        load(name, root, split, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_cifar10_is_what_pickle_says_it_is(cifar10):
    root, images, labels = cifar10
    folder = root / "cifar-10-batches-py"
    known = pickle.loads((folder / "data_batch_2").read_bytes(), encoding="latin1")
    np.testing.assert_array_equal(known["data"].reshape(3, 3, 32, 32)[1, 2], images[4, :, :, 2])
    found = load("cifar10", root)
    assert (found.name, found.num_classes, found.class_names[9]) == ("cifar10", 10, "class 9")
    np.testing.assert_array_equal(found.images, images[:15])
    np.testing.assert_array_equal(found.labels, labels[:15])
    test = load("cifar10", folder, "test")  # The folder itself may be named as well.
    np.testing.assert_array_equal(test.images, images[15:])
    np.testing.assert_array_equal(test.labels, labels[15:])
    assert load("cifar10", root, "test", image_size=16).images.shape == (3, 16, 16, 3)
    assert "no split 'extra'; accepted are train, test" in refusal("cifar10", root, "extra")
    assert "stream=True reads" in refusal("cifar10", root, stream=True)


@pytest.mark.parametrize("encoding", ["latin1", "bytes"])
@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_cifar100_as_python_3_writes_it_again_has_its_fine_labels(tmp_path, protocol, encoding):
    (tmp_path / "cifar-100-python").mkdir()
    images = pixels(2, 32, 32, 3)
    read = pickle.loads(batch(images, (99, 3), "fine_labels"), encoding=encoding)
    (tmp_path / "cifar-100-python" / "train").write_bytes(pickle.dumps(read, protocol))
    fine = python_2_pickle(fine_label_names=listed(text(f"fine {number}") for number in range(100)))
    names = pickle.loads(fine, encoding=encoding)
    (tmp_path / "cifar-100-python" / "meta").write_bytes(pickle.dumps(names, protocol))
    found = load("cifar100", tmp_path)
    np.testing.assert_array_equal(found.images, images)
    assert found.labels.tolist() == [99, 3]
    assert found.num_classes == 100 and found.class_names[99] == "fine 99"


def test_an_array_may_lie_by_columns():
    values = pixels(3, 5)
    content = python_2_pickle(data=array(values, by_columns=True))
    np.testing.assert_array_equal(pickle.loads(content, encoding="latin1")["data"], values)
    np.testing.assert_array_equal(read_pickled_data(content)["data"], values)


class Hostile:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (self.trace,)


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
def test_nothing_in_a_pickle_is_run(cifar10, protocol):
    root, _, _ = cifar10
    trace = root / "trace"
    path = root / "cifar-10-batches-py" / "data_batch_1"
    path.write_bytes(pickle.dumps({"data": Hostile(str(trace)), "labels": [0]}, protocol))
    said = refusal("cifar10", root)
    assert f"{path} is damaged, or no file of CIFAR's, and nothing in it was run" in said
    assert not trace.exists()
    pickle.loads(path.read_bytes())
    assert trace.exists()


DAMAGED = {
    "cut off": (lambda content: content[:-40], "nothing in it was run"),
    "empty": (lambda content: b"", "nothing in it was run"),
    "no pickle": (lambda content: b"\x89PNG\r\n\x1a\n", "nothing in it was run"),
    "another kind": (lambda content: content.replace(b"U\x02u1", b"U\x02f4"), "is of 'f4'"),
    "too few bytes": (
        lambda content: content.replace(b"(K\x03M\x00\x0c", b"").replace(
            b"(K\x03J\x00\x0c\x00\x00t", b"(K\x04J\x00\x0c\x00\x00t"
        ),
        r"\(4, 3072\) has 9216 bytes",
    ),
    "a list": (lambda content: b"\x80\x02]q\x01.", "it holds no dictionary"),
    "nothing on the stack": (lambda content: b"\x80\x02u.", "do not fit together"),
    "a list of itself": (lambda content: b"\x80\x02]q\x01h\x01a.", "it holds no dictionary"),
    "no data": (lambda content: python_2_pickle(labels=listed([])), "accepted are 'data'"),
    "a class too many": (lambda content: batch(pixels(3, 32, 32, 3), (0, 1, 10)), "up to 10"),
    "a label too few": (lambda content: batch(pixels(3, 32, 32, 3), (0, 1)), "a class for each"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_named(cifar10, case):
    root, _, _ = cifar10
    path = root / "cifar-10-batches-py" / "data_batch_1"
    changed, message = DAMAGED[case]
    path.write_bytes(changed(path.read_bytes()))
    with pytest.raises(DataError, match=message) as caught:
        load("cifar10", root)
    assert str(root) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_is_named(cifar10):
    root, _, _ = cifar10
    path = root / "cifar-10-batches-py" / "data_batch_4"
    path.unlink()
    assert f"{path} cannot be read" in refusal("cifar10", root)


def test_a_set_that_is_not_there_is_known_all_the_same(tmp_path):
    said = refusal("fashion_mnist", tmp_path)
    assert f"data_dir={tmp_path}" in said and "where torchvision has downloaded it" in said


def idx(values):
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}i", *values.shape)
    return header + values.astype(np.uint8).tobytes()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")]
)
def test_mnist_and_its_kin(tmp_path, name, folder, packed):
    raw = tmp_path / folder / "raw"
    raw.mkdir(parents=True)
    images, labels = pixels(4, 28, 28), np.array([0, 9, 3, 3])
    for prefix, rows in (("train", slice(0, 3)), ("t10k", slice(3, 4))):
        for kind, values in (("images-idx3", images[rows]), ("labels-idx1", labels[rows])):
            path, content = raw / f"{prefix}-{kind}-ubyte", idx(values)
            if packed:
                path, content = path.with_name(f"{path.name}.gz"), gzip.compress(content)
            path.write_bytes(content)
    for root in (tmp_path, raw):
        found = load(name, root)
        np.testing.assert_array_equal(found.images, images[:3, ..., None])
        assert found.labels.tolist() == [0, 9, 3] and found.num_classes == 10
        assert load(name, root, "test").labels.tolist() == [3]
    path = next(raw.glob("train-images*"))
    path.write_bytes(path.read_bytes()[:-9])
    assert str(path) in refusal(name, tmp_path)
    path = next(raw.glob("t10k-labels*"))
    path.unlink()
    assert "t10k-labels-idx1-ubyte.gz is not there" in refusal(name, tmp_path, "test")


def test_svhn(tmp_path):
    images = pixels(3, 32, 32, 3)
    arrays = {"X": np.moveaxis(images, 0, -1), "y": np.array([[10], [1], [9]], np.uint8)}
    io.savemat(tmp_path / "train_32x32.mat", arrays)
    found = load("svhn", tmp_path)
    np.testing.assert_array_equal(found.images, images)
    assert found.labels.tolist() == [0, 1, 9]
    assert "test_32x32.mat" in refusal("svhn", tmp_path, "test")
