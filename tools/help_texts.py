"""Writes robustjax/cli/help/COMMAND.txt of each command: what --help prints without its libraries.

python tools/help_texts.py
"""

import contextlib
import importlib
import io
import os
import sys
from pathlib import Path
from unittest import mock

from absl import flags

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from robustjax import installed
from robustjax.cli import start


def texts() -> dict[Path, str]:
    """Path of a text -> what the command itself prints."""
    return {start.HELP_TEXTS / f"{name}.txt": _help_of(name) for name in installed.COMMANDS}


def _help_of(command: str) -> str:
    """Has a command print its help, and takes its flags away again."""
    main = importlib.import_module(f"robustjax.cli.{command}").main
    before, printed = set(flags.FLAGS), io.StringIO()
    try:
        with (
            mock.patch.object(sys, "argv", [f"{command}.py", "--help"]),
            mock.patch.object(installed, "program", lambda: ""),
            contextlib.redirect_stdout(printed),
            contextlib.suppress(SystemExit),
        ):
            main()
    finally:
        added = {name: flags.FLAGS[name] for name in set(flags.FLAGS) - before}
        flags.FLAGS.remove_flag_values(added)
    return printed.getvalue()


if __name__ == "__main__":
    start.HELP_TEXTS.mkdir(exist_ok=True)
    for path, text in texts().items():
        path.write_text(text, encoding="utf-8")
        print(os.path.relpath(path))
