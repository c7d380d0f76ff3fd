"""NAP (Chandna and Kutlesa, 2021): its tables and figures, how they are made, what was published.

Beside the items: the algorithm in our words, the equations with the functions that compute them,
and where the paper, its authors' code (github.com/Kshitijc1/NAP) and this library differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from robustjax import evaluation, losses, methods
from robustjax.papers.item import (
    BEST,
    LATEST,
    Analysis,
    Column,
    Curves,
    Equation,
    Item,
    Paper,
    Row,
    Training,
    protocol_columns,
    trained,
)

NARROW, WIDE = "wide_resnet_34_4", "wide_resnet_34_10"

PGD_20 = "pgd-20(step_size=0.8/255,start=clean)"
"""Of section 4.1, and what chooses the epoch; the start is that of the authors' code."""

SETTINGS: dict[str, Any] = {
    "epsilon": "8/255",
    "step_size": "2/255",
    "epochs": 80,
    "decay_epochs": "40,60",
    "weight_decay": 5e-4,
    "attack_batch_norm": "train",
    "measure_attack": PGD_20,
}
"""Of section 4.1, where a flag file of another paper's method has something else."""


def _standard(model: str) -> Training:
    return trained("standard", model=model, **SETTINGS)


def _trades(model: str, beta: float = 8) -> Training:
    return trained("trades", model=model, beta=beta, **SETTINGS)


def _mart(model: str, beta: float = 8) -> Training:
    return trained("mart_wrn", model=model, beta=beta, **SETTINGS)


def _nap(model: str, beta: float = 6, **ablation: Any) -> Training:
    return trained("nap", model=model, beta=beta, measure_attack=PGD_20, **ablation)


NO_MARGIN_NO_BCE = _nap(NARROW, 0.3, margin=False, boosted=False)
NO_MARGIN = _nap(NARROW, 0.3, margin=False)
NO_BCE = _nap(NARROW, boosted=False)
BCE = trained("bce_at", measure_attack=PGD_20)


def _attacked(heads: Mapping[str, str]) -> tuple[Column, ...]:
    return protocol_columns("nap", "cifar10", heads, BEST)


def _row(columns: Sequence[Column], label: str, training: Training, *numbers: float) -> Row:
    """A table's row, with the published numbers in the order of the columns."""
    heads = (column.name for column in columns)
    return Row(label, training, dict(zip(heads, numbers, strict=True)))


_BY_PGD_20 = _attacked({"clean": "Natural", "pgd-20": "PGD-20"})
_BY_PGD_60 = _attacked({"clean": "Natural", "pgd-20": "PGD-20", "pgd-60x20": "PGD-60"})
_BY_AUTOATTACK = _attacked(
    {"apgd-ce": "APGD-CE", "apgd-t": "APGD-DLR-T", "fab-t": "FAB-T", "square": "Square"}
)
_NATURAL = (Column("Natural Accuracy", "clean", checkpoint=LATEST),)

_BEST_EPOCH = (
    "The paper takes the epoch that is best under PGD-20 on the test set; here it is chosen in the "
    "same way on 1,000 training images that are held out."
)

_TABLES = (
    Item(
        name="table1",
        title="Four losses on WRN-34-4: natural accuracy, and robust accuracy under PGD",
        where="section 4.2",
        rows=(
            _row(_BY_PGD_60, "Standard", _standard(NARROW), 82.2, 53.6, 52.1),
            _row(_BY_PGD_60, "TRADES", _trades(NARROW), 81.8, 55.3, 53.9),
            _row(_BY_PGD_60, "MART", _mart(NARROW), 79.9, 59.0, 57.5),
            _row(_BY_PGD_60, "NAP", _nap(NARROW), 82.1, 62.6, 61.5),
        ),
        columns=_BY_PGD_60,
        note=_BEST_EPOCH + " The row of NAP is doubtful: its 82.1 and 61.5 are also those of "
        "WRN-34-10 in table 2, table 4 has 78.9 for the natural accuracy of this network, and the "
        "text says that NAP is 3 points ahead of MART under PGD-60, which would be 60.5.",
    ),
    Item(
        name="table2",
        title="Standard adversarial training and NAP on WRN-34-10",
        where="section 4.2",
        rows=(
            _row(_BY_PGD_60, "Standard", _standard(WIDE), 84.5, 55.5, 54.0),
            _row(_BY_PGD_60, "NAP", _nap(WIDE), 82.1, 63.2, 61.5),
        ),
        columns=_BY_PGD_60,
        note=_BEST_EPOCH + " The command in the README of the authors' code, said to give the best "
        "results, trains this network for 100 epochs with drops after 60 and 80 (--epochs=100 "
        "--decay_epochs=60,80); the 80 epochs of the text are taken here.",
    ),
    Item(
        name="table3",
        title="WRN-34-10 under each of the four attacks of AutoAttack",
        where="section 4.2",
        rows=(
            _row(_BY_AUTOATTACK, "Standard", _standard(WIDE), 44.75, 44.28, 44.75, 53.10),
            _row(_BY_AUTOATTACK, "TRADES", _trades(WIDE), 55.28, 53.10, 53.45, 59.43),
            _row(_BY_AUTOATTACK, "NAP", _nap(WIDE), 58.42, 50.41, 50.82, 57.08),
        ),
        columns=_BY_AUTOATTACK,
        note="The published numbers of Standard and TRADES are, to our knowledge, those that the "
        "AutoAttack paper has for the models that Madry et al. and Zhang et al. published (TRADES "
        "at a radius of 0.031), and not of networks trained as in section 4.1, which is what these "
        "rows train: the paper's own Standard has 54.0 under PGD-60 in table 2. The attacks "
        "together leave NAP at most 50.41, less than TRADES.",
    ),
    Item(
        name="table4",
        title="NAP without its margin, without BCE, and without either",
        where="section 4.3",
        rows=(
            _row(_BY_PGD_20, "NAP (no margin, no BCE)", NO_MARGIN_NO_BCE, 79.1, 57.3),
            _row(_BY_PGD_20, "NAP (no margin)", NO_MARGIN, 77.3, 59.5),
            _row(_BY_PGD_20, "NAP (no BCE)", NO_BCE, 79.5, 58.1),
            _row(_BY_PGD_20, "NAP", _nap(NARROW), 78.9, 62.6),
        ),
        columns=_BY_PGD_20,
        note=_BEST_EPOCH + " λ is 0.3 without the margin and 6 with it. The last row is the "
        "network of table 1, where its natural accuracy is 82.1.",
    ),
    Item(
        name="table5",
        title="Adversarial training with the cross-entropy and with the boosted one",
        where="section 4.4",
        rows=(
            _row(_BY_PGD_20, "Standard", _standard(NARROW), 82.2, 53.55),
            _row(_BY_PGD_20, "BCE", BCE, 80.4, 54.7),
        ),
        columns=_BY_PGD_20,
        seeds=(1, 2),
        note=_BEST_EPOCH + " The paper gives means of two runs. Its row Standard is, rounded, that "
        "of table 1.",
    ),
    Item(
        name="table6",
        title="Natural training on 10,000 images with the cross-entropy and with the boosted one",
        where="section 4.4",
        rows=(
            _row(_NATURAL, "CE", trained("natural_ce_10k"), 72.25),
            _row(_NATURAL, "BCE", trained("natural_bce_10k"), 73.1),
        ),
        columns=_NATURAL,
        seeds=(1, 2, 3, 4),
        note="Trained as the text says, a ResNet-34 with section 4.1's crops and flips, and the "
        "last epoch is shown. The authors' script trains WRN-34-1, which is not offered here, "
        "without augmentation (--augmentation=none), and logs the best epoch on the test set.",
    ),
)

_HISTOGRAMS = Analysis(("--kind=probabilities", f"--attack={PGD_20}"), LATEST)
_HISTOGRAMS_NOTE = (
    "Three panels: the probability of the true class for clean images, for adversarial ones, and "
    "the difference. The paper does not say which attack it is, and the PGD-20 of its evaluation "
    "is taken; the caption has the network of table 2, the text those of table 1."
)


def _histograms(name: str, label: str, training: Training) -> Item:
    return Item(
        name=name,
        title=f"Probabilities of the true class on the test set at the end of training: {label}",
        where="section 5",
        rows=(Row(label, training),),
        figure=_HISTOGRAMS,
        note=_HISTOGRAMS_NOTE,
    )


_LINES = (
    Row("Standard", _standard(NARROW)),
    *(Row(f"TRADES, λ = {beta}", _trades(NARROW, beta)) for beta in (6, 8)),
    *(Row(f"MART, λ = {beta}", _mart(NARROW, beta)) for beta in (6, 8)),
    *(Row(f"NAP, λ = {beta}", _nap(NARROW, beta)) for beta in (1, 3, 6, 10)),
)
_OTHER_LOSSES = (
    Row("BCE", BCE),
    Row("NAP (no margin, no BCE), λ = 0.3", NO_MARGIN_NO_BCE),
    Row("NAP (no margin), λ = 0.3", NO_MARGIN),
    Row("NAP (no BCE), λ = 6", NO_BCE),
)
_LINES_NOTE = (
    "Neither captions nor text say which λ are drawn beside the chosen ones, 8 of TRADES and MART "
    "and 6 of NAP, nor on which network: the others are our choice, and WRN-34-4 is taken, as "
    "where losses are compared elsewhere."
)

_FIGURES = (
    _histograms("fig2", "Standard", _standard(WIDE)),
    _histograms("fig3", "NAP", _nap(WIDE)),
    Item(
        name="fig4",
        title="Robust accuracy after each epoch, of four losses with several λ",
        where="appendix, section 7",
        rows=_LINES,
        figure=Curves(("holdout_robust_accuracy",)),
        note=_LINES_NOTE + " The paper draws the error on the test set, which we read as that "
        "under PGD-20; here it is the accuracy on held-out images.",
    ),
    Item(
        name="fig5",
        title="Another view of the test accuracy of figure 4",
        where="appendix, section 7",
        rows=_LINES,
        figure=Curves(("holdout_clean_accuracy", "holdout_robust_accuracy")),
        note=_LINES_NOTE + " The caption calls it an alternative to figure 4 and says no more; "
        "here natural and robust accuracy stand side by side.",
    ),
    Item(
        name="fig6",
        title="Training loss after each epoch, of all losses that the paper tries",
        where="appendix, section 7",
        rows=_LINES + _OTHER_LOSSES,
        figure=Curves(("loss",)),
        note=_LINES_NOTE + " The losses are different functions, so that the heights of the lines "
        "do not compare; without a margin the loss may be negative.",
    ),
)

_EQUATIONS = (
    Equation(
        "eq. 1",
        "RobustError = E[max over |δ|∞ ≤ ε of 1{f(x + δ) ≠ y}], with an attack for the maximum",
        evaluation.evaluate,
    ),
    Equation("Algorithm 1", "x̂ by PGD on the attack's loss; a step on the loss", methods.create),
    Equation("eq. 2", "CE(p(x̂), y)", losses.cross_entropy),
    Equation("eq. 3", "CE(p(x̂), y) − λ CE(p(x), y)", losses.nap),
    Equation("eq. 4", "BCE(p(x̂), y) − λ [p_y(x) − p_y(x̂)]₊ CE(p(x), y)", losses.nap),
    Equation(
        "eq. 5", "−log p_y(x̂) − log(1 − max over k ≠ y of p_k(x̂))", losses.boosted_cross_entropy
    ),
    Equation("eq. 6", "CE(p(x̂), y)", losses.cross_entropy),
    Equation("eq. 7", "CE(p(x), y) + λ KL(p(x) ‖ p(x̂))", losses.trades),
    Equation("eq. 8", "BCE(p(x̂), y) + λ (1 − p_y(x)) KL(p(x) ‖ p(x̂))", losses.mart),
    Equation("eq. 11", "CE(p(x̂), y) − λ [p_y(x) − p_y(x̂)]₊ CE(p(x), y)", losses.nap),
    Equation("eq. 12", "BCE(p(x̂), y) − λ CE(p(x), y)", losses.nap),
    Equation("eq. 13", "CE(p(x̂), y) − λ CE(p(x), y)", losses.nap),
    Equation("eq. 14", "BCE(p(x̂), y)", losses.boosted_cross_entropy),
)

PAPER = Paper(
    name="nap",
    title="Improving Adversarial Robustness by Penalizing Natural Accuracy",
    authors="Chandna and Kutlesa (2021)",
    algorithm="""\
NAP is adversarial training with a penalty that points the other way from those of TRADES and MART.
Of each batch, PGD on the cross-entropy makes adversarial images x̂, with batch normalisation by the
batch's own statistics while it does. The first term of the loss is MART's boosted cross-entropy
BCE on x̂: the cross-entropy, and a term that grows with the most probable wrong class.

From that the natural cross-entropy is *subtracted*, so that a step makes the network less sure of
the clean image. How strongly is decided example by example: by λ, and by the margin by which the
true class is more probable on the clean image than on its adversarial twin, zero where it is not
more probable. The margin is a weight only, through which no gradient flows. A network that is as
sure of x̂ as of x pays nothing.

The ablations replace BCE by the cross-entropy (`boosted=False`), the margin by the constant one
(`margin=False`, with a λ of 0.3 and not of 6), or both, the simplest loss that the paper begins
with.""",
    equations=_EQUATIONS,
    differences=(
        "Eq. 4 prints a plus between the margin and the natural cross-entropy; by eqs. 11 to 13 "
        "and the code they are multiplied, as they are here.",
        "Eqs. 9 and 10 have the signs of a descent step: of the loss in eq. 4 the derivative by "
        "p_y(x) is not negative and that by p_y(x̂) is negative.",
        "Algorithm 1 lets PGD start at x, section 4.1 at random, and the code at ±ε/2 in each "
        "pixel. Here the start is uniform; start=sign is the code's.",
        "The passes of the attack normalise with the batch's statistics, as section 4.1 says; in "
        "the code they also move the running statistics, which change 13 times in each step, and "
        "here they do not. The code's scripts for ALP and SVHN attack with running statistics.",
        "The code adds 1e-3 inside the logarithm of BCE's second term, which caps it at 6.9; here "
        "the formula is exact.",
        "The paper trains for 80 epochs with drops after 40 and 60, the README of the code for 100 "
        "with drops after 60 and 80. The paper's are taken.",
        "main.py of the code reads options for λ that it does not define, so that the command of "
        "its README fails; the settings here are the paper's.",
        "The epoch is chosen on the test set in the paper. Here 1,000 training images are held out "
        "for it, and measured by the same PGD-20. That it starts at the clean image is in the code "
        "alone.",
        "The TRADES baseline of the code attacks fixed natural probabilities from x + 0.001 N(0, "
        "1), with batch statistics, as here; its MART baseline has NAP's start and BCE with the "
        "1e-3. Here MART starts uniformly and its formula is exact.",
        "There is no script for PGD-60 with restarts in the code. Its script for AutoAttack builds "
        "WRN-34-1 and attacks the training set, augmented and shuffled; here table 3 is WRN-34-10 "
        "on the test set.",
        "SPSA is in the code and not in the paper: 100 steps of AdverTorch's attack, against the "
        "predicted class. The 8,192 of its options is handed on as the size of a batch only, so "
        "that a step has AdverTorch's 128 directions, spsa-100x256 here.",
        "The code of table 6 trains WRN-34-1 without augmentation on the 10,000 images; the text "
        "says ResNet 34, and section 4.1 has crops and flips for all.",
    ),
    items=_TABLES + _FIGURES,
)
