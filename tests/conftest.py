"""What every test shares: the platform, the settings of hypothesis, and the prepared data sets."""

import atexit
import doctest
import inspect
import os
import re
import shutil
import tempfile
from pathlib import Path

# Before JAX is imported by anything; an explicit choice, e.g. JAX_PLATFORMS=cuda, is respected.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# A program that several tests need, also those that start processes, is compiled once in a session.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="robustjax-tests-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import hypothesis
import jax
import jaxtyping
import pytest

from tests import judged_shapes

ROOT = Path(__file__).resolve().parent.parent

# Before the library is imported: what these return is held against their annotations of shapes. How
# an attack's steps are run (attacks/engine) has none.
ATTACKS = [f"robustjax.attacks.{path.stem}" for path in ROOT.glob("robustjax/attacks/[!_]*.py")]
jaxtyping.install_import_hook(
    ["robustjax.losses", "robustjax.methods", *ATTACKS], f"{judged_shapes.__name__}.judged"
)

from robustjax import parallel  # noqa: E402 (the hook comes first)

# Several devices in one process, so that sharing a batch among them can be tested anywhere.
parallel.force_cpu_devices(4)

# Elsewhere than in continuous integration, every run tries other examples.
hypothesis.settings.register_profile(
    "robustjax", deadline=None, max_examples=15, derandomize=bool(os.environ.get("CI"))
)
hypothesis.settings.load_profile("robustjax")


SLOW_TESTS = frozenset(
    line
    for line in (ROOT / "tests" / "slow_tests.txt").read_text().splitlines()
    if not line.startswith("#")
)
SLOW_PATTERN = re.compile(
    "|".join(re.escape(line).replace(r"\*", ".*") for line in sorted(SLOW_TESTS) if "*" in line)
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what slow_tests.txt names: a file, a test, or a test of some parameters."""
    for item in items:
        test = item.nodeid.partition("[")[0]
        named = SLOW_TESTS & {item.nodeid, test, test.partition("::")[0]}
        if named or SLOW_PATTERN.fullmatch(item.nodeid):
            item.add_marker("slow")


@pytest.fixture(scope="module", autouse=True)
def few_memory_mappings():
    """Drops compiled programs now and then.

    Each of them holds several memory mappings, of which Linux grants a process 65,530
    (vm.max_map_count). The suite would need more, and where XLA gets none it ends in a
    segmentation fault.
    """
    yield
    mappings = Path("/proc/self/maps")
    if mappings.exists() and mappings.read_text().count("\n") > 20_000:
        jax.clear_caches()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """A directory with prepared tensorflow-datasets (CIFAR-10, MNIST), for tests on real images."""
    named = os.environ.get("ROBUSTJAX_TEST_DATA_DIR")
    directory = Path(named) if named else ROOT.parent / "shared" / "tensorflow_datasets"
    if not directory.is_dir():
        pytest.skip(f"no prepared data sets in {directory} (set ROBUSTJAX_TEST_DATA_DIR)")
    return directory


@pytest.fixture(scope="session")
def documented():
    """Checks what a public thing says of itself: the sections, and an example that runs."""

    def check(thing, name, sections):
        where = f"{inspect.getsourcefile(thing)}:{inspect.getsourcelines(thing)[1]}"
        said = inspect.getdoc(thing) or ""
        for section in sections:
            assert f"\n{section}:" in said, (
                f"{name}: its docstring has no section {section!r}; add it at {where}, as "
                "docs/extending.md shows"
            )
        scope = dict(vars(inspect.getmodule(thing)))
        (test, *_) = doctest.DocTestFinder(recurse=False).find(thing, name, globs=scope)
        assert test.examples, f"{name}: its docstring has no example (>>>); add one at {where}"
        report = []
        doctest.DocTestRunner(verbose=False).run(test, out=report.append)
        assert not report, "".join(report)

    return check
