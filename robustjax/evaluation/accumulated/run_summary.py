"""What evaluation.json says: all that was ever measured of a run, of its records one figure each.

The file sums up the run's own test set, its own threat model and its chosen checkpoint. What was
measured of other data, in another ball, or at another checkpoint stands apart in it, under
"others", in the same form: accuracies that do not compare never stand in one table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from robustjax.data import Dataset
from robustjax.errors import UserError
from robustjax.evaluation.accumulated.earlier_versions import earlier_records
from robustjax.evaluation.one_attack import AttackScore
from robustjax.evaluation.radius_curves import radius_curves
from robustjax.evaluation.summary import (
    COMMANDS,
    CURVES,
    MEASURED,
    OF_ALL,
    OTHERS,
    PAIRED,
    PER_CLASS,
    WORST,
    told_apart,
)
from robustjax.evaluation.verdicts import (
    against_strongest,
    per_class,
    verdicts_as_csv,
    wilson_interval,
)
from robustjax.files import Path
from robustjax.runs.evaluations import (
    CLEAN,
    WORST_CASE,
    WORST_CASE_INTERVAL,
    WORST_CASE_SHARED,
    Evaluations,
    Record,
    best_of_each,
    is_same,
)
from robustjax.runs.names import EVALUATION


def add_to_run(
    folder: Path,
    records: Sequence[Record],
    norm: str,
    epsilon: float,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Adds an evaluation to those of a run, and sums up all of them anew.

    Args:
      folder: of the run.
      records: of the evaluation.
      norm: of the run's own threat model.
      epsilon: its radius.
      report: told, in one line, of what is damaged.

    Returns:
      The content of the run's evaluation.json, which is still to be written.

    Raises:
      OSError: the records cannot be written.
    """
    store = Evaluations(folder)
    if not store.records():
        earlier = earlier_records(folder, report)
        if not earlier and (folder / EVALUATION).exists():
            aside = (folder / EVALUATION).with_suffix(".damaged.json")
            (folder / EVALUATION).replace(aside)
            report(f"what could not be read is kept as {aside}")
        records = [*earlier, *records]
    if records:
        store.add(records)
    return summary_of_run(store.records(report), norm, epsilon)


def records_of(
    scores: Mapping[str, AttackScore],
    *,
    data: Mapping[str, Any],
    checkpoint: Mapping[str, Any],
    about: Mapping[str, Any],
    dataset: Dataset | None = None,
) -> list[Record]:
    """The records of one evaluation.

    Args:
      scores: of `evaluate`.
      data: see `Record`, also of the next two.
      checkpoint: of the network.
      about: what all of them share.
      dataset: what was attacked, whose labels are recorded with the clean accuracy.
    """
    found = []
    for name, score in scores.items():
        own: dict[str, Any] = {"data": data}
        if name == CLEAN and dataset is not None:
            own["labels"] = np.asarray(dataset.labels[: len(score.correct)])
            if dataset.class_names:
                own["data"] = {**data, "class_names": list(dataset.class_names)}
        timed = {} if score.seconds is None else {"attack_seconds": score.seconds}
        settings = {key: value for key, value in score.settings.items() if key not in MEASURED}
        measured = {key: value for key, value in score.settings.items() if key in MEASURED}
        total = len(score.correct)
        found.append(
            Record(
                attack=name,
                settings=settings,
                checkpoint=checkpoint,
                examples=total,
                accuracy=float(score.correct.mean()),
                interval=wilson_interval(int(score.correct.sum()), total),
                correct=score.correct,
                measured=measured,
                about={**about, **timed},
                **own,
            )
        )
    return found


def summary_of_run(records: Sequence[Record], norm: str, epsilon: float) -> dict[str, Any]:
    """The content of evaluation.json.

    Args:
      records: of the run, in the order in which they were made; one or more. What was measured of
        a subject whose clean accuracy is not known, because a line was damaged, has no part.
      norm: of the run's own threat model.
      epsilon: its radius.

    Returns:
      As `evaluation.summarize` of the run's own test set, checkpoint and threat model; and under
      "others" a list of the same for whatever else was measured, each with its "norm" and
      "epsilon". Under "curves" stand the attacks that were run at several radii, see
      `radius_curves`; those of other data and checkpoints under the first "others" of these. Of its
      own alone there are "per_class" and "paired", see `verdicts.per_class` and
      `verdicts.against_strongest`, as far as labels and verdicts are recorded.
    """
    subjects, chosen = _by_subject(records)
    own, others = {}, []
    for subject, of_subject in subjects.items():
        balls = _by_ball(of_subject, (norm, epsilon))
        curves = [curve.to_json() for curve in radius_curves(of_subject)]
        more = {CURVES: curves} if curves else {}
        for ball, in_ball in balls.items():
            if subject == chosen and ball == (norm, epsilon):
                own = {**summary_of(in_ball), **_from_verdicts(in_ball), **more}
            elif len(balls) == 1 or any(record.attack != CLEAN for record in in_ball):
                others.append({"norm": ball[0], "epsilon": ball[1], **summary_of(in_ball)})
                if subject != chosen:
                    others[-1] |= more
                    more = {}
    return {**own, OTHERS: others} if others else own


def examples_of_run(records: Sequence[Record], norm: str, epsilon: float) -> str:
    """What each example of the run's own test set withstood, as CSV; see `verdicts_as_csv`.

    Args:
      records: as for `summary_of_run`.
      norm: likewise.
      epsilon: likewise.
    """
    subjects, chosen = _by_subject(records)
    clean, attacks = _best_by_name(_by_ball(subjects[chosen], (norm, epsilon))[norm, epsilon])
    verdicts = {
        name: record.correct
        for name, record in {CLEAN: clean, **attacks}.items()
        if record.correct is not None
    }
    curves = radius_curves(subjects[chosen])
    names = told_apart([(curve.attack, {"norm": curve.norm, **curve.settings}) for curve in curves])
    fallen_at = {name: curve.fallen_at for name, curve in zip(names, curves, strict=True)}
    return verdicts_as_csv(verdicts, clean.labels, fallen_at)


def _by_subject(records: Sequence[Record]) -> tuple[dict[str, list[Record]], str]:
    """The records of each subject whose clean accuracy is known, and the chosen subject."""
    subjects: dict[str, list[Record]] = {}
    for record in records:
        subjects.setdefault(record.subject, []).append(record)
    subjects = {
        subject: found
        for subject, found in subjects.items()
        if any(record.attack == CLEAN for record in found)
    }
    return subjects, _chosen_subject([record for record in records if record.subject in subjects])


def _from_verdicts(records: Sequence[Record]) -> dict[str, Any]:
    """What the verdicts of a subject in one ball say beside the accuracies."""
    clean, attacks = _best_by_name(records)
    correct = {
        name: record.correct for name, record in attacks.items() if record.correct is not None
    }
    found: dict[str, Any] = {}
    if clean.correct is not None and clean.labels is not None:
        on_all = {name: mine for name, mine in correct.items() if len(mine) == len(clean.labels)}
        names = clean.data.get("class_names") or ()
        found[PER_CLASS] = per_class(clean.correct, on_all, clean.labels, names)
    if len(correct) > 1:
        found[PAIRED] = against_strongest(correct)
    return found


def _best_by_name(records: Sequence[Record]) -> tuple[Record, dict[str, Record]]:
    """The clean record of a subject, and one of each attack by its name in the summary, by age."""
    made = {id(record): number for number, record in enumerate(records)}
    best = best_of_each(records)
    clean = next(record for record in best if record.attack == CLEAN)
    attacks = [record for record in best if record.attack != CLEAN]
    return clean, _named(sorted(attacks, key=lambda record: made[id(record)]))


def summary_of(records: Sequence[Record]) -> dict[str, Any]:
    """What was measured of one subject in one ball, as `evaluation.summarize` has it.

    Args:
      records: of one subject and ball, and the clean accuracy of that subject.

    Returns:
      Its "commands" are those that made the attacks' figures, each once, as far as recorded.
    """
    clean, named = _best_by_name(records)
    attacks = list(named.values())
    newest = records[-1]
    about = {key: value for key, value in newest.about.items() if value is not None}
    for name in ("command", "asked", "attack_seconds"):
        about.pop(name, None)
    if len({record.about.get("protocol") for record in attacks}) > 1:
        about.pop("protocol", None)
    entries = {
        name: {
            "robust_accuracy": record.accuracy,
            "interval_95": list(record.interval),
            **({} if record.examples == clean.examples else {"examples": record.examples}),
            **record.settings,
            **record.measured,
            **_apart(record.about, about),
        }
        for name, record in named.items()
    }
    made_by = [record.about.get("command") for record in attacks or [clean]]
    commands = list(dict.fromkeys(filter(None, made_by)))
    on_all = [record for record in attacks if record.examples == clean.examples]
    summary = {
        "clean_accuracy": clean.accuracy,
        "interval_95": list(clean.interval),
        "attacks": entries,
    }
    correct = [record.correct for record in (clean, *on_all) if record.correct is not None]
    if on_all and len(correct) == 1 + len(on_all):
        worst = np.logical_and.reduce(correct)
        summary[WORST_CASE] = float(worst.mean())
        summary[WORST_CASE_INTERVAL] = list(wilson_interval(int(worst.sum()), len(worst)))
    elif len(attacks) == len(on_all) and WORST_CASE in clean.measured:
        summary |= {key: clean.measured[key] for key in WORST if key in clean.measured}
    if len(on_all) < len(attacks):
        summary |= _worst_case_on_shared([clean, *attacks])
    return {
        **summary,
        "examples": clean.examples,
        "checkpoint": {
            key: clean.checkpoint.get(key) for key in ("kind", "step", "moving_average")
        },
        "dataset": clean.data.get("dataset"),
        "available_examples": clean.data.get("available_examples"),
        **about,
        **({COMMANDS: commands} if commands else {}),
    }


def _worst_case_on_shared(records: Sequence[Record]) -> dict[str, Any]:
    """The worst case over attacks on different numbers of examples: on the first, which all had."""
    shared = min(record.examples for record in records)
    correct = [record.correct[:shared] for record in records if record.correct is not None]
    if len(correct) < len(records):
        return {}
    right = int(np.logical_and.reduce(correct).sum())
    found = {
        "robust_accuracy": right / shared,
        "interval_95": list(wilson_interval(right, shared)),
        "examples": shared,
    }
    return {WORST_CASE_SHARED: found}


def _chosen_subject(records: Sequence[Record]) -> str:
    """The newest of the run's own test set and its best checkpoint, as far as there is such."""
    for wanted in (
        lambda record: record.data.get("own") and record.checkpoint.get("kind") == "best",
        lambda record: record.data.get("own"),
        lambda record: True,
    ):
        found = [record.subject for record in records if wanted(record)]
        if found:
            return found[-1]
    raise UserError("there is no record")


def _by_ball(
    records: Sequence[Record], own: tuple[Any, Any]
) -> dict[tuple[Any, Any], list[Record]]:
    """The attacks of a subject by norm and radius, the clean accuracy with each.

    The run's own ball is among them, also where nothing was attacked in it.
    """
    clean = [record for record in records if record.attack == CLEAN]
    found: dict[tuple[Any, Any], list[Record]] = {own: []}
    for record in records:
        if record.attack != CLEAN:
            ball = (record.settings.get("norm"), record.settings.get("epsilon"))
            known = next((other for other in found if _is_one_ball(other, ball)), ball)
            found.setdefault(known, []).append(record)
    return {ball: [*clean, *of_ball] for ball, of_ball in found.items()}


def _is_one_ball(first: tuple[Any, Any], second: tuple[Any, Any]) -> bool:
    return all(map(is_same, first, second))


def _named(attacks: Sequence[Record]) -> dict[str, Record]:
    """A name for each attack: its own; of attacks that share one, the newest has it alone.

    The others say what sets them apart: "pgd-20(step_size=0.003)".
    """
    settings = [
        (record.attack, {**record.settings, "seed": record.about.get("seed")}) for record in attacks
    ]
    return dict(zip(told_apart(settings), attacks, strict=True))


def _apart(mine: Mapping[str, Any], whole: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: mine[key]
        for key in OF_ALL
        if mine.get(key) is not None and mine.get(key) != whole.get(key)
    }
