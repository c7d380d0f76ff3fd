"""What --help prints lies ready, is what the commands would say, and needs no library."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from robustjax import installed
from robustjax.cli import start

ROOT = Path(__file__).resolve().parents[2]


def test_the_texts_are_what_the_commands_print():
    texts = runpy.run_path(str(ROOT / "tools" / "help_texts.py"))["texts"]()
    assert {path.name for path in start.HELP_TEXTS.iterdir()} == {path.name for path in texts}
    for path, text in texts.items():
        assert path.read_text(encoding="utf-8") == text, "run python tools/help_texts.py"


@pytest.mark.parametrize("name", installed.COMMANDS)
def test_help_imports_none_of_the_libraries(name):
    program = (
        "import runpy, sys\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / 'launch' / f'{name}.py')!r}, run_name='__main__')\n"
        "finally:\n"
        "    print(sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, "--help"], capture_output=True, text=True, timeout=60
    )
    assert found.returncode == 0
    assert found.stdout == (start.HELP_TEXTS / f"{name}.txt").read_text(encoding="utf-8")
    for library in ("jax", "flax", "optax", "orbax", "numpy", "absl", "matplotlib"):
        assert f"'{library}'" not in found.stderr


def test_a_command_whose_text_is_not_there_says_it_itself(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(start, "HELP_TEXTS", tmp_path)
    monkeypatch.setattr(start, "forget_working_directory", lambda: None)
    monkeypatch.setattr(sys, "argv", ["verify.py", "--help"])
    monkeypatch.setattr("robustjax.cli.verify.main", lambda: print("from the command"))
    start.run("verify")
    assert capsys.readouterr().out == "from the command\n"
