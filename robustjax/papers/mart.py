"""MART (Wang et al., 2020): its tables and figures, how their rows are trained and attacked.

Section 4.1 (ablations) and section 4.2 (comparison) train ResNet-18, each in its own way, section
4.3 a WRN-34-10; each has a flag file. Baselines are trained as MART beside them but for the method.
"""

from collections.abc import Mapping
from typing import Any

from robustjax import attacks, losses
from robustjax.methods import mart, mart_subset, mma, rst, standard, uat
from robustjax.papers.item import (
    BEST,
    LATEST,
    Column,
    Curves,
    Equation,
    Experiment,
    Item,
    Paper,
    Points,
    Row,
    Training,
    protocol_columns,
    trained,
)

_HEADS = {"clean": "Natural", "fgsm": "FGSM", "pgd-20": "PGD-20", "cw-30": "CW∞"}

_CIFAR10_EPSILON, _MNIST_EPSILON = "8/255", "0.3"

_WHITE_BOX = {
    dataset: protocol_columns("mart", dataset, _HEADS) for dataset in ("cifar10", "mnist")
}
"""Tables 1 and 2."""


def _instead(flag_file: str, method: str, **options: Any) -> Training:
    """Another method, trained as a flag file of MART says; "beta=" takes back MART's λ."""
    return trained(flag_file, method=method, **{"beta": "", **options})


def _row(
    label: str,
    training: Training | None,
    columns: tuple[Column, ...],
    numbers: tuple[float, ...],
    reason: str = "",
) -> Row:
    heads = [column.name for column in columns]
    return Row(label, training, dict(zip(heads, numbers, strict=True)), reason=reason)


def _rows(
    trainings: Mapping[str, Training],
    columns: tuple[Column, ...],
    published: Mapping[str, tuple[float, ...]],
) -> tuple[Row, ...]:
    return tuple(
        _row(label, trainings[label], columns, numbers) for label, numbers in published.items()
    )


_SECTION_4_2: dict[str, Any] = {"holdout": 0}

_CIFAR10: dict[str, Training] = {
    "Standard": _instead("mart", "standard", **_SECTION_4_2),
    "MMA": _instead("mart", "mma", d_max="12/255", **_SECTION_4_2),
    "Dynamic": _instead("mart", "dynamic", fosc="0.5..0@100", **_SECTION_4_2),
    "TRADES": _instead("mart", "trades", beta=4, **_SECTION_4_2),
    "MART": trained("mart", **_SECTION_4_2),
    "ALP": _instead("mart", "alp", alpha=0, pairs="probabilities", **_SECTION_4_2),
    "CLP": _instead("mart", "alp", alpha=1, pairs="probabilities", **_SECTION_4_2),
}

_MNIST: dict[str, Training] = {
    "Standard": _instead("mart_mnist", "standard", holdout=0),
    "MMA": _instead("mart_mnist", "mma", d_max=0.45, min_epsilon=0.1, holdout=0),
    "Dynamic": _instead("mart_mnist", "dynamic", fosc="0.5..0@41.7", holdout=0),
    "TRADES": _instead("mart_mnist", "trades", beta=4, holdout=0),
    "MART": trained("mart_mnist", holdout=0),
}

_SURROGATES: dict[str, Training] = {
    "cifar10": trained("natural", model="resnet_50", holdout=0),
    "mnist": _instead("mart_mnist", "natural", holdout=0),
}

# Label -> the numbers of the columns, in their order.

_TABLE2_MNIST = {
    "Standard": (99.11, 97.17, 94.62, 94.25),
    "MMA": (98.92, 97.25, 95.25, 94.77),
    "Dynamic": (98.96, 97.34, 95.27, 94.85),
    "TRADES": (99.25, 96.67, 94.58, 94.03),
    "MART": (98.74, 97.87, 96.48, 96.10),
}

_TABLE2_CIFAR10 = {
    "Standard": (84.44, 61.89, 47.55, 45.98),
    "MMA": (84.76, 62.08, 48.33, 45.77),
    "Dynamic": (83.33, 62.47, 49.40, 46.94),
    "TRADES": (82.90, 62.82, 50.25, 48.29),
    "MART": (83.07, 65.65, 55.57, 54.87),
}

_TABLE3_MNIST = {
    "Standard": (96.12, 95.73, 95.47, 96.34),
    "MMA": (96.11, 95.94, 95.81, 96.87),
    "Dynamic": (97.60, 96.25, 95.82, 97.03),
    "TRADES": (97.49, 96.03, 95.73, 97.20),
    "MART": (97.77, 96.96, 96.97, 98.36),
}

_TABLE3_CIFAR10 = {
    "Standard": (79.98, 80.27, 80.01, 80.85),
    "MMA": (80.28, 80.52, 80.48, 81.32),
    "Dynamic": (81.37, 81.71, 81.38, 82.05),
    "TRADES": (81.52, 81.73, 81.53, 82.11),
    "MART": (82.75, 82.93, 82.70, 82.95),
}

_TABLE4 = {
    "Standard": (87.30, 56.10, 56.10, 52.68, 49.31, 51.55, 49.03, 50.73, 48.47),
    "Dynamic": (84.51, 63.53, 63.53, 55.03, 51.70, 54.12, 50.07, 51.34, 49.27),
    "TRADES": (84.22, 64.70, 64.70, 56.40, 53.16, 55.68, 51.27, 51.98, 51.12),
    "MART": (84.17, 67.51, 67.51, 58.56, 57.39, 57.88, 55.04, 54.58, 54.53),
}

_WIDE: dict[str, Training] = {
    "Standard": trained("standard"),
    "Dynamic": trained("dynamic"),
    "TRADES": _instead("mart_wrn", "trades", beta=6),
    "MART": trained("mart_wrn"),
}

_TABLE5A = {"UAT++": (86.04, 59.41), "RST": (88.24, 59.60), "MART": (86.68, 61.88)}

_TABLE5B = {"UAT++": (86.21, 62.76), "RST": (89.70, 63.10), "MART": (86.30, 65.04)}


def _black_box(dataset: str) -> tuple[Column, ...]:
    """Table 3's attacks, made on a network that was trained naturally."""
    white = {column.name: column for column in _WHITE_BOX[dataset]}
    step, radius = {
        "cifar10": ("0.8/255", _CIFAR10_EPSILON),
        "mnist": ("0.03", _MNIST_EPSILON),
    }[dataset]
    pgd_10 = Column("PGD-10", f"pgd-10(step_size={step})", radius)
    made = (white["FGSM"], pgd_10, white["PGD-20"], white["CW∞"])
    return tuple(column.but(source=_SURROGATES[dataset]) for column in made)


def _best_and_last() -> tuple[Column, ...]:
    """Table 4's columns. The paper's best epoch against FGSM is the last one."""
    heads = {
        "clean": "Natural",
        "fgsm-random": "FGSM",
        "pgd-20": "PGD-20",
        "pgd-100": "PGD-100",
        "cw-30": "CW∞",
    }
    found = {column.name: column for column in protocol_columns("mart_wrn", "cifar10", heads)}
    columns = [found["Natural"]]
    for head in ("FGSM", "PGD-20", "PGD-100", "CW∞"):
        best = LATEST if head == "FGSM" else BEST
        columns += [
            found[head].but(name=f"{head} best", checkpoint=best),
            found[head].but(name=f"{head} last", checkpoint=LATEST),
        ]
    return tuple(columns)


def _ablation(**options: Any) -> Training:
    """Section 4.1, scored per epoch by PGD-20, whose step is a tenth of ε if none is given."""
    return trained("mart_ablation", measure_steps=20, **options)


def _point(line: str, x: float, training: Training) -> Row:
    return Row(f"{line}, {x:g}", training, line=line, x=x)


_LAMBDAS = (0.5, 1, 2, 5, 10, 20, 50)

_SHARES = (0, 0.2, 0.4, 0.6, 0.8)

_ABLATION = trained("mart_ablation", holdout=0)

_ROBUST_PER_EPOCH = Curves(("holdout_robust_accuracy",))

_HELD_OUT = (
    "The paper measures each epoch on the test set; here it is 1,000 held-out training images, "
    "with the paper's PGD-20 (random start, steps of ε/10)."
)

_NO_IMAGES = (
    "Needs {} pseudo-labelled images of 80 Million Tiny Images, which are withdrawn and which "
    "nobody may redistribute."
)

_OWN_IMAGES = (
    "launch/uat.flags, launch/rst.flags and launch/mart_semisupervised.flags train these rows "
    "where --extra_data=FILE has such images, labelled by launch/pseudo_label.py. "
    "The paper gives neither λ nor γ; half of each batch is unlabelled, as in RST."
)

_PGD_20 = (_WHITE_BOX["cifar10"][2],)


def _unlabelled(number: str, network: str, count: str, radius: str, note: str) -> Item:
    # "The same setting as reported in their paper" is one of TRADES: steps of 0.003.
    columns = (Column("Natural", "clean"), Column("PGD-20", "pgd-20(step_size=0.003)", radius))
    published = _TABLE5A if number == "table5a" else _TABLE5B
    return Item(
        name=number,
        title=f"{network} with {count} images without labels",
        where="section 4.3",
        rows=tuple(
            _row(label, None, columns, numbers, _NO_IMAGES.format(count))
            for label, numbers in published.items()
        ),
        columns=columns,
        note=f"{_OWN_IMAGES} {note}",
    )


ITEMS: tuple[Item, ...] = (
    Item(
        name="fig1",
        title="Robust accuracy per epoch where the misclassified examples, or as many others, are "
        "(a) not perturbed, (b) perturbed by FGSM, (c) regularised by the KL",
        where="section 1",
        figure=Experiment(
            "mart_misclassified",
            (
                "dataset=cifar10",
                "model=fat_small_cnn",
                "epsilon=8/255",
                "steps=10",
                "step_size=2/255",
                "selection_epochs=120",
                "epochs=120",
                "batch_size=128",
                "learning_rate=0.1",
                "beta=6",
                "seed=1",
            ),
        ),
        note="The network that chooses the subsets has 87 % training accuracy in the paper, so "
        "that each subset is 13 % of the images; another selection_epochs moves that share. Which "
        "8-layer CNN, how it is optimised and the weight of the KL are not said: here it is FAT's, "
        "with the batch, peak learning rate and λ of section 4.1, a cosine, and 1,000 "
        "held-out images in place of the test set. One experiment draws the three panels.",
    ),
    Item(
        name="table1",
        title="Loss functions of MART and of what it is compared with",
        where="section 3.2",
        rows=tuple(
            Row(label, _CIFAR10[label])
            for label in ("Standard", "ALP", "CLP", "TRADES", "MMA", "MART")
        ),
        columns=_WHITE_BOX["cifar10"],
        note="The paper prints formulas and measures nothing here: the columns are ours, those of "
        "table 2. Its ALP and CLP pair probabilities (--pairs=probabilities), Kannan et al. (2018) "
        "logits; CLP there is CE(x) and the pairing with x̂ (--alpha=1). λ is not said: 0.5. MMA's "
        "row also has its third of clean loss and leaves out examples beyond d_max.",
    ),
    Item(
        name="fig2a",
        title="Removing components of the loss: robust accuracy per epoch",
        where="section 4.1",
        rows=(
            Row("MART", _ablation()),
            Row("without 1 − p", _ablation(weighted="false")),
            Row("without KL", _ablation(divergence="false")),
            Row("without both", _ablation(divergence="false", weighted="false")),
        ),
        figure=_ROBUST_PER_EPOCH,
        note=f"{_HELD_OUT} Without the KL the regulariser is λ (1 − p), without both the loss is "
        "BCE alone. 120 epochs are those of the authors' code.",
    ),
    Item(
        name="fig2b",
        title="Replacing components of the loss and of the attack: robust accuracy per epoch",
        where="section 4.1",
        rows=(
            Row("MART", _ablation()),
            Row("BCE replaced by CE", _ablation(classifier="ce")),
            Row("BCE on natural examples", _ablation(classifier="natural_bce")),
            Row("CE replaced by KL in the attack", _ablation(attack_loss="kl")),
        ),
        figure=_ROBUST_PER_EPOCH,
        note=_HELD_OUT,
    ),
    Item(
        name="fig2c",
        title="Robust accuracy against the share of the examples that are regularised",
        where="section 4.1",
        rows=(
            *(_point("MART", share, _ABLATION.but(proportion=share)) for share in _SHARES),
            _point("MART", 1, _ABLATION),
        ),
        columns=_PGD_20,
        figure=Points("share of the training examples that are regularised"),
        note="The shares are our choice, as the text names none. The examples are drawn anew in "
        "every step; the paper says that they are selected at random, but not how often.",
    ),
    Item(
        name="fig2d",
        title="Robust accuracy of MART and TRADES against λ",
        where="section 4.1",
        rows=(
            *(_point("MART", weight, _ABLATION.but(beta=weight)) for weight in _LAMBDAS),
            *(
                _point("TRADES", weight, _ABLATION.but(method="trades", beta=weight))
                for weight in _LAMBDAS
            ),
        ),
        columns=_PGD_20,
        figure=Points("λ", log=True),
        note="The paper says λ from 1/2 to 50, evenly spaced on the axis whatever their values; "
        "those between are our choice. TRADES starts its attack from Gaussian noise, as its "
        "authors do.",
    ),
    Item(
        name="table2_mnist",
        title="Accuracy against white-box attacks, MNIST, 4-layer CNN",
        where="section 4.2",
        rows=_rows(_MNIST, _WHITE_BOX["mnist"], _TABLE2_MNIST),
        columns=_WHITE_BOX["mnist"],
        note="The left half of table 2. The paper says neither how many epochs there are (50 here, "
        "Dynamic's bound reaching 0 after five sixths of them, as on CIFAR-10) nor which epoch is "
        "scored (the last here). λ = 4 of TRADES is not that of its own paper, 1. MMA's least "
        "radius, 0.1, is that of its authors.",
    ),
    Item(
        name="table2_cifar10",
        title="Accuracy against white-box attacks, CIFAR-10, ResNet-18",
        where="section 4.2",
        rows=_rows(_CIFAR10, _WHITE_BOX["cifar10"], _TABLE2_CIFAR10),
        columns=_WHITE_BOX["cifar10"],
        note="The right half of table 2. Section 4.2 does not name the network; ResNet-18 is that "
        "of section 4.1 and of the authors' script with these settings. Which epoch is scored (the "
        "last here) and how many steps CW has (30 here) are not said, and λ = 4 of TRADES is not "
        "that of its own paper, 6. MART's 54.87 % under CW is disputed: an independent "
        "re-implementation has 49.1 %.",
    ),
    Item(
        name="table3_mnist",
        title="Accuracy against black-box attacks, MNIST, 4-layer CNN",
        where="section 4.2",
        rows=_rows(_MNIST, _black_box("mnist"), _TABLE3_MNIST),
        columns=_black_box("mnist"),
        note="The left half of table 3. The surrogate is a copy of the network that was trained on "
        "the original training set, which is read as natural training. The step of PGD-10 is "
        "not said; it is that of PGD-20, ε/10.",
    ),
    Item(
        name="table3_cifar10",
        title="Accuracy against black-box attacks made on a ResNet-50, CIFAR-10, ResNet-18",
        where="section 4.2",
        rows=_rows(_CIFAR10, _black_box("cifar10"), _TABLE3_CIFAR10),
        columns=_black_box("cifar10"),
        note="The right half of table 3. The surrogate ResNet-50 was trained on the original "
        "training set, which is read as natural training, here by launch/natural.flags. The step "
        "of PGD-10 is not said; it is that of PGD-20, ε/10.",
    ),
    Item(
        name="table4",
        title="Best and last epoch against white-box attacks, CIFAR-10, WRN-34-10",
        where="section 4.3",
        rows=_rows(_WIDE, _best_and_last(), _TABLE4),
        columns=_best_and_last(),
        note="The paper's best is the highest number against each attack on the test set: epoch "
        "76, and for FGSM the last, which is why both columns of FGSM show the last here. Ours is "
        "the best by PGD-10 on 1,000 held-out images. TRADES has λ = 6, which is not said, but its "
        "best results are said to match its own paper. FGSM starts at random, as its numbers tell: "
        "FAT's table 4 has 67.38 for MART that way. Standard's natural accuracy and FGSM, and "
        "Dynamic's FGSM, are to the last digit those of Wang et al. (2019) that FAT's table 1 "
        "quotes, so perhaps of other networks and another FGSM.",
    ),
    _unlabelled(
        "table5a",
        "WRN-34-8",
        "100,000",
        _CIFAR10_EPSILON,
        "The network is --model=wide_resnet_34_8.",
    ),
    _unlabelled(
        "table5b",
        "WRN-28-10",
        "500,000",
        "0.031",
        "AutoAttack of the published MART model: 56.29 %, at 87.50 % natural accuracy.",
    ),
)

PAPER = Paper(
    name="mart",
    title="Improving Adversarial Robustness Requires Revisiting Misclassified Examples",
    authors="Wang et al. (2020)",
    algorithm="""\
An adversarial example is what turns a right answer into a wrong one, so for a training image that
the network gets wrong already the word has no meaning; standard adversarial training treats both
kinds alike. The paper trains networks that treat one kind apart (figure 1) and finds that the
images that are classified wrongly matter more to the robustness in the end than as many others. How
strongly they are attacked matters little, and how their loss is formed matters much.

MART therefore attacks every image in the same way, by PGD on the cross-entropy from a random start,
and changes the loss. The adversarial image has a boosted cross-entropy: to −log p of the true class
it adds −log(1 − p) of the likeliest wrong one, which widens the margin. A KL divergence, times λ,
draws the prediction for the adversarial image to that for the clean one; its weight is
1 − p of the true class on the clean image, near 1 where the network is wrong and near 0 where it is
sure and right, so that no hard decision between the two kinds has to be made.

With further images that have no label, a naturally trained network labels them first; then the
same loss is minimised on both sets, that of the pseudo-labelled one times γ.""",
    equations=(
        Equation("eq. 1", "min over θ of mean of max over x′ of CE(p(x′), y)", standard.create),
        Equation(
            "figure 1",
            "CE(x) or CE(x̂ by FGSM) or CE(x̂) + λ·KL(p(x)‖p(x̂)) in a subset, CE(x̂) elsewhere",
            mart_subset.create,
        ),
        Equation(
            "eq. 8",
            "BCE(p(x̂), y) = −log p_y(x̂) − log(1 − max over k ≠ y of p_k(x̂))",
            losses.boosted_cross_entropy,
        ),
        Equation(
            "eq. 9",
            "KL(p(x)‖p(x̂)) = Σ_k p_k(x) log(p_k(x) / p_k(x̂))",
            losses.kl_divergence,
        ),
        Equation("eq. 10", "x̂ = argmax over x′ of CE(p(x′), y)", attacks.pgd),
        Equation(
            "eq. 11",
            "BCE(p(x̂), y) + λ·KL(p(x)‖p(x̂))·(1 − p_y(x))",
            losses.mart,
        ),
        Equation("table 1, TRADES", "CE(p(x), y) + λ·KL(p(x)‖p(x̂))", losses.trades),
        Equation(
            "table 1, MMA",
            "CE(p(x̂), y)·1{x right} + CE(p(x), y)·1{x wrong}",
            mma.create,
        ),
        Equation("section 3.3, UAT++", "CE(p(x̂), y) + λ·KL(p(x)‖p(x̂))", uat.create),
        Equation("section 3.3, RST", "CE(p(x), y) + λ·max of KL(p(x)‖p(x̂))", rst.create),
        Equation("Algorithm 1", "SGD on eq. 11, x̂ by PGD from x + ε·U(−1, 1)", mart.create),
    ),
    differences=(
        "PGD starts in x + ε·U(−1, 1) in Algorithm 1 and in x + 0.001·N(0, 1) in the authors' "
        "code; here in the former, and --start=gaussian is the latter.",
        "ε and the step are 8/255 and ε/4 in the paper, 0.031 and 0.007 in the code; here those of "
        "the paper.",
        "The code adds 1.0001 and 1e-12 inside logarithms and weights by 1.0000001 − p; here the "
        "exact formulas are computed from the logits. As in the code, the gradient flows through "
        "the weight 1 − p too, of which the paper says nothing.",
        "Whether the attack uses running or batch statistics is not said; here running ones, as in "
        "the code, and clean and adversarial images are forwarded one after the other.",
        "The number of epochs is not said; 120, as in the code for ResNet-18. There the learning "
        "rate falls once more after epoch 100; here it has the two drops of section 4.2.",
        "For WRN-34-10 the code has weight decay 7e-4 and 90 epochs, of which the paper says "
        "nothing; here the settings of section 4.1.",
        "There is no code for MNIST, for the ablations or for images without labels.",
        "Section 4.2 takes the baselines' settings from their own papers, but λ = 4 is in neither "
        "setting of TRADES; here it is 4 in tables 2 and 3. Networks, optimiser and attack steps "
        "are MART's for every baseline, MMA's too.",
        "Dynamic's code also measures the convergence from the random start and weights examples "
        "by their loss; here it is as its paper says.",
        "The paper's best epoch is chosen on the test set, for each attack anew; here it is chosen "
        "once, on images held out of training.",
        "CW is said to be optimised by PGD, without its steps; here it has 30. FGSM starts from "
        "the clean image. The check by SPSA has no number in the paper; --attacks=spsa makes it.",
    ),
    items=ITEMS,
)
