"""The embedded data set: scikit-learn's 1797 handwritten digits, read without any download."""

import importlib.util
from pathlib import Path

import numpy as np

from robustjax.arguments import did_you_mean
from robustjax.data.dataset import DataError, Dataset
from robustjax.data.splits import select, stratified_positions

NUM_TEST = 360


def load_digits(split: str) -> Dataset:
    """Load the 8x8 digits that come inside scikit-learn.

    The set has no split of its own. Here 360 test images represent the ten classes in proportion
    and lie evenly spaced in the order of the file (`stratified_positions`); the other 1437 are for
    training. Pixels are 0..16 in the file and become round(255 v / 16).

    Args:
        split: "train" (1437 images) or "test" (360).

    Returns:
        Images uint8 [N, 8, 8, 1], ten classes.

    Raises:
        DataError: If there is no such split, or scikit-learn is not installed.

    Source: Alpaydin and Kaynak (1998), Optical Recognition of Handwritten Digits, UCI.
    """
    if split not in ("train", "test"):
        raise DataError(
            f'dataset=digits: its splits are "train" and "test", not {split!r:.100}'
            f"{did_you_mean(split, ('train', 'test'))}"
        )
    pixels, labels = _read()
    images = np.round(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    everything = Dataset("digits", images, labels, 10, tuple(str(digit) for digit in range(10)))
    test = np.zeros(len(labels), bool)
    test[stratified_positions(labels, NUM_TEST)] = True
    return select(everything, test if split == "test" else ~test)


def _read() -> tuple[np.ndarray, np.ndarray]:
    """Pixels float64 [N, 64] in 0..16, and labels int32 [N], in the order of the file.

    scikit-learn's file is read where scikit-learn lies, without importing it: that takes longer
    than all else between the imports of a training and its first step.
    """
    package = importlib.util.find_spec("sklearn")
    if package is None:
        raise DataError(
            "dataset=digits comes with scikit-learn, which is not installed: "
            "pip install scikit-learn"
        )
    for folder in package.submodule_search_locations or ():
        path = Path(folder, "datasets", "data", "digits.csv.gz")
        if path.is_file():
            table = np.loadtxt(path, delimiter=",")
            return table[:, :-1], table[:, -1].astype(np.int32)
    from sklearn import datasets  # A version that keeps it elsewhere.

    source = datasets.load_digits()
    return source.data, source.target.astype(np.int32)
