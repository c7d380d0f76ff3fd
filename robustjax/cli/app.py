"""What every launcher shares: parsing flags, a readable --help, and errors as one sentence."""

import os
import re
import shlex
import signal
import sys
import textwrap
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence

from absl import flags

from robustjax import installed, own_code
from robustjax.arguments import unknown_flag
from robustjax.cli import flag_files
from robustjax.cli.start import HELP, INTERRUPTED
from robustjax.errors import UserError


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
    nobody raised on purpose keeps its traceback; ROBUSTJAX_TRACEBACK=1 shows all of them.

    Args:
      main: reads the parsed flags.
      define_flags: defines them.
      description: shown at the top of --help.
      groups: title -> names of the flags that --help lists under it.
      arguments: the command line after the program's name; sys.argv's if None.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    values = flags.FLAGS
    sys.unraisablehook = _unraisablehook
    _said.clear()
    _typed[:] = arguments
    own_code.trust_command_line(arguments)
    define_flags()
    if any(argument in HELP for argument in arguments):
        print(installed.as_written(help_text(description, groups, values)))
        sys.exit(0)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = warn
            _parse(values, arguments)
            main()
            sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # Whoever read the output has read enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except Exception as error:
        if not is_foreseen(error) or os.environ.get("ROBUSTJAX_TRACEBACK"):
            traceback.print_exc()
        else:
            print(f"error: {describe(error)}", file=sys.stderr)
        _end_at_once_among_several()
        sys.exit(1)
    sys.exit(0)


def _end_at_once_among_several() -> None:
    """Ends a process of a run of several, so that none of the others waits for it.

    At a usual exit JAX waits for all of them, and those that are inside a collective for this one.
    """
    parallel = sys.modules.get("robustjax.parallel")
    if parallel is not None and parallel.is_one_of_several():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


def _parse(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    try:
        left_over = values([sys.argv[0], *flag_files.expanded(arguments)])[1:]
    except flags.UnrecognizedFlagError as error:
        raise UserError(unknown_flag(error.flagname, values)) from None
    except RecursionError:  # In absl's search for a flag that is called alike.
        longest = max((argument.partition("=")[0] for argument in arguments), key=len)
        raise UserError(unknown_flag(longest.lstrip("-"), ())) from None
    for name in PATHS:
        given = values[name].value if name in values else None
        if given:
            values[name].value = _expanded(given)
    if left_over:
        raise UserError(f"{left_over[0]!r} is not a flag; flags are written as --name=value")


def _unraisablehook(unraisable: "sys.UnraisableHookArgs") -> None:
    """Says nothing of what goes on after a checkpoint could not be read or written.

    The error itself has been raised. Other parts of the same checkpoint, which tensorstore works on
    in threads of its own, then find that nobody waits for them any longer.
    """
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


_typed: list[str] = []


def is_typed(name: str) -> bool:
    """Whether a flag was given on the command line itself, and not in a flag file."""
    return any(argument.lstrip("-").partition("=")[0] == name for argument in _typed)


def command_line() -> str:
    """The command that this process runs, as text for a shell; results record it."""
    words = [*installed.started_as(), *sys.argv[1:]]
    return shlex.join(words).encode(errors="replace").decode()


PATHS = (
    "workdir", "workdirs", "data_dir", "output", "output_dir", "results_dir", "sweep_dir",
    "sweep_dirs", "source", "sources", "targets", "images", "init_from", "extra_data", "subset",
    "weights", "corruptions",
)  # fmt: skip
"""Flags that name files or folders, in which ~ is the home of the person who types it."""


def _expanded(value: str | Sequence[str]) -> str | list[str]:
    if isinstance(value, str):
        return os.path.expanduser(value)
    return [os.path.expanduser(path) for path in value]


def warn(message: Warning | str, *_: object, **__: object) -> None:
    """A warning as the person at the terminal reads it: without the line of code, and once."""
    if str(message) not in _said:
        _said.add(str(message))
        print(
            f"warning: {installed.as_written(in_flags(str(message)))}", file=sys.stderr, flush=True
        )


_said: set[str] = set()


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
    return (flag.default_as_str or "").strip("'")


_LONGEST = 1000
"""Letters of a message; what is longer repeats a value of somebody's file or flag."""


def describe(error: Exception) -> str:
    """An error that was foreseen, as one line of bearable length."""
    said = installed.as_written(in_flags(" ".join(_said_of(error).split())))
    said = re.sub(r"\S{400,}", lambda word: f"{word[0][:200]}...{word[0][-100:]}", said)
    return said if len(said) < _LONGEST else f"{said[: _LONGEST - 300]} ... {said[-200:]}"


def in_flags(text: str) -> str:
    """What the library says of its arguments, said of the flags that have given them.

    "attack=x: accepted are ..." becomes "--attacks=x: accepted are ...". An argument is told by
    standing before "=", or by beginning the text; a folder also after "another".
    """
    argument = r"(?<!\S)[a-z_]+(?==)|^[a-z_]+(?=:| is not given)|(?<=another )[a-z_]*dir\b"
    return re.sub(argument, _as_flag, text)


def _as_flag(argument: re.Match[str]) -> str:
    name = argument[0]
    known = (flag for flag in (name, f"{name}s") if flag in flags.FLAGS)
    return next((f"--{flag}" for flag in known), name)


def _said_of(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if missing := installed.missing_extra(error):
        return str(missing)
    if _is_missing_bucket_package(error):
        return (
            "paths of a bucket (gs://) need the package gcsfs, which is not installed: "
            "pip install 'etils[epath-gcs]'"
        )
    if _is_lost_process(error):
        return (
            "another process of this run has ended or cannot be reached; what it said tells why. "
            "The same commands, started again, go on from the latest checkpoint "
            f"({str(error).splitlines()[0]})"
        )
    if _is_out_of_memory(error):
        return "the device has not enough memory; a smaller --batch_size needs less"
    return str(error)


def is_foreseen(error: Exception) -> bool:
    """Whether the error is for the person at the terminal, and not for us.

    Such are those raised on purpose, those of the flag parser, and those of the system (a full
    disk, a folder that may not be written).
    """
    return (
        isinstance(error, UserError | flags.Error | OSError)
        or _is_out_of_memory(error)
        or _is_lost_process(error)
        or _is_missing_bucket_package(error)
        or installed.missing_extra(error) is not None
    )


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, RuntimeError) and str(error).startswith("RESOURCE_EXHAUSTED")


def _is_lost_process(error: Exception) -> bool:
    """Whether a collective failed, or JAX's coordination, because a process is gone."""
    parallel = sys.modules.get("robustjax.parallel")
    if parallel is None or not isinstance(error, RuntimeError) or not parallel.is_one_of_several():
        return False
    gone = r"[Cc]onnection (closed|reset)|heartbeat|UNAVAILABLE|DEADLINE_EXCEEDED|NCCL"
    return re.search(gone, str(error)) is not None


def _is_missing_bucket_package(error: Exception) -> bool:
    return isinstance(error, ImportError) and "gcsfs" in str(error)
