"""What a benchmark leaves behind: a JSON file that says what was measured, on what, and how."""

import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax

from robustjax.files import write_whole

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch")


def environment() -> dict[str, Any]:
    """The device, the versions, the command, and how busy the machine was when it began."""
    return {
        "command": shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _commit(),
        "device": jax.devices()[0].device_kind,
        "platform": jax.default_backend(),
        "processor": _processor(),
        "cores": usable_cores(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def describe(environment: dict[str, Any]) -> str:
    """The environment in two lines for the terminal."""
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    device = environment["device"]
    if environment["platform"] == "cpu":
        device = f"CPU {environment['processor']}"
    load = environment["load_average"][0]
    return (
        f"{device}, {environment['cores']} cores, load {load:g} before\n"
        f"Python {environment['python']}, {versions}"
    )


def usable_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def write(path: str, environment: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Writes the rows so far; the file is always whole.

    Args:
      path: of the JSON file; "" writes nothing.
      environment: of `environment()`.
      rows: one per measurement.
    """
    if path:
        content = {"environment": environment, "rows": rows}
        write_whole(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of this checkout, marked where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
