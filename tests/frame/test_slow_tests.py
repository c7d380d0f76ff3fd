"""The list of slow tests names tests that there are."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = [
    line
    for line in (ROOT / "tests" / "slow_tests.txt").read_text().splitlines()
    if not line.startswith("#")
]


@pytest.mark.parametrize("file", sorted({name.partition("::")[0] for name in NAMED}))
def test_every_line_is_a_file_or_a_test_in_it(file):
    tree = ast.parse((ROOT / file).read_text())
    there = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    named = {
        name.split("::")[-1].partition("[")[0] for name in NAMED if name.startswith(f"{file}::")
    }
    assert not named - there - {"*"}, (
        "remove them from tests/slow_tests.txt, or give their new names"
    )


def test_the_list_is_sorted_and_says_nothing_twice():
    assert sorted(set(NAMED)) == NAMED


@pytest.mark.slow
def test_every_parameter_is_one_of_its_test():
    named = [name for name in NAMED if "[" in name]
    files = sorted({name.partition("::")[0] for name in named})
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "slow or not slow", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    tests = found.stdout.splitlines()
    patterns = {name: re.compile(re.escape(name).replace(r"\*", ".*")) for name in named}
    gone = [name for name in named if not any(map(patterns[name].fullmatch, tests))]
    assert not gone, "give their new names in tests/slow_tests.txt"
