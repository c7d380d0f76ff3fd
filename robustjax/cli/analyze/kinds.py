"""The kinds of figures of `launch/analyze.py`: what each computes, prints and draws."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from absl import flags

from robustjax.analysis.convergence import pgd_convergence
from robustjax.analysis.embedding import embed
from robustjax.analysis.friendly_examples import friendly_images
from robustjax.analysis.layer_features import PENULTIMATE, layer_features, layer_names
from robustjax.analysis.loss_surface import loss_surface
from robustjax.analysis.model_statistics import float_images, summary
from robustjax.arguments import did_you_mean
from robustjax.attacks.engine.keys import per_example_keys
from robustjax.cli.analyze.subject import Subject, Subjects, title_of
from robustjax.errors import UserError
from robustjax.evaluation.trained import TrainedNetwork
from robustjax.files import Path
from robustjax.reports.figures import (
    convergence as convergence_figures,
)
from robustjax.reports.figures import (
    embedding as embedding_figures,
)
from robustjax.reports.figures import (
    examples as example_figures,
)
from robustjax.reports.figures import (
    logits as logit_figures,
)
from robustjax.reports.figures import (
    loss_surface as surface_figures,
)
from robustjax.reports.figures import (
    probabilities as probability_figures,
)

COUNT = 6
"""Images in a figure of some, if the flags do not say it."""


def _probabilities(subjects: Subjects, values: flags.FlagValues, output: Path) -> Path:
    pairs = {run: subject.clean_and_adversarial() for run, subject in subjects.items()}
    rows = [
        (run, panel, *summary(probability_figures.values_of(panel, *pair)).values())
        for run, pair in pairs.items()
        for panel in probability_figures.PANELS
    ]
    _print_table(("run", "probability", "mean", "deviation", "minimum", "maximum"), rows)
    return probability_figures.probability_histograms(pairs, output, title_of(subjects))


def _logits(subjects: Subjects, values: flags.FlagValues, output: Path) -> Path:
    pairs = {run: subject.clean_and_adversarial() for run, subject in subjects.items()}
    rows = [
        (run, images, panel, *summary(logit_figures.values_of(panel, found)).values())
        for run, pair in pairs.items()
        for images, found in zip(logit_figures.COLOURS, pair, strict=True)
        for panel in logit_figures.PANELS
    ]
    _print_table(("run", "images", "logits", "mean", "deviation", "minimum", "maximum"), rows)
    return logit_figures.logit_histograms(pairs, output, title_of(subjects))


def _embedding(subjects: Subjects, values: flags.FlagValues, output: Path) -> Path:
    layer, method = values.layer or PENULTIMATE, values.method or "pca"
    first = _of_one_data_set(subjects, values.kind)
    for workdir, subject in zip(values.workdirs, subjects.values(), strict=True):
        _check_layer(layer, subject.network, workdir)
    embeddings = {}
    for run, subject in subjects.items():
        network, spec, tau = subject.network, subject.spec, values.tau or 0
        friendly = friendly_images(
            subject.key, network.logits_fn, network.test_set, subject.threat, tau=tau,
            steps=spec.stepped.steps, step_size=spec.stepped.step_size,
            batch_size=subject.batch_size, report=subject.report,
        )  # fmt: skip
        sets = {
            "clean": network.test_set.images,
            spec.name.upper(): subject.adversarial(),
            f"friendly PGD-{spec.stepped.steps}-{tau}": friendly,
        }
        features = {
            name: layer_features(
                network.model, network.variables, images, layer, batch_size=subject.batch_size
            )
            for name, images in sets.items()
        }
        embeddings[run] = embed(features, network.test_set.labels, method, values.seed)
    rows = [
        (run, name, share)
        for run, embedding in embeddings.items()
        for name, share in embedding.crossed.items()
    ]
    _print_table(("run", "set", "nearest clean examples of another class"), rows)
    named = {"pca": "PCA", "tsne": "t-SNE"}[method]
    return embedding_figures.embedding_panels(
        embeddings,
        first.network.test_set.labels,
        first.class_names,
        output,
        f"{named} of layer {layer}: {title_of(subjects)}",
    )


def _check_layer(layer: str, network: TrainedNetwork, workdir: str) -> None:
    names = layer_names(network.model, network.variables, network.test_set.images)
    if layer not in names:
        accepted = ", ".join(names)
        hint = did_you_mean(layer, names)
        raise UserError(f"--layer={layer}: the layers of {workdir} are {accepted}{hint}")


def _examples(subjects: Subjects, values: flags.FlagValues, output: Path) -> Path:
    (subject,) = subjects.values()
    clean, adversarial = float_images(subject.network.test_set.images), subject.adversarial()
    examples = example_figures.AttackedExamples(
        subject.positions, clean, adversarial,
        subject.statistics(clean), subject.statistics(adversarial),
    )  # fmt: skip
    if not values.indices:
        rows = examples.newly_misclassified()[: values.count or COUNT]
        if not len(rows):
            raise UserError(
                f"--attack={subject.spec.name} changes no right prediction of "
                f"{len(clean)} examples; give more --examples, or --indices"
            )
        examples = examples.select(rows)
    title = f"{subject.attack_in_words}; {subject.network.config.dataset}"
    return example_figures.example_grid(examples, subject.class_names, output, title)


def _surface(subjects: Subjects, values: flags.FlagValues, output: Path) -> Path:
    first = _of_one_data_set(subjects, values.kind)
    test_set = first.network.test_set
    found = {run: subject.statistics(test_set.images) for run, subject in subjects.items()}
    rows = np.arange(len(test_set))
    if not values.indices:
        right = ~np.any([statistics.wrong for statistics in found.values()], axis=0)
        rows = np.flatnonzero(right)[: values.count or COUNT]
    if not len(rows):
        raise UserError("no example is classified correctly by every run; give --indices")
    images, labels = float_images(test_set.images[rows]), test_set.labels[rows]
    surfaces, headings = {}, {}
    for run, subject in subjects.items():
        surface = loss_surface(
            per_example_keys(subject.key, len(test_set))[rows],
            subject.network.logits_fn, images, labels, subject.threat,
            extent=values.extent or 1.0, batch_size=subject.batch_size, report=subject.report,
        )  # fmt: skip
        surfaces[run] = surface
        predictions = found[run].prediction[rows]
        headings[run] = [
            f"no. {first.positions[row]}: {first.class_names[label]}"
            + (f" → {first.class_names[prediction]}" if prediction != label else "")
            + (f"\ngradient {100 * zero:.0f} % zero" if zero == 1 else "")
            for row, label, prediction, zero in zip(
                rows, labels, predictions, surface.zero_gradient, strict=True
            )
        ]
    middle = len(next(iter(surfaces.values())).offsets) // 2
    table = [
        (
            run,
            surface.along_gradient[:, middle].mean(),
            surface.along_gradient[:, -1].mean(),
            surface.along_random[:, -1].mean(),
            surface.zero_gradient.mean(),
        )
        for run, surface in surfaces.items()
    ]
    head = (
        "run",
        "loss at the image",
        "at the gradient's end",
        "at the random end",
        "zero gradient",
    )
    _print_table(head, table)
    title = " / ".join(dict.fromkeys(subject.ball for subject in subjects.values()))
    title += f", clipped to the box; {first.network.config.dataset}"
    return surface_figures.surface_panels(surfaces, headings, output, title)


def _convergence(subjects: Subjects, values: flags.FlagValues, output: Path) -> Path:
    found = {}
    for run, subject in subjects.items():
        spec = subject.spec
        found[run] = pgd_convergence(
            subject.key, subject.network.logits_fn, subject.network.test_set, subject.threat,
            steps=spec.stepped.steps, step_size=spec.stepped.step_size,
            restarts=spec.stepped.restarts, batch_size=subject.batch_size, report=subject.report,
        )  # fmt: skip
    rows = [
        (run, step, 100 * part.robust_accuracy[-1, step], part.worst_loss[-1, step])
        for run, part in found.items()
        for step in sorted({0, part.loss.shape[1] // 2, part.loss.shape[1] - 1})
    ]
    _print_table(("run", "steps", "robust accuracy (%)", "highest loss"), rows)
    return convergence_figures.convergence_panels(found, output, title_of(subjects))


def _of_one_data_set(subjects: Subjects, kind: str) -> Subject:
    """The first of the runs, all of which are to show the same examples."""
    first, *others = subjects.values()
    for other in others:
        same = np.array_equal(other.network.test_set.labels, first.network.test_set.labels)
        if not same or other.class_names != first.class_names:
            raise UserError(
                f"--workdirs: --kind={kind} shows the same examples for all runs, and "
                "these were trained on different data sets or classes"
            )
    return first


def _print_table(head: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Prints columns, text to the left and numbers to the right."""
    cells = [tuple(head)] + [
        tuple(f"{cell:.4g}" if isinstance(cell, float | np.floating) else str(cell) for cell in row)
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


class Kind(NamedTuple):
    """A kind of figure.

    Attributes:
      draw: computes and draws it, and gives the figure's path.
      examples: how many of the test set if the flags do not say it; 0: all.
      uses: flags that not every kind uses.
      numbers: endings of the files beside the figure.
      several: whether it takes more than one run.
      attack: the kind of attack that it takes; "": all.
      settings: of that attack, those that it goes by.
    """

    draw: Callable[[Subjects, flags.FlagValues, Path], Path]
    examples: int
    uses: tuple[str, ...]
    numbers: tuple[str, ...]
    several: bool = True
    attack: str = ""
    settings: frozenset[str] = frozenset()


_ATTACK = ("attack", "step_size")

KINDS = {
    "probabilities": Kind(_probabilities, 0, _ATTACK, (".csv",)),
    "logits": Kind(_logits, 0, _ATTACK, (".csv",)),
    "embedding": Kind(
        _embedding,
        1000,
        (*_ATTACK, "tau", "layer", "method"),
        (".csv",),
        attack="pgd",
        settings=frozenset(("steps", "step_size", "restarts")),
    ),
    "examples": Kind(_examples, 200, (*_ATTACK, "indices", "count"), (".npz",), several=False),
    "surface": Kind(_surface, 200, ("indices", "count", "extent"), (".npz",)),
    "convergence": Kind(
        _convergence,
        100,
        _ATTACK,
        (".csv", ".npz"),
        attack="pgd",
        settings=frozenset(("steps", "step_size", "restarts")),
    ),
}

SPECIAL_FLAGS = sorted({name for kind in KINDS.values() for name in kind.uses})
"""Those that not every kind uses."""
