"""What a report says of training: its best checkpoint is the one that evaluating reads."""

import json

import numpy as np
import pytest

from robustjax.config import TrainConfig
from robustjax.reports.html.course import training
from robustjax.runs.checkpoint import Checkpoints
from robustjax.runs.folder import read_run
from robustjax.runs.log import KEYS

STEPS = 4
"""Of an epoch."""

ACCURACIES = {1: 0.6, 2: 0.7, 3: 0.6}
"""On the hold-out, of each epoch in the log."""


def write_run(folder, log=ACCURACIES, saved=()):
    """A run with checkpoints after some epochs, or within one; only whole epochs are measured."""
    folder.mkdir()
    (folder / "flags.txt").write_text(TrainConfig(dataset="digits", workdir=str(folder)).to_flags())
    rows = [
        {
            **dict.fromkeys(KEYS, 0.5),
            "epoch": epoch,
            "step": STEPS * epoch,
            "holdout_robust_accuracy": accuracy,
        }
        for epoch, accuracy in log.items()
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Checkpoints(folder / "checkpoints", keep_best=True) as checkpoints:
        for epoch in saved:
            metric = None if epoch % 1 else ACCURACIES.get(epoch, 0.5)
            checkpoints.save(round(STEPS * epoch), {"weight": np.zeros(1)}, {}, metric)
    return folder


def facts(folder):
    """The facts of the section, name -> value."""
    return dict(training(read_run(str(folder), "run"))["facts"].pairs)


BEST, HIGHEST = "best checkpoint", "highest on the hold-out"


@pytest.mark.parametrize(
    ("saved", "expected"),
    [
        pytest.param(
            (1, 2, 3),
            {BEST: "epoch 2 (step 8), 70.00 % robust on the hold-out"},
            id="every epoch",
        ),
        pytest.param(
            (1, 3),
            {
                BEST: "epoch 3 (step 12), 60.00 % robust on the hold-out",
                HIGHEST: "epoch 2, 70.00 % robust; there is no checkpoint of it",
            },
            id="every second epoch",
        ),
        pytest.param(
            (2.25,),
            {HIGHEST: "epoch 2, 70.00 % robust; no checkpoint that was measured can be read here"},
            id="within an epoch",
        ),
        pytest.param(
            (5,),
            {BEST: "step 20, which is not in the log", HIGHEST: "epoch 2, 70.00 % robust"},
            id="an epoch that the log lacks",
        ),
    ],
)
def test_the_best_checkpoint_is_that_which_evaluating_reads(tmp_path, saved, expected):
    folder = write_run(tmp_path / "run", saved=saved)
    shown = facts(folder)
    assert {name: shown[name] for name in (BEST, HIGHEST) if name in shown} == expected
    with Checkpoints(folder / "checkpoints", keep_best=True, read_only=True) as checkpoints:
        step = checkpoints.restore_raw(best=True).step
    assert BEST not in expected or f"step {step}" in shown[BEST]


def test_without_a_hold_out_nothing_is_called_the_best(tmp_path):
    folder = write_run(tmp_path / "run", log={1: None, 2: None}, saved=(2.25,))
    assert not {BEST, HIGHEST} & facts(folder).keys()


def test_a_checkpoint_that_cannot_be_read_is_no_reason_for_no_report(tmp_path):
    folder = write_run(tmp_path / "run", saved=(2,))
    (folder / "checkpoints/8/record/metadata").write_bytes(b"\xff")
    assert facts(folder)[HIGHEST].startswith("epoch 2, 70.00 % robust; no checkpoint")
