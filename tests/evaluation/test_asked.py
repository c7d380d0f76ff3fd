"""What is asked of an evaluation is found among a run's records only where it is just the same."""

import dataclasses

import numpy as np
import pytest

from robustjax import attacks
from robustjax.attacks import registry
from robustjax.evaluation.asked import Asked
from robustjax.evaluation.spec import parse_attack
from robustjax.runs.evaluations import Record, subject_of

DATA, WEIGHTS = {"digest": "d"}, {"digest": "w"}
THREAT = attacks.ThreatModel("linf", 0.1)
ASKED = Asked(subject_of(DATA, WEIGHTS), THREAT, 10, 8, seed=3)


def record(name="pgd-4", asked=ASKED, **parts):
    """A record of an attack, as an evaluation would have made it."""
    settings = parse_attack(name).completed(asked.threat, 10, **asked.options()).settings("linf")
    found = Record(
        name, settings, DATA, WEIGHTS, asked.examples, 0.5, (0.2, 0.8),
        correct=np.arange(asked.examples) % 2 == 0, about={"seed": asked.seed},
    )  # fmt: skip
    return dataclasses.replace(Record.from_json(found.to_json()), **parts)


def test_the_same_is_there_and_the_newest_of_it():
    first, second = record(), record()
    assert ASKED.recorded(parse_attack("pgd-4"), [first, second, record("fgsm")]) is second


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": "other"},
        {"threat": attacks.ThreatModel("linf", 0.2)},
        {"examples": 9},
        {"seed": 4},
        {"step_size": 0.01},
        {"start": "clean"},
        {"success": "any"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_whatever_differs_is_another(changes):
    assert ASKED._replace(**changes).recorded(parse_attack("pgd-4"), [record()]) is None


def test_a_figure_without_verdicts_or_of_another_name_is_not_taken():
    spec = parse_attack("pgd-4")
    assert ASKED.recorded(spec, [record(correct=None), record("pgd-5")]) is None


def test_a_clean_accuracy_is_there_once_its_labels_are():
    clean = record("clean")
    assert ASKED.recorded(parse_attack("clean"), [clean]) is None
    clean = dataclasses.replace(clean, labels=np.zeros(8, np.int32))
    assert ASKED._replace(seed=9).recorded(parse_attack("clean"), [clean]) is clean


def test_code_of_ones_own_may_have_changed_and_is_never_taken():
    @attacks.register("unchanged")
    def unchanged(key, logits_fn, images, labels, threat):
        return images

    try:
        assert ASKED.recorded(parse_attack("unchanged"), [record("unchanged")]) is None
    finally:
        del registry.ENTRIES["unchanged"]


def test_an_attack_that_cannot_be_run_is_refused_first():
    flat = ASKED._replace(threat=attacks.ThreatModel("l2", 0.1))
    with pytest.raises(ValueError, match="cw-4"):
        flat.recorded(parse_attack("cw-4"), [])
