"""Whose the folder of a run is: one training at a time, of one experiment."""

import contextlib
from collections.abc import Iterator

from robustjax import parallel
from robustjax.config import TrainConfig
from robustjax.errors import UserError
from robustjax.files import PARTIAL, Path, require_free, write_whole
from robustjax.flags import read_flags
from robustjax.runs.lock import Lock, Locked
from robustjax.runs.names import CHECKPOINTS, FIGURES, FLAGS, METRICS

_LOCK = "training.lock"


@contextlib.contextmanager
def lock(workdir: str) -> Iterator[None]:
    """Keeps any other training out of a run's folder.

    Args:
      workdir: the folder; made if it is not there.

    Raises:
      ValueError: another process trains there, or it cannot be written into; on all processes of
        the run.
    """
    _require_given(workdir)
    held, complaint = Lock(Path(workdir) / _LOCK, "training"), ""
    if parallel.is_main_process():
        try:
            held.take()
        except Locked as error:
            complaint = f"workdir={error}"
        except OSError as error:
            complaint = f"workdir={workdir} cannot be written: {error.strerror or error}"
    parallel.require_agreement(complaint, f"workdir={workdir}: process 0 cannot train there")
    if complaint:
        raise UserError(complaint)
    try:
        yield
    finally:
        held.release()


def claim(config: TrainConfig, *, depends_on_length: bool, writes: bool = True) -> Path:
    """Makes the folder of a new run, or checks that an existing one belongs to this experiment.

    Args:
      config: the experiment; its `workdir` must be given.
      depends_on_length: whether its first epochs would be others if it had more of them, so that a
        run of another length cannot be gone on with.
      writes: whether this process writes flags.txt (one process of a run does).

    Raises:
      ValueError: the folder cannot be made, or holds the run of another experiment; the message
        names the options that differ.
    """
    _require_given(config.workdir)
    workdir = Path(config.workdir)
    path = workdir / FLAGS
    require_free(workdir, f"workdir={workdir}", (FLAGS, METRICS), (CHECKPOINTS, FIGURES))
    if path.exists():
        # Until something is saved there is nothing to lose, and nothing to resume.
        if _holds_checkpoints(workdir):
            _refuse_other_experiment(
                config, read_flags(path, alone=True), workdir, depends_on_length
            )
    elif writes and _holds_other_files(workdir):
        raise UserError(
            f"workdir={workdir} holds other files and no {FLAGS}; name a new or an empty folder"
        )
    if writes:
        try:
            write_whole(path, config.to_flags())
        except OSError as error:
            raise UserError(
                f"workdir={workdir} cannot be written: {error.strerror or error}"
            ) from error
    return workdir


def _require_given(workdir: str) -> None:
    if not workdir:
        raise UserError("workdir is not given; name the folder that the run is kept in")


def has_begun(workdir: str) -> bool:
    """Whether a folder holds a run with a checkpoint to go on from."""
    return bool(workdir) and _holds_checkpoints(Path(workdir))


def _refuse_other_experiment(
    config: TrainConfig, previous: TrainConfig, workdir: Path, depends_on_length: bool
) -> None:
    differences = config.differences(previous)
    if config.epochs != previous.epochs:
        if depends_on_length:
            differences.append(
                f"epochs={config.epochs} (was {previous.epochs}; a {config.schedule} schedule "
                "depends on the length of training)"
            )
        elif config.epochs < previous.epochs:
            differences.append(f"epochs={config.epochs} (was {previous.epochs})")
    if differences:
        raise UserError(
            f"workdir={workdir} holds a run with other options: {', '.join(differences)}; "
            "give the same options to resume it, or another workdir"
        )


def _holds_checkpoints(workdir: Path) -> bool:
    directory = workdir / CHECKPOINTS
    return directory.is_dir() and any(child.name.isdigit() for child in directory.iterdir())


def _holds_other_files(workdir: Path) -> bool:
    """Whether there is anything but what a run killed in its first moment leaves."""
    return workdir.is_dir() and any(
        path.suffix != PARTIAL and path.name != _LOCK for path in workdir.iterdir()
    )
