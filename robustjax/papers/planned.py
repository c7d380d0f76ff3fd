"""Which networks some tables and figures need: each trained once, however many of them show it.

A network is known by the options that decide its training, so two papers' rows that say the same
are one run. Its folder is named after its method, network and data set, those options and the seed.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from absl import flags

from robustjax import installed
from robustjax.config import TrainConfig
from robustjax.errors import UserError
from robustjax.files import Path
from robustjax.flags import config_from_flags, define_flags
from robustjax.papers.item import Column, Item, Row, Training
from robustjax.papers.scale import scaled, scaled_examples
from robustjax.runs.evaluations import CLEAN
from robustjax.text import format_value, parse_number

RUNS = "runs"
"""The folder, in the one that is written into, which has a folder for each network."""

_TWINS_APART = 1000
"""Between the seeds of networks that are trained independently by the same options."""

_PLACES = ("workdir", "data_dir", "init_from", "seed")
"""Options that are part of no name: where things lie, and what stands in the name by itself."""


@dataclasses.dataclass(frozen=True)
class Request:
    """How some items are to be made.

    Attributes:
      folder: that everything is written into.
      options: of launch/train.py, "--name=value" each, which override what the papers say.
      scale: shortens epochs and examples, see `papers.scale`.
      seeds: in place of each item's own.
    """

    folder: Path
    options: tuple[str, ...] = ()
    scale: float = 1.0
    seeds: tuple[int, ...] = ()

    def seeds_of(self, item: Item) -> tuple[int, ...]:
        """The seeds that each row of an item is trained with."""
        return self.seeds or item.seeds


class Evaluation(NamedTuple):
    """Attacks on a network that are made in one go.

    Attributes:
      attacks: as `--attacks` takes them.
      checkpoint: "latest" or "best".
      examples: the first so many of the test set; 0: all.
      epsilon: radius of the ball; None: that of the network's training.
    """

    attacks: tuple[str, ...]
    checkpoint: str
    examples: int
    epsilon: float | None


class Network(NamedTuple):
    """A network that is needed.

    Attributes:
      config: how it is trained, its folder and its seed among that.
      start: the folder of the network that it begins with; "" if there is none.
      evaluations: what it is attacked by itself.
      items: names of the items that show it, as "mart/table4".
    """

    config: TrainConfig
    start: str
    evaluations: tuple[Evaluation, ...]
    items: tuple[str, ...]

    @property
    def workdir(self) -> Path:
        """Its folder."""
        return Path(self.config.workdir)

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.workdir.name


class Networks:
    """Finds the network of a training; reads each flag file once.

    Args:
      request: where they lie, and what is changed.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._known: dict[tuple[Training, int], tuple[TrainConfig, str]] = {}

    def config(self, training: Training, seed: int) -> TrainConfig:
        """How a network is trained, with the folder that it has.

        Raises:
          ValueError: an option is not accepted; the message names it and the flag file.
        """
        return self._find(training, seed)[0]

    def start(self, training: Training, seed: int) -> str:
        """The folder of the network that it begins with; "" if there is none."""
        return self._find(training, seed)[1]

    def _find(self, training: Training, seed: int) -> tuple[TrainConfig, str]:
        found = self._known.get((training, seed))
        if found is None:
            found = self._known[training, seed] = self._make(training, seed)
        return found

    def _make(self, training: Training, seed: int) -> tuple[TrainConfig, str]:
        request, start = self._request, ""
        if training.pretrained is not None:
            start = self.config(training.pretrained, seed).workdir
        own_seed = seed + _TWINS_APART * training.twin
        config = scaled(_parsed(training, own_seed, start), request.scale)
        if request.options:
            config = _overridden(config, request.options, training)
        workdir = request.folder / RUNS / _name(config, Path(start).name if start else "")
        return dataclasses.replace(config, workdir=str(workdir)), start


def networks_of(
    items: Mapping[str, tuple[Item, Sequence[Row]]],
    request: Request,
    networks: Networks | None = None,
) -> list[Network]:
    """The networks that some items need, each after the one that it begins with.

    Args:
      items: name, as "mart/table4" -> the item, and those of its rows that are wanted.
      request: how they are to be made.
      networks: that were found before with this request.
    """
    networks, wanted = networks or Networks(request), _Wanted()
    for name, (item, rows) in items.items():
        for seed in request.seeds_of(item):
            for row in rows:
                if row.training is None:
                    continue
                config = wanted.add(networks, row.training, seed, name)
                for column in map(row.column, item.columns):
                    if column.source is not None:
                        wanted.add(networks, column.source, seed, name)
                    elif column.attack:
                        evaluation = evaluation_of(column, config, request)
                        wanted.attacks[config.workdir].setdefault(evaluation, []).append(
                            column.attack
                        )
    return wanted.in_order()


def evaluation_of(column: Column, config: TrainConfig, request: Request) -> Evaluation:
    """What a column asks of a network, but for the name of the attack."""
    examples = scaled_examples(column.examples, config, request.scale)
    epsilon = parse_number(column.epsilon) if column.epsilon else None
    return Evaluation((), column.checkpoint, examples, epsilon)


class _Wanted:
    """Networks by their folders, and what is asked of each."""

    def __init__(self) -> None:
        self.configs: dict[str, tuple[TrainConfig, str]] = {}
        self.attacks: dict[str, dict[Evaluation, list[str]]] = {}
        self.items: dict[str, list[str]] = {}

    def add(self, networks: Networks, training: Training, seed: int, item: str) -> TrainConfig:
        if training.pretrained is not None:
            self.add(networks, training.pretrained, seed, item)
        config = networks.config(training, seed)
        self.configs.setdefault(config.workdir, (config, networks.start(training, seed)))
        self.attacks.setdefault(config.workdir, {})
        self.items.setdefault(config.workdir, []).append(item)
        return config

    def in_order(self) -> list[Network]:
        return [
            Network(config, start, _grouped(self.attacks[folder]), _each_once(self.items[folder]))
            for folder, (config, start) in self.configs.items()
        ]


def _grouped(attacks: Mapping[Evaluation, Iterable[str]]) -> tuple[Evaluation, ...]:
    """Each evaluation with its attacks; clean images, of any radius, are in whichever there is."""
    found = [
        evaluation._replace(attacks=_each_once(names)) for evaluation, names in attacks.items()
    ]
    for clean in [one for one in found if one.attacks == (CLEAN,)]:
        others = [number for number, one in enumerate(found) if _is_beside(one, clean)]
        if others:
            host = found[others[0]]
            found[others[0]] = host._replace(attacks=_each_once((CLEAN, *host.attacks)))
            found.remove(clean)
    return tuple(found)


def _is_beside(one: Evaluation, other: Evaluation) -> bool:
    """Whether two evaluations are of the same weights and images, one in another ball."""
    same = (one.checkpoint, one.examples) == (other.checkpoint, other.examples)
    return same and one.epsilon != other.epsilon


def _each_once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _parsed(training: Training, seed: int, start: str) -> TrainConfig:
    path = _flag_file(training)
    arguments = [f"--flagfile={path}", *(f"--{name}={value}" for name, value in training.options)]
    if start:
        arguments.append(f"--init_from={start}")
    return _config([*arguments, f"--seed={seed}"], path)


def _overridden(config: TrainConfig, options: Sequence[str], training: Training) -> TrainConfig:
    lines = config.to_flags().splitlines()
    return _config([*lines, *options], _flag_file(training))


def _flag_file(training: Training) -> Path:
    return Path(installed.flag_file(f"{training.flag_file}.flags"))


def _config(arguments: Sequence[str], path: Path) -> TrainConfig:
    values = flags.FlagValues()
    define_flags(values)
    try:
        values(["reproduce", *arguments])
        return config_from_flags(values)
    except (flags.Error, OSError, ValueError) as error:
        raise UserError(f"{path}: {error}") from error


def _name(config: TrainConfig, start: str) -> str:
    # What is as by default is left out: an option that is new in another version changes no name.
    said = [
        f"{field.name}={format_value(getattr(config, field.name))}"
        for field in dataclasses.fields(config)
        if field.metadata["recorded"]
        and field.name not in _PLACES
        and getattr(config, field.name) != field.default
    ]
    # Of a command line, bytes that are no text among them.
    known_by = "\n".join([*said, start]).encode(errors="backslashreplace")
    digest = hashlib.sha256(known_by).hexdigest()[:8]
    return f"{config.method}-{config.model}-{config.dataset}-{digest}-seed={config.seed}"


def require_accepted(networks: Iterable[Network], check: Callable[[TrainConfig], None]) -> None:
    """Refuses a network whose options are not accepted, before any is trained.

    Args:
      networks: that are to be trained.
      check: raises ValueError; `training.check_experiment`.
    """
    for network in networks:
        try:
            check(network.config)
        except ValueError as error:
            raise UserError(f"{network.name} ({network.items[0]}): {error}") from error
