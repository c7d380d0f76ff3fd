"""What was measured of a table or figure: each cell over the seeds, beside the published number."""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from scipy import special

from robustjax.config import TrainConfig
from robustjax.evaluation.asked import usual_settings
from robustjax.evaluation.spec import parse_attack
from robustjax.files import Path
from robustjax.papers import black_box
from robustjax.papers.item import Column, Item, Published, Row
from robustjax.papers.planned import Evaluation, Network, Networks, Request, evaluation_of
from robustjax.reports.sweep import CENTRES
from robustjax.runs.evaluations import Evaluations, Record, Selection
from robustjax.runs.log import read_rows
from robustjax.runs.names import METRICS


class Seen(NamedTuple):
    """What one seed's network has in a cell.

    Attributes:
      value: in per cent if it is an accuracy.
      interval: its 95 % interval from the number of examples; None of what is no accuracy.
      examples: how many were attacked; 0 of what is no accuracy.
    """

    value: float
    interval: tuple[float, float] | None = None
    examples: int = 0


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
      row: its name.
      column: its head.
      published: the paper's number; None where it has none.
      seen: seed -> what was measured.
      centre: "mean" or "median" over the seeds, as the paper has it.
    """

    row: str
    column: str
    published: Published | None
    seen: dict[int, Seen]
    centre: str = "mean"

    @property
    def ours(self) -> float | None:
        """The mean or median over the seeds; None where nothing is measured."""
        values = [one.value for one in self.seen.values()]
        return CENTRES[self.centre](values) if values else None

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation over the seeds; None of fewer than two."""
        values = [one.value for one in self.seen.values()]
        return statistics.stdev(values) if len(values) > 1 else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 %: of the mean over several seeds (Student), of one network over its examples."""
        values, deviation = [one.value for one in self.seen.values()], self.deviation
        if deviation is None:
            return next((one.interval for one in self.seen.values()), None)
        mean, degrees = statistics.fmean(values), len(values) - 1
        half = float(special.stdtrit(degrees, 0.975)) * deviation / math.sqrt(len(values))
        return (mean - half, mean + half)

    @property
    def paper(self) -> float | None:
        """The published number without its deviation; None where it is none."""
        found = self.published[0] if isinstance(self.published, tuple) else self.published
        return None if isinstance(found, str) else found

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's, where there are both."""
        ours, paper = self.ours, self.paper
        return None if ours is None or paper is None else ours - paper

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "row": self.row,
            "column": self.column,
            "published": self.published,
            "ours": self.ours,
            "centre": self.centre,
            "deviation": self.deviation,
            "interval_95": self.interval,
            "difference": self.difference,
            "seeds": {str(seed): one._asdict() for seed, one in self.seen.items()},
        }

    @staticmethod
    def seen_from_json(content: Mapping[str, Any]) -> dict[int, Seen]:
        """What each seed's network has, from `to_json`."""
        found = {}
        for seed, one in content["seeds"].items():
            interval = one["interval"] and (one["interval"][0], one["interval"][1])
            found[int(seed)] = Seen(one["value"], interval, one["examples"])
        return found


def cells_of(
    item: Item, rows: Sequence[Row], request: Request, networks: Networks | None = None
) -> list[Cell]:
    """The cells of some rows of an item, each with what is there of it.

    Args:
      item: the table or figure.
      rows: those of its rows that are wanted.
      request: how they were made, and where they lie.
      networks: that were found before with this request.
    """
    networks = networks or Networks(request)
    reader = _Reader(request, networks)
    found = []
    for row in rows:
        for column in map(row.column, item.columns):
            seen = {}
            for seed in request.seeds_of(item):
                one = reader.read(row, column, seed)
                if one is not None:
                    seen[seed] = one
            found.append(
                Cell(row.name, column.name, row.published.get(column.name), seen, item.centre)
            )
    return found


class _Reader:
    """Reads what is there of networks, each file once."""

    def __init__(self, request: Request, networks: Networks) -> None:
        self._request, self._networks = request, networks
        self._records: dict[str, list[Record]] = {}
        self._logs: dict[str, list[dict[str, Any]]] = {}

    def read(self, row: Row, column: Column, seed: int) -> Seen | None:
        if row.training is None:
            return None
        config = self._networks.config(row.training, seed)
        if not column.attack:
            return self._of_log(config, column.quantity)
        seen = (
            self._of_records(config, column)
            if column.source is None
            else black_box.read(self._pair(config, column, seed))
        )
        if seen is None:
            return None
        accuracy, (low, high), examples = seen
        return Seen(100 * accuracy, (100 * low, 100 * high), examples)

    def _pair(self, config: TrainConfig, column: Column, seed: int) -> black_box.Pair:
        return black_box.pair_of(config, column, seed, self._networks, self._request)

    def _of_records(
        self, config: TrainConfig, column: Column
    ) -> tuple[float, tuple[float, float], int] | None:
        selection = _selection(column.attack, evaluation_of(column, config, self._request), config)
        if config.workdir not in self._records:
            self._records[config.workdir] = Evaluations(Path(config.workdir)).records()
        accepted = [one for one in self._records[config.workdir] if selection.accepts(one)]
        if not accepted:
            return None
        return accepted[-1].accuracy, accepted[-1].interval, accepted[-1].examples

    def _of_log(self, config: TrainConfig, key: str) -> Seen | None:
        log = Path(config.workdir) / METRICS
        if config.workdir not in self._logs:
            self._logs[config.workdir] = list(read_rows(log)) if log.exists() else []
        values = [row[key] for row in self._logs[config.workdir] if row.get(key) is not None]
        if len(values) < config.epochs:
            return None
        return Seen(values[-1] if key.endswith("_seconds") else statistics.fmean(values))


def _selection(attack: str, wanted: Evaluation, config: TrainConfig) -> Selection:
    """Which records are of an attack of an evaluation."""
    epsilon = config.test_epsilon if wanted.epsilon is None else wanted.epsilon
    settings = usual_settings(parse_attack(attack), config.norm, epsilon)
    examples = wanted.examples or math.inf
    return Selection(attack, examples, wanted.checkpoint, config.epochs, settings, seed=0)


def is_trained(config: TrainConfig) -> bool:
    """Whether a network's log has all its epochs."""
    log = Path(config.workdir) / METRICS
    epochs = [row["epoch"] for row in read_rows(log)] if log.is_file() else []
    return epochs == list(range(1, config.epochs + 1))


def missing_evaluations(network: Network) -> list[Evaluation]:
    """What of a network's evaluations is not measured yet."""
    records = Evaluations(network.workdir).records()
    found = []
    for evaluation in network.evaluations:
        attacks = tuple(
            attack
            for attack in evaluation.attacks
            if not any(map(_selection(attack, evaluation, network.config).accepts, records))
        )
        if attacks:
            found.append(evaluation._replace(attacks=attacks))
    return found
