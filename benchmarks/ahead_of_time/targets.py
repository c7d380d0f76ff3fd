"""TPU slices by the names under which they are rented, machines of GPUs, and what one chip is.

A slice's number counts TensorCores on v4 and v5p, two a chip, and chips on v5e and v6e; a machine's
counts GPUs. JAX has one device a chip on all of them, if v4's cores are asked for together
("megacore").
"""

import dataclasses
import importlib.util
import math
from pathlib import Path
from typing import Any

from robustjax.arguments import did_you_mean
from robustjax.errors import UserError

GIBIBYTE = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One chip of a generation, as its maker's specification has it.

    Attributes:
      cores_in_name: by how much a slice's number is larger than its chips.
      memory_gib: of a chip's memory.
      tera_flops: operations per second in bfloat16, in 10^12.
      matrix_units: how many of them, 128 × 128 entries each; 0 where that is not known, or they are
        no such.
      options: for libtpu, beside the topology.
      gpu: the file with XLA's description of it; "" of a TPU.
    """

    cores_in_name: int
    memory_gib: float
    tera_flops: float
    matrix_units: int = 0
    options: tuple[tuple[str, str], ...] = ()
    gpu: str = ""

    @property
    def hertz(self) -> float:
        """The clock with which its matrix units reach the specified rate; 0 if not known."""
        cycle = self.matrix_units * 2 * 128**2
        return self.tera_flops * 1e12 / cycle if cycle else 0.0

    @property
    def memory_bytes(self) -> int:
        """The memory of a chip in bytes."""
        return int(self.memory_gib * GIBIBYTE)


CHIPS = {
    "v4": Chip(2, 32, 275, matrix_units=8, options=(("chip_config_name", "megacore"),)),
    "v5e": Chip(1, 16, 197, matrix_units=4),
    "v5p": Chip(2, 95, 459, matrix_units=8),
    "v6e": Chip(1, 32, 918),
    "h100": Chip(1, 84_942_979_072 / GIBIBYTE, 989, gpu="h100.txtpb"),
}
"""Generation -> its chip."""

_SHAPES = {
    "v4": ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16"),
    "v5e": ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
    "v5p": ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16"),
    "v6e": ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
    # Machines, their processes, and the GPUs of each.
    "h100": ("1x1x1", "1x1x2", "1x1x4", "1x1x8"),
}


@dataclasses.dataclass(frozen=True)
class Target:
    """A slice, or a machine of GPUs.

    Attributes:
      name: e.g. "v4-256".
      topology: the compiler's name of it, e.g. "v4:4x4x8".
      chips: how many it has, and devices in JAX.
      chip: one of them.
    """

    name: str
    topology: str
    chips: int
    chip: Chip

    @property
    def compiler(self) -> str:
        """What compiles for it, as `pip install 'robustjax[...]'` has it: "tpu" or "cuda"."""
        return "cuda" if self.chip.gpu else "tpu"

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages with that compiler, of which one is enough."""
        return ("jax_cuda12_plugin", "jax_cuda13_plugin") if self.chip.gpu else ("libtpu",)

    def description(self) -> dict[str, Any]:
        """The arguments of `jax.experimental.topologies.get_topology_desc`."""
        if not self.chip.gpu:
            options = dict(self.chip.options)
            return {"platform": "tpu", "topology_name": self.topology, **options}
        _, shape = self.topology.split(":")
        described = Path(__file__).with_name(self.chip.gpu).read_text(encoding="utf-8")
        options = {"topology": shape, "target_config": described}
        return {"platform": "cuda", "topology_name": "", **options}


def _slices() -> dict[str, Target]:
    found = {}
    for generation, shapes in _SHAPES.items():
        chip = CHIPS[generation]
        for shape in shapes:
            chips = math.prod(map(int, shape.split("x")))
            name = f"{generation}-{chips * chip.cores_in_name}"
            found[name] = Target(name, f"{generation}:{shape}", chips, chip)
    return found


TARGETS = _slices()
"""Name of a slice -> the slice."""


def parse(name: str) -> Target:
    """The slice or machine of a name.

    Raises:
      UserError: there is none of this name.
    """
    if name not in TARGETS:
        hint = did_you_mean(name, tuple(TARGETS))
        raise UserError(f"--targets={name}: accepted are {', '.join(TARGETS)}{hint}")
    return TARGETS[name]


def installed(package: str) -> bool:
    """Whether a package is there to be imported."""
    return importlib.util.find_spec(package) is not None


def require_compiler(target: Target) -> None:
    """Refuses a target whose compiler is not installed.

    Raises:
      UserError: says what installs it.
    """
    if not any(map(installed, target.packages)):
        names = " or ".join(target.packages)
        raise UserError(
            f"--targets={target.name}: {names} is not installed, which has the compiler: pip "
            f"install 'robustjax[{target.compiler}]', or make install EXTRAS=test,{target.compiler}"
        )
