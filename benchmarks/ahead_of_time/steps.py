"""The train steps that are compiled: what tells one from another, and the options it is made of."""

import re
from typing import Any

from benchmarks.ahead_of_time import targets
from benchmarks.method_work import METHODS
from robustjax.errors import UserError
from robustjax.models import flops

Row = dict[str, Any]
KEY = (
    "target", "model", "method", "precision", "batch_per_chip", "options", "steps", "image_size",
)  # fmt: skip
"""What tells two rows apart, beside the versions."""

STEPS_OF_METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "standard": ("standard", {}),
    "trades": ("trades", {}),
    "mart": ("mart", {}),
    # As accelerators do where nothing is said; the operations of another loop cannot be counted.
    "fat_trades": ("fat_trades", {"early_stop": "scan"}),
    # launch/trades_awp.flags
    "trades_awp": ("trades", {"awp_gamma": 0.005}),
}
"""What --methods accepts -> the method, and options of launch/train.py beside it."""

PRECISIONS = ("bfloat16", "float32")


def config(row: Row) -> dict[str, Any]:
    """The fields of `TrainConfig` of a row's step, with the batch of all chips."""
    method, more = STEPS_OF_METHODS[row["method"]]
    return {
        "model": row["model"],
        "method": method,
        "precision": row["precision"],
        "steps": row["steps"],
        "batch_size": row["batch_per_chip"] * targets.parse(row["target"]).chips,
        "schedule": "constant",
        # As CIFAR's images are; the names of data sets are not looked at here.
        "augmentation": "crop4-flip",
        **more,
        **parse_options(row["options"]),
    }


def parse_options(text: str) -> dict[str, Any]:
    """Options of launch/train.py that save memory.

    Args:
      text: "plain", or "remat" and "microbatch=N", one or both joined by "+".

    Raises:
      UserError: the text is not of this form.
    """
    found: dict[str, Any] = {}
    for part in [] if text == "plain" else text.split("+"):
        size = re.fullmatch(r"microbatch=([1-9]\d{0,8})", part)
        if part == "remat":
            found["remat"] = True
        elif size:
            found["microbatch"] = int(size[1])
        else:
            raise UserError(
                f"--options={text}: accepted are plain, remat, microbatch=N, microbatch=N+remat"
            )
    return found


def floor(row: Row) -> float:
    """Operations a chip that the step consists of, before anything is padded."""
    method, more = STEPS_OF_METHODS[row["method"]]
    work = METHODS[method]
    units = work.units(row["steps"]) + (3 * work.outer_passes if more.get("awp_gamma") else 0)
    side = row["image_size"]
    return units * flops.forward(row["model"], (side, side, 3)) * row["batch_per_chip"]
