"""The benchmark of early stopping: does the time of an attack follow the steps that it takes?"""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from absl import flags

from benchmarks import early_stopping_cases as cases
from benchmarks import peers, precision, results, step_flags, table
from benchmarks.early_stopping_attack import FORMS, IN_PARTS, Found, LibraryAttack
from benchmarks.early_stopping_cases import Case
from benchmarks.neighbours import WORTH_A_WARNING, Neighbours
from benchmarks.progress import Progress
from benchmarks.timing import Side, alternate, paired_ratio
from benchmarks.workload import CHANNELS, Setting, Workload, create
from robustjax.cache import enable_compilation_cache
from robustjax.errors import UserError

if TYPE_CHECKING:
    from benchmarks.pytorch.early_stopping import TorchAttack

DESCRIPTION = """\
Times an attack whose examples stop early, on the active ones alone, beside PGD-K and PyTorch.

  python -m benchmarks early_stopping --output=early_stopping.json
  python -m benchmarks early_stopping --models=resnet_18 --batch_sizes=128 --rounds=3
  python -m benchmarks early_stopping --mean_steps=3 --taus= --spread=geometric --nopeer

The attack is PGD on the cross-entropy inside jit, as training runs it, in three forms: whole (all K
steps), masked (what has stopped is computed, and stays), and compacted (it is not computed). What
stops the examples is a budget each with a mean of m steps, or FAT's rule with its τ, which finds
its own m. The compacted form is to take at most ((m + 1) / K + 0.1) of the time of the whole one
and to find what the masked one finds. PyTorch's loop drops what has stopped from its batch in every
step, as FAT's authors do, beside PyTorch's own PGD-K. The sides take turns; a ratio is the median
of the ratios of the rounds. With --chunks the compacted form is timed in chunks of these parts of
the batch too, beside the masked one."""

GROUPS = {
    "what": ["models", "mean_steps", "spread", "taus", "chunks", "precision"],
    "size": ["batch_sizes", "steps", "image_size"],
    "run": ["peer", "threads", "rounds", "seed", "output"],
}

EQUAL_PIXELS = 0.995
"""The share of pixels in which the compacted form is to agree with the masked one bit for bit."""

PRECISIONS = ("float32", "tf32", "bfloat16")

Row = dict[str, Any]


def define_flags() -> None:
    """Defines the flags of this benchmark."""
    flags.DEFINE_list("models", ["wide_resnet_10_1"], "networks")
    flags.DEFINE_list("mean_steps", ["2", "4", "6", "8", "10"], "m of the budgets, at most K each")
    flags.DEFINE_string("spread", "uniform", f"of the budgets: {' or '.join(cases.SPREADS)}")
    flags.DEFINE_list("taus", ["0", "1", "2", "3"], "of FAT's rule; empty: budgets alone")
    flags.DEFINE_list("chunks", [], "as 8,4,2: an eighth, a quarter and a half of the batch")
    flags.DEFINE_list("batch_sizes", ["128", "256"], "images that are attacked together")
    flags.DEFINE_integer("steps", 10, "steps of the attack, K")
    flags.DEFINE_integer("image_size", 32, "height and width of the images")
    flags.DEFINE_string(
        "precision", None, "float32, bfloat16 or, on NVIDIA GPUs and there the default, tf32"
    )
    flags.DEFINE_bool("peer", True, "PyTorch; --nopeer times the library alone")
    flags.DEFINE_integer("threads", None, "of PyTorch on the CPU; as many as cores if not given")
    flags.DEFINE_integer("rounds", 5, "how often each side is timed")
    flags.DEFINE_integer("seed", 0, "of the weights, the images, the budgets and the random starts")
    flags.DEFINE_string("output", "", "a JSON file for the results; none if not given")


def main() -> None:
    """Measures everything that the flags ask for; prints a table, and writes it as JSON."""
    values = flags.FLAGS
    settings, means, taus = _settings(), _numbers("mean_steps"), _numbers("taus")
    step_flags.require_known("spread", [values.spread], cases.SPREADS)
    if means and max(means) > values.steps:
        raise UserError(
            f"--mean_steps={max(means)}: accepted are 0 to {values.steps}, the steps of the attack"
        )
    if values.peer:
        _require_peer()
        networks = (setting.model for setting in settings)
        peers.require_counterparts(networks, "--nopeer times the library alone", CHANNELS)
    enable_compilation_cache()
    environment = results.environment()
    print(results.describe(environment), flush=True)
    sides = len(_forms()) + 2 * values.peer
    progress = Progress(
        len(settings), len(settings) * (len(means) + len(taus)) * sides * (values.rounds + 1)
    )
    rows: list[Row] = []
    for setting in settings:
        chosen = cases.create(
            means,
            values.spread,
            taus,
            steps=setting.steps,
            batch_size=setting.batch_size,
            seed=setting.seed,
        )
        for row in _measure(setting, chosen, progress):
            rows.append(row)
            progress.say("  " + "  ".join(entries(row)))
            results.write(values.output, environment, rows)
        jax.clear_caches()
    progress.close()
    print(table.markdown(HEADER, [entries(row) for row in rows]))
    if values.chunks:
        print(chunk_table(rows))
    if any((row["cpu_share_of_others"] or 0) > WORTH_A_WARNING for row in rows):
        print("Other processes used the CPU meanwhile: these ratios are not to be trusted.")


def _measure(setting: Setting, chosen: Sequence[Case], progress: Progress) -> Iterator[Row]:
    """The rows of one network and batch size, a case each, as soon as they are there."""
    values = flags.FLAGS
    with progress.preparing(f"{setting.model}, batch {setting.batch_size}: compiling"):
        workload = create(setting)
        library = LibraryAttack(workload)
        peer = _peer(workload) if values.peer else None
        for case in {case.tau is None: case for case in chosen}.values():
            for form in _forms():
                library.wait(form, case)
    for case in chosen:
        masked, compacted = (library.run(form, case) for form in ("masked", "compacted"))
        sides = {form: Side(partial(library.wait, form, case)) for form in _forms()}
        if peer is not None:
            sides["torch whole"] = Side(peer.whole)
            sides["torch shrinking"] = Side(partial(peer.shrinking, case.budget, case.tau))
        with Neighbours() as neighbours:
            seconds = alternate(sides, values.rounds, tick=progress.tick)
        row = {
            **dataclasses.asdict(setting),
            "case": case.name,
            "tau": case.tau,
            **_agreement(masked, compacted),
            **_ratios(seconds),
            "seconds_of_rounds": seconds,
            "cpu_share_of_others": neighbours.share,
        }
        row["bound"] = cases.bound(row["mean_steps"], setting.steps)
        row["within_bound"] = row["compacted_over_whole"]["median"] <= row["bound"]
        row["agrees"] = row["equal_pixels"] >= EQUAL_PIXELS
        if peer is not None:
            _, taken = peer.shrinking(case.budget, case.tau, start=library.starts())
            row["torch_equal_steps"] = float(np.mean(taken == compacted.steps_taken))
        yield row


def _agreement(masked: Found, compacted: Found) -> Row:
    """How far the compacted form finds what the masked one finds, bit for bit."""
    return {
        "mean_steps": float(compacted.steps_taken.mean()),
        "equal_steps": float(np.mean(compacted.steps_taken == masked.steps_taken)),
        "equal_pixels": float(np.mean(compacted.images == masked.images)),
    }


def _ratios(seconds: dict[str, list[float]]) -> Row:
    """The times of the forms over each other, round by round."""
    pairs = [("compacted", "whole"), ("masked", "whole")]
    pairs += [(form, "masked") for form in seconds if form.startswith(IN_PARTS)]
    if "torch whole" in seconds:
        pairs += [("torch shrinking", "torch whole"), ("compacted", "torch shrinking")]
    return {
        f"{one}_over_{other}".replace(" ", "_"): dataclasses.asdict(
            paired_ratio(seconds[one], seconds[other])
        )
        for one, other in pairs
    }


def _forms() -> tuple[str, ...]:
    """The forms that are timed."""
    return (*FORMS, *(f"{IN_PARTS}{parts}" for parts in _numbers("chunks", lowest=1)))


def chunk_ratios(row: Row) -> dict[str, dict[str, float]]:
    """Part of the batch, as "1/4" -> the time of the compacted form in such chunks over masked."""
    before, after = IN_PARTS.replace(" ", "_"), "_over_masked"
    return {
        f"1/{name.removeprefix(before).removesuffix(after)}": value
        for name, value in row.items()
        if name.startswith(before)
    }


def chunk_table(rows: Sequence[Row]) -> str:
    """How long the compacted form takes beside the masked one, chunk by chunk.

    Args:
      rows: of one call, with the same chunks.
    """
    header = ["network", "batch", "stopped by", "m"]
    header += [f"chunks of {part} / masked" for part in chunk_ratios(rows[0])]
    return table.markdown(
        header,
        [
            [
                row["model"],
                str(row["batch_size"]),
                row["case"],
                f"{row['mean_steps']:.2f}",
                *(_spread(ratio) for ratio in chunk_ratios(row).values()),
            ]
            for row in rows
        ],
    )


def _settings() -> list[Setting]:
    """Every network at every batch size, in the precision asked for, which is set.

    Raises:
      UserError: a value that is not accepted.
    """
    values = flags.FLAGS
    for name in ("steps", "image_size", "rounds"):
        if values[name].value < 1:
            raise UserError(f"--{name}={values[name].value}: accepted are 1 or more")
    kind = values.precision or precision.defaults()[0]
    step_flags.require_known("precision", [kind], PRECISIONS)
    precision.set_up(kind)
    step_flags.require_networks(values.models)
    return [
        Setting(
            method="standard",
            model=network,
            batch_size=batch_size,
            steps=values.steps,
            precision=kind,
            image_size=values.image_size,
            seed=values.seed,
        )
        for network, batch_size in itertools.product(
            values.models, _numbers("batch_sizes", lowest=1)
        )
    ]


def _numbers(flag: str, lowest: int = 0) -> list[int]:
    """The whole numbers of a list flag.

    Raises:
      UserError: an entry is none, or too small.
    """
    entries = flags.FLAGS[flag].value
    if not all(entry.isdecimal() and int(entry) >= lowest for entry in entries):
        raise UserError(
            f"--{flag}={','.join(entries)}: accepted are whole numbers, {lowest} or more"
        )
    return [int(entry) for entry in entries]


def _require_peer() -> None:
    if importlib.util.find_spec("torch") is None:
        raise UserError(
            "the peer needs PyTorch: pip install -r benchmarks/requirements.txt, or --nopeer "
            "for the library alone"
        )


def _peer(workload: Workload) -> TorchAttack:
    from benchmarks import early_stopping_peer

    return early_stopping_peer.create(workload, flags.FLAGS.threads)


HEADER = (
    "network", "batch", "stopped by", "m", "compacted / PGD-K", "bound", "equal pixels %",
    "masked / PGD-K", "PyTorch: shrinking / PGD-K", "robustjax / PyTorch's shrinking",
)  # fmt: skip


def entries(row: Row) -> list[str]:
    """One row of the table."""
    equal = 100 * row["equal_pixels"]
    return [
        row["model"],
        str(row["batch_size"]),
        row["case"],
        f"{row['mean_steps']:.2f}",
        _spread(row["compacted_over_whole"]),
        f"{row['bound']:.3f} {_verdict(row['within_bound'])}",
        f"{f'{equal:.3f}' if equal < 100 else 100} {_verdict(row['agrees'])}",
        _spread(row["masked_over_whole"]),
        _spread(row.get("torch_shrinking_over_torch_whole")),
        _spread(row.get("compacted_over_torch_shrinking")),
    ]


def _verdict(met: bool) -> str:
    return "met" if met else "missed"


def _spread(ratio: dict[str, float] | None) -> str:
    if ratio is None:
        return "-"
    return f"{ratio['median']:.3f} ({ratio['lower_quartile']:.3f} to {ratio['upper_quartile']:.3f})"
