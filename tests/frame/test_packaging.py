"""setup.py, requirements.txt and CITATION.cff: one version, one list, and a wheel that imports."""

import ast
import os
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import robustjax
from robustjax import installed

ORDERED = [
    "jax", "jaxlib", "flax", "optax", "tensorflow-datasets", "chex", "orbax-checkpoint", "absl-py",
    "pytest",
]  # fmt: skip


@pytest.fixture
def arguments(root, monkeypatch) -> dict:
    """What setup.py hands to setuptools."""
    captured = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: captured.update(arguments))
    monkeypatch.chdir(root)
    runpy.run_path(str(root / "setup.py"))
    return captured


@pytest.fixture
def requirements(root) -> list[Requirement]:
    lines = (root / "requirements.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def names(lines) -> set[str]:
    return {canonicalize_name(Requirement(str(line)).name) for line in lines}


def test_requirements_hold_what_was_ordered_with_lower_bounds_only(requirements):
    assert set(ORDERED) <= names(requirements)
    for requirement in requirements:
        assert [bound.operator for bound in requirement.specifier] == [">="], str(requirement)


def test_the_oldest_libraries_are_those_of_the_lower_bounds(root, requirements):
    script = (root / ".ci" / "oldest").read_text()
    (edit,) = re.findall(r"(?m)^sed '(.*)' requirements.txt", script)
    command = ["sed", edit, root / "requirements.txt"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    pinned = [Requirement(line) for line in lines if line and not line.startswith("#")]
    for oldest, requirement in zip(pinned, requirements, strict=True):
        (bound,) = requirement.specifier
        assert str(oldest.specifier) == f"=={bound.version}"
        assert (oldest.name, oldest.marker) == (requirement.name, requirement.marker)


def test_setup_takes_each_requirement_once_for_the_library_or_for_the_tests(
    arguments, requirements
):
    library, tests = arguments["install_requires"], arguments["extras_require"]["test"]
    assert sorted(map(str, requirements)) == sorted(str(Requirement(r)) for r in library + tests)
    assert {"pytest", "hypothesis", "ruff", "mypy", "beartype"} <= names(tests)
    assert not names(library) & names(tests)
    assert set(tests) <= set(arguments["extras_require"]["dev"])


def test_the_extras_are_apart_from_the_core_and_all_has_every_one_of_any_machine(arguments):
    core, extras = names(arguments["install_requires"]), arguments["extras_require"]
    assert {"jax", "flax", "optax", "chex", "absl-py", "numpy", "scipy", "tqdm"} <= core
    assert {"data", "figures", "torch", "docs", "test", "all", "tpu", "cuda"} <= set(extras)
    for name in ("data", "figures", "torch"):
        assert not names(extras[name]) & core
        assert set(extras[name]) <= set(extras["all"])
    assert names(extras["data"]) | names(extras["figures"]) <= names(extras["test"])


def test_a_missing_module_is_said_of_the_extra_that_brings_it(arguments):
    distributions = metadata.packages_distributions()
    for module, extra in installed._EXTRA_OF.items():
        owners = {canonicalize_name(name) for name in distributions.get(module, [module])}
        assert owners & names(arguments["extras_require"][extra]), module


@pytest.mark.parametrize(("python", "version", "pairs"), [
    ("3.11", "0.12.8", True), ("3.12", "0.12.8", False), ("3.12", "0.12.9", True),
    ("3.13", "0.12.8", False),
])  # fmt: skip
def test_flax_is_never_older_than_the_jax_of_that_python_needs(
    requirements, python, version, pairs
):
    for_this_python = [
        requirement
        for requirement in requirements
        if requirement.name == "flax" and requirement.marker.evaluate({"python_version": python})
    ]
    assert len(for_this_python) == 1
    assert for_this_python[0].specifier.contains(version) == pairs


def test_what_is_installed_here_satisfies_the_bounds(requirements):
    for requirement in requirements:
        if requirement.marker is None or requirement.marker.evaluate():
            assert requirement.specifier.contains(metadata.version(requirement.name)), requirement


def test_whatever_the_library_imports_at_its_top_is_required(root, arguments):
    """Of the core, and where figures are drawn of their extra."""
    distributions = metadata.packages_distributions()
    required = names(arguments["install_requires"])
    of_figures = names(arguments["extras_require"]["figures"])
    folders = ("reports/figures", "reports/html", "papers")
    drawing = [root / "robustjax" / folder for folder in folders]
    imported = {}
    for path in (root / "robustjax").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module]
            else:
                continue
            draws = any(path.is_relative_to(folder) for folder in drawing)
            imported.update({(module.split(".")[0], draws): path for module in modules})
    assert ("jax", False) in imported
    for (module, draws), path in imported.items():
        if module not in sys.stdlib_module_names and module != "robustjax":
            owners = {canonicalize_name(name) for name in distributions.get(module, [])}
            accepted = required | of_figures if draws else required
            assert owners & accepted, f"{path} imports {module}: not in requirements.txt"


def test_the_version_and_the_licence_are_the_same_everywhere(root, arguments):
    citation = (root / "CITATION.cff").read_text().splitlines()
    assert arguments["version"] == robustjax.__version__
    assert f"version: {robustjax.__version__}" in citation
    assert arguments["license"] == "Apache-2.0"
    assert "license: Apache-2.0" in citation
    assert "Apache License" in (root / "LICENSE").read_text()


def test_every_folder_with_code_is_packaged_and_nothing_else(root, arguments):
    with_code = {path.parent for path in (root / "robustjax").rglob("*.py")}
    assert set(arguments["packages"]) == {
        ".".join(folder.relative_to(root).parts) for folder in with_code
    }


def require_commands(root, unpacked):
    """A wheel has the flag files and the texts of --help, and its commands find them."""
    for there, here in (("flag_files", root / "launch"), ("cli/help", root / "robustjax/cli/help")):
        files = {path.relative_to(here) for path in here.rglob("*") if path.suffix in SUFFIXES}
        folder = unpacked / "robustjax" / there
        assert {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()} == files
    program = (
        "from robustjax import installed\n"
        "from robustjax.cli.flag_files import expanded\n"
        "print(installed.checkout(), '--model=sense_mnist_cnn_3' in "
        "expanded(['--flagfile=launch/mnist/trades.flags']))\n"
        "print(installed.as_written('python launch/train.py --flagfile=launch/trades.flags'))"
    )
    python = [sys.executable, "-P"]
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    options = {"cwd": unpacked.parent, "env": environment, "capture_output": True, "text": True}
    found = subprocess.run([*python, "-c", program], **options, check=True)
    assert found.stdout.splitlines() == ["None True", "robustjax train --flagfile=trades.flags"]
    found = subprocess.run([*python, "-m", "robustjax", "sweep", "--help"], **options, check=True)
    assert "python -m robustjax sweep --flagfile=trades.flags" in found.stdout
    assert "launch/" not in found.stdout


SUFFIXES = (".flags", ".txt")


def test_a_wheel_imports_away_from_the_checkout(root, checkout, tmp_path):
    shutil.copytree(root / "robustjax", checkout / "robustjax", dirs_exist_ok=True)
    shutil.copytree(root / "launch", checkout / "launch")
    wheels = tmp_path / "wheels"
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--no-deps", "-w", wheels, "."], cwd=checkout, check=True, timeout=120)
    (wheel,) = wheels.iterdir()
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    assert not (unpacked / "tests").exists()
    templates = root / "robustjax" / "reports" / "html" / "templates"
    assert {path.name for path in (unpacked / templates.relative_to(root)).iterdir()} == {
        path.name for path in templates.iterdir()
    }
    assert (unpacked / "robustjax" / "py.typed").exists()  # Its types are for others too.
    require_commands(root, unpacked)
    program = "import robustjax; print(robustjax.__file__); print(robustjax.__version__)"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=unpacked, capture_output=True, text=True, check=True
    )
    path, version = result.stdout.splitlines()
    assert path == str(unpacked / "robustjax" / "__init__.py")
    assert version == robustjax.__version__
    (information,) = unpacked.glob("*.dist-info")
    assert "robustjax = robustjax.__main__:main" in (information / "entry_points.txt").read_text()
    assert f"Version: {version}\n" in (information / "METADATA").read_text()
