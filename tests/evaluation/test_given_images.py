"""A file of adversarial images as an attack: of these images, in the ball, and judged anew."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks, evaluation
from robustjax.data import Dataset
from robustjax.evaluation.given_images import ImageFile

EPSILON = 0.25
THREAT = attacks.ThreatModel("linf", EPSILON)
IMAGES = np.random.default_rng(0).uniform(0.3, 0.7, (7, 2, 2, 1)).astype(np.float32)
MEANS = IMAGES.mean(axis=(1, 2, 3), dtype=np.float64)
LABELS = np.array([1, 1, 0, 1, 0, 0, 1], np.int32)
DATA = Dataset("means", IMAGES, LABELS, 2)


def brighter_than_half(images):
    """Class 1 where the mean is above 1/2: the most that a ball can do is to move every pixel."""
    mean = images.mean(axis=(1, 2, 3))
    return jnp.stack([0.5 - mean, mean - 0.5], axis=-1)


def worst_case():
    """The images that this network is most wrong about, within the ball."""
    return np.clip(IMAGES + EPSILON * np.where(LABELS == 0, 1, -1)[:, None, None, None], 0, 1)


def withstood(images):
    """What a person reckons by hand: right clean, and right about these."""
    means = np.asarray(images, np.float64).mean(axis=(1, 2, 3))
    labels = LABELS[: len(means)]
    return ((means > 0.5) == labels) & ((MEANS[: len(means)] > 0.5) == labels)


def evaluated(path, dataset=DATA, threat=THREAT, **options):
    key = jax.random.key(0)
    return evaluation.evaluate(
        ["clean", str(path)], key, brighter_than_half, dataset, threat, batch_size=3, **options
    )


def saved(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("shift", [0.0, 0.1, EPSILON])
def test_the_network_judges_the_images(tmp_path, shift):
    images = IMAGES + shift / EPSILON * (worst_case() - IMAGES)
    path = saved(tmp_path / "mine.npz", images=images.astype(np.float64), labels=LABELS)
    score = evaluated(path)[str(path)]
    np.testing.assert_array_equal(score.correct, withstood(images))
    assert score.settings["norm"] == "linf" and score.settings["epsilon"] == EPSILON
    assert score.settings["file"] == str(path) and len(score.settings["digest"]) == 16
    assert score.images is None


def test_bytes_count_as_256ths_of_the_box_and_the_file_may_be_a_value(tmp_path):
    images = np.round(255 * IMAGES).astype(np.uint8)
    path = saved(tmp_path / "mine.npz", images=images)
    key = jax.random.key(0)
    scores = evaluation.evaluate(
        [ImageFile(str(path))], key, brighter_than_half, DATA, THREAT, batch_size=3
    )
    np.testing.assert_array_equal(scores[str(path)].correct, withstood(images / 255))


def test_the_first_images_alone_will_do_and_more_are_left(tmp_path):
    path = saved(tmp_path / "few.npz", images=worst_case()[:4])
    assert len(evaluated(path)[str(path)].correct) == 4
    more = np.concatenate([worst_case(), worst_case()])
    path = saved(tmp_path / "more.npz", images=more, labels=np.concatenate([LABELS, LABELS]))
    np.testing.assert_array_equal(evaluated(path)[str(path)].correct, withstood(worst_case()))


OUTSIDE = worst_case()
OUTSIDE[3] = np.clip(OUTSIDE[3] - 0.01, 0, 1)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": OUTSIDE}, "1 of 7 images, the first of them number 3, lie outside"),
        ({"images": worst_case() * np.nan}, "7 of 7 images"),
        ({"images": worst_case()[::-1]}, "around the first 7 images of the data set"),
        ({"images": worst_case(), "labels": 1 - LABELS}, "its labels are not those"),
        ({"images": worst_case(), "clean_images": 1 - IMAGES}, "its clean_images are not"),
        ({"images": worst_case(), "labels": LABELS[:5]}, "7 images and 5 labels"),
        ({"images": worst_case()[:, :1]}, "its images are 1x2x1, those of the data set 2x2x1"),
        ({"images": worst_case()[..., 0]}, "accepted are uint8 in 0..255"),
        ({"images": np.zeros((7, 3, 32, 32))}, "channels first"),
        ({"images": np.zeros((7, 4, 32, 32))}, "channels first"),
        ({"images": worst_case().astype(int)}, "accepted are uint8"),
        ({"images": worst_case(), "labels": LABELS.astype(float)}, "labels=.*integers"),
        ({"pictures": worst_case()}, r"no array 'images'; it has \['pictures'\]"),
        ({"images": np.array([None])}, "pickle"),
    ],
)
def test_what_does_not_fit_is_one_clear_error_before_anything_is_run(tmp_path, arrays, message):
    path = saved(tmp_path / "mine.npz", **arrays)
    told = []
    with pytest.raises(ValueError, match=message) as error:
        evaluated(path, report=lambda *progress: told.append(progress))
    assert str(error.value).startswith(f"attack={path}") and not told


def test_a_digest_is_of_all_arrays(tmp_path):
    arrays = {"images": worst_case(), "labels": LABELS, "clean_images": IMAGES}
    digests = [
        ImageFile(str(saved(tmp_path / f"{count}.npz", **dict(list(arrays.items())[:count]))))
        .completed(THREAT, 2)
        .digest
        for count in (1, 2, 3, 3)
    ]
    assert len(set(digests)) == 3


@pytest.mark.parametrize("name", ["absent.npz", "notes.npz"])
def test_a_file_that_is_none_is_named(tmp_path, name):
    (tmp_path / "notes.npz").write_text("nothing")
    with pytest.raises(ValueError, match=f"attack=.*{name}"):
        evaluated(tmp_path / name)
