"""Runs a command in the process of the test."""

import pytest
from absl import flags

from robustjax.cli import app


@pytest.fixture
def run_command(monkeypatch, capsys):
    """(module of the command, what defines its flags, *arguments) -> exit code and output."""

    def run(command, define_flags, *arguments):
        values = flags.FlagValues()
        monkeypatch.setattr(flags, "FLAGS", values)
        with pytest.raises(SystemExit) as end:
            app.run(
                command._main,
                lambda: define_flags(values),
                description=command.DESCRIPTION,
                groups=command.GROUPS,
                arguments=arguments,
            )
        return end.value.code, capsys.readouterr()

    return run
