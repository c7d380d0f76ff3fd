"""Fixed, seed-free, class-balanced ways of cutting a data set in two."""

import dataclasses
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from robustjax.arguments import is_whole, refusal, require_whole, shown
from robustjax.data.dataset import Dataset
from robustjax.data.streamed_images import StreamedImages
from robustjax.errors import UserError

DEFAULT_HOLDOUT = 1000


def stratified_positions(labels: np.ndarray, size: int) -> np.ndarray:
    r"""Choose `size` positions that represent every class in proportion, without randomness.

    Class c with n_c of the N examples gets ⌊size · n_c / N⌋ of them, and the largest remainders one
    more (ties to the lower class). Of the n examples of a class, in the order of the data set, the
    t chosen ones are those numbered ⌊(j + ½) n / t⌋, j = 0..t−1: evenly spaced.

    Args:
        labels: Classes, int [N].
        size: Number of positions, 0..N.

    Returns:
        The positions in increasing order, int64 [size].

    Raises:
        ValueError: If `size` does not lie in 0..N.
    """
    require_whole("size", size, 0, len(labels), f"0 to {len(labels)}, the examples there are")
    if size == 0:
        return np.zeros(0, np.int64)
    classes, counts = np.unique(labels, return_counts=True)
    whole, remainder = np.divmod(size * counts, len(labels))
    fullest = np.argsort(-remainder, kind="stable")[: size - whole.sum()]
    whole[fullest] += 1
    chosen = []
    for label, count, take in zip(classes, counts, whole, strict=True):
        if take:
            spaced = (2 * np.arange(take) + 1) * count // (2 * take)
            chosen.append(np.flatnonzero(labels == label)[spaced])
    return np.sort(np.concatenate(chosen))


def default_holdout(num_train: int) -> int:
    """Hold-out size when none is asked for: 1000 examples, or a tenth of a smaller set."""
    return min(DEFAULT_HOLDOUT, num_train // 10)


def hold_out(dataset: Dataset, size: int) -> tuple[Dataset, Dataset | None]:
    """Cut a fixed, class-balanced slice off a training set.

    The slice depends on the data set and on `size` alone, never on a seed, so runs with different
    seeds choose their best checkpoint on the same images (see `stratified_positions`).

    Args:
        dataset: The training set, N examples.
        size: Number of examples to hold out, 0..N - 1.

    Returns:
        The remaining N - size examples and the hold-out, both in the order of `dataset`; with
        `size` 0 the data set itself and None.

    Raises:
        ValueError: If `size` leaves no example to train on, or is negative.
    """
    if not is_whole(size) or not 0 <= size < len(dataset):
        raise UserError(
            f"holdout={shown(size)}: accepted are 0 to {len(dataset) - 1} for {dataset.name!r}, "
            f"whose training set has {len(dataset)} examples"
        )
    if size == 0:
        return dataset, None
    held = np.zeros(len(dataset), bool)
    held[stratified_positions(dataset.labels, size)] = True
    held_out = select(dataset, held)
    return select(dataset, ~held), dataclasses.replace(held_out, images=np.asarray(held_out.images))


def select(dataset: Dataset, rows: np.ndarray) -> Dataset:
    """Keep some examples.

    Args:
        dataset: N examples.
        rows: A mask, bool [N], or positions, int [M].

    Returns:
        A data set of copies of the chosen examples; of streamed images nothing is read.
    """
    images: Any = dataset.images
    chosen: Any = images.select(rows) if isinstance(images, StreamedImages) else images[rows]
    return dataclasses.replace(dataset, images=chosen, labels=dataset.labels[rows])


def first(dataset: Dataset, size: int) -> Dataset:
    """The first examples of a data set, in its order; warns where that order goes by the class.

    Args:
        dataset: What to cut.
        size: How many, 1..N.

    Raises:
        ValueError: If there are not as many.
    """
    accepted = f"1 to {len(dataset)}, the examples of {dataset.name!r}"
    require_whole("size", size, 1, len(dataset), accepted)
    there, found = (len(np.unique(labels)) for labels in (dataset.labels, dataset.labels[:size]))
    if found < min(size, there) / 2:
        warnings.warn(
            f"the first {size} of {dataset.name!r} are of {found} of its {there} classes, for it "
            "is ordered by them; a larger number, or a data set in another order, has more",
            stacklevel=2,
        )
    return select(dataset, np.arange(size))


def only_classes(dataset: Dataset, classes: tuple[int, ...]) -> Dataset:
    """The examples of some classes, renumbered from 0 in the order in which they are named.

    Args:
        dataset: What to choose from.
        classes: At least two, all different.

    Raises:
        ValueError: If they are not such classes, or none has an example.
    """
    classes = tuple(classes) if isinstance(classes, Iterable) else (classes,)
    known = all(is_whole(label) and 0 <= label < dataset.num_classes for label in classes)
    if len(classes) < 2 or len(set(classes)) < len(classes) or not known:
        accepted = (
            f"two or more different classes of {dataset.name!r}, 0 to {dataset.num_classes - 1}"
        )
        raise refusal("classes", shown(classes), accepted)
    number = np.full(dataset.num_classes, -1, np.int32)
    number[list(classes)] = np.arange(len(classes))
    chosen = np.flatnonzero(number[dataset.labels] >= 0)
    if not len(chosen):
        raise UserError(f"{dataset.name!r} has no example of the classes {classes}")
    names = tuple(dataset.class_names[label] for label in classes) if dataset.class_names else ()
    kept = select(dataset, chosen)
    return Dataset(dataset.name, kept.images, number[kept.labels], len(classes), names)
