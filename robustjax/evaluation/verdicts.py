"""What verdicts say beside the accuracy: its interval, by class, in pairs, and of which images."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from robustjax.arguments import require_whole, shown
from robustjax.errors import UserError


def wilson_interval(successes: int, total: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a fraction (Wilson, 1927).

    Args:
      successes: how many of them.
      total: of how many, at least 1.

    Raises:
      ValueError: a number is out of range.
    """
    require_whole("total", total, 1)
    require_whole("successes", successes, 0, total)
    z = 1.959963984540054
    fraction = successes / total
    centre = fraction + z**2 / (2 * total)
    half = z * np.sqrt(fraction * (1 - fraction) / total + z**2 / (4 * total**2))
    scale = 1 + z**2 / total
    return float(max(centre - half, 0.0) / scale), float(min(centre + half, scale) / scale)


class Paired(NamedTuple):
    """Two lists of verdicts on the same examples, and whether one is really better.

    Attributes:
      examples: how many both have.
      first_alone: how many of them only the first is right about.
      second_alone: how many only the second is.
      p_value: of McNemar's exact test, two-sided: how likely so uneven a split of the examples that
        they disagree about would be, were both equally good. 1 where they never disagree.
    """

    examples: int
    first_alone: int
    second_alone: int
    p_value: float


def paired(first: np.ndarray, second: np.ndarray) -> Paired:
    """Compares verdicts on the examples that both have, the first of the data.

    Args:
      first: bool [N].
      second: bool [M].

    Source: McNemar (1947), with the binomial distribution in place of its approximation.
    """
    from scipy.stats import binomtest  # Takes half a second to import.

    shared = min(len(first), len(second))
    first, second = np.asarray(first[:shared], bool), np.asarray(second[:shared], bool)
    alone = int((first & ~second).sum()), int((second & ~first).sum())
    p_value = binomtest(alone[0], sum(alone), 0.5).pvalue if any(alone) else 1.0
    return Paired(shared, *alone, float(p_value))


def against_strongest(correct: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Each attack beside the one that leaves the least, on the examples that they share.

    Args:
      correct: attack -> bool [N], the first of the same examples.

    Returns:
      [{"attack", "strongest", "examples", "broken_by_attack_alone", "broken_by_strongest_alone",
      "p_value"}], the last of McNemar's exact test; none of fewer than two attacks.
    """
    if len(correct) < 2:
        return []
    shared = min(map(len, correct.values()))
    strongest = min(correct, key=lambda name: correct[name][:shared].mean())
    found = []
    for name, verdicts in correct.items():
        if name != strongest:
            # What one of them alone leaves standing is what the other one alone breaks.
            examples, first, second, p_value = paired(correct[strongest], verdicts)
            found.append(
                {
                    "attack": name,
                    "strongest": strongest,
                    "examples": examples,
                    "broken_by_attack_alone": first,
                    "broken_by_strongest_alone": second,
                    "p_value": p_value,
                }
            )
    return found


def per_class(
    clean: np.ndarray,
    attacks: Mapping[str, np.ndarray],
    labels: np.ndarray,
    class_names: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Accuracy and robust accuracy of each class that occurs.

    Args:
      clean: bool [N], classified correctly as they are.
      attacks: name -> bool [N], correct under it.
      labels: int [N].
      class_names: of all classes; their numbers if empty.

    Returns:
      [{"class", "examples", "clean_accuracy", "robust_accuracy": {name: ...},
      "worst_case_robust_accuracy"}], the last two where there are attacks.
    """
    every = [clean, *attacks.values()]
    if any(len(verdicts) != len(labels) for verdicts in every):
        raise UserError(f"labels={shown(labels)}: accepted are those of {len(clean)} examples")
    worst = np.logical_and.reduce(every)
    found = []
    for number in np.unique(labels):
        mine = labels == number
        row: dict[str, Any] = {
            "class": class_names[number] if number < len(class_names) else str(number),
            "examples": int(mine.sum()),
            "clean_accuracy": float(clean[mine].mean()),
        }
        if attacks:
            row["robust_accuracy"] = {
                name: float(verdicts[mine].mean()) for name, verdicts in attacks.items()
            }
            row["worst_case_robust_accuracy"] = float(worst[mine].mean())
        found.append(row)
    return found


def verdicts_as_csv(
    verdicts: Mapping[str, np.ndarray],
    labels: np.ndarray | None = None,
    fallen_at: Mapping[str, np.ndarray] = {},
) -> str:
    """A line for each example: which attacks it withstood, and from which radius on it fell.

    Args:
      verdicts: name -> bool [N], the first of the data; "clean" among them.
      labels: int [M]; None: not known.
      fallen_at: name -> float [N], a radius; infinity: it fell at none.

    Returns:
      CSV with a head: "example", the position in the data; "label"; a column for each name, 1 where
      it was right, 0 where it fell, empty where it was not attacked; for each of `fallen_at`
      "NAME falls at", empty where it fell at no radius.
    """
    columns: dict[str, list[Any]] = {} if labels is None else {"label": [*map(int, labels)]}
    columns |= {name: [*map(int, found)] for name, found in verdicts.items()}
    for name, radii in fallen_at.items():
        columns[f"{name} falls at"] = [
            f"{radius:.6g}" if np.isfinite(radius) else "" for radius in radii
        ]
    total = max(map(len, columns.values()), default=0)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["example", *columns])
    for example in range(total):
        cells = [column[example] if example < len(column) else "" for column in columns.values()]
        writer.writerow([example, *cells])
    return text.getvalue()
