"""The options of an experiment as absl flags, and back."""

import dataclasses
import typing
from collections.abc import Iterable, Sequence
from typing import Any

from absl import flags

from robustjax import methods, own_code
from robustjax.arguments import did_you_mean, unknown_flag
from robustjax.config import TrainConfig, option_types
from robustjax.epoch_schedule import parse_schedule
from robustjax.errors import UserError
from robustjax.files import Path
from robustjax.text import Value, format_value, parse_number, split_names


def own_hyperparameters() -> dict[str, list[str]]:
    """Hyper-parameters that are no option of every experiment -> the methods that have them."""
    shared = {field.name for field in dataclasses.fields(TrainConfig)}
    owners: dict[str, list[str]] = {}
    for method in methods.names():
        for name in methods.hyperparameters(method):
            if name not in shared:
                owners.setdefault(name, []).append(method)
    return owners


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines a flag for every option and every method's own hyper-parameter.

    Called by the launchers, never on import.
    """
    for name, owners in own_hyperparameters().items():
        help_text = f"of {', '.join(owners)}; see train --method=help-{owners[0]}"
        flags.DEFINE_string(name, None, help_text, flag_values=values)
    define_options(tuple(field.name for field in dataclasses.fields(TrainConfig)), values)


def define_options(names: Sequence[str], values: flags.FlagValues, **defaults: Any) -> None:
    """Defines a flag for some of the options of an experiment.

    Args:
      names: of the options.
      values: where they are defined.
      **defaults: in place of the experiment's own; None where it is to be seen that a flag was not
        given.
    """
    types = option_types()
    for field in dataclasses.fields(TrainConfig):
        if field.name not in names:
            continue
        kind = types[field.name]
        help_text = field.metadata["help"]
        own: Any = field.default
        default: Any = defaults.get(field.name, own)
        if kind is bool:
            flags.DEFINE_bool(field.name, default, help_text, flag_values=values)
        elif kind is int:
            flags.DEFINE_integer(field.name, default, help_text, flag_values=values)
        elif kind is str:
            flags.DEFINE_string(field.name, default, help_text, flag_values=values)
        elif field.name == "set":
            flags.DEFINE_multi_string(field.name, list(default), help_text, flag_values=values)
        else:
            parser: flags.ArgumentParser = NumberParser(own)
            if kind == tuple[str, ...]:
                parser = _TextsParser()
            elif isinstance(own, tuple):
                parser = _NumbersParser()
            elif str in typing.get_args(kind):
                parser = _ScheduleParser()
            flags.DEFINE(
                parser, field.name, default, help_text, values, _NumberSerializer()
            )  # fmt: skip


def config_from_flags(values: flags.FlagValues = flags.FLAGS) -> TrainConfig:
    """The experiment that the parsed flags describe.

    A name of code that no person has given in this process (`own_code.trust`) stands in a file;
    it is marked as that, and is not run.

    Raises:
      ValueError: an option has a value that is not accepted.
    """
    given: dict[str, Any] = {
        field.name: values[field.name].value for field in dataclasses.fields(TrainConfig)
    }
    by_name = [
        f"{name}={values[name].value}"
        for name in own_hyperparameters()
        if values[name].value is not None
    ]
    given["set"] = tuple(own_code.as_read(text) for text in (*(given["set"] or ()), *by_name))
    for name in ("model", "method"):
        given[name] = own_code.as_read(given[name])
    given["log"] = tuple(map(own_code.as_read, given["log"]))
    return TrainConfig(**given)


def read_flags(path: Path, *, alone: bool = False) -> TrainConfig:
    """The experiment that a flag file describes.

    Args:
      path: of the file.
      alone: whether it may not include other files. The flags.txt of a run never does; one that
        somebody else has made is not to say which files are read.

    Raises:
      ValueError: it cannot be read, or an option has a value that is not accepted.
    """
    values = flags.FlagValues()
    define_flags(values)
    try:
        lines = [line.strip() for line in path.read_bytes().decode().splitlines()]
        given = [line for line in lines if line.startswith("-")]
        if not given:
            raise UserError("it is empty, and says nothing of a run")
        if alone and any(line.lstrip("-").startswith("flagfile") for line in given):
            raise UserError("it includes another file by --flagfile, as no run writes it")
        values(["flags", *given])
        return config_from_flags(values)
    except flags.UnrecognizedFlagError as error:
        raise UserError(f"{path} cannot be read: {unknown_flag(error.flagname, values)}") from error
    except (flags.Error, OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def define_choice(
    name: str,
    default: str | None,
    choices: Sequence[str],
    help: str,
    values: flags.FlagValues,
) -> None:
    """Defines a flag whose value is one of a few names; the nearest is named where it is none.

    Args:
      name: of the flag.
      default: its value where it is not given; None where it is to be seen that it was not.
      choices: what is accepted.
      help: for --help.
      values: where it is defined.
    """
    parser = _ChoiceParser(choices)
    flags.DEFINE(parser, name, default, help, values, flags.ArgumentSerializer())


class _ChoiceParser(flags.ArgumentParser):
    def __init__(self, choices: Sequence[str]) -> None:
        super().__init__()
        self._choices = choices

    def parse(self, argument: str) -> str:
        if argument not in self._choices:
            accepted = ", ".join(self._choices)
            raise UserError(f"accepted are {accepted}{did_you_mean(argument, self._choices)}")
        return argument

    def flag_type(self) -> str:
        return "name"


class NumberParser(flags.ArgumentParser):
    """Parses a flag whose value is a number or a fraction.

    Args:
      default: None if the flag need not be given; then "--name=" takes back what a file gave.
    """

    syntactic_help = "a number or a fraction, such as 0.031 or 8/255"

    def __init__(self, default: float | None = None) -> None:
        super().__init__()
        self._optional = default is None

    def parse(self, argument: str | float | None) -> float | None:
        """The number; None stays None."""
        if argument is None or (argument == "" and self._optional):
            return None
        return parse_number(argument)

    def flag_type(self) -> str:
        """What absl calls the type of the flag."""
        return "number"


class _ScheduleParser(flags.ArgumentParser):
    syntactic_help = "a number, a fraction or a schedule, such as 6 or 1..6@10"

    def parse(self, argument: str | float | None) -> float | str | None:
        if isinstance(argument, str) and ("@" in argument or ".." in argument):
            parse_schedule(argument)
            return argument
        return NumberParser().parse(argument)

    def flag_type(self) -> str:
        return "number or schedule"


class NamesParser(flags.ListParser):
    """Parses names of attacks between commas; those in parentheses belong to a name."""

    def parse(self, argument: str | list[str]) -> list[str]:
        """The names."""
        if not argument or not isinstance(argument, str):
            return argument or []
        return split_names(argument)


def define_attacks(default: list[str] | None, text: str, values: flags.FlagValues) -> None:
    """Defines --attacks, a list of names."""
    flags.DEFINE(NamesParser(), "attacks", default, text, values, flags.CsvListSerializer(","))


def define_numbers(name: str, text: str, values: flags.FlagValues) -> None:
    """Defines a flag that holds numbers between commas; none if it is not given."""
    flags.DEFINE(_NumbersParser(), name, (), text, values, _NumberSerializer())


class _NumbersParser(flags.ArgumentParser):
    syntactic_help = "numbers separated by commas"

    def parse(self, argument: str | Iterable[float]) -> tuple[float, ...]:
        parts = argument.split(",") if isinstance(argument, str) else argument
        return tuple(parse_number(part) for part in parts if part != "")

    def flag_type(self) -> str:
        return "numbers"


class _TextsParser(flags.ArgumentParser):
    syntactic_help = "names separated by commas"

    def parse(self, argument: str | Iterable[str]) -> tuple[str, ...]:
        parts = argument.split(",") if isinstance(argument, str) else argument
        return tuple(part.strip() for part in parts if part.strip())

    def flag_type(self) -> str:
        return "names"


class _NumberSerializer(flags.ArgumentSerializer):
    def serialize(self, value: Value) -> str:
        return format_value(value)
