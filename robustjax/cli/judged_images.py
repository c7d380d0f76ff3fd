"""The flags that say which images a network is judged on, of every command that judges one."""

from __future__ import annotations

from typing import Any

from absl import flags

from robustjax.cli import checks
from robustjax.errors import UserError

DATA = ("dataset", "data_dir", "split", "image_size")
"""The flags of `define_data_flags`, for --help."""


def define_data_flags(values: flags.FlagValues, *, dataset: bool = True) -> None:
    """Defines them; each is as in training if it is not given.

    Args:
      values: where they are defined.
      dataset: whether --dataset is among them; not where the command has one that does more.
    """
    if dataset:
        flags.DEFINE_string(
            "dataset",
            None,
            "another data set than that of training, whose classes have the same numbers",
            flag_values=values,
        )
    flags.DEFINE_string(
        "data_dir", "", "where the data lie; as in training if not given", flag_values=values
    )
    flags.DEFINE_string("split", "test", "of the data set, as train or extra", flag_values=values)
    flags.DEFINE_integer(
        "image_size",
        0,
        "the middle square of each image is resized to so many pixels on a side; as in training if "
        "not given",
        flag_values=values,
    )


def data_given(values: flags.FlagValues) -> dict[str, Any]:
    """What the flags say, as `load_network` takes it.

    Raises:
      ValueError: a value is not accepted; names the flag.
    """
    if not values.split:
        raise UserError("--split= is empty: accepted are names of splits, as test or train")
    checks.require_counts(image_size=0)
    return {
        "dataset": values.dataset or "",
        "data_dir": values.data_dir,
        "split": values.split,
        "image_size": values.image_size,
    }
