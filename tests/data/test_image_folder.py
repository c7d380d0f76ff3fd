"""Folders of images that the tests write: how they are divided, ordered, converted and refused."""

import os

import numpy as np
import pytest
from PIL import Image

from robustjax import data
from robustjax.data import image_files, streamed_images
from robustjax.data.dataset import DataError

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def cache_directory(tmp_path_factory, monkeypatch):
    """Elsewhere than in the folder that a test fills."""
    monkeypatch.setenv("ROBUSTJAX_CACHE", str(tmp_path_factory.mktemp("cache")))


def pixels(*shape, low=0, high=256):
    return RANDOM.integers(low, high, shape).astype(np.uint8)


def write(path, image):
    """A PNG of an array, or of an image of Pillow's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = image if isinstance(image, Image.Image) else Image.fromarray(image)
    made.save(path)
    return path


def filled(root, classes, count=5, shape=(6, 6, 3)):
    """Writes so many PNGs of each class; gives them as they are read, where classes alternate."""
    written = pixels(count, len(classes), *shape)
    for label, name in enumerate(classes):
        for number in range(count):
            write(root / name / f"{number}.png", written[number, label])
    return written.reshape(-1, *shape)


def load(root, split="train", **options):
    return data.load("folder", split, data_dir=str(root), **options)


def refusal(root, split="train", **options):
    with pytest.raises(DataError) as caught:
        load(root, split, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_splits_classes_and_order_are_those_of_the_names(tmp_path):
    # Written in another order than that of the names; a class may be absent from the test split.
    train = filled(tmp_path / "train", ["Zebra", "ant"], count=3)
    test = filled(tmp_path / "test", ["ant"], count=2)
    found = load(tmp_path)
    assert found.class_names == ("Zebra", "ant") and found.num_classes == 2
    assert found.images.dtype == np.uint8 and found.labels.dtype == np.int32
    np.testing.assert_array_equal(found.images, train)
    np.testing.assert_array_equal(found.labels, [0, 1, 0, 1, 0, 1])
    judged = load(tmp_path, "test")
    np.testing.assert_array_equal(judged.images, test)
    np.testing.assert_array_equal(judged.labels, [1, 1])
    assert judged.class_names == found.class_names
    both = load(tmp_path, "train+test")
    np.testing.assert_array_equal(both.images, np.concatenate([train, test]))


def test_the_first_images_are_of_all_classes(tmp_path):
    filled(tmp_path / "train", ["a"], count=6)
    filled(tmp_path / "train", ["b"], count=3)
    filled(tmp_path / "train", ["c"], count=1)
    assert load(tmp_path).labels.tolist() == [0, 1, 0, 0, 1, 2, 0, 0, 1, 0]


@pytest.mark.parametrize("name", ["val", "validation"])
def test_what_is_called_validation_is_the_test_set(tmp_path, name):
    filled(tmp_path / "train", ["a", "b"], count=1)
    judged = filled(tmp_path / name, ["a", "b"], count=2)
    np.testing.assert_array_equal(load(tmp_path, "test").images, judged)
    np.testing.assert_array_equal(load(tmp_path, name).images, judged)


def test_a_test_split_alone_has_its_own_classes(tmp_path):
    judged = filled(tmp_path / "test", ["a", "b"], count=2)
    np.testing.assert_array_equal(load(tmp_path, "test").images, judged)
    assert "has no folder 'train', but test" in refusal(tmp_path)


def test_a_folder_without_splits_is_divided_evenly_whatever_the_seed(tmp_path):
    written = filled(tmp_path, ["a", "b"], count=10)
    train, test = load(tmp_path), load(tmp_path, "test")
    # Every fifth of a class, in the middle of each five: positions 2 and 7 of ten.
    np.testing.assert_array_equal(test.images, written[[4, 5, 14, 15]])
    np.testing.assert_array_equal(test.labels, [0, 1, 0, 1])
    np.testing.assert_array_equal(train.images, np.delete(written, [4, 5, 14, 15], axis=0))
    assert "divided" in refusal(tmp_path, "extra")


def test_files_may_lie_deeper_and_others_are_passed_over(tmp_path):
    image = pixels(4, 4, 3)
    write(tmp_path / "train" / "a" / "images" / "0.PNG", image)
    write(tmp_path / "train" / "b" / "1.png", image)
    (tmp_path / "train" / "a" / "boxes.txt").write_text("no image")
    (tmp_path / "train" / "a" / ".hidden.png").write_text("no image")
    (tmp_path / ".DS_Store").write_text("")
    (tmp_path / "train" / ".cache").mkdir()
    found = load(tmp_path)
    assert len(found) == 2 and found.class_names == ("a", "b")


def one_of(tmp_path, image, **options):
    """The first image that is read of a folder that has this one and another."""
    write(tmp_path / "a" / "0.png", image)
    write(tmp_path / "a" / "1.png", image)
    write(tmp_path / "b" / "0.png", image)
    return load(tmp_path, **options).images[0]


def test_grey_images_have_one_channel_and_colour_wins(tmp_path):
    grey = pixels(5, 4)
    np.testing.assert_array_equal(one_of(tmp_path, grey), grey[..., None])
    colour = pixels(5, 4, 3)
    write(tmp_path / "b" / "1.png", colour)
    found = load(tmp_path)
    np.testing.assert_array_equal(found.images[0], np.repeat(grey[..., None], 3, axis=-1))
    np.testing.assert_array_equal(found.images[-1], colour)


def test_the_training_split_decides_how_many_channels(tmp_path):
    filled(tmp_path / "train", ["a", "b"], count=1, shape=(4, 4))
    colour = filled(tmp_path / "test", ["a"], count=1)[0]
    found = load(tmp_path, "test", image_size=6).images[0]
    luma = colour.astype(np.float64) @ [0.299, 0.587, 0.114]
    assert found.shape == (6, 6, 1)
    assert np.abs(found[..., 0] - luma).max() <= 0.51


def test_where_a_folder_is_divided_an_image_for_testing_makes_no_colour(tmp_path):
    filled(tmp_path, ["a", "b"], count=5, shape=(4, 4))
    # The one of five that is for testing.
    write(tmp_path / "a" / "2.png", pixels(4, 4, 3))
    assert load(tmp_path).images.shape == (8, 4, 4, 1)
    assert load(tmp_path, "test").images.shape == (2, 4, 4, 1)


def test_test_images_are_read_again_once_training_has_colours(tmp_path):
    filled(tmp_path / "train", ["a", "b"], count=1, shape=(4, 4))
    filled(tmp_path / "test", ["a"], count=1, shape=(4, 4))
    assert load(tmp_path, "test").images.shape == (1, 4, 4, 1)
    write(tmp_path / "train" / "b" / "0.png", pixels(4, 4, 3))
    assert load(tmp_path, "test").images.shape == (1, 4, 4, 3)


def test_transparency_lies_on_black(tmp_path):
    image = pixels(5, 5, 4)
    expected = image[..., :3] * (image[..., 3:].astype(np.float64) / 255)
    assert np.abs(one_of(tmp_path, image) - expected).max() <= 1


def test_grey_with_transparency_stays_grey(tmp_path):
    image = pixels(5, 5, 2)
    found = one_of(tmp_path, Image.fromarray(image, "LA"))
    assert found.shape == (5, 5, 1)
    assert np.abs(found[..., 0] - image[..., 0] * (image[..., 1] / 255.0)).max() <= 1


def test_a_palette_becomes_its_colours(tmp_path):
    colours, which = pixels(4, 3), pixels(5, 5, high=4)
    image = Image.fromarray(which, "P")
    image.putpalette(colours.tobytes())
    np.testing.assert_array_equal(one_of(tmp_path, image), colours[which])


def test_16_bits_of_grey_keep_their_range(tmp_path):
    image = RANDOM.integers(0, 65536, (5, 5)).astype(np.uint16)
    image[0, :3] = 0, 65535, 32896
    found = one_of(tmp_path, image)[..., 0]
    np.testing.assert_array_equal(found, np.round(image / 65535.0 * 255))
    assert found[0, :3].tolist() == [0, 255, 128]


def test_black_and_white_reach_from_0_to_255(tmp_path):
    image = pixels(5, 5, high=2) * 255
    np.testing.assert_array_equal(
        one_of(tmp_path, Image.fromarray(image).convert("1"))[..., 0], image
    )


def test_a_photograph_stands_upright(tmp_path):
    image = pixels(4, 6, 3)
    turned = Image.Exif()
    turned[0x0112] = 6  # The camera was turned: to be seen, turn it a quarter clockwise.
    for name in ("a/0.png", "a/1.png", "b/0.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / name, exif=turned)
    np.testing.assert_array_equal(load(tmp_path).images[0], np.rot90(image, -1))


def test_the_middle_is_cut_out_and_resized(tmp_path):
    """Twice as wide as high: a quarter goes on either side; a triangle of four pixels makes one."""
    image = pixels(8, 16, 3)
    np.testing.assert_array_equal(one_of(tmp_path, image, image_size=8), image[:, 4:12])

    def halved(values, axis):
        values = np.moveaxis(values.astype(np.float64), axis, 0)
        rows = []
        for centre in range(1, len(values), 2):
            near = np.arange(max(0, centre - 2), min(len(values), centre + 2))
            weights = 1 - np.abs(near + 0.5 - centre) / 2
            rows.append(np.tensordot(weights / weights.sum(), values[near], 1))
        return np.moveaxis(np.stack(rows), 0, axis)

    found = one_of(tmp_path, image, image_size=4)
    assert np.abs(found - halved(halved(image, 1), 0)[:, 2:6]).max() <= 1


def test_images_of_several_sizes_need_one(tmp_path):
    filled(tmp_path / "train", ["a"], count=1, shape=(6, 6, 3))
    filled(tmp_path / "train", ["b"], count=1, shape=(7, 9, 3))
    said = refusal(tmp_path)
    assert "7x9" in said and "6x6" in said and "add image_size=" in said
    assert load(tmp_path, image_size=4).images.shape == (2, 4, 4, 3)


@pytest.mark.parametrize("size", [-1, 2.5, 10**6, True])
def test_a_size_is_a_whole_number(tmp_path, size):
    filled(tmp_path, ["a", "b"])
    with pytest.raises(ValueError, match="image_size="):
        load(tmp_path, image_size=size)


def test_other_data_sets_are_resized_too(tmp_path):
    digits = data.load("digits", "test", image_size=4)
    assert digits.images.shape == (360, 4, 4, 1)
    np.savez(tmp_path / "own.npz", images=np.float32(RANDOM.random((2, 4, 4, 1))), labels=[0, 1])
    with pytest.raises(DataError, match="image_size=2 resizes uint8"):
        data.load("npz", "train", data_dir=str(tmp_path / "own.npz"), image_size=2)
    assert data.load("npz", "train", data_dir=str(tmp_path / "own.npz"), image_size=4)


@pytest.fixture
def decoded(monkeypatch):
    """The files that were decoded rather than taken from the cache."""
    calls, read = [], image_files.read_image

    def count(path, **options):
        calls.append(path)
        return read(path, **options)

    monkeypatch.setattr(image_files, "read_image", count)
    return calls


def test_what_was_read_is_kept_until_a_file_changes(tmp_path, decoded):
    written = filled(tmp_path / "own", ["a", "b"])
    first = load(tmp_path / "own")
    decoded.clear()
    np.testing.assert_array_equal(load(tmp_path / "own").images, first.images)
    assert not decoded
    path = write(tmp_path / "own" / "a" / "0.png", 255 - written[0])
    os.utime(path, ns=(1, 1))
    np.testing.assert_array_equal(load(tmp_path / "own").images[0], 255 - written[0])
    decoded.clear()
    (tmp_path / "own" / "a" / "0.png").rename(tmp_path / "own" / "a" / "9.png")
    np.testing.assert_array_equal(load(tmp_path / "own").images[0], written[2])
    assert decoded
    decoded.clear()
    assert load(tmp_path / "own", image_size=3).images.shape[1:] == (3, 3, 3) and decoded


def test_no_folder_and_folders_of_nothing(tmp_path):
    assert "add data_dir=DIR" in refusal("")
    assert "no such folder" in refusal(tmp_path / "absent")
    (tmp_path / "file").write_text("")
    assert "is no folder" in refusal(tmp_path / "file")
    (tmp_path / "own").mkdir()
    assert "has no folder in it" in refusal(tmp_path / "own")
    filled(tmp_path / "own" / "train", ["a", "b"])
    assert "has no folder 'test'" in refusal(tmp_path / "own", "test")
    (tmp_path / "own" / "train" / "c").mkdir()
    said = refusal(tmp_path / "own")
    assert "train/c has no image" in said
    (tmp_path / "own" / "train" / "c").rmdir()
    filled(tmp_path / "own" / "test", ["A"])
    assert "'A', which is no class of" in refusal(tmp_path / "own", "test")


def test_a_file_that_is_no_image_is_named(tmp_path):
    filled(tmp_path, ["a", "b"])
    path = tmp_path / "a" / "0.png"
    whole = path.read_bytes()
    path.write_text("it only says so")
    assert f"{path} is no such image" in refusal(tmp_path)
    path.write_bytes(b"")
    assert f"{path} is an empty file" in refusal(tmp_path)
    path.write_bytes(whole[:60])
    assert f"{path} cannot be read" in refusal(tmp_path)
    # PostScript would start Ghostscript; it is no image here.
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n")
    assert f"{path} is no such image" in refusal(tmp_path)


def test_pixels_of_no_known_range_are_refused(tmp_path):
    write(tmp_path / "a" / "0.tif", np.float32(RANDOM.random((4, 4))))
    write(tmp_path / "b" / "0.tif", np.float32(RANDOM.random((4, 4))))
    write(tmp_path / "b" / "1.tif", np.float32(RANDOM.random((4, 4))))
    assert "pixels of 32 bits (Pillow's mode F)" in refusal(tmp_path)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("most", [20, 5])
def test_an_image_that_would_fill_the_memory_is_refused_unread(tmp_path, monkeypatch, most):
    """Pillow warns of more pixels than its limit, and refuses twice as many."""
    filled(tmp_path, ["a", "b"])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
    said = refusal(tmp_path)
    assert f"at most {most}" in said and str(tmp_path / "a" / "0.png") in said


def test_images_that_no_memory_holds_are_refused_where_it_is_known(tmp_path, monkeypatch):
    filled(tmp_path, ["a", "b"], count=5, shape=(6, 6, 3))
    memory = 8 * 6 * 6 * 3
    monkeypatch.setattr(streamed_images, "_memory", lambda: memory - 1)
    with pytest.raises(ValueError, match="8 images of 6x6x3 need .* stream=True"):
        load(tmp_path)
    monkeypatch.setattr(streamed_images, "_memory", lambda: memory)
    assert len(load(tmp_path)) == 8
    monkeypatch.setattr(streamed_images, "_memory", lambda: 0)
    assert load(tmp_path, image_size=3).images.shape == (8, 3, 3, 3)


def test_links_that_lead_in_a_circle_end(tmp_path):
    filled(tmp_path / "own" / "train", ["a", "b"])
    (tmp_path / "own" / "train" / "a" / "again").symlink_to(tmp_path / "own")
    assert "again is a link to a folder" in refusal(tmp_path / "own")
    (tmp_path / "own" / "train" / "a" / "again").unlink()
    (tmp_path / "own" / "train" / "a" / "self.png").symlink_to("self.png")
    assert "self.png" in refusal(tmp_path / "own")
    (tmp_path / "own" / "train" / "a" / "self.png").unlink()
    (tmp_path / "own" / "train" / "c").symlink_to("c")
    assert "cannot be read" in refusal(tmp_path / "own")
    (tmp_path / "own" / "train" / "c").unlink()
    (tmp_path / "own" / "train" / "a" / "gone.png").symlink_to("nowhere.png")
    assert "gone.png is no file, or a link that leads nowhere" in refusal(tmp_path / "own")


def test_links_to_files_and_to_classes_are_followed(tmp_path):
    written = filled(tmp_path / "elsewhere", ["a"], count=2)
    (tmp_path / "own" / "train" / "b").mkdir(parents=True)
    (tmp_path / "own" / "train" / "a").symlink_to(tmp_path / "elsewhere" / "a")
    (tmp_path / "own" / "train" / "b" / "0.png").symlink_to(tmp_path / "elsewhere" / "a" / "1.png")
    np.testing.assert_array_equal(load(tmp_path / "own").images, written[[0, 1, 1]])


@pytest.mark.parametrize("name", ["cifar-10-batches-py", "data_batch_1"])
def test_cifar_of_torchvision_is_another_data_set(tmp_path, name):
    filled(tmp_path, ["a", "b"])
    (tmp_path / name).mkdir()
    said = refusal(tmp_path)
    assert name in said and "torchvision" in said and "dataset=cifar10" in said
