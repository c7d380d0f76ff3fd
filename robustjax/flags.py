"""The options of an experiment as absl flags, and back."""

import dataclasses
from collections.abc import Iterable

from absl import flags

from robustjax import methods
from robustjax.config import TrainConfig
from robustjax.files import Path
from robustjax.text import Value, format_value, parse_number


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
        help_text = f"of {', '.join(owners)}; see --method=help"
        flags.DEFINE_string(name, None, help_text, flag_values=values)
    for field in dataclasses.fields(TrainConfig):
        help_text, default = field.metadata["help"], field.default
        if field.type is bool:
            flags.DEFINE_bool(field.name, default, help_text, flag_values=values)
        elif field.type is int:
            flags.DEFINE_integer(field.name, default, help_text, flag_values=values)
        elif field.type is str:
            flags.DEFINE_string(field.name, default, help_text, flag_values=values)
        elif field.name == "set":
            flags.DEFINE_multi_string(field.name, list(default), help_text, flag_values=values)
        else:
            parser = _NumbersParser() if isinstance(default, tuple) else NumberParser(default)
            flags.DEFINE(
                parser, field.name, default, help_text, values, _NumberSerializer()
            )  # fmt: skip


def config_from_flags(values: flags.FlagValues = flags.FLAGS) -> TrainConfig:
    """The experiment that the parsed flags describe.

    Raises:
      ValueError: an option has a value that is not accepted.
    """
    given = {field.name: values[field.name].value for field in dataclasses.fields(TrainConfig)}
    by_name = [
        f"{name}={values[name].value}"
        for name in own_hyperparameters()
        if values[name].value is not None
    ]
    given["set"] = (*(given["set"] or ()), *by_name)
    return TrainConfig(**given)


def read_flags(path: Path) -> TrainConfig:
    """The experiment that a flag file describes.

    Raises:
      ValueError: it cannot be read, or an option has a value that is not accepted.
    """
    values = flags.FlagValues()
    define_flags(values)
    try:
        lines = [line.strip() for line in path.read_text().splitlines()]
        values(["flags", *(line for line in lines if line.startswith("-"))])
        return config_from_flags(values)
    except (flags.Error, OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


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


class _NumbersParser(flags.ArgumentParser):
    syntactic_help = "numbers separated by commas"

    def parse(self, argument: str | Iterable[float]) -> tuple[float, ...]:
        parts = argument.split(",") if isinstance(argument, str) else argument
        return tuple(parse_number(part) for part in parts if part != "")

    def flag_type(self) -> str:
        return "numbers"


class _NumberSerializer(flags.ArgumentSerializer):
    def serialize(self, value: Value) -> str:
        return format_value(value)
