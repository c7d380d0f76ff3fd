"""Black-box evaluation by transfer: adversarial images of every network, shown to every other."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from robustjax import attacks, data
from robustjax.arguments import did_you_mean, shown
from robustjax.attacks.network import clean_logits
from robustjax.attacks.rows import predicted
from robustjax.evaluation.attack_names import STEPPED, AttackSpec, parse_attack
from robustjax.evaluation.figures import save, write_numbers
from robustjax.evaluation.suite import run_attack, wilson_interval
from robustjax.evaluation.unfinished import Unfinished
from robustjax.files import Path, write_whole

LogitsFn = Callable[[jax.Array], jax.Array]

Progress = Callable[[str, int, int], None]
"""Told the source, how many of all adversarial images are made, and of how many."""

ACCEPTED = "fgsm, pgd-K, pgd-KxR (R restarts), cw-K, cw-KxR"


class TransferMatrix(NamedTuple):
    """What each network makes of each network's adversarial images, for N examples.

    Attributes:
      clean: target -> bool [N], classified correctly as they are.
      robust: source -> target -> bool [N], classified correctly by the target clean and at the
        source's adversarial image. Where source and target are one network: white-box.
      settings: of the attack, JSON.
    """

    clean: dict[str, np.ndarray]
    robust: dict[str, dict[str, np.ndarray]]
    settings: dict[str, Any]


def parse_transfer_attack(name: str) -> AttackSpec:
    """An attack by its name, if it makes images that are worth showing to another network.

    Attacks that stop at the boundary of the network that they attack, or leave alone what it
    misclassifies, transfer worse than they need to.

    Raises:
      ValueError: it is not one of `ACCEPTED`.
    """
    try:
        spec = parse_attack(name)
    except ValueError:
        spec = None
    if spec is None or spec.kind not in ("fgsm", *STEPPED):
        hint = did_you_mean(name, ("fgsm", "pgd-20", "cw-30"))
        raise ValueError(
            f"unknown attack {shown(name)!r} in --attack: accepted are {ACCEPTED}{hint}"
        )
    return spec


def transfer_matrix(
    attack: str,
    key: jax.Array,
    sources: Mapping[str, LogitsFn],
    targets: Mapping[str, LogitsFn],
    dataset: data.Dataset,
    threat: attacks.ThreatModel,
    *,
    step_size: float | None = None,
    start: str = "uniform",
    batch_size: int = 128,
    progress: Progress | None = None,
    unfinished: Mapping[str, Unfinished] | None = None,
) -> TransferMatrix:
    """Attacks every source once, and judges the images on every target.

    All sources are attacked from the same starts. Every image is attacked, also what its source
    misclassifies, because a target may be right about it.

    Args:
      attack: one of `ACCEPTED`.
      key: the draws of example i are a function of (key, i).
      sources: name -> images [B, H, W, C] to logits [B, K]; as `jax.tree_util.Partial` they are
        traced once.
      targets: likewise.
      dataset: what to attack.
      threat: the norm ball and the box.
      step_size: of PGD and CW, in units of the images; None: see
        `step_size.default_step_size`.
      start: of PGD and CW, see `attacks.pgd`.
      batch_size: examples attacked at once.
      progress: told after every batch.
      unfinished: for each source, keeps its images, to go on where it was interrupted.

    Raises:
      ValueError: the attack is not accepted, or not made for the norm, or there is no source or
        target.

    Source: MART (Wang et al., 2020), table 3; LRM (Summers & Dinneen, 2019), tables 2 and 4; SENSE
      (Kim & Wang, 2019), table 4. The condition that the clean image is right as well is ours, as
      for all accuracies of this package.
    """
    spec = parse_transfer_attack(attack)
    if not sources or not targets:
        raise ValueError("sources and targets must hold a network each")
    clean_images = np.asarray(data.to_float(dataset.images))
    judge = _Judge(np.asarray(dataset.labels), batch_size)
    clean = {name: judge(logits_fn, clean_images) for name, logits_fn in targets.items()}
    total = len(sources) * len(dataset)
    robust: dict[str, dict[str, np.ndarray]] = {}
    settings: dict[str, Any] = {}
    for place, (source, source_fn) in enumerate(sources.items()):

        def report(name: str, done: int, of: int, accuracy: float, place=place, source=source):
            if progress is not None:
                progress(source, place * len(dataset) + done, total)

        score = run_attack(
            spec,
            key,
            source_fn,
            dataset,
            threat,
            step_size=step_size,
            start=start,
            batch_size=batch_size,
            report=report,
            keep_images=True,
            unfinished=None if unfinished is None else unfinished[source],
        )
        settings = {"name": spec.name, **score.settings}
        robust[source] = {
            target: clean[target] & judge(logits_fn, score.images)
            for target, logits_fn in targets.items()
        }
    return TransferMatrix(clean, robust, settings)


class _Judge(NamedTuple):
    """Forward passes over all examples."""

    labels: np.ndarray
    batch_size: int

    def __call__(self, logits_fn: LogitsFn, images: np.ndarray) -> np.ndarray:
        """Classified correctly, bool [N]; never where a logit is not finite."""
        right = np.zeros(len(images), bool)
        for first in range(0, len(images), self.batch_size):
            rows = np.minimum(np.arange(first, first + self.batch_size), len(images) - 1)
            labels = self.labels[rows]
            logits = clean_logits(logits_fn, jnp.asarray(images[rows]), jnp.asarray(labels))
            last = min(first + self.batch_size, len(images))
            right[first:last] = (predicted(np.asarray(logits)) == labels)[: last - first]
        return right


def summarize(matrix: TransferMatrix, **about: Any) -> dict[str, Any]:
    """The content of transfer.json; accuracies are fractions of all examples.

    Args:
      matrix: of `transfer_matrix`.
      **about: what else is to be recorded.
    """
    examples = len(next(iter(matrix.clean.values())))
    return {
        "attack": matrix.settings,
        "examples": examples,
        "clean": {target: _share("accuracy", correct) for target, correct in matrix.clean.items()},
        "transfer": {
            source: {
                target: {**_share("robust_accuracy", correct), "white_box": source == target}
                for target, correct in by_target.items()
            }
            for source, by_target in matrix.robust.items()
        },
        **about,
    }


def _share(name: str, correct: np.ndarray) -> dict[str, Any]:
    return {
        name: float(correct.mean()),
        "interval_95": wilson_interval(int(correct.sum()), len(correct)),
    }


def write(summary: Mapping[str, Any], folder: Path) -> Path:
    """Writes transfer.json, transfer.md, transfer.csv and transfer.png; gives the first."""
    write_whole(folder / "transfer.md", to_markdown(summary))
    heat_map(summary, folder / "transfer.png")
    return write_whole(folder / "transfer.json", json.dumps(summary, indent=2) + "\n")


def to_markdown(summary: Mapping[str, Any]) -> str:
    """The matrix as a table, and below it everything needed to repeat it."""
    targets = list(summary["clean"])
    attack = summary["attack"]
    lines = [
        f"# Transfer of {attack['name']} on {summary['examples']} examples",
        "",
        "Accuracy of each target (column) on the adversarial images of each source (row), with the "
        "95 % interval, in per cent. An image counts if the target is right about it clean and "
        "adversarial. Bold: source and target are one network (white-box).",
        "",
        f"| source | {' | '.join(_cell(name) for name in targets)} |",
        f"| --- |{' ---: |' * len(targets)}",
        f"| clean images | {' | '.join(_percent(summary['clean'][name]) for name in targets)} |",
    ]
    for source, by_target in summary["transfer"].items():
        cells = (
            f"**{_percent(entry)}**" if entry["white_box"] else _percent(entry)
            for entry in (by_target[name] for name in targets)
        )
        lines.append(f"| {_cell(source)} | {' | '.join(cells)} |")
    rest = ("clean", "transfer", "examples", "runs")
    lines += ["", *(f"* {key}: {_plain(v)}" for key, v in summary.items() if key not in rest)]
    lines += [f"* {name}: {_plain(run)}" for name, run in summary.get("runs", {}).items()]
    return "\n".join(lines) + "\n"


def heat_map(summary: Mapping[str, Any], path: Path) -> Path:
    """Draws the matrix with its numbers inside; the .csv of the same name holds them too.

    Args:
      summary: of `summarize`.
      path: of the PNG.
    """
    targets, sources = list(summary["clean"]), list(summary["transfer"])
    rows = [[100 * summary["clean"][target]["accuracy"] for target in targets]]
    rows += [
        [100 * summary["transfer"][source][target]["robust_accuracy"] for target in targets]
        for source in sources
    ]
    longest = max(map(len, (*sources, *targets)))
    names = 0.075 * longest
    width = max(1.9 + names + 0.66 * len(targets), 6)
    height = 1.5 + 0.42 * len(rows) + 0.6 * names
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(rows, cmap="viridis", vmin=0, vmax=100, aspect="auto")
    for y, row in enumerate(rows):
        for x, value in enumerate(row):
            colour = "black" if value > 55 else "white"
            axes.text(x, y, f"{value:.1f}", ha="center", va="center", color=colour, fontsize=9)
            if y and sources[y - 1] == targets[x]:
                axes.add_patch(
                    Rectangle((x - 0.46, y - 0.44), 0.92, 0.88, fill=False, color="red", lw=1.8)
                )
    axes.axhline(0.5, color="white", linewidth=4, zorder=1)
    # A name is no formula, whatever dollar signs it has.
    axes.set_xticks(range(len(targets)), targets, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), ["clean images", *sources])
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(False)
    axes.set(xlabel="target", ylabel="source")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    attack = summary["attack"]
    axes.set_title(
        f"accuracy under {attack['name']}, {attack['norm']} ball of {attack['epsilon']:.4g} "
        "(red: white-box)",
        fontsize="medium",
        wrap=True,
    )
    figure.colorbar(image, label="accuracy (%)")
    numbers = [
        (name, target, entry["accuracy"], *entry["interval_95"])
        for name, (target, entry) in (("", item) for item in summary["clean"].items())
    ]
    numbers += [
        (source, target, entry["robust_accuracy"], *entry["interval_95"])
        for source, by_target in summary["transfer"].items()
        for target, entry in by_target.items()
    ]
    write_numbers(path, ("source", "target", "accuracy", "low_95", "high_95"), numbers)
    return save(figure, path)


def _percent(entry: Mapping[str, Any]) -> str:
    accuracy = entry.get("robust_accuracy", entry.get("accuracy"))
    low, high = entry["interval_95"]
    return f"{100 * accuracy:.2f} ({100 * low:.1f} to {100 * high:.1f})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(part)}" for key, part in value.items())
    return f"{value:.6g}" if isinstance(value, float) else str(value)
