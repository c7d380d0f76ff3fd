"""Where a run's rows go besides metrics.jsonl: each epoch once, also of a run that is resumed."""

import sys
import time
import types

import flax.linen as nn
import numpy as np
import pytest

from robustjax import data
from robustjax.config import TrainConfig
from robustjax.errors import UserError
from robustjax.files import Path
from robustjax.runs.writers import LoggedRun, create_writers, names
from robustjax.training import train


def row(epoch, loss=0.5):
    return {
        "epoch": epoch,
        "step": 4 * epoch,
        "loss": loss,
        "holdout_robust_accuracy": None,
        "elapsed_seconds": 2.5 * epoch,
    }


def write(name, folder, rows, *, before=()):
    """What a process does that goes on after some rows, and adds others."""
    run = LoggedRun(Path(folder), {"method": "natural"}, tuple(before))
    with create_writers([name], str(folder))(run) as writer:
        for each in rows:
            writer(each)


def points(folder, curve):
    """(epoch, value, time) of a curve in TensorBoard's files, in the order in which they are there.

    Read by the format: a length of 8 bytes, its checksum, the event, its checksum.
    """
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted((folder / "tensorboard").iterdir()):
        content = path.read_bytes()
        while content:
            length = int.from_bytes(content[:8], "little")
            event = Event.FromString(content[12 : 12 + length])
            for value in event.summary.value:
                if value.tag == curve:
                    found.append((event.step, value.simple_value, event.wall_time))
            content = content[16 + length :]
    return found


def test_a_resumed_run_continues_tensorboard_s_curves_without_a_doubled_point(tmp_path):
    pytest.importorskip("tensorboardX")
    write("tensorboard", tmp_path, [row(1, 0.75), row(2, 0.5), row(3, 0.25)])
    first = points(tmp_path, "loss")
    assert [(step, value) for step, value, _ in first] == [(1, 0.75), (2, 0.5), (3, 0.25)]
    assert first[1][2] - first[0][2] == pytest.approx(2.5, abs=1e-3)

    # Killed after the second epoch was saved, and before the third was.
    write("tensorboard", tmp_path, [row(3, 0.25), row(4)], before=[row(1, 0.75), row(2, 0.5)])
    again = [(step, value) for step, value, _ in points(tmp_path, "loss")]
    assert again == [(1, 0.75), (2, 0.5), (3, 0.25), (4, 0.5)]
    assert not points(tmp_path, "holdout_robust_accuracy") and not points(tmp_path, "step")


def test_files_beside_tensorboard_s_own_are_left_alone(tmp_path):
    pytest.importorskip("tensorboardX")
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard" / "notes.txt").write_text("mine")
    write("tensorboard", tmp_path, [row(1)])
    assert (tmp_path / "tensorboard" / "notes.txt").read_text() == "mine"


class Wandb(types.ModuleType):
    """In the place of the package: keeps a folder a process, and steps on a server by id."""

    Error = type("Error", (Exception,), {})

    def __init__(self):
        super().__init__("wandb")
        self.server, self.calls = {}, []

    def init(self, *, dir, id, mode, **others):
        self.calls.append({"id": id, "mode": mode, **others})
        if mode == "refused":
            raise self.Error("no\nentry")
        kept = Path(dir) / "wandb" / f"{mode}-run-{len(self.calls)}-{id}"
        kept.mkdir(parents=True)
        history = self.server.setdefault(id, []) if mode == "online" else []

        def log(values, *, step, commit):
            history.append((step, values))
            (kept / "history").write_text(repr([step for step, _ in history]))

        step = history[-1][0] + 1 if history else 0
        return types.SimpleNamespace(step=step, log=log, finish=lambda: None)


@pytest.fixture
def wandb(monkeypatch):
    module = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return module


def test_offline_the_newest_folder_of_a_resumed_run_has_all_of_it(wandb, tmp_path):
    write("wandb", tmp_path, [row(1), row(2)])
    write("wandb", tmp_path, [row(2), row(3)], before=[row(1)])
    (kept,) = (tmp_path / "wandb").glob("offline-run-*")
    assert (kept / "history").read_text() == "[1, 2, 3]"
    first, second = wandb.calls
    assert first["id"] == second["id"] and first["mode"] == "offline"
    assert first["config"] == {"method": "natural"} and first["name"] == tmp_path.name


def test_online_what_is_there_already_is_not_logged_again(wandb, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    write("wandb", tmp_path, [row(1), row(2)])
    write("wandb", tmp_path, [row(2), row(3)], before=[row(1)])
    ((_, history),) = wandb.server.items()
    assert [step for step, _ in history] == [1, 2, 3]
    assert "holdout_robust_accuracy" not in history[0][1]


def test_what_wandb_refuses_is_one_sentence(wandb, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "refused")
    with pytest.raises(UserError, match=r"^log=wandb cannot begin: no entry; without WAN"):
        write("wandb", tmp_path, [])


@pytest.mark.slow
def test_the_package_itself_keeps_an_interrupted_run_as_an_unbroken_one(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")

    def times_kept(name):
        (kept,) = (tmp_path / name / "wandb").glob("offline-run-*")
        (history,) = kept.glob("*.wandb")
        return [history.read_bytes().count(number) for number in (b"0.123", b"0.321")]

    write("wandb", tmp_path / "unbroken", [row(1, 0.123), row(2, 0.321)])
    write("wandb", tmp_path / "resumed", [row(1, 0.123)])
    time.sleep(1.1)  # Its folders are called by the second.
    write("wandb", tmp_path / "resumed", [row(2, 0.321)], before=[row(1, 0.123)])
    assert times_kept("resumed") == times_kept("unbroken")
    assert min(times_kept("resumed")) >= 1


@pytest.mark.parametrize(("name", "package"), [("tensorboard", "tensorboardX"), ("wandb", "wandb")])
def test_a_package_that_is_missing_is_named_with_its_extra(name, package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError) as error:
        create_writers([name], str(tmp_path))
    assert str(error.value) == (
        f"log={name} needs the package {package}, which is not installed: "
        f"pip install 'robustjax[{name}]'"
    )


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (["tensorbord"], r"log=tensorbord: accepted are .* did you mean 'tensorboard'\?"),
        (["mine:f", "mine:f"], "mine:f is there twice"),
        (["absent.logs:create"], "log=absent.logs:create: there is no module absent"),
    ],
)
def test_what_is_no_writer_is_said_before_anything_is_written(wanted, said, tmp_path):
    with pytest.raises(UserError, match=said):
        train(TrainConfig(workdir=str(tmp_path / "run"), log=tuple(wanted)), None)
    assert not (tmp_path / "run").exists()


def test_into_a_bucket_only_one_s_own_can_write(wandb):
    for name in names():
        pytest.importorskip({"tensorboard": "tensorboardX"}.get(name, name))
        with pytest.raises(UserError, match=f"log={name} cannot write into a bucket, as w"):
            create_writers([name], "gs://bucket/run")


class Layer(nn.Module):
    num_classes: int = 2

    @nn.compact
    def __call__(self, images, *, train=False, batch_statistics=None):
        return nn.Dense(self.num_classes)(images.reshape(len(images), -1))


DOTS = data.Dataset(
    "dots",
    np.eye(2, dtype=np.float32).reshape(2, 2, 1, 1)[[0, 1] * 4],
    np.array([0, 1] * 4, np.int32),
    2,
)


class Mine:
    """A writer of one's own."""

    told, seen, closed = None, [], 0

    def __init__(self, run):
        Mine.told = run

    def __call__(self, row):
        Mine.seen.append(row["epoch"])

    def close(self):
        Mine.closed += 1


def test_one_s_own_gets_each_epoch_and_is_told_where_the_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setitem(
        sys.modules, "mine_logs", types.SimpleNamespace(Mine=Mine, no=lambda run: 3)
    )

    def trained(epochs, log="mine_logs:Mine"):
        config = TrainConfig(
            method="natural", epochs=epochs, batch_size=4, holdout=0, measure_steps=1,
            measure_examples=4, schedule="constant", augmentation="none", devices=1,
            workdir=str(tmp_path / "run"), log=(log,),
        )  # fmt: skip
        train(config, None, model=Layer, dataset=DOTS)

    trained(epochs=1)
    assert Mine.told.rows == () and Mine.seen == [1] and Mine.closed == 1
    assert Mine.told.options["method"] == "natural" and Mine.told.folder == tmp_path / "run"
    trained(epochs=2)
    assert [row["epoch"] for row in Mine.told.rows] == [1] and Mine.seen == [1, 2]
    assert "mine_logs" not in (tmp_path / "run" / "flags.txt").read_text()
    with pytest.raises(UserError, match="log=mine_logs:no gives 3; accepted is a function of"):
        trained(epochs=3, log="mine_logs:no")
