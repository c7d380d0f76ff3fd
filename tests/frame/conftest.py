"""A copy of what bootstrapping needs, and an environment without traces of an outer make."""

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAKE_VARIABLES = (
    "ARGS",
    "CI",
    "EXTRAS",
    "MAKEFLAGS",
    "MAKELEVEL",
    "MAKEOVERRIDES",
    "MFLAGS",
    "PYTHON",
)


@pytest.fixture
def root() -> Path:
    """The checkout under test; to be read only."""
    return ROOT


@pytest.fixture
def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in MAKE_VARIABLES}


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A small checkout of its own, in a path with a space."""
    directory = tmp_path / "a checkout"
    (directory / "robustjax").mkdir(parents=True)
    shutil.copytree(ROOT / "tools", directory / "tools", ignore=shutil.ignore_patterns("__*"))
    shutil.copy(ROOT / "robustjax" / "__init__.py", directory / "robustjax")
    for name in ("setup.py", "requirements.txt", "pyproject.toml", "Makefile", "LICENSE"):
        shutil.copy(ROOT / name, directory)
    (directory / "README.md").write_text("robustjax\n")
    return directory
