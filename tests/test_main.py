"""`robustjax` and `python -m robustjax`: which command is started."""

import sys

import pytest

import robustjax
from robustjax import __main__ as door
from robustjax import installed


@pytest.fixture
def call(monkeypatch, capsys):
    """(*arguments) -> exit status, what was printed, and (command, arguments) that were started."""
    monkeypatch.setenv("ROBUSTJAX_PROGRAM", "")
    monkeypatch.setattr(installed, "_command_here", [])
    started = []

    def start(command):
        started.append((command, sys.argv[1:]))
        sys.exit(0)

    monkeypatch.setattr(door.start, "run", start)

    def call(*arguments, **program):
        monkeypatch.setattr(sys, "argv", ["/bin/robustjax", *arguments])
        with pytest.raises(SystemExit) as end:
            door.main(**program)
        return end.value.code, capsys.readouterr().out, started

    return call


@pytest.mark.parametrize("name", ["import-weights", "import_weights"])
def test_a_command_gets_what_follows_its_name(call, name):
    assert call(name, "--seed=1", "sweep")[2] == [("import_weights", ["--seed=1", "sweep"])]


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("help",)])
def test_the_commands_are_listed(call, arguments):
    status, printed, started = call(*arguments)
    assert status == 0 and not started
    assert "\n  import-weights  makes a run's folder" in printed
    assert "robustjax train --flagfile=quickstart.flags" in printed
    assert max(map(len, printed.splitlines())) <= 100


def test_the_module_speaks_of_itself(call):
    assert "\n  python -m robustjax COMMAND" in call(program=installed.MODULE)[1]


def test_the_version(call):
    assert call("--version")[:2] == (0, f"robustjax {robustjax.__version__}\n")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("trian", "there is no command trian; did you mean train?"),
        ("import-weight", "there is no command import-weight; did you mean import-weights?"),
        ("zzz", "there is no command zzz; robustjax --help lists those there are"),
        ("--seed=1", "--seed=1: the command comes first, as robustjax train --seed=1"),
    ],
)
def test_an_unknown_command_is_one_sentence(call, name, said):
    status, _, started = call(name)
    assert status == f"error: {said}" and not started
