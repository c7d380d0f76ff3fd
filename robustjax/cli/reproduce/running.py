"""Trains and attacks the networks that are missing, each taken by one machine at a time."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from robustjax.cli.sweep.plan import PlannedRun
from robustjax.cli.sweep.processes import Turn, run_all
from robustjax.files import Path
from robustjax.papers import black_box
from robustjax.papers.item import Item, Row
from robustjax.papers.measured import is_trained, missing_evaluations
from robustjax.papers.planned import Evaluation, Network, Networks, Request
from robustjax.reports.sweep import SweepRun
from robustjax.runs.lock import Lock, Locked
from robustjax.text import format_value


def run(
    items: Mapping[str, tuple[Item, Sequence[Row]]],
    networks: Sequence[Network],
    request: Request,
    parallel: int,
    batch_size: int,
) -> dict[Path, str]:
    """Trains and attacks what is missing, and shows networks each other's adversarial images.

    Args:
      items: name -> the item, and those of its rows that are wanted.
      networks: that they need.
      request: how they are to be made.
      parallel: how many networks at once.
      batch_size: examples attacked at once; 0: as in training.

    Returns:
      Folder of a network -> why it failed.
    """
    by_folder = {network.workdir: network for network in networks}
    failures: dict[Path, str] = {}
    waiting = [
        PlannedRun(SweepRun({}, network.config.seed, network.workdir), network.config)
        for network in networks
        if not is_done(network)
    ]
    if len(waiting) < len(networks):
        done = len(networks) - len(waiting)
        print(f"{done} of {len(networks)} networks are done", file=sys.stderr)

    def evaluations(planned: PlannedRun) -> list[dict[str, object]]:
        missing = missing_evaluations(by_folder[planned.run.workdir])
        return [_options(one, batch_size) for one in missing]

    with Claims(by_folder, failures) as claims:
        run_all(waiting, evaluations, parallel, failures, claims.give_back, claims.turn)
    pairs = black_box.pairs_of(items, Networks(request), request)
    possible = [pair for pair in pairs if not {pair.source, pair.target} & set(failures)]
    for group in black_box.groups(possible):
        seen = f"shown to {len(group)} networks"
        print(f"{group[0].attack} on {group[0].source.name}, {seen}", file=sys.stderr, flush=True)
        black_box.measure(group, batch_size)
    return failures


def is_done(network: Network) -> bool:
    """Whether a network is trained to its end and attacked as asked for."""
    return is_trained(network.config) and not missing_evaluations(network)


def _options(one: Evaluation, batch_size: int) -> dict[str, object]:
    return {
        "attack_names": list(dict.fromkeys(("clean", *one.attacks))),
        "examples": one.examples,
        "checkpoint": one.checkpoint,
        "batch_size": batch_size,
        "epsilon": "" if one.epsilon is None else format_value(one.epsilon),
    }


class Claims:
    """The networks that this process is at; others leave them alone.

    A claim is a file beside the network's folder whose lock ends with its process, so that what a
    dead one was at is taken over.
    """

    def __init__(self, networks: Mapping[Path, Network], failures: dict[Path, str]) -> None:
        self._networks, self._failures = networks, failures
        self._held: dict[Path, Lock] = {}
        self._told: set[Path] = set()

    def __enter__(self) -> Claims:
        return self

    def __exit__(self, *_: object) -> None:
        with ExitStack() as stack:
            for lock in self._held.values():
                stack.callback(lock.release)

    def turn(self, planned: PlannedRun) -> Turn:
        """Whether a network may be trained now."""
        network = self._networks[planned.run.workdir]
        start = self._networks.get(Path(network.start)) if network.start else None
        if start is not None and start.workdir in self._failures:
            self._failures[network.workdir] = f"{start.name}, which it begins with, failed"
            return Turn.SKIP
        if start is not None and not is_trained(start.config):
            return Turn.WAIT
        lock = Lock(_claim_of(network.workdir), "a reproduction")
        try:
            lock.take()
        except Locked:
            if network.workdir not in self._told:
                self._told.add(network.workdir)
                print(f"{network.name}: another process is at it", file=sys.stderr)
            return Turn.WAIT
        if is_done(network):  # By the other process.
            lock.release()
            return Turn.SKIP
        self._held[network.workdir] = lock
        return Turn.START

    def give_back(self) -> None:
        """Lets go of what has ended."""
        for folder in list(self._held):
            if folder in self._failures or is_done(self._networks[folder]):
                self._held.pop(folder).release()


def _claim_of(workdir: Path) -> Path:
    return workdir.parent / f"{workdir.name}.claim"
