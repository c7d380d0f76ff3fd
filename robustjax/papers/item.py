"""A paper as data: its tables and figures, how rows are trained and attacked, what was published.

From these values come the plan of runs, the table beside the published one, the figure, the page of
documentation and the tests. Nothing here is computed, and nothing is read but the values of
`evaluation.protocols`, the one place where a paper's attacks are said.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from robustjax.attacks import naming
from robustjax.evaluation.protocols import protocol_attacks
from robustjax.text import format_value

LATEST, BEST = "latest", "best"

Published = float | tuple[float, float] | str
"""A published number, in per cent if an accuracy; perhaps with a deviation; or as it is printed."""


@dataclasses.dataclass(frozen=True)
class Training:
    """How a network is trained: a flag file, and the options that override it.

    Attributes:
      flag_file: its name in launch/, without the ending; "mart" is launch/mart.flags.
      options: (name, value as text) of launch/train.py, in that order after the flag file.
      pretrained: the training whose weights it begins with (--init_from).
      twin: tells a network that is trained independently of another one by the same options: its
        seeds are others.
    """

    flag_file: str
    options: tuple[tuple[str, str], ...] = ()
    pretrained: Training | None = None
    twin: int = 0

    def but(self, **options: Any) -> Training:
        """The same with further options, which override those that it has."""
        return dataclasses.replace(self, options=_merged(self.options, options))

    def independent(self) -> Training:
        """The same trained once more, from other seeds: what a black-box attack is made on."""
        return dataclasses.replace(self, twin=self.twin + 1)


def trained(flag_file: str, *, pretrained: Training | None = None, **options: Any) -> Training:
    """A training by its flag file in launch/, with options that override it.

    Example:
      >>> trained("mart", model="resnet_18", epochs=120).options
      (('model', 'resnet_18'), ('epochs', '120'))
    """
    return Training(flag_file, _merged((), options), pretrained)


def _merged(
    before: tuple[tuple[str, str], ...], options: Mapping[str, Any]
) -> tuple[tuple[str, str], ...]:
    return tuple(
        {**dict(before), **{name: _text(value) for name, value in options.items()}}.items()
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else format_value(value)


@dataclasses.dataclass(frozen=True)
class Column:
    """What a column of a table shows of each row's network.

    Attributes:
      name: its head, as the paper prints it.
      attack: as `--attacks` takes it, with settings of its own; "" where `quantity` is of the log.
      epsilon: radius of the ball, as text ("8/255"); "" for that which the network was trained for.
      checkpoint: "latest" (the last epoch) or "best" (by robust accuracy on held-out images).
      examples: the first so many of the test set; 0: all.
      source: the network whose adversarial images are shown to the row's (black box).
      sets: of a black box: how often they are made, each time from other starts; what counts is to
        be right about all of them.
      quantity: "accuracy", or a key of metrics.jsonl, whose mean over the epochs is shown
        ("mean_backward_passes"), and of "elapsed_seconds" the last.
    """

    name: str
    attack: str = ""
    epsilon: str = ""
    checkpoint: str = LATEST
    examples: int = 0
    source: Training | None = None
    sets: int = 1
    quantity: str = "accuracy"

    def but(self, **changes: Any) -> Column:
        """The same with some attributes changed."""
        return dataclasses.replace(self, **changes)


def columns(checkpoint: str = LATEST, epsilon: str = "", **attacks: str) -> tuple[Column, ...]:
    """Columns by their attacks: `columns(Natural="clean", PGD="pgd-20(step_size=2/255)")`."""
    return tuple(Column(name, attack, epsilon, checkpoint) for name, attack in attacks.items())


def protocol_columns(
    protocol: str, dataset: str, heads: Mapping[str, str], checkpoint: str = LATEST
) -> tuple[Column, ...]:
    """The columns of a table whose attacks are those of a paper's protocol.

    Args:
      protocol: of `evaluation.protocols`.
      dataset: of which it has attacks.
      heads: name of an attack in the protocol ("pgd-20") -> head of the column, in its order.
      checkpoint: as for `Column`.
    """
    by_name = {spec.name: spec for spec in protocol_attacks(protocol, dataset)}
    found = []
    for attack, head in heads.items():
        spec = by_name[attack]
        name = attack if spec.attack is None else naming.name_of(spec.attack)
        radius = "" if spec.epsilon is None or spec.attack is None else format_value(spec.epsilon)
        found.append(Column(head, name, radius, checkpoint, spec.examples or 0))
    return tuple(found)


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table, or a point or a line of a figure.

    Attributes:
      label: as the paper prints it.
      training: None where it cannot be had here; `reason` says why.
      published: head of a column -> the published number.
      line: of a figure: the line that the point lies on.
      x: of a figure: where the point lies.
      reason: why it cannot be trained here.
      changes: head of a column -> attributes of it that are others for this row, as the number of
        the checkpoint; {"": ...} for all columns.
    """

    label: str
    training: Training | None = None
    published: Mapping[str, Published] = dataclasses.field(default_factory=dict)
    line: str = ""
    x: float | None = None
    reason: str = ""
    changes: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """The label, of a figure behind that of its line; no two rows of an item have one."""
        apart = self.line and not self.label.startswith(self.line)
        return f"{self.line}: {self.label}" if apart else self.label

    def column(self, column: Column) -> Column:
        """A column of the item as it is for this row."""
        changes = {**self.changes.get("", {}), **self.changes.get(column.name, {})}
        return column.but(**changes) if changes else column


@dataclasses.dataclass(frozen=True)
class Points:
    """A figure of accuracies against a number: each row is a point at its `x`, on its `line`.

    Attributes:
      x_label: of the axis.
      log: whether the axis is logarithmic.
    """

    x_label: str
    log: bool = False


@dataclasses.dataclass(frozen=True)
class Curves:
    """A figure of what the logs say, per epoch: each row is a line.

    Attributes:
      keys: of metrics.jsonl, a panel each, as "holdout_robust_accuracy".
    """

    keys: tuple[str, ...] = ("holdout_clean_accuracy", "holdout_robust_accuracy", "loss")


@dataclasses.dataclass(frozen=True)
class Analysis:
    """A figure that launch/analyze.py draws of the rows' networks.

    Attributes:
      arguments: of it, but for --workdirs and --output.
      checkpoint: "latest" or "best".
    """

    arguments: tuple[str, ...]
    checkpoint: str = LATEST


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What an experiment of `papers.experiments` computes and draws, without rows.

    Attributes:
      name: of the experiment.
      settings: "setting=value" each, as launch/experiment.py takes them.
    """

    name: str
    settings: tuple[str, ...] = ()


Figure = Points | Curves | Analysis | Experiment


@dataclasses.dataclass(frozen=True)
class Item:
    """A table or a figure of a paper.

    Attributes:
      name: "table4", "fig2", "fig1_left"; in an appendix by its number too.
      title: what it shows, in our words.
      where: its section in the paper.
      rows: in the paper's order.
      columns: of a table, or the panels of `Points`.
      seeds: that each row is trained with; the paper's number of repetitions.
      centre: "mean" or "median" over the seeds, as the paper has it.
      figure: how it is drawn; None of a table.
      note: what a reader should know: what the paper leaves open, where its code differs, what
        stands in for what.
      reason: why the whole of it cannot be had here; then it has no rows.
    """

    name: str
    title: str
    where: str
    rows: tuple[Row, ...] = ()
    columns: tuple[Column, ...] = ()
    seeds: tuple[int, ...] = (1,)
    centre: str = "mean"
    figure: Figure | None = None
    note: str = ""
    reason: str = ""

    def cells(self) -> Sequence[tuple[Row, Column]]:
        """Every row with every column as it is for that row."""
        return [(row, row.column(column)) for row in self.rows for column in self.columns]


@dataclasses.dataclass(frozen=True)
class Equation:
    """An equation of a paper, and the function that computes it.

    Attributes:
      number: "eq. 11", "Algorithm 1".
      formula: in plain text.
      function: what computes it here.
    """

    number: str
    formula: str
    function: Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class Paper:
    """A paper.

    Attributes:
      name: before the slash in the name of an item.
      title: of the paper.
      authors: and the year, as "Wang et al. (2020)".
      algorithm: what it does, in our words; a paragraph or several, in Markdown.
      equations: in the paper's order.
      differences: where the paper and its own code differ, or where it is open, and what is done
        here; a sentence or two each.
      items: its tables and figures, in the paper's order, those of the appendices too.
    """

    name: str
    title: str
    authors: str
    algorithm: str
    equations: tuple[Equation, ...]
    differences: tuple[str, ...]
    items: tuple[Item, ...]
