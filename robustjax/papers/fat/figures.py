"""The figures of FAT: how their networks are trained, and what is drawn of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from robustjax.papers.item import (
    Analysis,
    Column,
    Curves,
    Experiment,
    Item,
    Points,
    Row,
    Training,
    columns,
    trained,
)

MODELS = {"fat_small_cnn": "Small CNN", "resnet_18": "ResNet-18", "wide_resnet_34_10": "WRN-34-10"}
FAT_FLAGS = {
    "fat_small_cnn": "fat_small_cnn",
    "resnet_18": "fat_resnet18",
    "wide_resnet_34_10": "fat",
}
K = 10

SAME_START = (
    "Madry starts at the clean image as FAT does, for the paper calls it FAT with τ = K; TRADES "
    "and FAT for TRADES start at small normal noise."
)


def _madry(**options: Any) -> Training:
    """PGD that cannot stop early: FAT with τ = K, and so with the start of its Algorithm 1."""
    return trained("standard", **options, start="clean")


# Figure 4: accuracy against τ.


def against_tau() -> Item:
    """Figure 4: both networks with every τ from 0 to K."""
    fixed: dict[str, Any] = {"learning_rate": 0.1, "step_size": "0.007", "holdout": 0}
    attacked = {
        name: f"{name.lower()}(step_size=0.003)" for name in ("PGD-10", "PGD-20", "PGD-100")
    }
    return Item(
        name="fig4",
        title="Natural and robust accuracy of FAT against τ",
        where="section 5.1, appendix F.1",
        rows=tuple(
            Row(
                f"{MODELS[model]}, τ = {tau}",
                trained(FAT_FLAGS[model], tau=tau, **fixed),
                line=MODELS[model],
                x=tau,
            )
            for model in ("fat_small_cnn", "resnet_18")
            for tau in range(K + 1)
        ),
        columns=(
            Column("Natural", "clean"),
            Column("FGSM", "fgsm-random", "8/255"),
            *columns(epsilon="8/255", **attacked),
            Column("C&W", "cw-30(step_size=0.003)", "8/255"),
        ),
        seeds=(1, 2, 3, 4, 5),
        centre="median",
        figure=Points("τ"),
        note="The paper shows the median of five trials and the deviation. All attacks have a "
        "random start; the 30 steps of C&W are those of section 6.1. With the learning rate 0.1 "
        "the Small CNN may not begin to learn, as users of a related method report.",
    )


# Figure 5: backward passes per epoch.


def backward_passes(panel: str, model: str, *, on_trades: bool) -> Item:
    """A panel of figure 5: τ of 0 to 3, and PGD that never stops early."""
    shared: dict[str, Any] = {
        "model": model,
        "epsilon": "8/255",
        "step_size": "0.007",
        "learning_rate": 0.1,
        "epochs": 100,
        "decay_epochs": "60,90",
        "decay_factors": 0.1,
        "holdout": 0,
    }
    if on_trades:
        friendly, flags = "FAT for TRADES", "fat_trades"
        whole = Row("TRADES", trained("trades", **shared))
    else:
        friendly, flags = "FAT", FAT_FLAGS[model]
        whole = Row("Madry", _madry(**shared))
    taus = (Row(f"{friendly}, τ = {tau}", trained(flags, **shared, tau=tau)) for tau in range(4))
    return Item(
        name=f"fig5_{panel}",
        title=f"Backward passes per image and epoch, {friendly} on {MODELS[model]}",
        where="section 5.2",
        rows=(whole, *taus),
        figure=Curves(("mean_backward_passes",)),
        note=("β is not given: 6. " if on_trades else "")
        + "Without the early stop there are K = 10 passes in every epoch.",
    )


# Figures 6, 7 and 13 to 20: accuracy against the radius in training.

SHORT: Mapping[str, Any] = {
    "learning_rate": 0.01,
    "epochs": 80,
    "decay_epochs": 60,
    "decay_factors": 0.1,
    "holdout": 0,
}
TAUS = (0, 1, 3)
RADII: Mapping[str, Sequence[float]] = {
    "cifar10": (0.03, 0.045, 0.06, 0.075, 0.09, 0.105, 0.12, 0.135, 0.15),
    "svhn": (0.01, 0.02, 0.03, 0.04, 0.05, 0.06),
}
TEST_RADIUS = {"cifar10": 8, "svhn": 4}
DATASETS = {"cifar10": "CIFAR-10", "svhn": "SVHN"}


def _panels(dataset: str) -> tuple[Column, ...]:
    """The panels of section 6.1: the attacks at the test radius, and one at twice the radius."""
    radius, twice = (f"{factor * TEST_RADIUS[dataset]}/255" for factor in (1, 2))
    return (
        Column("Natural", "clean"),
        Column("FGSM", "fgsm", radius),
        Column("PGD-20", "pgd-20(step_size=2/255)", radius),
        Column("PGD-100", "pgd-100(step_size=2/255)", radius),
        Column("C&W", "cw-30(step_size=2/255)", radius),
        Column(f"PGD-20, ε {twice}", "pgd-20(step_size=2/255)", twice),
    )


def _trainings(
    model: str, dataset: str = "cifar10", *, on_trades: bool = False, **options: Any
) -> Mapping[str, Training]:
    """The four lines of a figure, by their names in its legend."""
    shared = {**SHORT, "model": model, "measure_epsilon": f"{TEST_RADIUS[dataset]}/255", **options}
    if on_trades:
        shared["beta"] = 6
        whole = {"TRADES": trained("trades", **shared)}
        friendly, flags = "FAT for TRADES", "fat_trades"
    else:
        whole = {"Madry": _madry(**shared, dataset=dataset)}
        friendly, flags = "FAT", "fat_svhn" if dataset == "svhn" else FAT_FLAGS[model]
    taus = {f"{friendly}, τ = {tau}": trained(flags, **shared, tau=tau) for tau in TAUS}
    return {**whole, **taus}


def _lines(symbol: str, by_value: Mapping[float, Mapping[str, Training]]) -> tuple[Row, ...]:
    """The points of a figure, line by line."""
    return tuple(
        Row(f"{line}, {symbol} {value:g}", found[line], line=line, x=value)
        for line in next(iter(by_value.values()))
        for value, found in by_value.items()
    )


def against_radius(
    number: int,
    where: str,
    model: str,
    dataset: str = "cifar10",
    *,
    on_trades: bool = False,
    steps: int = K,
) -> Item:
    """A figure of accuracies against ε in training: a step is always ε/10."""
    by_radius = {
        radius: _trainings(
            model,
            dataset,
            on_trades=on_trades,
            epsilon=f"{radius:g}",
            steps=steps,
            step_size=f"{radius / 10:g}",
        )
        for radius in RADII[dataset]
    }
    methods = "FAT for TRADES and TRADES" if on_trades else "FAT and standard adversarial training"
    return Item(
        name=f"fig{number}",
        title=f"{methods} on {DATASETS[dataset]} against ε in training, {MODELS[model]}, "
        f"K = {steps}",
        where=where,
        rows=_lines("ε", by_radius),
        columns=_panels(dataset),
        figure=Points("ε in training"),
        note="The paper gives the range of ε, not each value; nor the number of trials. PGD and "
        "C&W start at random, FGSM, of which it is not said, at the clean image. "
        + SAME_START
        + ("" if dataset == "cifar10" else " Training is on the split of 73,257 images."),
    )


# Figures 9 and 10: the search without the projection.

STEP_SIZES = (0.003, 0.006, 0.009, 0.012, 0.015)


def unprojected(number: int, model: str) -> tuple[Item, ...]:
    """A figure of accuracies against the step size, and how far the images lie."""
    by_size = {}
    for size in STEP_SIZES:
        found = _trainings(model, epsilon="8/255", step_size=f"{size:g}")
        by_size[size] = {
            line: training if line == "Madry" else training.but(projection="false")
            for line, training in found.items()
        }
    settings = (
        "dataset=cifar10",
        f"model={model}",
        "epsilon=8/255",
        f"step_sizes={','.join(f'{size:g}' for size in STEP_SIZES)}",
        "epochs=80",
        "batch_size=128",
        "learning_rate=0.01",
        "examples=0",
    )
    return (
        Item(
            name=f"fig{number}",
            title=f"FAT without the projection against the size of a step, {MODELS[model]}",
            where="appendix B",
            rows=_lines("α", by_size),
            columns=_panels("cifar10"),
            figure=Points("step size α"),
            note="Only FAT searches without the ball. The paper gives no radius for Madry's: "
            "8/255 here, that of the attacks; without the ball too it would be "
            "`--method=fat --tau=10 --projection=false`. The values of α are ours, in the paper's "
            "range. Attacks as in section 6.1. " + SAME_START,
        ),
        Item(
            name=f"fig{number}_distance",
            title=f"How far friendly images lie without the projection, {MODELS[model]}",
            where="appendix B",
            figure=Experiment("fat_unprojected", settings),
            note="Not in the paper: the same search by an experiment that also measures how far "
            "beyond the ball its images lie. Its attacks take steps of ε/4, and Madry's search "
            "starts at random.",
        ),
    )


# Figures 3, 11 and 12: features in the plane.

NATURALLY_TRAINED = {
    "Small CNN, bird and deer": trained(
        "natural",
        model="fat_small_cnn",
        classes="2,4",
        epochs=10,
        schedule="constant",
        learning_rate=0.01,
        holdout=0,
    ),
    "WRN-40-4, deer, horse and truck": trained("natural", model="wide_resnet_40_4", holdout=0),
}
LAYERS = {
    "Small CNN, bird and deer": {6: "block3_conv2", 7: "fc1", 8: "fc2"},
    "WRN-40-4, deer, horse and truck": {
        38: "block3_layer_4/conv2",
        40: "block3_layer_5/conv2",
        41: "fc",
    },
}
CLASSES = {"WRN-40-4, deer, horse and truck": ("--classes=4,7,9",)}
SMALL_CNN, WRN_40_4 = NATURALLY_TRAINED


def features(name: str, where: str, network: str, layer: int, method: str) -> Item:
    """A row of panels: a layer on clean images, on PGD-20's and on PGD-20-0's."""
    arguments = (
        "--kind=embedding", f"--layer={LAYERS[network][layer]}", f"--method={method}",
        "--attack=pgd-20", "--epsilon=0.031", "--step_size=0.007", "--tau=0",
        *CLASSES.get(network, ()),
    )  # fmt: skip
    plane = {"pca": "PCA", "tsne": "t-SNE"}[method]
    return Item(
        name=name,
        title=f"Output of layer {layer} in the plane by {plane}: clean, PGD-20 and friendly "
        f"PGD-20-0 images, {network}",
        where=where,
        rows=(Row(network, NATURALLY_TRAINED[network]),),
        figure=Analysis(arguments),
        note="The network is that of natural training, the paper's warm-up, of which no length is "
        "given; nor is it said whether a panel has a plane of its own: here all share one. The "
        "images are of the test set.",
    )


def all_features(number: int, where: str, network: str) -> tuple[Item, ...]:
    """All rows of panels of figure 11 or 12: (a) by PCA, (b) by t-SNE."""
    return tuple(
        features(f"fig{number}{part}_layer{layer}", where, network, layer, method)
        for part, method in (("a", "pca"), ("b", "tsne"))
        for layer in LAYERS[network]
    )


FIGURE_1 = Item(
    name="fig1",
    title="Steps of PGD and of early-stopped PGD on two classes in the plane",
    where="section 1",
    reason="It illustrates the idea, and neither the points nor the classifier nor the attack's "
    "settings are given; figures 3, 11 and 12 show the same of trained networks.",
)
