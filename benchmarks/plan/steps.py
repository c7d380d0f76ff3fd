"""The steps of the plan: which commands answer which question, and how many minutes they take.

The minutes are estimates for an H100 from arithmetic; nothing here has been timed on a GPU.
"""

import dataclasses
import functools
import importlib.util
import sys
from pathlib import Path
from typing import Any

from benchmarks.plan import image_parts, tally
from benchmarks.plan.part import Content, Part, Step
from benchmarks.plan.repeated import DETERMINISTIC
from robustjax import files, training
from robustjax.runs.names import METRICS

TESTS = (
    "tests/losses",
    "tests/attacks/test_pgd.py",
    "tests/attacks/test_stopping.py",
    "tests/attacks/test_apgd.py",
    "tests/attacks/engine/test_compaction.py",
    "tests/training/step",
)
"""Of losses, attacks and the train step, the quickest first."""

CHUNKS = "8,4,2"
"""Of early stopping: parts of the batch."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a plan is carried out, and with what.

    Attributes:
      work: a folder of this machine for data, runs and compiled programs; what lies there is used
        again by the next call.
      rehearse: whether everything is tiny, on the CPU.
      installed: the packages that are there, of torch, torchattacks and xdist.
    """

    work: Path
    rehearse: bool
    installed: frozenset[str]

    @classmethod
    def here(cls, work: Path, rehearse: bool) -> "Place":
        """This machine."""
        packages = ("torch", "torchattacks", "xdist")
        installed = frozenset(name for name in packages if importlib.util.find_spec(name))
        return cls(work, rehearse, installed)

    @property
    def store(self) -> Path:
        """Of the images."""
        return self.work / "images"

    @property
    def archive(self) -> Path:
        """All images, for --dataset=npz."""
        return self.store / image_parts.JOINED

    @property
    def run(self) -> Path:
        """The speed run."""
        return self.work / "speed_run"


def steps(place: Place) -> list[Step]:
    """The plan, the most useful first."""
    return [
        Step("a", "correctness", "Correctness", tuple(_correctness(place))),
        Step("b", "train_step", "Training step", tuple(_train_step(place))),
        Step("c", "early_stopping", "Early stopping", tuple(_early_stopping(place))),
        Step("d", "memory", "Memory", tuple(_memory(place))),
        # AutoAttack needs the network of the speed run.
        Step("f", "speed_run", "Speed run", tuple(_speed_run(place))),
        Step("e", "autoattack", "AutoAttack", tuple(_autoattack(place))),
        Step("g", "repetition", "Bit for bit", tuple(_repetition(place))),
    ]


def _correctness(place: Place) -> list[Part]:
    tests = ("tests/losses/test_mma.py",) if place.rehearse else TESTS
    float32 = {"JAX_DEFAULT_MATMUL_PRECISION": "highest"}
    parts = [
        _module(place, "against_cpu", "against_cpu", 0.6, *_tiny(place)),
        _tests(place, "tests_float32", 1.0, tests, float32),
    ]
    if not place.rehearse:
        # Most tolerances of the others are those of float32, and losses have no products.
        parts.append(_tests(place, "tests_tf32", 0.3, TESTS[:1], {}))
    return parts


def _train_step(place: Place) -> list[Part]:
    if place.rehearse:
        small = _small_step(place)
        peers = _peers(place, "eager")
        return [
            _benchmark(place, "resnet_18", "train_step", 0.2, *small, peers),
            _benchmark(place, "profile", "profile", 0.2, *small),
        ]
    common = ("--precision=bfloat16", "--methods=standard,trades", "--rounds=5")
    peers = _peers(place, "compiled")
    # The profiler does not look into command buffers.
    flags = {"XLA_FLAGS": "--xla_gpu_enable_command_buffer="}
    return [
        _benchmark(place, "resnet_18", "train_step", 1.0, "--models=resnet_18", *common, peers),
        _benchmark(
            place, "wide_resnet_34_10", "train_step", 1.7,
            "--models=wide_resnet_34_10", *common, peers,
        ),
        _benchmark(
            place, "profile", "profile", 0.5,
            "--models=resnet_18", "--methods=trades", "--precision=bfloat16", "--rounds=3",
            environment=flags,
        ),
    ]  # fmt: skip


def _early_stopping(place: Place) -> list[Part]:
    if place.rehearse:
        return [
            _benchmark(
                place, "batch_128", "early_stopping", 0.2,
                "--models=digits_cnn", "--batch_sizes=8", "--steps=2", "--image_size=8",
                "--mean_steps=1", "--taus=", "--chunks=2", "--rounds=1", "--nopeer",
            )
        ]  # fmt: skip
    return [
        _benchmark(
            place, f"batch_{size}", "early_stopping", minutes,
            "--models=resnet_18", f"--batch_sizes={size}", "--precision=bfloat16",
            "--mean_steps=2,5,8,10", "--taus=0,2", f"--chunks={CHUNKS}", "--rounds=5", "--nopeer",
        )
        for size, minutes in ((128, 0.7), (512, 0.8))
    ]  # fmt: skip


def _memory(place: Place) -> list[Part]:
    options = (
        (*_small_step(place), "--microbatch=2")
        if place.rehearse
        else ("--precision=bfloat16", "--microbatch=32", "--rounds=5")
    )
    return [_benchmark(place, "options", "memory", 0.2 if place.rehearse else 1.3, *options)]


def _speed_run(place: Place) -> list[Part]:
    def missing() -> str:
        lacking = image_parts.missing(place.store)
        return f"of the images {', '.join(lacking)} are not there" if lacking else ""

    tiny = (
        (
            "--model=digits_cnn", "--batch_size=16", "--holdout=16", "--steps=2",
            "--steps_schedule=1,2@1", "--epsilon_schedule=2/255..8/255@1",
            "--measure_steps=1", "--measure_examples=16",
        )
        if place.rehearse
        else ()
    )  # fmt: skip
    few = ("--examples=16",) if place.rehearse else ()
    training_part = _part(
        place,
        "training",
        0.2 if place.rehearse else 3.3,
        (
            "launch/train.py", "--flagfile=launch/speedrun.flags", "--dataset=npz",
            f"--data_dir={place.archive}", "--augmentation=crop4-flip", *tiny,
            f"--epochs={_epochs(place)}", f"--workdir={place.run}",
        ),
    )  # fmt: skip
    evaluation_part = _part(
        place,
        "evaluation",
        0.2 if place.rehearse else 0.4,
        ("launch/evaluate.py", f"--workdir={place.run}", "--attacks=clean,pgd-20", *few),
    )
    return [
        dataclasses.replace(
            training_part,
            output=place.run / METRICS,
            read=read_metrics,
            missing=missing,
            continues=True,
        ),
        dataclasses.replace(
            evaluation_part,
            output=place.run / "evaluation.json",
            read=read_evaluation,
            missing=functools.partial(_run_is_missing, place),
            continues=True,
        ),
    ]


def _autoattack(place: Place) -> list[Part]:
    peer = "--peer" if "torchattacks" in place.installed and not place.rehearse else "--nopeer"
    size = (
        ("--examples=8", "--attack_batch_size=8", "--steps=2", "--queries=4")
        if place.rehearse
        else ("--examples=1000", "--attack_batch_size=500")
    )
    part = _benchmark(
        place, "standard", "autoattack", 0.2 if place.rehearse else 2.2,
        f"--workdirs={place.run}", f"--data_dir={place.archive}", peer, *size,
    )  # fmt: skip
    return [dataclasses.replace(part, missing=functools.partial(_run_is_missing, place))]


def _repetition(place: Place) -> list[Part]:
    options = (
        _small_step(place)
        if place.rehearse
        else (
            "--models=resnet_18", "--methods=standard", "--precision=bfloat16", "--rounds=5"
        )
    )  # fmt: skip
    examples = ("--examples=8",) if place.rehearse else ()
    return [
        _module(place, "equal", "repeated", 1.0, *_tiny(place), *examples),
        _benchmark(
            place, "price", "train_step", 0.2 if place.rehearse else 0.5, *options, "--peers=",
            environment={"XLA_FLAGS": DETERMINISTIC},
        ),
    ]  # fmt: skip


def read_metrics(path: Path) -> Content | None:
    """The rows of a run's log so far, one an epoch."""
    return {"rows": training.read_rows(path)} if path.exists() else None


def read_evaluation(path: Path) -> Content | None:
    """What evaluation.json says of the run."""
    return {"rows": [files.read_json(path)]} if path.exists() else None


def _run_is_missing(place: Place) -> str:
    rows = training.read_rows(place.run / METRICS) if (place.run / METRICS).exists() else []
    trained = bool(rows) and rows[-1]["epoch"] >= _epochs(place)
    return "" if trained else "the network of the speed run is not there"


def _epochs(place: Place) -> int:
    """Of the speed run; as launch/speedrun.flags has them."""
    return 2 if place.rehearse else 30


def _small_step(place: Place) -> tuple[str, ...]:
    """The options of a step in a rehearsal; PyTorch has no counterpart of the smallest network."""
    model = "cifar_resnet_8" if "torch" in place.installed else "digits_cnn"
    few = ("--image_size=8", "--batch_size=4", "--steps=1", "--rounds=1")
    return (f"--models={model}", "--methods=standard", *few)


def _tiny(place: Place) -> tuple[str, ...]:
    return ("--model=digits_cnn", "--batch_size=4") if place.rehearse else ()


def _peers(place: Place, wanted: str) -> str:
    return f"--peers={wanted}" if "torch" in place.installed else "--peers="


def _benchmark(
    place: Place, name: str, benchmark: str, minutes: float, *options: str, **fields: Any
) -> Part:
    """A part that is a benchmark of this folder."""
    return _writing(place, name, benchmark, minutes, ("benchmarks", benchmark, *options), **fields)


def _module(place: Place, name: str, module: str, minutes: float, *options: str) -> Part:
    """A part that is a module beside this one."""
    minutes = 0.2 if place.rehearse else minutes
    return _writing(place, name, module, minutes, (f"benchmarks.plan.{module}", *options))


def _writing(
    place: Place, name: str, folder: str, minutes: float, command: tuple[str, ...], **fields: Any
) -> Part:
    """A part whose command writes what it finds into --output."""
    part = _part(place, f"{folder}_{name}", minutes, (), **fields)
    command = (*part.command, "-m", *command, f"--output={part.output}")
    return dataclasses.replace(part, name=name, command=command)


def _tests(
    place: Place, name: str, minutes: float, tests: tuple[str, ...], environment: dict[str, str]
) -> Part:
    """A part that is some of the tests, on this device."""
    parallel = ("-n8", "--dist=worksteal") if "xdist" in place.installed else ()
    quietly = ("-q", "-p", tally.__name__, "-p", "no:cacheprovider")
    command = ("-m", "pytest", *quietly, *(() if place.rehearse else parallel), *tests)
    part = _part(place, name, 0.2 if place.rehearse else minutes, command, environment=environment)
    # Without a word the tests choose the CPU.
    platforms = "cpu" if place.rehearse else "cuda,cpu"
    own = {tally.VARIABLE: str(part.output), "JAX_PLATFORMS": platforms}
    return dataclasses.replace(part, environment={**part.environment, **own})


def _part(
    place: Place,
    name: str,
    minutes: float,
    arguments: tuple[str, ...],
    environment: dict[str, str] | None = None,
) -> Part:
    shared = {
        "JAX_COMPILATION_CACHE_DIR": str(place.work / "programs"),
        "PYTHONUNBUFFERED": "1",
        # Two processes, and PyTorch, may share the device.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TORCHINDUCTOR_COMPILE_THREADS": "8",
    }
    if place.rehearse:
        shared |= {"JAX_PLATFORMS": "cpu", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2"}
    return Part(
        name=name,
        minutes=minutes,
        command=(sys.executable, *arguments),
        output=place.work / "measured" / f"{name}.json",
        environment={**shared, **(environment or {})},
    )
