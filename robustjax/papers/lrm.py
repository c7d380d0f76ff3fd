"""LRM (Summers and Dinneen, 2019): its tables and figures, and the numbers in its text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from robustjax import attacks, data, losses
from robustjax.methods import standard
from robustjax.papers.item import (
    Analysis,
    Column,
    Equation,
    Item,
    Paper,
    Points,
    Row,
    Training,
    protocol_columns,
    trained,
)

METHODS = ("Regular Training", "Label Smoothing", "PGD", "ALP", "LRM")
"""The rows of every table, and the sources of the black-box tables."""

MIXTURE = 0.5
"""α of sections 3 and 4, the usual share of the clean loss (eq. 1); the tables have 0."""

STRENGTH = 0.75
"""s of the row "Label Smoothing", which the paper does not print; figure 2 shows it (right)."""

_CIFAR: Mapping[str, Any] = {"step_size": 0.0078, "holdout": 0}

_SVHN: Mapping[str, Any] = {
    "dataset": "svhn",
    "train_split": "train+extra",
    "augmentation": "crop4",
    "model": "cifar_resnet_8",
    "epsilon": "12/255",
    "step_size": "3/255",
    "epochs": 101,
    "learning_rate": 0.001,
    "warmup_epochs": 0,
    "decay_epochs": "5,80",
    "decay_factors": "10,0.1",
    "holdout": 0,
}

# launch/standard.flags is for another network and another schedule.
_STANDARD: Mapping[str, Any] = {
    "model": "madry_simple_resnet",
    "epsilon": 0.03,
    "epochs": 101,
    "warmup_epochs": 5,
    "decay_epochs": "100",
}


def _trainings(
    lrm_flags: str, pairing_weight: float, settings: Mapping[str, Any]
) -> dict[str, Training]:
    """The networks of a data set by their method, all with α = 0 (section 5.2)."""
    return {
        "Regular Training": trained("label_smoothing", label_smoothing=0, **settings),
        "Label Smoothing": trained("label_smoothing", label_smoothing=STRENGTH, **settings),
        "PGD": trained("standard", **{**_STANDARD, **settings}),
        "ALP": trained("alp", weight=pairing_weight, **settings),
        "LRM": trained(lrm_flags, **settings),
    }


CIFAR10 = _trainings("lrm", 0.5, _CIFAR)
CIFAR100 = _trainings("lrm_cifar100", 5, {"dataset": "cifar100", **_CIFAR})
SVHN = _trainings("lrm_svhn", 0.5, _SVHN)


def _smoothed(strength: float) -> Training:
    """Natural training on CIFAR-10 with label smoothing."""
    return CIFAR10["Regular Training"].but(label_smoothing=strength)


def _mixed_pgd(squeezing: float = 0) -> Training:
    """Adversarial training on the mixture, perhaps with squeezed logits, without pairing."""
    return _decoupled().but(pairing_ratio="none", squeezing=squeezing)


def _mixed_alp(squeezing: float = 0) -> Training:
    """ALP on the mixture, perhaps with squeezed logits."""
    return CIFAR10["ALP"].but(alpha=MIXTURE, squeezing=squeezing)


def _decoupled() -> Training:
    """LRM's loss on the mixture, with neither label smoothing nor VH-mixup (section 4.1)."""
    return CIFAR10["LRM"].but(alpha=MIXTURE, label_smoothing=0, mixing="none")


_HEADS = {
    "clean": "Natural",
    "fgsm": "FGSM",
    "pgd-5": "PGD (5 steps)",
    "pgd-10": "PGD (10 steps)",
    "pgd-20": "PGD (20 steps)",
    "pgd-1000": "PGD (1,000 steps)",
    "spsa": "SPSA",
}
_WHITE_BOX = ("clean", "fgsm", "pgd-5", "pgd-10", "pgd-20")
_STRONGEST = ("pgd-20", "pgd-1000", "spsa")


def _attacked(names: Iterable[str], dataset: str = "cifar10") -> tuple[Column, ...]:
    return protocol_columns("lrm", dataset, {name: _HEADS[name] for name in names})


def _black_box(attack: str, source: Training, head: str) -> Column:
    """An attack on an independently trained network of a kind, under a head."""
    return _attacked((attack,))[0].but(name=head, source=source.independent())


def _by_source(trainings: Mapping[str, Training]) -> tuple[Column, ...]:
    return tuple(_black_box("pgd-10", trainings[method], method) for method in METHODS)


def _rows(
    trainings: Mapping[str, Training],
    columns: Iterable[Column],
    numbers: Mapping[str, tuple[float, ...]],
) -> tuple[Row, ...]:
    """A row for each method, its published numbers in the order of the columns."""
    heads = [column.name for column in columns]
    return tuple(
        Row(method, trainings[method], dict(zip(heads, numbers[method], strict=True)))
        for method in METHODS
    )


_TABLE_1 = {
    "Regular Training": (87.4, 6.1, 0.0, 0.0, 0.0),
    "Label Smoothing": (86.9, 54.7, 49.4, 41.7, 34.4),
    "PGD": (75.8, 50.5, 51.0, 46.1, 45.3),
    "ALP": (74.0, 52.6, 53.6, 49.1, 48.5),
    "LRM": (68.5, 52.8, 53.8, 51.4, 51.0),
}

# Columns are the sources, in the order of the rows.
_TABLE_2 = {
    "Regular Training": (26.8, 32.0, 75.1, 73.9, 67.3),
    "Label Smoothing": (66.7, 67.3, 75.6, 74.2, 67.6),
    "PGD": (69.8, 69.1, 58.0, 57.9, 55.7),
    "ALP": (69.4, 68.8, 60.8, 59.3, 56.4),
    "LRM": (71.5, 70.9, 60.5, 59.4, 54.3),
}

_TABLE_3 = {
    "Regular Training": (59.1, 2.3, 0.1, 0.0, 0.0),
    "Label Smoothing": (55.0, 11.5, 2.3, 0.9, 0.2),
    "PGD": (50.2, 26.2, 27.2, 23.9, 23.6),
    "ALP": (44.9, 27.3, 28.3, 26.0, 25.9),
    "LRM": (43.8, 28.1, 29.1, 26.8, 26.6),
}

# Columns are the sources, in the order of the rows.
_TABLE_4 = {
    "Regular Training": (33.3, 31.7, 50.1, 44.7, 43.8),
    "Label Smoothing": (37.0, 31.6, 50.0, 44.8, 43.9),
    "PGD": (37.6, 34.0, 33.4, 32.5, 32.4),
    "ALP": (39.7, 36.6, 33.6, 31.5, 32.1),
    "LRM": (37.7, 33.4, 34.5, 33.0, 31.3),
}

_TABLE_5 = {
    "Regular Training": (96.7, 14.8, 0.0, 0.0, 0.0),
    "Label Smoothing": (97.0, 50.8, 15.1, 4.4, 1.3),
    "PGD": (85.3, 50.5, 47.3, 39.6, 38.0),
    "ALP": (82.5, 49.6, 47.1, 40.0, 38.6),
    "LRM": (83.6, 51.5, 48.4, 40.9, 39.4),
}

_TABLE_6 = {
    "Regular Training": (0.0, 0.0, 0.0),
    "Label Smoothing": (34.4, 7.2, 8.9),
    "PGD": (45.3, 45.2, 45.4),
    "ALP": (48.5, 48.3, 46.1),
    "LRM": (51.0, 51.1, 47.9),
}

_LOGITS = Analysis(("--kind=logits", "--attack=pgd-10", "--epsilon=0.03", "--step_size=0.0078"))

_FIGURES = (
    Item(
        "fig1_left",
        "Distribution of the logits of networks trained with and without logit pairing",
        "section 3.1",
        rows=(Row("PGD", _mixed_pgd()), Row("ALP", _mixed_alp())),
        figure=_LOGITS,
        note=(
            "The text gives the variance of all logits on clean test images: 8.31 without pairing, "
            "4.02 with it. The distributions on PGD's images, which it calls very similar, are "
            "drawn too. Both networks train on the mixture of clean and adversarial images."
        ),
    ),
    Item(
        "fig1_right",
        "Robust accuracy by the amount of logit squeezing, with and without logit pairing",
        "section 3.1",
        rows=tuple(
            Row(f"{line}, {squeezing:g}", training(squeezing), line=line, x=float(squeezing))
            for line, training in (
                ("without logit pairing", _mixed_pgd),
                ("with logit pairing", _mixed_alp),
            )
            for squeezing in (0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
        ),
        columns=_attacked(("pgd-10",)),
        figure=Points("weight of the squared logits, β", log=True),
        note=(
            "The amounts of the paper's axis are not in its text: powers of ten stand for them. "
            "It says that without pairing a middle amount recovers somewhat more than half of what "
            "pairing gains, and that with pairing every amount does harm. Clean and adversarial "
            "logits are squeezed alike."
        ),
    ),
    Item(
        "fig2_left",
        "Clean and adversarial accuracy by the strength of label smoothing, natural training",
        "section 4",
        rows=tuple(
            Row(
                f"s = {strength:g}",
                _smoothed(strength),
                published,
                line="label smoothing",
                x=float(strength),
            )
            for strength, published in (
                (0, {"FGSM": 6.1}),
                (0.01, {"FGSM": 38.3}),
                *((strength, {}) for strength in (0.05, 0.1, 0.25, 0.5, 0.75, 0.85)),
            )
        ),
        columns=_attacked(("clean", "fgsm", "pgd-10")),
        figure=Points("strength of label smoothing, s"),
        note=(
            "The text quotes FGSM at s = 0 and 0.01, and that the right strength gives more than "
            "40 % under PGD-10. The other strengths are ours, below the bound 1 − 1/C = 0.9."
        ),
    ),
    Item(
        "fig2_right",
        "Distribution of the logits with and without label smoothing, clean and under PGD",
        "section 4",
        rows=(
            Row("no label smoothing", _smoothed(0)),
            Row("s = 0.75", _smoothed(0.75)),
        ),
        figure=_LOGITS,
        note=(
            "The text gives the range of the logits on clean images: roughly 20 without smoothing, "
            "1.2 with it, which also makes them bimodal."
        ),
    ),
)

_SECTION_4 = (
    Item(
        "section4_mixup",
        "Mixup, without adversarial images in training, against FGSM and PGD",
        "section 4",
        rows=(
            Row(
                "without mixup",
                CIFAR10["Regular Training"],
                {"FGSM": 6.1, "PGD (5 steps)": 0.0, "PGD (10 steps)": 0.0},
            ),
            Row(
                "with mixup",
                trained("mixup", **_CIFAR),
                {"FGSM": 30.8, "PGD (5 steps)": 0.5, "PGD (10 steps)": 0.0},
            ),
        ),
        columns=_attacked(("fgsm", "pgd-5", "pgd-10")),
        note=(
            "Quoted in the text. We read it as mixup, whose α (1 here) is not given, and VH-mixup "
            "as part of the later combination alone; the paragraph's last sentence lets these "
            "numbers be VH-mixup's too (launch/vh_mixup.flags)."
        ),
    ),
    Item(
        "section4_1",
        "The decoupled loss alone, without label smoothing and VH-mixup",
        "section 4.1",
        rows=(
            Row("PGD", _mixed_pgd()),
            Row("ALP", _mixed_alp()),
            Row(
                "Decoupled",
                _decoupled(),
                {"PGD (10 steps)": "1.9 above ALP, 5.6 above PGD"},
            ),
        ),
        columns=_attacked(("clean", "pgd-10")),
        note=(
            "The text quotes differences alone. By them ALP gains 3.7 on PGD and not the 3.0 of "
            "table 1, so we read them as for the mixture, α = 0.5. β and the ratio are "
            "those of section 5.2, as none are given here. By section 5.2 the mixture costs PGD "
            "and ALP 4 to 5 points of robust accuracy and gains as much clean accuracy."
        ),
    ),
)


def _white_box_table(
    name: str,
    data_set: str,
    trainings: Mapping[str, Training],
    numbers: Mapping[str, tuple[float, ...]],
    note: str,
) -> Item:
    columns = _attacked(_WHITE_BOX, data_set.lower().replace("-", ""))
    title = f"White-box accuracy on {data_set}"
    return Item(name, title, "section 5.2", _rows(trainings, columns, numbers), columns, note=note)


def _black_box_table(
    name: str,
    data_set: str,
    trainings: Mapping[str, Training],
    numbers: Mapping[str, tuple[float, ...]],
    note: str,
) -> Item:
    columns = _by_source(trainings)
    title = f"Accuracy on {data_set} under PGD-10 that is made on another network, the column's"
    return Item(name, title, "section 5.2", _rows(trainings, columns, numbers), columns, note=note)


_TABLES = (
    _white_box_table(
        "table1",
        "CIFAR-10",
        CIFAR10,
        _TABLE_1,
        "The strength of label smoothing is not stated: s = 0.75, the one whose logits figure 2 "
        "shows; figure 2 (left) has others. PGD-5 is weaker than FGSM on what was trained on "
        "adversarial images, as its five steps begin at a random point.",
    ),
    _black_box_table(
        "table2",
        "CIFAR-10",
        CIFAR10,
        _TABLE_2,
        "Rows are targets, columns sources. Every source is trained independently of the targets, "
        "from other seeds, so the diagonal is black-box too.",
    ),
    _white_box_table(
        "table3",
        "CIFAR-100",
        CIFAR100,
        _TABLE_3,
        "The strength of label smoothing is not stated; s = 0.75 as on CIFAR-10. ALP's weight is 5 "
        "here.",
    ),
    _black_box_table(
        "table4",
        "CIFAR-100",
        CIFAR100,
        _TABLE_4,
        "Rows are targets, columns sources, trained as in table 3, independently of the targets.",
    ),
    _white_box_table(
        "table5",
        "SVHN",
        SVHN,
        _TABLE_5,
        "All 604,388 training images. The 8-layer network is read as cifar_resnet_8: it has to be "
        "smaller than the network of CIFAR-10, and resnet_8, of 64 to 256 channels, has more "
        "parameters than that one. ALP's weight (0.5) and the strength of label smoothing (0.75) "
        "are not stated for SVHN: those of CIFAR-10.",
    ),
    Item(
        "table6",
        "The strongest white-box attacks on CIFAR-10: PGD of 1,000 steps, and SPSA",
        "section 5.3",
        _rows(CIFAR10, _attacked(_STRONGEST), _TABLE_6),
        _attacked(_STRONGEST),
        note=(
            "SPSA attacks 1,000 images, which ones is not said: the first ones here; the other "
            "columns are of all test images. SPSA has the settings of Uesato et al. (2018), 100 "
            "steps of 8,192 points."
        ),
    ),
    Item(
        "section5_3",
        "Label smoothing as a defence against black-box attacks of more steps",
        "section 5.3",
        rows=(
            Row(
                "Label Smoothing",
                CIFAR10["Label Smoothing"],
                {"PGD (10 steps)": 67.3, "PGD (1,000 steps)": 60.8},
            ),
        ),
        columns=tuple(
            _black_box(attack, CIFAR10["Label Smoothing"], _HEADS[attack])
            for attack in ("pgd-10", "pgd-1000")
        ),
        note=(
            "Quoted in the text without the source. 67.3 % is what table 2 has where the source is "
            "trained with label smoothing too."
        ),
    ),
)

_ALGORITHM = """\
Logit pairing asks a network for similar logits on a clean and on an adversarial image. The paper
observes that the squared distance between the two does two things at once: it brings them
together, and it shrinks both. Shrinking logits alone, by a penalty on their squares, gives
adversarial training about half of what pairing gives it, and other ways to keep logits small help
too: label smoothing, and mixing images together with their labels.

LRM therefore takes the two effects apart. Each step attacks the batch with PGD on the
cross-entropy, and minimises the cross-entropy of the adversarial images, a pairing term and a
penalty β on the squared logits of both images. The pairing term is the cross-entropy between the
predictions for the two images, which hardly shrinks logits; its weight follows the adversarial
loss, by a ratio of the two that is not differentiated, so that a single number says how much
pairing there is.

On CIFAR-10 and CIFAR-100 this is combined with label smoothing of 0.1 and VH-mixup, on SVHN with
0.2 and mixup. Beside adversarial training all of this costs a forward and a backward pass of the
clean images. Label smoothing without adversarial training looks robust against few steps of PGD;
against 1,000 of them most of that is gone."""

_EQUATIONS = (
    Equation("eq. 1", "α CE(z, y) + (1 − α) CE(z′, y)", standard.create),
    Equation("eq. 1, g(x)", "x + ε sign ∇_x CE(z(x), y)", attacks.fgsm),
    Equation(
        "eq. 2",
        "α CE(z, y) + (1 − α) CE(z′, y) + λ L(z, z′)",
        losses.adversarial_logit_pairing,
    ),
    Equation("eq. 3", "½ (z_c − z′_c)², here for all c and without ½", losses.logit_pairing),
    Equation("eq. 8", "p_y = 1 − s, p_c = s / (C − 1) for c ≠ y", losses.smooth_labels),
    Equation("section 4", "λ x + (1 − λ) x₂, λ y + (1 − λ) y₂ (mixup, VH-mixup)", data.mix),
    Equation("eq. 9", "‖z − z′‖²", losses.logit_pairing),
    Equation("eq. 10", "‖z‖² − 2 zᵀz′ + ‖z′‖², its first and third term", losses.logit_squeezing),
    Equation("eq. 11", "h(z, z′) + β (‖z‖² + ‖z′‖²), beside the loss of eq. 1", losses.lrm),
)

_DIFFERENCES = (
    "The authors have published no code, so all that the text leaves open is open.",
    "Its network for CIFAR is an 18-layer ResNet equivalent to the simple model of Madry et al. "
    "(2018), which has more layers. We take that model, madry_simple_resnet, since 87.4 % by "
    "natural training speaks for a narrow one; the other reading, of 64 channels up, is "
    "--model=resnet_18.",
    "The smaller 8-layer ResNet of SVHN is cifar_resnet_8 in these tables, of 16 to 64 channels as "
    "the network of CIFAR; the other reading is resnet_8.",
    "The number of PGD's steps in training is not stated; it is 10 here, from a uniform start, "
    "with running statistics in batch norm.",
    "The ratio of 0.125 or 0.95 between the adversarial loss and the pairing loss has two readings "
    "that agree with what the paper says of them: loss to weighted pairing as r to 1 (A, the "
    "default), and r of the loss with 1 − r of pairing (B). The constant fraction of section "
    "4.1, taken literally, would pair more at 0.95 and contradicts section 5.2.",
    "The direction of the cross-entropy between the predictions, and whether both are "
    "differentiated, is not stated. Here the clean prediction is a fixed target; differentiating "
    "both ended in NaN or at chance wherever it was tried.",
    "Whether images are mixed before they are attacked, and which labels the attack sees, is not "
    "stated: here they are mixed first, and the attack ascends the loss of the soft labels.",
    "The share α of the clean loss is 0 in the tables (section 5.2). Figure 1 and the numbers of "
    "section 4.1 are read as α = 0.5, since section 4 says that PGD and ALP gain about 5 points "
    "where they are trained on adversarial images alone.",
    "Eq. 9 sums the squares over the classes, and eq. 3 halves them; ALP here follows eq. 9. The "
    "code of Kannan et al. (2018) takes the mean (--mean_over_classes=true), by which 0.5 on 10 "
    "classes and 5 on 100 weigh each square alike.",
    "The strength of label smoothing in the tables is not stated. It is 0.75 here, the only one "
    "beside 0.01 that the paper shows.",
    "Steps of 0.0078 are 2/255 rounded. These tables have the printed number in training and "
    "evaluation, the flag files 2/255.",
    "On SVHN momentum, weight decay, batch size and ALP's weight are not stated: those of "
    "CIFAR-10. mixup's α is not stated either; it is 1.",
)

PAPER = Paper(
    name="lrm",
    title="Improved Adversarial Robustness via Logit Regularization Methods",
    authors="Summers and Dinneen (2019)",
    algorithm=_ALGORITHM,
    equations=_EQUATIONS,
    differences=_DIFFERENCES,
    items=_FIGURES + _SECTION_4 + _TABLES,
)
"""Its tables and figures in the paper's order."""
