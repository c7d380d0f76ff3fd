"""Converts the 500K pseudo-labelled images of RST to an .npz that --extra_data reads.

    python tools/convert_rst_pickle.py ti_500K_pseudo_labeled.pickle rst_500k.npz

RST (Carmon et al., 2019) publishes them as a pickle: a dictionary of `data`, uint8
[500000, 32, 32, 3], and `extrapolated_targets`, integers [500000]. A pickle may run any program
when it is read. The library never reads one; this script stands outside of it, and reads nothing
but NumPy arrays and plain containers. Even so it belongs on a machine, or in a container, that has
nothing to lose.
"""

import pickle
import sys

import numpy as np

HARMLESS = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("_codecs", "encode"),
}


class ArraysOnly(pickle.Unpickler):
    """Reads a pickle of NumPy arrays, and refuses to look up anything else."""

    def find_class(self, module: str, name: str) -> object:
        """See `pickle.Unpickler.find_class`."""
        if (module, name) not in HARMLESS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no NumPy array")
        return super().find_class(module, name)


def convert(source: str, target: str) -> int:
    """Writes the images and labels of RST's pickle; returns how many there are.

    Raises:
      ValueError: the file is not such a pickle, or the target's name does not end in .npz.
    """
    if not target.endswith(".npz"):
        raise ValueError(f"{target}: the result is an .npz file; give it a name that ends in .npz")
    try:
        with open(source, "rb") as file:
            content = ArraysOnly(file, encoding="latin1").load()
    except OSError:
        raise
    except Exception as error:
        # What is no pickle, or a damaged one, raises whatever its bytes happen to lead to.
        raise ValueError(f"{source} was not read: {error}") from error
    if not isinstance(content, dict) or not {"data", "extrapolated_targets"} <= set(content):
        raise ValueError(f"{source} has no arrays 'data' and 'extrapolated_targets'")
    images, labels = np.asarray(content["data"]), np.asarray(content["extrapolated_targets"])
    whole_numbers = np.issubdtype(labels.dtype, np.integer) and labels.shape == images.shape[:1]
    if images.dtype != np.uint8 or images.ndim != 4 or not whole_numbers:
        raise ValueError(
            f"{source}: data is {images.dtype} {list(images.shape)} and extrapolated_targets "
            f"{labels.dtype} {list(labels.shape)}; expected are uint8 [M, H, W, C] and integers [M]"
        )
    np.savez_compressed(target, images=images, labels=labels.astype(np.int32))
    return len(images)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        print(f"{sys.argv[2]}: {convert(*sys.argv[1:])} images")
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
