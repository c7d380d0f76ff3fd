import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import data, platforms
from robustjax.data import Augmentation, default_augmentation, to_float

augment = jax.jit(data.augment, static_argnames=("crop_padding", "padding_mode", "flip"))


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def distinct_images(count, height=6, width=7, channels=2):
    """Images in which every pixel differs from every other and from zero."""
    values = np.arange(1, count * height * width * channels + 1, dtype=np.float32)
    return (values / values.size).reshape(count, height, width, channels)


def candidates(image, padding, mode, flip):
    """Every result that the augmentation may give, by (top, left, flipped)."""
    height, width, _ = image.shape
    mode = {"zero": "constant", "reflect": "reflect"}[mode]
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)), mode=mode)
    results = {}
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            crop = padded[top : top + height, left : left + width]
            results[top, left, False] = crop
            if flip:
                results[top, left, True] = np.flip(crop, axis=1)
    return results


@pytest.mark.parametrize(
    ("padding", "mode", "flip"),
    [(0, "zero", True), (2, "zero", False), (2, "zero", True), (2, "reflect", True)],
)
def test_every_result_is_a_crop_and_every_crop_is_equally_likely(padding, mode, flip):
    count = 1500
    images = distinct_images(count)
    results = np.asarray(
        augment(keys(count), images, crop_padding=padding, padding_mode=mode, flip=flip)
    )
    assert results.shape == images.shape and results.dtype == np.float32
    occurrences = {}
    for image, result in zip(images, results, strict=True):
        matches = [
            choice
            for choice, expected in candidates(image, padding, mode, flip).items()
            if np.array_equal(expected, result)
        ]
        assert len(matches) == 1
        occurrences[matches[0]] = occurrences.get(matches[0], 0) + 1
    number = (2 * padding + 1) ** 2 * (2 if flip else 1)
    assert len(occurrences) == number
    expected = count / number
    assert max(abs(c - expected) for c in occurrences.values()) < 5 * np.sqrt(expected) + 1e-9


@pytest.mark.parametrize(
    ("padding", "mode", "dtype"),
    [(1, "zero", np.uint8), (4, "zero", np.float32), (3, "reflect", np.float32)],
)
def test_a_tpu_crops_the_same_without_a_loop_over_the_images(padding, mode, dtype, monkeypatch):
    images = (255 * distinct_images(40)).astype(dtype)
    options = {"crop_padding": padding, "padding_mode": mode, "flip": True}
    crop = functools.partial(data.augment, **options)
    text = jax.export.export(jax.jit(crop), platforms=["tpu"])(keys(40), images).mlir_module()
    # Slices at positions that differ are a gather, which the compiler makes a loop.
    assert "stablehlo.gather" not in text and "stablehlo.dynamic_slice" not in text
    here = np.asarray(crop(keys(40), images))
    monkeypatch.setattr(platforms, "for_platform", lambda *args, tpu, other: tpu(*args))
    there = np.asarray(crop(keys(40), images))
    assert there.dtype == dtype
    np.testing.assert_array_equal(there, here)


def test_an_example_depends_on_its_own_key_alone():
    images, own_keys = distinct_images(6), keys(6)
    options = {"crop_padding": 2, "padding_mode": "reflect", "flip": True}
    whole = np.asarray(augment(own_keys, images, **options))
    order = np.array([4, 2, 0, 5, 1, 3])
    reordered = augment(own_keys[order], images[order], **options)
    np.testing.assert_array_equal(reordered, whole[order])
    changed = images.copy()
    changed[:3] = 0
    np.testing.assert_array_equal(augment(own_keys, changed, **options)[3:], whole[3:])
    same_key = jnp.stack([own_keys[0]] * 6)
    same_image = np.stack([images[0]] * 6)
    results = np.asarray(augment(same_key, same_image, **options))
    np.testing.assert_array_equal(results, np.stack([results[0]] * 6))


def test_crop_and_flip_are_independent_and_so_are_both_offsets():
    count = 2000
    image = distinct_images(1)[0]
    table = candidates(image, 1, "zero", True)
    results = np.asarray(
        augment(keys(count, 3), np.stack([image] * count), crop_padding=1, flip=True)
    )
    choices = np.array(
        [next(c for c, expected in table.items() if np.array_equal(expected, r)) for r in results],
        float,
    )
    correlation = np.corrcoef(choices.T)
    assert np.all(np.abs(correlation - np.eye(3)) < 5 / np.sqrt(count))


def test_nothing_switched_on_changes_nothing():
    images = distinct_images(3)
    np.testing.assert_array_equal(augment(keys(3), images, crop_padding=0, flip=False), images)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop_padding": -1}, "crop_padding=-1: accepted are"),
        ({"crop_padding": 1.5}, "crop_padding=1.5: accepted are whole numbers"),
        ({"padding_mode": "refelct"}, "padding_mode=refelct: .*did you mean 'reflect'"),
        ({"flip": "no"}, "flip=no: accepted are True, False"),
        ({"keys": None}, "keys=NoneType: accepted are 3 typed PRNG keys"),
        ({"padding_mode": "edge"}, "padding_mode=edge: accepted are zero, reflect"),
        ({"padding_mode": "reflect", "crop_padding": 6}, "6x7 may be padded by 0 to 5 .*not by 6"),
        ({"crop_padding": 1_000_000}, "6x7 may be padded by 0 to 5 .*not by 1000000"),
        ({"images": np.zeros((3, 6, 7))}, "B, H, W, C"),
        ({"keys": keys(2)}, "3 typed PRNG keys"),
        ({"keys": jnp.zeros((3, 2), jnp.uint32)}, r"keys=uint32\[.*typed PRNG keys"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    arguments = {"keys": keys(3), "images": distinct_images(3), "crop_padding": 1, "flip": False}
    with pytest.raises(ValueError, match=message):
        data.augment(**{**arguments, **change})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", Augmentation()),
        ("crop4", Augmentation(4)),
        ("reflect12", Augmentation(12, "reflect")),
        ("flip", Augmentation(flip=True)),
        ("crop4-flip", Augmentation(4, "zero", True)),
        ("reflect4-flip", Augmentation(4, "reflect", True)),
    ],
)
def test_flag_text_goes_there_and_back(text, expected):
    assert Augmentation.parse(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    "text",
    [None, 4, "", "crop", "crop0", "crop-4", "flip-crop4", "crop4flip", "crop4-", "-flip", "Flip"],
)
def test_another_text_is_refused(text):
    with pytest.raises(ValueError, match=r"augmentation=.*: accepted are .*crop4-flip"):
        Augmentation.parse(text)


def test_defaults_of_the_data_sets():
    assert str(default_augmentation("cifar10")) == "crop4-flip"
    assert str(default_augmentation("cifar100")) == "crop4-flip"
    for name in ("svhn", "mnist", "digits", "npz", "imagenette"):
        assert str(default_augmentation(name)) == "none"


def test_the_fields_are_the_arguments_and_bytes_stay_bytes():
    options = dataclasses.asdict(Augmentation.parse("reflect1-flip"))
    images = np.arange(40, dtype=np.uint8).reshape(2, 5, 4, 1)
    result = augment(keys(2), images, **options)
    assert result.shape == images.shape and result.dtype == np.uint8


def test_to_float_divides_by_255():
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    expected = np.array([v / 255 for v in range(256)], np.float32).reshape(images.shape)
    for function in (to_float, jax.jit(to_float)):
        result = function(images)
        assert result.dtype == jnp.float32
        np.testing.assert_array_max_ulp(np.asarray(result), expected, 1)
        assert result.min() == 0 and result.max() == 1


def test_to_float_leaves_floats_as_they_are_and_refuses_anything_else():
    floats = np.random.default_rng(0).uniform(size=(1, 2, 2, 1)).astype(np.float32)
    np.testing.assert_array_equal(to_float(floats), floats)
    with pytest.raises(ValueError, match=r"images=int32\[.*: accepted are uint8.*float32"):
        to_float(np.zeros((1, 2, 2, 1), np.int32))
