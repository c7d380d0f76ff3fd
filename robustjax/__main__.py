"""`robustjax COMMAND ...` and `python -m robustjax COMMAND ...`: starts the command that it is."""

import sys

from robustjax import __version__, installed
from robustjax.cli import start

_HELP = ("--help", "-help", "-h", "help")


def main(program: str = installed.CONSOLE) -> None:
    """Runs the command that the first argument names; never returns.

    Args:
      program: as a person writes it.
    """
    installed.started_by(program)
    given = sys.argv[1:]
    if not given or given[0] in _HELP:
        print(overview())
        sys.exit(0)
    if given[0] == "--version":
        print(f"robustjax {__version__}")
        sys.exit(0)
    command = given[0].replace("-", "_")
    if command not in installed.COMMANDS:
        sys.exit(f"error: {_unknown(given[0])}")
    installed.begin(command)
    start.run(command)


def overview() -> str:
    """The commands, one line each, and how to begin."""
    program = installed.program()
    lines = [
        "Adversarial training and robustness evaluation in JAX.",
        "",
        f"  {program} COMMAND [--flag=value ...]",
        f"  {program} COMMAND --help      its flags",
        "",
    ]
    for name, summary in installed.COMMANDS.items():
        lines.append(f"  {name.replace('_', '-'):<15} {summary}")
    example = f"{program} train --flagfile=quickstart.flags --workdir=runs/demo"
    return "\n".join([*lines, "", f"To begin: {program} quickstart, or", f"  {example}"])


def _unknown(name: str) -> str:
    # Here, so that a command that is known need not wait for NumPy.
    from robustjax.arguments import nearest, shown

    if name.startswith("-"):
        return f"{shown(name)}: the command comes first, as {installed.written('train')} {name}"
    near = nearest(name.replace("-", "_"), installed.COMMANDS)
    if near is None:
        hint = f"{installed.program()} --help lists those there are"
    else:
        hint = f"did you mean {near.replace('_', '-')}?"
    return f"there is no command {shown(name)}; {hint}"


if __name__ == "__main__":
    main(installed.MODULE)
