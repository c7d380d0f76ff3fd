"""The plan of a GPU's minutes: budget, order, going on, being cut off, parts, conclusions."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gpu_plan
from benchmarks.plan import against_cpu, conclusions, image_parts, repeated, report, runner
from benchmarks.plan import steps as plan_steps
from benchmarks.plan.part import Part, Step
from benchmarks.plan.records import CUT_OFF, DONE, FAILED, Records
from benchmarks.plan.runner import Ended
from benchmarks.plan.steps import Place
from robustjax import data
from robustjax.data import Dataset
from robustjax.errors import UserError

ROOT = Path(__file__).parents[2]


def part(name, minutes=1.0, folder=Path("nowhere"), **fields):
    return Part(name, minutes, (sys.executable, name), folder / f"{name}.json", **fields)


def step(letter, *parts):
    return Step(letter, f"step_{letter}", letter, parts)


class Machine:
    """Runs parts by moving a clock; a part in `fails` fails, one in `slow` takes all it may."""

    def __init__(self, fails=(), slow=()):
        self.now, self.ran, self.fails, self.slow = 0.0, [], fails, slow

    def run(self, part, limit, keep):
        self.ran.append(part.name)
        keep({"rows": [part.name]})
        seconds = limit if part.name in self.slow else 60 * part.minutes
        self.now += seconds
        state = CUT_OFF if part.name in self.slow else FAILED if part.name in self.fails else DONE
        return Ended(state, seconds, "no\nluck" if state == FAILED else "")

    def carry_out(self, steps, folder, minutes):
        return runner.carry_out(
            steps,
            Records(folder),
            minutes=minutes,
            run=self.run,
            clock=lambda: self.now,
            say=lambda text: None,
        )


def test_steps_are_taken_in_order_and_what_does_not_fit_is_left_out_and_said(tmp_path):
    steps = [
        step("a", part("one", 2), part("two", 3)),
        step("b", part("three", 9), part("four", 1)),
    ]
    machine = Machine()
    left_out = machine.carry_out(steps, tmp_path, minutes=7)
    assert machine.ran == ["one", "two", "four"]
    assert list(left_out) == ["step_b three"]
    assert "9 minutes" in left_out["step_b three"] and "1.8 are left" in left_out["step_b three"]
    assert machine.now <= 7 * 60


def test_the_same_command_does_what_is_missing(tmp_path):
    steps = [step("a", part("one"), part("two"), part("three"))]
    first = Machine(fails=["two"])
    first.carry_out(steps, tmp_path, minutes=2.5)
    assert first.ran == ["one", "two"]
    second = Machine()
    assert second.carry_out(steps, tmp_path, minutes=2) == {}
    # What failed would fail again.
    assert second.ran == ["three"]
    assert Records(tmp_path).entries(steps[0])["two"]["said"] == "no\nluck"


def test_a_part_gets_twice_its_minutes_and_no_more_than_are_left(tmp_path):
    steps = [step("a", part("one", 2), part("two", 5))]
    machine = Machine(slow=["one", "two"])
    left_out = machine.carry_out(steps, tmp_path, minutes=10)
    assert machine.now == pytest.approx(10 * 60 - runner.RESERVE)
    assert set(left_out) == {"step_a one", "step_a two"}
    again = Machine()
    again.carry_out(steps, tmp_path, minutes=10)
    assert again.ran == ["one", "two"]


def test_what_needs_something_waits_for_it(tmp_path):
    there = []
    needing = part("one", missing=lambda: "" if there else "the images are not there")
    machine = Machine()
    left_out = machine.carry_out([step("a", needing)], tmp_path, minutes=5)
    assert left_out == {"step_a one": "the images are not there"} and not machine.ran
    there.append(True)
    assert machine.carry_out([step("a", needing)], tmp_path, minutes=5) == {}


def test_a_later_attempt_that_gets_less_far_takes_nothing_away(tmp_path):
    records, only = Records(tmp_path), step("a", part("one"))

    def put(state, rows):
        content = {"rows": rows} if rows else None
        records.put(
            only,
            "one",
            {"state": state, "seconds": 1, "command": "", "content": content, "said": ""},
        )
        return records.entries(only)["one"]["content"]["rows"]

    assert put(CUT_OFF, [1, 2]) == [1, 2]
    assert put(FAILED, None) == [1, 2]
    assert put(CUT_OFF, [3]) == [1, 2]
    assert put(CUT_OFF, [3, 4, 5]) == [3, 4, 5]
    assert put(DONE, [6]) == [6]


WRITER = """
import json, os, sys, time
started_by = os.getppid()
for count in range(1, 1000):
    with open(sys.argv[1] + ".partial", "w") as file:
        json.dump({"rows": list(range(count))}, file)
    os.replace(sys.argv[1] + ".partial", sys.argv[1])
    time.sleep(float(sys.argv[2]))
    if os.getppid() != started_by:
        break
    if count == 3 and len(sys.argv) > 3:
        sys.exit(sys.argv[3])
"""


def writer(folder, pause, *arguments):
    output = folder / "rows.json"
    command = (sys.executable, "-c", WRITER, str(output), str(pause), *arguments)
    return Part("writer", 1.0, command, output)


def test_a_command_is_ended_in_time_and_what_it_wrote_is_kept(tmp_path):
    for limit in (1, 10, 100):  # On a busy machine it takes long to begin.
        kept = []
        ended = runner.run_command(writer(tmp_path, 1000), limit, kept.append)
        assert ended.state == CUT_OFF and ended.seconds >= limit
        if kept[-1]:
            break
    assert kept[-1] == {"rows": [0]}


def test_a_folder_that_the_command_makes_is_left_alone_and_what_it_holds_stays(tmp_path):
    output = tmp_path / "run" / "rows.json"
    command = (
        sys.executable,
        "-c",
        f"import os, sys; sys.exit(os.path.exists({str(output.parent)!r}))",
    )
    ours = Part("run", 1.0, command, output, log=tmp_path / "run.log", continues=True)
    assert runner.run_command(ours, 100, lambda content: None).state == DONE
    assert not output.parent.exists() and ours.log.exists()
    output.parent.mkdir()
    output.write_text('{"rows": [1]}')
    kept = []
    runner.run_command(ours, 100, kept.append)
    assert kept[-1] == {"rows": [1]}


def test_a_command_that_fails_says_why(tmp_path):
    kept = []
    ended = runner.run_command(writer(tmp_path, 0, "out of memory"), 100, kept.append)
    assert ended.state == FAILED and "out of memory" in ended.said
    assert kept[-1]["rows"] == [0, 1, 2]


PLAN = """
import sys
from pathlib import Path
from benchmarks.plan.part import Step
from benchmarks.plan.records import Records
from benchmarks.plan import runner
sys.path.insert(0, {tests!r})
from test_gpu_plan import writer
folder = Path(sys.argv[1])
step = Step("a", "writing", "", (writer(folder, 0.2),))
runner.carry_out([step], Records(folder), minutes=5, run=runner.run_command)
"""


def test_killed_in_the_middle_it_has_left_what_was_found(tmp_path):
    script = PLAN.format(tests=str(Path(__file__).parent))
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        start_new_session=True,
    )
    path = tmp_path / "a_writing.json"
    try:
        waited = time.monotonic() + 120
        while not path.exists() and process.poll() is None and time.monotonic() < waited:
            time.sleep(0.1)
    finally:
        # The plan alone first, as a machine does that is out of memory.
        process.kill()
        process.wait()
    entry = json.loads(path.read_text())["parts"]["writer"]
    assert entry["state"] == "running" and entry["content"]["rows"]
    assert not list(tmp_path.glob("a_*.partial"))


def random_sets(train=7, test=3, size=4):
    random = np.random.default_rng(0)

    def some(count):
        images = random.integers(0, 256, (count, size, size, 3), np.uint8)
        return Dataset("npz", images, random.integers(0, 10, count, np.int32), 10)

    return {"train": some(train), "test": some(test)}


def test_parts_joined_are_the_images_that_were_packed(tmp_path):
    sets = random_sets()
    written = image_parts.pack(sets, tmp_path / "parts")
    assert [path.name for path in written] == image_parts.names()
    # They arrive one by one.
    store = tmp_path / "store"
    for path in written:
        assert image_parts.missing(store) and not (store / image_parts.JOINED).exists()
        arrived = tmp_path / f"only_{path.name}"
        arrived.mkdir()
        (arrived / path.name).write_bytes(path.read_bytes())
        image_parts.take_in(arrived, store)
    assert image_parts.missing(store) == []
    for split, packed in sets.items():
        joined = data.load("npz", split, data_dir=str(store / image_parts.JOINED))
        np.testing.assert_array_equal(joined.images, packed.images)
        np.testing.assert_array_equal(joined.labels, packed.labels)
        assert joined.num_classes == 10


def test_cifar10_fits_into_its_parts():
    an_image = 32 * 32 * 3 + 4
    assert -(-50_000 // image_parts.PARTS["train"]) * an_image < image_parts.MOST_BYTES
    assert 10_000 // image_parts.PARTS["test"] * an_image < image_parts.MOST_BYTES


def test_a_part_with_other_images_is_refused_by_its_name(tmp_path):
    first, *_ = image_parts.pack(random_sets(), tmp_path)
    with np.load(first) as archive:
        arrays = dict(archive)
    arrays["images"] = arrays["images"] ^ np.uint8(1)
    np.savez(first, **arrays)
    with pytest.raises(UserError, match="train_1_of_3.npz: its images are not those"):
        image_parts.take_in(tmp_path, tmp_path / "store")
    first.write_bytes(first.read_bytes()[:100])
    with pytest.raises(UserError, match="train_1_of_3.npz is no part"):
        image_parts.take_in(tmp_path, tmp_path / "store")


def test_a_part_that_is_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(image_parts, "MOST_BYTES", 1000)
    with pytest.raises(UserError, match="train_1_of_3.npz has"):
        image_parts.pack(random_sets(), tmp_path)


@pytest.mark.parametrize("rehearse", [False, True])
def test_the_plan_has_every_step_and_fits_a_quarter_of_an_hour(tmp_path, rehearse):
    everything = frozenset({"torch", "torchattacks", "xdist"})
    plan = plan_steps.steps(Place(tmp_path, rehearse, everything))
    assert sorted(step.letter for step in plan) == list("abcdefg")
    letters = [step.letter for step in plan]
    # The network that (e) attacks is (f)'s.
    assert letters.index("f") < letters.index("e")
    outputs = [part.output for step in plan for part in step.parts]
    assert len(set(outputs)) == len(outputs)
    # The first four fit a call of ten minutes, the images' parts being on their way.
    first, rest = (
        sum(part.minutes for step in chosen for part in step.parts)
        for chosen in (plan[:4], plan[4:6])
    )
    assert first < 8.5 and rest < 10 and first + rest < 15
    for step in plan:
        for part in step.parts:
            script = next((word for word in part.command if word.startswith("launch/")), None)
            assert script is None or (ROOT / script).exists()
    # A file for each step, and the table: so few that all of them come back.
    assert len(plan) + 1 <= 8


def row_of(mean, ratios, batch=128):
    spread = {"lower_quartile": 0, "upper_quartile": 0}
    chunks = {
        f"compacted_1/{parts}_over_masked": {"median": ratio, **spread}
        for parts, ratio in ratios.items()
    }
    return {"mean_steps": mean, "steps": 10, "batch_size": batch, **chunks}


def test_early_stopping_is_the_default_where_it_pays():
    rows = [
        row_of(2, {8: 0.4, 4: 0.3, 2: 0.5}),
        row_of(5, {8: 0.9, 4: 0.6, 2: 0.8}),
        row_of(10, {8: 1.5, 4: 1.05, 2: 1.0}),
    ]
    said = conclusions.of_early_stopping(rows, "GPU")
    # The geometric mean of 0.3 and 0.6.
    assert "0.42 (1/4 of the batch)" in said and "2 cases" in said and "at most 1.05" in said
    assert said.endswith("`--early_stop=compact`, chunks of 1/4.")
    slower = [row_of(5, {4: 1.2}), row_of(10, {4: 1.0})]
    assert "`--early_stop=scan`" in conclusions.of_early_stopping(slower, "GPU")
    harmful = [row_of(2, {4: 0.5}), row_of(10, {4: 1.3})]
    assert "`--early_stop=scan`" in conclusions.of_early_stopping(harmful, "GPU")


def test_repetition_is_said_for_each_setting():
    same = np.arange(4, dtype=np.float32)
    found = {"weights": same, "images": same, "success": same > 1}
    other = {**found, "weights": same + np.float32(0.5)}
    row = repeated.compared(found, found)
    assert "is equal bit for bit" in conclusions.of_repetition({**row, "xla_flags": ""})
    said = conclusions.of_repetition({**repeated.compared(found, other), "xla_flags": "--x=true"})
    assert "With `--x=true`" in said and "up to 0.5" in said and "verdict is the same" in said
    # Zeros of both signs are equal numbers and not the same bits.
    zeros = {**found, "weights": -0.0 * same}
    assert not repeated.compared({**found, "weights": 0.0 * same}, zeros)["resumed_run_equal"]


def test_distances_are_relative_and_a_nan_never_agrees():
    names = ("losses", "logits", "gradient", "update")
    one = {name: np.full(3, 2.0) for name in names} | {"attack": np.array([0.0, 1.0])}
    near = {**one, "logits": one["logits"] * 1.005}
    apart = against_cpu.distances(one, near)
    assert apart["logits"] == pytest.approx(0.005) and apart["attack"] == 0
    assert against_cpu.agrees(apart, "tf32") and not against_cpu.agrees(apart, "float32")
    moved = against_cpu.distances(one, {**one, "attack": np.array([0.1, 1.0])})
    assert moved["attack"] == 0.5
    broken = against_cpu.distances(one, {**one, "update": np.full(3, np.nan)})
    assert not against_cpu.agrees(broken, "bfloat16")


def test_the_speed_run_is_summed_up():
    epochs = [
        {"epoch": 1, "step": 95, "mean_backward_passes": 2, "elapsed_seconds": 9.0},
        {"epoch": 2, "step": 190, "mean_backward_passes": 5, "elapsed_seconds": 17.0},
    ]
    evaluation = {
        "clean_accuracy": 0.8,
        "attacks": {"pgd-20": {"robust_accuracy": 0.501}},
        "examples": 10_000,
    }
    said = conclusions.of_speed_run(epochs, evaluation, 512)
    # 95 steps of 512 images, 11 and 17 forward passes of 1.11 GFLOP each.
    assert f"{95 * 512 * 28 * 1.11e9 / 1e15:.1f} PFLOP" in said
    assert "50.10 % under PGD-20" in said and "50 % reached" in said
    assert "not evaluated" in conclusions.of_speed_run(epochs, None, 512)


def test_the_table_says_what_is_missing_and_why(tmp_path):
    plan = plan_steps.steps(Place(tmp_path / "work", True, frozenset()))
    records = Records(tmp_path)
    rows = [{"passed": 5, "failed": 1, "failures": {"tests/x.py::test_y": "why"}}]
    entry = {"state": DONE, "seconds": 1, "command": "python -m pytest", "said": ""}
    records.put(plan[0], "tests_float32", {**entry, "content": {"rows": rows}})
    failed = {**entry, "state": FAILED, "content": None, "said": "RuntimeError: no memory left"}
    records.put(plan[1], "profile", failed)
    text = report.markdown(plan, records, {"speed_run training": "3 minutes are missing"})
    assert "Tests in float32: 5 passed, 1 failed, 0 skipped. Failed: `tests/x.py::test_y`" in text
    assert "RuntimeError: no memory left" in text
    assert "training (3 minutes are missing)" in text and "standard (not begun)" in text


def test_results_of_an_earlier_call_are_taken_over(tmp_path):
    earlier, output = tmp_path / "earlier", tmp_path / "output"
    earlier.mkdir()
    output.mkdir()
    (earlier / "a_correctness.json").write_text("old")
    (earlier / "b_train_step.json").write_text("old")
    (output / "b_train_step.json").write_text("new")
    gpu_plan._go_on_from(str(earlier), output)
    gpu_plan._go_on_from("", output)
    assert (output / "a_correctness.json").read_text() == "old"
    assert (output / "b_train_step.json").read_text() == "new"
    with pytest.raises(UserError, match="--earlier=.*no such folder"):
        gpu_plan._go_on_from(str(tmp_path / "nowhere"), output)


def test_there_is_a_sentence_where_no_gpu_is(tmp_path):
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks", "gpu_plan", f"--output={tmp_path}"],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    assert "there is no GPU here; --rehearse" in process.stderr


@pytest.mark.slow
def test_the_rehearsal_runs_every_step_and_a_second_one_none(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "gpu_plan", "--rehearse", "--minutes=90"]
    command += [f"--output={tmp_path / 'found'}", f"--work_dir={tmp_path / 'work'}"]
    first, second = (
        subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        for _ in range(2)
    )
    assert first.returncode == 0, first.stderr
    assert "Not measured to the end" not in first.stdout, first.stdout
    for word in ("--early_stop=", "a resumed run is equal bit for bit", "PGD-20", "apgd-ce"):
        assert word in first.stdout
    assert "is there already" in second.stdout and "done after" not in second.stdout
    files = sorted(path.name for path in (tmp_path / "found").iterdir())
    assert len(files) == 8 and gpu_plan.TABLE in files
    assert (tmp_path / "found" / gpu_plan.TABLE).read_text() in second.stdout


def test_a_signal_ends_the_plan_and_its_command(tmp_path):
    with pytest.raises(SystemExit) as end:
        gpu_plan._stop(signal.SIGTERM, None)
    assert end.value.code == 128 + signal.SIGTERM
