"""Extra training images, and the batches that mix them with labelled ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustjax import data

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
TOY = data.Dataset("toy", IMAGES, np.array([0, 1, 2, 0, 2, 1], np.int32), 3)


def write(tmp_path, **arrays):
    path = tmp_path / "extra.npz"
    np.savez(path, **arrays)
    return str(path)


@pytest.mark.parametrize(("images", "labels"), [("image", "label"), ("images", "labels")])
def test_both_layouts_are_read(tmp_path, images, labels):
    path = write(tmp_path, **{images: IMAGES, labels: np.array([0, 1, 2, 0, -1, 1], np.int64)})
    found, found_labels = data.load_extra(path, 3, (4, 4, 3))
    np.testing.assert_array_equal(found, IMAGES)
    np.testing.assert_array_equal(found_labels, [0, 1, 2, 0, -1, 1])
    assert found_labels.dtype == np.int32


def test_without_labels_none_is_known(tmp_path):
    _, labels = data.load_extra(write(tmp_path, images=IMAGES), 3, (4, 4, 3))
    np.testing.assert_array_equal(labels, -1)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pixels": IMAGES}, r"has the arrays \['pixels'\]; accepted are"),
        ({"images": IMAGES / 255}, r"the images are float64 .*accepted is uint8 \[M, 4, 4, 3\]"),
        ({"images": IMAGES[:, :2]}, r"accepted is uint8 \[M, 4, 4, 3\]"),
        ({"images": IMAGES, "labels": np.zeros(5, int)}, r"the labels are int64 \[5\].*\[6\]"),
        ({"images": IMAGES, "labels": np.full(6, 3)}, r"labels lie in 3..3; accepted are 0..2"),
        ({"images": IMAGES, "labels": np.full(6, -2)}, r"labels lie in -2..-2"),
        ({"images": np.array([None] * 6)}, "need pickle"),
    ],
)
def test_each_mistake_is_named(tmp_path, arrays, message):
    path = write(tmp_path, **arrays)
    with pytest.raises(data.DataError, match=f"(?s)extra_data=.*{message}"):
        data.load_extra(path, 3, (4, 4, 3))


def test_what_is_no_archive_is_named(tmp_path):
    with pytest.raises(data.DataError, match="nowhere.npz: no such file"):
        data.load_extra(str(tmp_path / "nowhere.npz"), 3, (4, 4, 3))
    text = tmp_path / "text.npz"
    text.write_text("hello")
    with pytest.raises(data.DataError, match="not written by numpy.savez"):
        data.load_extra(str(text), 3, (4, 4, 3))
    np.save(tmp_path / "one.npy", IMAGES)
    with pytest.raises(data.DataError, match="holds one array"):
        data.load_extra(str(tmp_path / "one.npy"), 3, (4, 4, 3))


def test_half_a_download_and_flipped_bits_are_named(tmp_path):
    path = tmp_path / "extra.npz"
    np.savez_compressed(path, image=np.repeat(IMAGES, 50, axis=0), label=np.zeros(300, int))
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[300] ^= 255
    for content in (whole[: len(whole) // 2], flipped, b""):
        path.write_bytes(content)
        for read in (data.load_images, lambda path: data.load_extra(path, 3, (4, 4, 3))):
            with pytest.raises(data.DataError, match=r"extra\.npz.*cannot be read"):
                read(str(path))
        with pytest.raises(data.DataError, match=r"extra\.npz"):
            data.load("npz", "train", data_dir=str(path))


def test_a_single_number_is_no_image(tmp_path):
    with pytest.raises(data.DataError, match=r"the images are uint8 \[\]"):
        data.load_extra(write(tmp_path, images=np.uint8(3)), 3, (4, 4, 3))


def test_images_are_read_whatever_labels_stand_beside_them(tmp_path):
    path = write(tmp_path, images=IMAGES, labels=np.array([None] * 6))
    np.testing.assert_array_equal(data.load_images(path), IMAGES)
    with pytest.raises(data.DataError, match=r"images=.*has the arrays \['pixels'\]"):
        data.load_images(write(tmp_path, pixels=IMAGES))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_extra": 0}, "num_extra=0"),
        ({"extra_fraction": 1.0}, "extra_fraction=1.0: accepted are 0 to 1"),
        ({"extra_fraction": float("nan")}, "extra_fraction=nan: accepted are"),
        ({"num_labelled": 3}, r"batch_size=.*: accepted are 1 to 3"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change, message):
    sizes = {"num_labelled": 20, "num_extra": 10, "batch_size": 8, "extra_fraction": 0.5}
    with pytest.raises(ValueError, match=message):
        data.mixed_epoch_order(**{"seed": 0, "epoch": 0, **sizes, **change})


@given(
    st.integers(8, 60), st.integers(1, 60), st.integers(2, 8), st.floats(0.05, 0.95),
    st.integers(0, 3),
)  # fmt: skip
def test_every_batch_has_its_share_of_both(labelled, extra, batch_size, fraction, epoch):
    share = round(batch_size * fraction)
    if not 0 < share < batch_size:
        with pytest.raises(ValueError, match="leave one example of each kind"):
            data.mixed_epoch_order(0, epoch, labelled, extra, batch_size, fraction)
        return
    order = data.mixed_epoch_order(0, epoch, labelled, extra, batch_size, fraction)
    assert order.shape == (labelled // (batch_size - share), batch_size)
    assert order.min() >= 0 and order.max() < labelled + extra
    is_extra = order >= labelled
    np.testing.assert_array_equal(is_extra.sum(axis=1), share)
    counts = np.bincount(order[~is_extra], minlength=labelled)
    assert counts.max() <= 1
    # Without replacement until the set is used up: no two counts differ by more than one.
    counts = np.bincount(order[is_extra] - labelled, minlength=extra)
    assert counts.max() - counts.min() <= 1
    again = data.mixed_epoch_order(0, epoch, labelled, extra, batch_size, fraction)
    np.testing.assert_array_equal(order, again)


def test_the_order_changes_every_epoch_and_the_places_within_a_batch_are_shuffled():
    first, second = (data.mixed_epoch_order(0, epoch, 64, 64, 8, 0.5) for epoch in (0, 1))
    assert np.any(first != second)
    places = (first >= 64).mean(axis=0)
    assert np.all((places > 0) & (places < 1))


def test_three_clusters_lie_where_the_paper_puts_them():
    points, labels = data.three_clusters(0, 20_000, p=0.8, m=7.0, sigma=0.2)
    assert points.dtype == np.float32 and points.shape == (20_000, 2)
    assert abs(labels.mean() - 0.5) < 0.02
    above = points[:, 1] > 3.5
    below = points[:, 1] < -3.5
    np.testing.assert_array_equal(above | below, labels == 1)
    assert abs(above.sum() / (labels == 1).sum() - 0.8) < 0.02
    for chosen, centre in ((above, (1, 7)), (below, (1, -7)), (labels == 0, (-1, 0))):
        np.testing.assert_allclose(points[chosen].mean(axis=0), centre, atol=0.02)
        np.testing.assert_allclose(points[chosen].std(axis=0), 0.2, rtol=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_examples": 0}, "num_examples=0: accepted are"),
        ({"p": 1.5}, "p=1.5: accepted are finite numbers, at least 0 and at most 1"),
        ({"sigma": -0.1}, "sigma=-0.1: accepted are"),
        ({"sigma": 1e39}, "sigma=1e[+]39: accepted are"),
        ({"m": float("nan")}, "m=nan: accepted are finite numbers"),
        ({"m": float("inf")}, "m=inf: accepted are finite numbers"),
        ({"seed": 1.5}, "seed=1.5: accepted are whole numbers"),
    ],
)
def test_three_clusters_refuse_what_is_none(change, message):
    with pytest.raises(ValueError, match=message):
        data.three_clusters(**{"seed": 0, "num_examples": 5, **change})


FOREIGN = {
    "a fraction is held out": (lambda: data.hold_out(TOY, 1.5), "holdout=1.5: accepted are"),
    "a text of positions": (
        lambda: data.stratified_positions(TOY.labels, "2"),
        "size=2: accepted are 0 to",
    ),
    "batches of 1.5": (lambda: data.epoch_order(0, 0, 6, 1.5), "batch_size=1.5: accepted are"),
    "steps of 2.5": (lambda: data.steps_per_epoch(6, 2.5), "batch_size=2.5: accepted are"),
    "epoch 0.5": (lambda: data.epoch_order(0, 0.5, 6, 2), "epoch=0.5: accepted are whole"),
    "a text of a share": (
        lambda: data.shares_of_batch(6, "0.5"),
        "extra_fraction=0.5: accepted are",
    ),
    "a folder 5": (lambda: data.load("digits", "train", data_dir=5), "data_dir=5: accepted is"),
    "no file of extra data": (lambda: data.load_extra(None, 3, (2, 2, 3)), "extra_data=None:"),
    "no file of images": (lambda: data.load_images(None), "images=None: accepted is the path"),
    "a name nearby": (lambda: data.prepare("minst", "x"), "dataset=minst: .* did you mean 'mnist'"),
    "no folder": (lambda: data.prepare("mnist", None), "data_dir=None: accepted is"),
}


@pytest.mark.parametrize(("call", "message"), FOREIGN.values(), ids=list(FOREIGN))
def test_arguments_of_another_kind_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_numbers_of_numpy_are_numbers():
    labels = np.array([0, 1, 2, 0, 2, 1], np.int32)
    dataset = data.Dataset("toy", IMAGES, labels, labels.max() + 1)
    assert type(dataset.num_classes) is int
    assert len(data.first(dataset, np.int64(2))) == 2
    assert data.steps_per_epoch(6, np.int32(4)) == 1
    assert data.only_classes(dataset, labels[:2]).num_classes == 2


def test_the_first_examples_and_some_classes():
    dataset = data.Dataset(
        "toy", IMAGES, np.array([0, 1, 2, 0, 2, 1], np.int32), 3, ("a", "b", "c")
    )
    np.testing.assert_array_equal(data.first(dataset, 4).labels, [0, 1, 2, 0])
    pair = data.only_classes(dataset, (2, 0))
    np.testing.assert_array_equal(pair.labels, [1, 0, 1, 0])
    np.testing.assert_array_equal(pair.images, IMAGES[[0, 2, 3, 4]])
    assert pair.num_classes == 2 and pair.class_names == ("c", "a")
    for wrong in ((1,), (1, 1), (0, 3), (-1, 0), (), 1, (1.5, 2), ("1", "2"), None):
        with pytest.raises(ValueError, match="two or more different classes"):
            data.only_classes(dataset, wrong)
    absent = data.Dataset("toy", IMAGES, np.zeros(6, np.int32), 3)
    with pytest.raises(ValueError, match=r"'toy' has no example of the classes \(1, 2\)"):
        data.only_classes(absent, (1, 2))
    for wrong in (0, 7, 1.5, "2", True, None):
        with pytest.raises(ValueError, match=f"size={wrong}: accepted are 1 to 6"):
            data.first(dataset, wrong)
