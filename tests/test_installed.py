"""Where commands and flag files are, in a checkout and in an installed package."""

import sys

import pytest

from robustjax import installed
from robustjax.errors import UserError


@pytest.fixture
def wheel(monkeypatch, tmp_path):
    """The package as a wheel has it: nothing lies beside it, and flag files are inside."""
    monkeypatch.delenv("ROBUSTJAX_PROGRAM", raising=False)
    monkeypatch.setattr(installed, "checkout", lambda: None)
    monkeypatch.setattr(installed, "_PACKAGED", tmp_path)
    return tmp_path


def test_a_checkout_has_launchers(monkeypatch):
    monkeypatch.delenv("ROBUSTJAX_PROGRAM", raising=False)
    root = installed.checkout()
    assert {path.stem for path in (root / "launch").glob("*.py")} == set(installed.COMMANDS)
    assert installed.flag_file("trades.flags") == root / "launch" / "trades.flags"
    assert installed.flag_file("launch/mnist/lrm.flags") == root / "launch" / "mnist" / "lrm.flags"
    assert installed.written("import_weights") == "python launch/import_weights.py"
    text = "run launch/train.py --flagfile=launch/trades.flags"
    assert installed.as_written(text) == text


def test_an_installed_package_has_the_console_script(wheel):
    assert installed.flag_file("launch/trades.flags") == wheel / "trades.flags"
    assert installed.written("import_weights") == "robustjax import-weights"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("python launch/train.py --seed=1", "robustjax train --seed=1"),
        ("label with launch/pseudo_label.py, or", "label with robustjax pseudo-label, or"),
        ("--flagfile=launch/mnist/lrm.flags", "--flagfile=mnist/lrm.flags"),
        ("flagfile=launch/a.flags;launch/b.flags", "flagfile=a.flags;b.flags"),
        ("of somebody's: mine/launch/train.flags", "of somebody's: mine/launch/train.flags"),
        ("/home/me/launch/trades.flags: no", "/home/me/launch/trades.flags: no"),
        ("/home/me/launch/train.py: no", "/home/me/launch/train.py: no"),
        ("launch/another.py", "launch/another.py"),
    ],
)
def test_launchers_in_a_text_are_the_commands_of_the_console_script(wheel, text, said):
    assert installed.as_written(text) == said


def test_the_program_is_that_of_the_commands_that_it_starts_too(monkeypatch):
    monkeypatch.setenv("ROBUSTJAX_PROGRAM", "")
    monkeypatch.setattr(installed, "_command_here", [])
    monkeypatch.setattr(sys, "argv", ["/bin/robustjax", "import-weights", "--seed=1"])
    assert installed.started_as() == ["python", "/bin/robustjax"]
    installed.started_by(installed.MODULE)
    installed.begin("import_weights")
    assert installed.started_as() == ["python", "-m", "robustjax", "import-weights"]
    assert sys.argv == ["/bin/robustjax", "--seed=1"]
    assert installed.written("train") == "python -m robustjax train"


def test_a_module_of_an_extra_is_named_with_it():
    def missing(name):
        return ModuleNotFoundError(f"No module named {name!r}", name=name)

    said = "this needs matplotlib, which is not installed: pip install 'robustjax[figures]'"
    assert str(installed.missing_extra(missing("matplotlib.figure"))) == said
    of_data = r"pip install 'robustjax\[data\]'"
    with pytest.raises(UserError, match=of_data), installed.naming_the_extra():
        raise missing("PIL")
    for error in (missing("mine"), ImportError("no name"), ValueError("matplotlib")):
        assert installed.missing_extra(error) is None
    with pytest.raises(ModuleNotFoundError, match="mine"), installed.naming_the_extra():
        raise missing("mine")
