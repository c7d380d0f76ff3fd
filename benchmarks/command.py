"""The command line: which benchmarks there are, and how one of them is started."""

import importlib
import os
import sys
from collections.abc import Sequence

from robustjax.cli import app

BENCHMARKS = {
    "train_step": "benchmarks.train_step",
    "profile": "benchmarks.step_profile",
    "memory": "benchmarks.memory",
    "autoattack": "benchmarks.autoattack",
    "layers": "benchmarks.layers",
    "beside_autoattack": "benchmarks.beside_autoattack",
    "early_stopping": "benchmarks.early_stopping",
    "pipeline": "benchmarks.pipeline",
    "compilation": "benchmarks.compilation",
    "scaling": "benchmarks.scaling",
    "pods": "benchmarks.pods",
    "channels": "benchmarks.channels",
    "gpu_plan": "benchmarks.gpu_plan",
    "record_table": "benchmarks.record_table",
}
"""Name -> module with DESCRIPTION, GROUPS, define_flags() and main()."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark that the first argument names; never returns.

    Args:
      arguments: the command line after the program's name; sys.argv's if None.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in app.HELP:
        print(describe())
        sys.exit(0)
    name, *rest = arguments
    if name not in BENCHMARKS:
        print(
            f"error: {name!r} is no benchmark; there are {', '.join(BENCHMARKS)} "
            "(python -m benchmarks --help)",
            file=sys.stderr,
        )
        sys.exit(1)
    # JAX would otherwise take most of a GPU's memory before PyTorch gets any.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    # Its helper processes would still be starting while the first rounds are timed.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    benchmark = importlib.import_module(BENCHMARKS[name])
    app.run(
        benchmark.main,
        benchmark.define_flags,
        description=benchmark.DESCRIPTION,
        groups=benchmark.GROUPS,
        arguments=rest,
    )


def describe() -> str:
    """What --help prints: the benchmarks and what each measures."""
    lines = [
        "python -m benchmarks NAME [--flags]      NAME --help explains a benchmark's flags",
        "",
    ]
    for name, module in BENCHMARKS.items():
        summary = importlib.import_module(module).DESCRIPTION.strip().splitlines()[0]
        lines.append(f"  {name:<17} {summary}")
    lines += [
        "",
        "Every result is a ratio within one run, from alternating rounds; seconds of different",
        "runs do not compare. benchmarks/requirements.txt lists what is needed beside the library.",
    ]
    return "\n".join(lines)
