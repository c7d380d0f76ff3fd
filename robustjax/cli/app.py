"""What every launcher shares: parsing flags, a readable --help, and errors as one sentence."""

import os
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from absl import flags

PACKAGE = Path(__file__).resolve().parents[1]

HELP = ("--help", "-help", "-h", "--helpshort", "--helpfull")


class CommandError(Exception):
    """Something the person at the terminal can mend; its text is all that is shown."""


def run(
    main: Callable[[], None],
    define_flags: Callable[[], None],
    *,
    description: str,
    groups: Mapping[str, Iterable[str]],
    arguments: Sequence[str] | None = None,
) -> None:
    """Parses the flags and runs a launcher; never returns.

    Exits with 0 when `main` returns, 1 with one sentence on an error, 130 on Ctrl-C. An error that
    this package did not foresee keeps its traceback; ROBUSTJAX_TRACEBACK=1 shows all of them.

    Args:
      main: reads the parsed flags.
      define_flags: defines them.
      description: shown at the top of --help.
      groups: title -> names of the flags that --help lists under it.
      arguments: the command line after the program's name; sys.argv's if None.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    values = flags.FLAGS
    define_flags()
    if any(argument in HELP for argument in arguments):
        print(help_text(description, groups, values))
        sys.exit(0)
    try:
        left_over = values([sys.argv[0], *arguments])[1:]
        if left_over:
            raise CommandError(f"{left_over[0]!r} is not a flag; flags are written as --name=value")
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if not _foreseen(error) or os.environ.get("ROBUSTJAX_TRACEBACK"):
            traceback.print_exc()
        else:
            print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


def help_text(
    description: str, groups: Mapping[str, Iterable[str]], values: flags.FlagValues
) -> str:
    """What --help prints: the flags in groups, with their defaults."""
    lines = [description.strip(), ""]
    for title, names in groups.items():
        lines.append(f"{title}:")
        for name in names:
            flag = values[name]
            shown = "" if flag.default in (None, "", [], ()) else f" [{_default_text(flag)}]"
            # absl adds a line of its own to the help of flags that may be repeated.
            lines += textwrap.wrap(
                f"{flag.help.splitlines()[0].rstrip(';')}{shown}",
                width=100,
                initial_indent=f"  --{name:<22} ",
                subsequent_indent=" " * 27,
                break_on_hyphens=False,
            )
        lines.append("")
    lines.append("--flagfile=FILE reads flags from a file; flags that follow it override the file.")
    return "\n".join(lines)


def _default_text(flag: flags.Flag) -> str:
    return flag.default_as_str.strip("'")


def _foreseen(error: Exception) -> bool:
    """Whether the error was raised by this package (or the flag parser) to be read by a person."""
    if isinstance(error, flags.Error | CommandError | UnicodeDecodeError):
        return True
    frames = traceback.extract_tb(error.__traceback__)
    expected = isinstance(error, ValueError | RuntimeError | OSError)
    return expected and PACKAGE in Path(frames[-1].filename).parents
