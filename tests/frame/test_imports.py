"""What importing a part brings in: the seconds are those of libraries, so these are looked at."""

import subprocess
import sys

import pytest

# What takes longest to import, each some tenths of a second.
LARGE = {
    "absl", "equinox", "flax", "flax.nnx", "jax", "matplotlib", "optax", "orbax", "scipy",
    "sklearn", "tensorflow", "tensorflow_datasets", "torch",
}  # fmt: skip
OF_A_NETWORK = {"jax", "flax", "absl"}
OF_A_RUN = {*OF_A_NETWORK, "optax", "orbax"}

# In this order in one process: each may use what those before it do.
ALLOWED = {
    "robustjax": set(),
    "robustjax.installed": set(),
    "robustjax.cli.start": set(),
    "robustjax.losses": {"jax"},
    "robustjax.attacks": {"jax"},
    "robustjax.methods": {"jax"},
    "robustjax.data": {"jax"},
    "robustjax.models": OF_A_NETWORK,
    "robustjax.cli.train": OF_A_RUN,
    "robustjax.cli.evaluate": OF_A_RUN,
    "robustjax.cli.verify": OF_A_RUN,
    "robustjax.cli.export_weights": OF_A_RUN,
}


@pytest.fixture(scope="module")
def imported():
    """Part -> the large libraries that are there once it is imported."""
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    print(name, *sys.modules)\n"
    )
    command = [sys.executable, "-c", program, *ALLOWED]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line.split() for line in found.stdout.splitlines()]
    return {name: set(modules) & LARGE for name, *modules in lines}


@pytest.mark.parametrize("name", ALLOWED)
def test_a_part_imports_no_library_that_it_can_do_without(imported, name):
    assert imported[name] <= ALLOWED[name]
