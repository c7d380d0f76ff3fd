"""The house as its imports draw it: which room may use which, how full and how named they are."""

import ast
import collections
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "robustjax"
FILES = sorted(path for path in PACKAGE.rglob("*.py"))

# From the ground up: a room imports its own floor and those below it, never one above.
FLOORS = (
    ("errors", "shapes"),
    (
        "arguments", "batching", "cache", "digest", "files", "installed", "parallel", "platforms",
        "progress", "step_size",
    ),
    ("own_code",),
    ("npz", "text", "losses", "models"),
    ("attacks", "epoch_schedule", "interop"),
    ("methods", "data", "config_checks"),
    ("config", "measure"),
    ("flags",),
    ("runs",),
    ("training",),
    ("evaluation", "testing"),
    ("analysis",),
    ("diagnosis",),
    ("reports",),
    ("papers",),
    ("cli",),
    ("__main__",),
)  # fmt: skip
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# Of which a file is one of a kind, so that the papers decide how many there are.
ONE_OF_A_KIND = ("attacks", "losses", "methods", "models")
MOST_FILES = 16
# The package itself holds the leaves, which are rooms of one file, beside the doors.
MOST_LEAVES = 18

# A name that several files may have: of what every room has one.
OF_EVERY_ROOM = ("__init__", "registry", "command", "_checks")
# Rooms whose files mirror those of others: the command, the report or the method of the same thing.
MIRRORS = ("cli", "reports", "papers", "methods")
# The attack by images of another network, and the evaluation that makes it of every pair.
TOLD_APART = ("transfer",)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in found if name.startswith("robustjax.")]


@functools.cache
def rooms_used(room: str) -> dict[str, str]:
    """The rooms that a room imports, each with one place where it does."""
    return {
        name.split(".")[1]: str(path.relative_to(ROOT))
        for path in FILES
        if room_of(path) == room
        for name in imports_of(path)
        if name.split(".")[1] != "__version__"
    }


@pytest.mark.parametrize("room", sorted({room_of(path) for path in FILES} - {"__init__"}))
def test_imports_point_down(room):
    assert room in FLOOR_OF, f"on which floor is {room}? Say so in {Path(__file__).name}"
    above = {
        other: where
        for other, where in rooms_used(room).items()
        if other != room and FLOOR_OF[other] >= FLOOR_OF[room]
    }
    assert not above, f"{room} imports what lies beside or above it"


def test_losses_and_attacks_know_nothing_of_networks_flags_and_data():
    for room in ("losses", "attacks", "methods", "models"):
        known = set(rooms_used(room))
        assert not known & {"config", "flags", "data", "runs", "training"}, room
    for path in FILES:
        if room_of(path) in ("losses", "attacks"):
            assert "flax" not in path.read_text(), path


def test_files_do_not_import_each_other_in_a_circle():
    graph = collections.defaultdict(set)
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in FILES}
    for name, path in names.items():
        for imported in imports_of(path):
            target = imported if imported in names else imported.rpartition(".")[0]
            if target in names and target != name:
                graph[name].add(target)
    done, trail = set(), []

    def visit(name):
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name in done:
            return
        trail.append(name)
        for target in sorted(graph[name]):
            visit(target)
        trail.pop()
        done.add(name)

    for name in sorted(names):
        visit(name)


def test_no_room_is_too_full():
    for folder in {path.parent for path in FILES}:
        if folder.name in ONE_OF_A_KIND:
            continue
        doors = ("__init__", "__main__")
        files = [path for path in folder.glob("*.py") if path.stem not in doors]
        assert len(files) <= (MOST_LEAVES if folder == PACKAGE else MOST_FILES), folder


def test_a_name_stands_once():
    places = collections.defaultdict(list)
    for path in FILES:
        if path.stem not in OF_EVERY_ROOM and room_of(path) not in MIRRORS:
            places[path.stem].append(str(path.relative_to(PACKAGE)))
    twice = {name: found for name, found in places.items() if len(found) > 1}
    assert set(twice) <= set(TOLD_APART), twice


def test_every_room_says_what_is_in_it_and_what_is_not():
    for path in FILES:
        if path.name == "__init__.py" and path.parent != PACKAGE:
            said = ast.get_docstring(ast.parse(path.read_text())) or ""
            assert len(said.splitlines()) >= 3, f"{path}: say what lives here, and what does not"


def test_the_engine_is_nobodys_but_the_attacks_and_their_judges():
    """Methods, training, reports and commands see attacks, not how their steps are run."""
    for path in FILES:
        if room_of(path) in ("methods", "training", "reports", "cli", "papers", "runs", "data"):
            parts = [name for name in imports_of(path) if ".attacks.engine." in name]
            allowed = (".rows.", ".keys.", ".model.")
            assert not [name for name in parts if not any(part in name for part in allowed)], path
