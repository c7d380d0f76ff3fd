"""Settings of a sweep in pairs: only what has the same attack, seed and images is compared."""

import numpy as np

from robustjax.evaluation import accumulated
from robustjax.evaluation.one_attack import AttackScore
from robustjax.files import Path
from robustjax.reports.sweep import SweepRun
from robustjax.reports.sweep_pairs import paired_settings, pairs_to_markdown
from robustjax.runs.evaluations import Evaluations

CHECKPOINT = {"digest": "b", "kind": "best", "step": 8}


def write_run(folder, first_right, beta, seed, data="t", epsilon=0.1, error=""):
    """A run that is right about its clean images, and attacked about those from one on."""
    settings = {"norm": "linf", "epsilon": epsilon}
    scores = {
        "clean": AttackScore(np.ones(20, bool), {}),
        "fgsm": AttackScore(np.arange(20) >= first_right, settings),
    }
    facts = {"digest": data, "dataset": data, "available_examples": 20, "own": True}
    records = accumulated.records_of(scores, data=facts, checkpoint=CHECKPOINT, about={"seed": 0})
    path = Path(folder) / f"{beta}-{seed}"
    Evaluations(path).add(records)
    return SweepRun({"beta": beta}, seed, path, error)


def test_the_best_of_each_attack_and_seed_is_held_beside_the_others(tmp_path):
    runs = [
        write_run(tmp_path, 8, "1", 0),
        write_run(tmp_path, 2, "3", 0),
        write_run(tmp_path, 3, "1", 1),
        write_run(tmp_path, 4, "3", 1),
        write_run(tmp_path, 9, "6", 1, data="other"),
        write_run(tmp_path, 9, "8", 1, epsilon=0.2),
        write_run(tmp_path, 9, "9", 1, error="diverged"),
    ]
    found = [row for row in paired_settings(runs) if row["attack"] == "fgsm"]
    assert found == [
        {
            "attack": "fgsm", "seed": 0, "best": "beta=3", "other": "beta=1", "examples": 20,
            "best_alone": 6, "other_alone": 0, "p_value": 2 / 64,
        },
        {
            "attack": "fgsm", "seed": 1, "best": "beta=1", "other": "beta=3", "examples": 20,
            "best_alone": 1, "other_alone": 0, "p_value": 1.0,
        },
    ]  # fmt: skip
    text = pairs_to_markdown(found)
    assert "| fgsm | 0 | beta=3 | beta=1 | 20 | 6 | 0 | 0.0312 |" in text
    clean = [row for row in paired_settings(runs) if row["attack"] == "clean"]
    assert clean and all(row["p_value"] == 1 for row in clean)


def test_one_setting_has_no_pair(tmp_path):
    runs = [write_run(tmp_path, 2, "1", seed) for seed in (0, 1)]
    assert paired_settings(runs) == [] and pairs_to_markdown([]) == ""
