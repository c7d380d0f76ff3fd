"""What a program becomes where it is compiled for: a CPU, a GPU or a TPU.

A program may be traced in a process and compiled for a platform that the process does not have
(`jax.export`, ahead-of-time lowering), so what it is to be cannot follow from the devices of the
process. `for_platform` writes the forms down, and of the lowered program only one is left.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax.extend import core

Result = TypeVar("Result")


def for_platform(
    *args: Any,
    other: Callable[..., Result],
    cpu: Callable[..., Result] | None = None,
    tpu: Callable[..., Result] | None = None,
) -> Result:
    """Computes the form of the platform that the program is compiled for, or else `other(*args)`.

    Inside a transformation all forms are traced, so all must be right under it, and give the same
    structure, shapes and dtypes; one is lowered. Outside of any the process decides.

    A derivative of the result would keep what each form needs: functions that are differentiated
    say how in a `jax.custom_vjp` around it.

    Args:
      *args: pytrees of arrays. What the functions capture beside them may be traced, too.
      other: for all platforms without a form of their own.
      cpu: for CPUs.
      tpu: for TPUs.
    """
    forms = {"cpu": cpu, "tpu": tpu}
    given = {platform: form for platform, form in forms.items() if form is not None}
    return jax.lax.platform_dependent(*args, default=other, **given)


def of_process() -> str:
    """Where this process computes by default: "cpu", "gpu" or "tpu".

    For what is decided outside of any trace, such as how many examples are sent to the device at a
    time; what a program is to be `for_platform` decides.
    """
    return jax.default_backend()


def parameters_on_cpu(equation: core.JaxprEqn) -> list[Any]:
    """The parameters of an equation; of a choice by the platform, the program for CPUs alone."""
    chosen_for = equation.params.get("branches_platforms")
    if chosen_for is None:
        return list(equation.params.values())
    return [
        branch
        for branch, names in zip(equation.params["branches"], chosen_for, strict=True)
        if names is None or "cpu" in names
    ][:1]
