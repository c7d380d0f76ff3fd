"""Evaluates the network of a run: measures what its records lack, and sums all of them up."""

from __future__ import annotations

import dataclasses
import functools
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
from tqdm import tqdm

from robustjax import evaluation, reports
from robustjax.cli import app
from robustjax.cli.evaluate.batches import batch_size_for
from robustjax.digest import digest
from robustjax.errors import UserError
from robustjax.evaluation import accumulated, adversarial_images, protocols
from robustjax.evaluation.asked import Asked
from robustjax.evaluation.one_attack import AttackScore, Progress
from robustjax.evaluation.spec import CLEAN, AttackSpec
from robustjax.evaluation.summary import BY_IMAGE
from robustjax.evaluation.trained import TrainedNetwork, load_network
from robustjax.files import Path, require_writable, write_whole
from robustjax.progress import terminal_bar
from robustjax.reports.examples import add_examples
from robustjax.runs.evaluations import RECORDS, RECORDS_LOCK, Evaluations, Record, subject_of
from robustjax.runs.names import EVALUATION, EXAMPLES, FIGURES
from robustjax.runs.resumable import Unfinished
from robustjax.text import format_value
from robustjax.training.units import require_inside_box

UNFINISHED = "evaluation.unfinished"
ADVERSARIAL = "adversarial"
"""The folders in a run's, of an interrupted evaluation and of the adversarial images."""


class Evaluated(NamedTuple):
    """What an evaluation found, and what became of it.

    Attributes:
      summary: of this evaluation alone, as `evaluation.summarize` has it.
      files: evaluation.json and evaluation.md, which sum up all evaluations of the run.
      failures: the attacks that failed, and why.
    """

    summary: dict
    files: tuple[Path, Path]
    failures: dict[str, Exception]

    def raise_failures(self) -> None:
        """Raises, now that the rest is written, what went wrong with an attack."""
        if not self.failures:
            return
        first = next(iter(self.failures.values()))
        if not app.is_foreseen(first):
            raise first
        lines = [f"{name}: {app.describe(error)}" for name, error in self.failures.items()]
        raise UserError("the other attacks are in the report; " + "; ".join(lines))


def evaluate_run(
    workdir: str,
    attack_names: Sequence[str],
    *,
    protocol: str = "",
    checkpoint: str = "best",
    examples: int = 0,
    dataset: str = "",
    data_dir: str = "",
    split: str = "test",
    image_size: int = 0,
    norm: str = "",
    epsilon: float | None = None,
    epsilons: Sequence[float] = (),
    step_size: float | None = None,
    start: str = "uniform",
    success: str = "last",
    batch_size: int = 0,
    devices: Sequence[jax.Device] = (),
    seed: int = 0,
    save_images: bool = False,
    again: bool = False,
    allow_whole_box: bool = False,
    resume: bool = False,
    quiet: bool = False,
) -> Evaluated:
    """Evaluates the network of a run on its test set, and adds what is found to its records.

    See the flags for the arguments. What the records have already is not measured again, unless
    `again` says so; code of one's own is, since it may have changed. With `epsilons` the attacks
    are run in a ball of each of these radii, in the place of `epsilon`. With `resume`, what is
    found is kept in the run's folder until the evaluation is whole; with `quiet` nothing is told
    meanwhile.
    """
    folder = Path(workdir)
    if folder.is_dir():
        folder = require_writable(
            workdir,
            f"--workdir={workdir}",
            files=(EVALUATION, "evaluation.md", BY_IMAGE, EXAMPLES, RECORDS, RECORDS_LOCK),
            folders=(UNFINISHED, ADVERSARIAL, FIGURES),
        )
    network = load_network(
        workdir,
        checkpoint,
        dataset=dataset,
        data_dir=data_dir,
        split=split,
        image_size=image_size,
    )
    config = network.config
    norm = norm or config.norm
    radii: Sequence[float | None] = sorted(radius for radius in epsilons if radius > 0)
    threats = [network.threat(radius, norm) for radius in radii or [epsilon]]
    if not allow_whole_box:
        height, width, channels = network.test_set.images.shape[1:]
        given = [("epsilon", epsilon), ("step_size", step_size)]
        given += [("epsilons", radius) for radius in epsilons]
        distances = {f"--{name}={value:g}": value for name, value in given if value}
        for attack in attack_names:
            distances |= evaluation.parse_attack(attack).own_distances()
        for said, value in distances.items():
            require_inside_box(said, value, norm, height * width * channels)
    available = len(network.test_set.labels)
    data: dict[str, Any] = {
        "digest": digest(network.test_set.images, network.test_set.labels),
        "dataset": network.data_name,
        "available_examples": available,
        "own": network.own,
    }
    network = network.first(examples or available)
    wanted: Sequence[str | AttackSpec] = attack_names
    if protocol:
        wanted = protocols.protocol_attacks(protocol, config.dataset)
    total = len(network.test_set.labels)
    size = batch_size_for(total, batch_size or config.batch_size, devices)
    unfinished = None
    if resume:
        unfinished = Unfinished(
            folder / UNFINISHED,
            network.fingerprint,
            network.test_set.images,
            network.test_set.labels,
            seed,
        )
    attacked = {
        "digest": network.fingerprint,
        "kind": checkpoint,
        "step": network.step,
        "moving_average": network.averaged,
    }
    evaluation_of = _Evaluation(
        folder,
        network,
        [evaluation.parse_attack(name) for name in wanted],
        data,
        attacked,
        {
            "protocol": f"{protocol}: {protocols.PROTOCOLS[protocol].source}" if protocol else None,
            "command": app.command_line(),
            "method": config.method,
            "model": config.model,
            "precision": config.precision,
            "seed": seed,
            "batch_size": size,
            "trained_epochs": None if config.is_imported else config.epochs,
        },
        size,
        devices,
        unfinished,
        save_images,
        not epsilons,
        quiet,
        {},
    )
    known = [] if again else Evaluations(folder).records()
    found: dict[int, Record] = {}
    for threat in threats:
        if epsilons and not quiet:
            print(f"epsilon {format_value(float(threat.epsilon))}:", file=sys.stderr)
        asked = Asked(
            subject_of(data, attacked),
            threat,
            network.test_set.num_classes,
            total,
            seed,
            step_size,
            start,
            success,
        )
        there, new = evaluation_of.records(asked, known)
        of_run = accumulated.add_to_run(
            folder,
            new,
            config.norm,
            config.test_epsilon,
            functools.partial(print, file=sys.stderr),
        )
        known = [*known, *new]  # The clean accuracy, for the next radius.
        found |= {id(record): record for record in (*there, *new)}
    files = reports.write_report(of_run, folder)
    listed = accumulated.examples_of_run(
        Evaluations(folder).records(), config.norm, config.test_epsilon
    )
    write_whole(folder / BY_IMAGE, listed)
    if unfinished is not None and not evaluation_of.failures:
        unfinished.remove()
    if epsilons:
        records = list(found.values())
        summary = accumulated.summary_of_run(records, config.norm, config.test_epsilon)
    else:
        order = [CLEAN, *(spec.name for spec in evaluation_of.specs)]
        records = sorted(found.values(), key=lambda record: order.index(record.attack))
        summary = accumulated.summary_of(records)
    return Evaluated(summary, files, evaluation_of.failures)


class _Evaluation(NamedTuple):
    """One evaluation of a run, whatever the radius."""

    folder: Path
    network: TrainedNetwork
    specs: Sequence[AttackSpec]
    data: Mapping[str, Any]
    attacked: Mapping[str, Any]
    about: Mapping[str, Any]
    batch_size: int
    devices: Sequence[jax.Device]
    unfinished: Unfinished | None
    save_images: bool
    shows_examples: bool
    quiet: bool
    failures: dict[str, Exception]

    def records(self, asked: Asked, known: Sequence[Record]) -> tuple[list[Record], list[Record]]:
        """The records of the attacks in one ball: those that are there, and the new ones."""
        there: dict[str, Record] = {}
        for spec in (evaluation.parse_attack(CLEAN), *self.specs):
            record = asked.recorded(spec, known)
            if record is not None and self._has_images(spec, record):
                there[spec.name] = record
        for spec in self.specs:
            if spec.name in there and not self.quiet:
                print(_is_there(spec.name, there[spec.name]), file=sys.stderr)
        as_known = {id(record) for record in there.values()}
        there = {name: self._restated(record) for name, record in there.items()}
        new = [record for record in there.values() if id(record) not in as_known]
        missing = [spec for spec in self.specs if spec.name not in there]
        if not missing and CLEAN in there:
            return list(there.values()), new
        started = time.monotonic()
        failures: dict[str, Exception] = {}
        scores = evaluation.evaluate(
            missing,
            jax.random.key(asked.seed),
            self.network.logits_fn,
            self.network.test_set,
            asked.threat,
            **asked.options(),
            batch_size=self.batch_size,
            report=None if self.quiet else _bars(),
            keep_images=self.save_images,
            unfinished=self.unfinished,
            devices=self.devices,
            failures=failures,
            with_clean=CLEAN not in there,
        )
        self.failures.update(failures)
        if self.save_images:
            self._save_images(scores)
        if self.shows_examples:
            add_examples(
                self.folder,
                scores,
                self.network.test_set.class_names,
                dataset=self.data["dataset"],
                checkpoint={name: self.attacked[name] for name in ("kind", "step")},
            )
        new += accumulated.records_of(
            scores,
            data=self.data,
            checkpoint=self.attacked,
            about={
                **self.about,
                "elapsed_seconds": time.monotonic() - started,
                "asked": None if self.about["protocol"] else asked.options(),
                "versions": evaluation.versions(),
            },
            dataset=self.network.test_set,
        )
        return list(there.values()), new

    def _restated(self, record: Record) -> Record:
        """A record with what is true of its weights now; itself if that is what it says.

        The best weights may be the latest too, and those of a run that has been trained on.
        """
        about = {**record.about, "trained_epochs": self.about["trained_epochs"]}
        if record.about == about and record.checkpoint == self.attacked:
            return record
        return dataclasses.replace(record, checkpoint=self.attacked, about=about)

    @property
    def _subject(self) -> dict[str, Any]:
        return {
            "weights": self.attacked["digest"],
            "data": self.data["digest"],
            "seed": self.about["seed"],
        }

    def _has_images(self, spec: AttackSpec, record: Record) -> bool:
        """Whether the images of a record are there, if they are wanted."""
        if not self.save_images or spec.attack is None:
            return True
        path = adversarial_images.path_of(self.folder / ADVERSARIAL, spec.name)
        return adversarial_images.has(path, record, **self._subject)

    def _save_images(self, scores: Mapping[str, AttackScore]) -> None:
        labels = self.network.test_set.labels
        for name, score in scores.items():
            if score.images is None:
                continue
            path, kept = adversarial_images.save(
                self.folder / ADVERSARIAL, name, score, labels, **self._subject
            )
            if kept is not None:
                print(f"{path} is new; what it was before is {kept}", file=sys.stderr)


def _is_there(name: str, record: Record) -> str:
    epsilon = record.settings.get("epsilon")
    ball = "" if epsilon is None else f" at epsilon {format_value(epsilon)}"
    accuracy = f"{100 * record.accuracy:.2f} % of {record.examples} examples{ball}"
    return f"{name}: it is there, {accuracy}; --again repeats it"


def _bars() -> Progress:
    """A bar with ETA and running accuracy on a terminal, one line an attack elsewhere."""
    bars: dict[str, tqdm | None] = {}

    def report(name: str, done: int, of: int, accuracy: float) -> None:
        if name not in bars:
            bars[name] = terminal_bar(sys.stderr, total=of, desc=name, unit="image", initial=0)
        bar = bars[name]
        if bar is not None:
            bar.set_postfix_str(f"{100 * accuracy:.2f} % correct", refresh=False)
            bar.update(done - bar.n)
            if done == of:
                bar.close()
        elif done == of:
            print(f"{name}: {100 * accuracy:.2f} % correct", file=sys.stderr, flush=True)

    return report
