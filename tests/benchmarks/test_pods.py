"""What is read from a compiled program, the tables of it, and going on where a call was ended."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import all_reduce, memory, pods
from benchmarks.ahead_of_time import apart, program, report, steps, targets
from robustjax import parallel
from robustjax.config import TrainConfig
from robustjax.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "topology", "chips"),
    [
        ("v4-8", "v4:2x2x1", 4),
        ("v4-256", "v4:4x4x8", 128),
        ("v4-2048", "v4:8x8x16", 1024),
        ("v5e-16", "v5e:4x4", 16),
        ("v5e-256", "v5e:16x16", 256),
        ("v5p-8", "v5p:2x2x1", 4),
        ("h100-8", "h100:1x1x8", 8),
    ],
)
def test_a_slice_s_name_counts_cores_or_chips(name, topology, chips):
    target = targets.parse(name)
    assert (target.topology, target.chips) == (topology, chips)


def test_an_unknown_slice_is_one_sentence():
    with pytest.raises(UserError, match=r"--targets=v4-257: accepted are v4-8, .*did you mean"):
        targets.parse("v4-257")


def test_padded_bytes_are_those_of_an_array_that_is_padded():
    array = np.zeros((3, 5, 130), np.float32)
    # Axis 0 is the most minor: 128; then axis 2: 8.
    pads = [(0, -3 % 128), (0, 0), (0, -130 % 8)]
    shape = program.Shape("f32", array.shape, minor_to_major=(0, 2, 1), tile=(8, 128))
    assert (shape.bytes, shape.padded_bytes) == (array.nbytes, np.pad(array, pads).nbytes)
    assert program.Shape("bf16", (3,), (0,)).padded_bytes == 6


# Layouts and loops as XLA writes them for TPUs, where the turns stand in the condition alone.
PROGRAM = """\
HloModule step, is_scheduled=true

%fused (p.1: f32[2,4,4,16], p.2: f32[3,3,16,160]) -> bf16[2,4,4,160] {
  %p.1 = f32[2,4,4,16]{3,0,2,1:T(8,128)} parameter(0)
  %p.2 = f32[3,3,16,160]{3,2,1,0:T(8,128)} parameter(1)
  %convolution.1 = f32[2,4,4,160]{3,0,2,1:T(8,128)} convolution(%p.1, %p.2), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f, backend_config={"window_config":{"estimated_cycles":"7"}}
  ROOT %convert.1 = bf16[2,4,4,160]{3,0,2,1:T(8,128)(2,1)} convert(%convolution.1)
}

%casts (p.3: f32[8,128]) -> bf16[8,128] {
  %p.3 = f32[8,128]{1,0:T(8,128)} parameter(0)
  ROOT %convert.2 = bf16[8,128]{1,0:T(8,128)(2,1)} convert(%p.3)
}

%body (state: (s32[], f32[2,4,4,16], /*index=2*/f32[3,3,16,160])) -> (s32[], f32[2,4,4,16], f32[3,3,16,160]) {
  %state = (s32[]{:T(128)}, f32[2,4,4,16]{3,0,2,1:T(8,128)}, /*index=2*/f32[3,3,16,160]{3,2,1,0:T(8,128)}) parameter(0)
  %x = f32[2,4,4,16]{3,0,2,1:T(8,128)} get-tuple-element(%state), index=1
  %k = f32[3,3,16,160]{3,2,1,0:T(8,128)} get-tuple-element(%state), index=2
  %fusion.1 = bf16[2,4,4,160]{3,0,2,1:T(8,128)(2,1)S(1)} fusion(%x, %k), kind=kOutput, calls=%fused, backend_config={"window_config":{"estimated_cycles":"4000"}}
  ROOT %tuple.1 = (s32[]{:T(128)}, f32[2,4,4,16]{3,0,2,1:T(8,128)}, f32[3,3,16,160]{3,2,1,0:T(8,128)}) tuple(%state, %x, %k)
}

%condition (state.2: (s32[], f32[2,4,4,16])) -> pred[] {
  %bound = s32[]{:T(128)} constant(10), metadata={op_name="x"}
  %state.2 = (s32[]{:T(128)}, f32[2,4,4,16]{3,0,2,1:T(8,128)}) parameter(0)
  %turn = s32[]{:T(128)} get-tuple-element(%state.2), index=0
  ROOT %lt = pred[]{:T(512)} compare(%turn, %bound), direction=LT
}

ENTRY %main (a: f32[8,128]) -> f32[8] {
  %a = f32[8,128]{1,0:T(8,128)} parameter(0)
  %casted = bf16[8,128]{1,0:T(8,128)(2,1)} fusion(%a), kind=kLoop, calls=%casts, backend_config={"window_config":{"estimated_cycles":"300"}}
  %start = (s32[]{:T(128)}, f32[2,4,4,16]{3,0,2,1:T(8,128)}) tuple(%a)
  %loop = (s32[]{:T(128)}, f32[2,4,4,16]{3,0,2,1:T(8,128)}) while(%start), condition=%condition, body=%body
  %sums = (f32[8]{0:T(128)}, f32[2,3]{1,0:T(2,128)}) all-reduce(%a, %a), channel_id=1, to_apply=%add
  %copy.1 = f32[8,128]{0,1:T(8,128)} copy(%a)
  %prefetch = (f32[8]{0:T(128)}, f32[8]{0:T(128)}, u32[]) copy-start(%a)
  ROOT %done = f32[8]{0:T(128)} copy-done(%prefetch)
}
"""  # noqa: E501


def test_a_tpu_s_program_is_counted_with_the_turns_of_its_loops():
    found = program.summarise(PROGRAM)
    # Ten times [2, 4, 4, 160] sums of 9 taps and 16 channels.
    assert found.flops == 10 * 2 * (2 * 4 * 4 * 160) * 9 * 16
    # The convolution's and the cast's; what is inside a fusion says nothing of its own.
    assert found.estimated_cycles == 10 * 4000 + 300
    assert found.product_cycles == 10 * 4000
    fusion, cast, sums, copy, prefetched = 2 * 4 * 4 * 160 * 2, 8 * 128 * 2, 4 * 14, 8 * 128 * 4, 32
    # The condition writes a byte a turn.
    assert found.written_bytes == 10 * (fusion + 1) + cast + sums + copy + prefetched
    # Channels lie in lanes, 160 to 256, images in sublanes, 2 to 8; the copy's 8 rows become lanes.
    padded = 10 * (8 * 4 * 4 * 256 * 2 + 1) + cast + 4 * (128 + 2 * 128) + 128 * 128 * 4 + 128 * 4
    assert found.padded_bytes == padded
    assert (found.summed_bytes, found.sums, found.sums_in_loops) == (sums, 1, 0)
    assert found.summed_bytes == all_reduce.counted(PROGRAM)
    assert found.converted_bytes == cast
    assert found.copied_bytes == copy
    assert found.unknown_loops == 0


# A convolution of cuDNN, then its gradients, which are labelled as the convolution is.
CUDNN = """\
ENTRY %main (x: bf16[2,8,8,16], k: bf16[32,3,3,16], y: bf16[2,4,4,32]) -> bf16[32,3,3,16] {
  %x = bf16[2,8,8,16]{3,2,1,0} parameter(0)
  %k = bf16[32,3,3,16]{3,2,1,0} parameter(1)
  %y = bf16[2,4,4,32]{3,2,1,0} parameter(2)
  %forward = (bf16[2,4,4,32]{3,2,1,0}, u8[0]{0}) custom-call(%x, %k), window={size=3x3 stride=2x2 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward"
  %inputs = (bf16[2,8,8,16]{3,2,1,0}, u8[0]{0}) custom-call(%y, %k), window={size=3x3 stride=2x2 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardInput"
  %filter = (bf16[32,3,3,16]{3,2,1,0}, u8[0]{0}) custom-call(%x, %y), window={size=3x3 stride=2x2 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardFilter"
  ROOT %other = bf16[32,3,3,16]{3,2,1,0} custom-call(%filter), custom_call_target="Sharding"
}
"""  # noqa: E501


def test_a_gpu_s_convolutions_cost_the_same_in_each_direction():
    outputs, sums = 2 * 4 * 4 * 32, 9 * 16
    assert program.summarise(CUDNN).flops == 3 * 2 * outputs * sums


def test_images_that_are_written_as_a_kernel_cost_what_they_did():
    # A 1×1 convolution from 160 to 16 channels, as XLA for TPUs may write it.
    text = """\
ENTRY %main (k: bf16[1,1,16,160], x: bf16[2,32,32,160]) -> bf16[2,32,32,16] {
  %k = bf16[1,1,16,160]{3,2,1,0} parameter(0)
  %x = bf16[2,32,32,160]{3,2,1,0} parameter(1)
  ROOT %y = bf16[2,32,32,16]{3,2,1,0} convolution(%k, %x), window={size=32x32 pad=31_31x31_31 rhs_reversal=1x1}, dim_labels=01bf_o01i->f01b
}
"""  # noqa: E501
    assert program.summarise(text).flops == 2 * (2 * 32 * 32 * 16) * 160


def test_a_loop_of_unknown_length_is_said():
    text = PROGRAM.replace("constant(10)", "parameter(1)")
    assert program.summarise(text).unknown_loops == 1


def test_the_turns_that_xla_says_are_taken():
    said = 'body=%body, backend_config={"known_trip_count":{"n":"3"}}'
    text = PROGRAM.replace("body=%body", said)
    assert program.summarise(text).flops * 10 == program.summarise(PROGRAM).flops * 3


def test_products_of_a_program_that_is_compiled_here_are_counted():
    def function(x, kernel, matrix):
        image = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        rows = image.reshape(-1, 32)
        rows, _ = jax.lax.scan(lambda rows, _: (jnp.sin(rows @ matrix), None), rows, length=5)
        return rows

    shapes = ((2, 8, 8, 16), (3, 3, 16, 32), (32, 32))
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    found = program.summarise(jax.jit(function).lower(*arguments).compile().as_text())
    convolution, product = 2 * (2 * 8 * 8 * 32) * 9 * 16, 2 * (2 * 8 * 8) * 32 * 32
    assert found.flops == convolution + 5 * product
    assert found.unknown_loops == 0


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("plain", {}),
        ("remat", {"remat": True}),
        ("microbatch=16", {"microbatch": 16}),
        ("microbatch=16+remat", {"microbatch": 16, "remat": True}),
    ],
)
def test_options_are_read(text, options):
    assert steps.parse_options(text) == options


@pytest.mark.parametrize("text", ["", "remat+plain", "microbatch", "microbatch=0", "microbatch=x"])
def test_wrong_options_are_one_sentence(text):
    with pytest.raises(UserError, match=re.escape(f"--options={text}: accepted are plain")):
        steps.parse_options(text)


def task(**changed):
    row = {
        "target": "v5e-16",
        "model": "wide_resnet_34_10",
        "method": "trades",
        "precision": "bfloat16",
        "batch_per_chip": 32,
        "options": "plain",
        "steps": 10,
        "image_size": 32,
        "versions": {"libtpu": "1"},
    }
    return row | changed


FOUND = {
    "temporary_bytes": 2**30,
    "peak_bytes": 2 * 2**30,
    "flops": 10**13,
    "estimated_cycles": 15 * 10**7,
    "written_bytes": 10**9,
    "padded_bytes": 2 * 10**9,
    "summed_bytes": 176_500_000,
    "compiling_seconds": 215.4,
}


def test_the_step_gets_the_batch_of_all_chips():
    config = steps.config(task(target="v4-256", method="trades_awp", options="remat"))
    assert config["batch_size"] == 128 * 32
    assert (config["method"], config["awp_gamma"], config["remat"]) == ("trades", 0.005, True)
    assert config["augmentation"] == "crop4-flip"


def test_the_operations_of_a_step_that_stops_early_are_counted():
    small = task(target="v5e-4", method="fat_trades", model="cifar_resnet_8", steps=2)
    config = TrainConfig(**steps.config(small | {"batch_per_chip": 2}))
    lowered = memory.lower_step(config, 8, parallel.local_devices(4))
    # With pixels of padding: more than the floor of 2 images of 8 × 8.
    assert lowered.flops > steps.floor(small | {"batch_per_chip": 2, "image_size": 8})


def test_the_floor_is_the_passes_times_the_images():
    # 13.3 GFLOP a forward pass (Zagoruyko and Komodakis' network in the usual count); 2K + 7.
    assert steps.floor(task()) == pytest.approx(27 * 32 * 13.3e9, rel=0.01)
    awp = steps.floor(task(method="trades_awp"))
    assert awp / steps.floor(task()) == pytest.approx(33 / 27)


def test_a_row_says_what_is_known_of_a_chip():
    cells = dict(zip(report.HEADER, report.entries(task() | FOUND), strict=True))
    assert cells["chips"] == "16"
    assert cells["temporaries, MiB"] == "1024"
    assert cells["of the memory"] == "12.5 %"
    # The floor, 11.5 TFLOP, at 197 TFLOP/s; 1.5e8 cycles at the clock of 1.503 GHz.
    assert (cells["least ms"], cells["estimated ms"]) == ("58.4", "99.8")
    assert cells["utilisation"] == "59 %"
    assert cells["tensors filled, %"] == "50"
    assert cells["summed, MB"] == "176"


def test_of_a_gpu_no_cycles_are_known():
    row = task(target="h100-8") | FOUND | {"estimated_cycles": 0}
    cells = dict(zip(report.HEADER, report.entries(row), strict=True))
    assert (cells["least ms"], cells["estimated ms"], cells["utilisation"]) == ("11.6", "-", "-")
    column = report.HEADER.index("least ms")
    assert report.entries(row | {"precision": "float32"})[column] == "-"
    # A TPU multiplies float32 as bfloat16 unless it is told otherwise.
    assert report.entries(row | {"precision": "float32", "target": "v6e-8"})[column] != "-"


@pytest.mark.parametrize(("name", "gigahertz"), [("v4", 1.05), ("v5e", 1.5), ("v5p", 1.75)])
def test_a_chip_s_clock_is_that_of_its_specified_rate(name, gigahertz):
    assert targets.CHIPS[name].hertz == pytest.approx(gigahertz * 1e9, rel=3e-3)
    assert targets.CHIPS["h100"].hertz == 0.0


def test_the_largest_batch_is_where_the_line_meets_the_memory():
    target = targets.parse("v5e-16")
    rows = [task(batch_per_chip=size, peak_bytes=2**30 + size * 2**20) for size in (32, 128, 64)]
    assert report.fit(rows, target) == report.Fit(15 * 1024, 2**20)
    assert report.fit(rows[:1], target) is None
    assert report.fit([task(peak_bytes=1), task(failed="x", batch_per_chip=64)], target) is None


def test_a_table_has_every_row_and_which_batch_fits():
    rows = [
        task() | FOUND,
        task(batch_per_chip=128) | FOUND | {"peak_bytes": 4 * 2**30},
        task(target="v6e-8", failed="the compiler ended with SIGSEGV"),
        task(batch_per_chip=999, does_not_fit="20.00G of 15.75G"),
    ]
    text = report.markdown(rows)
    assert "the compiler ended with SIGSEGV" in text
    assert "does not fit: 20.00G of 15.75G" in text
    # 2 GiB for 96 images more: 672 more for the 14 GiB that are left after 32.
    assert "| 704 |" in text


@pytest.mark.parametrize(
    ("code", "said", "reason"),
    [
        (-11, "whatever", {"failed": "the compiler ended with SIGSEGV"}),
        (
            1,
            "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 17.5G of 15.75G hbm.",
            {"does_not_fit": "17.5G of 15.75G"},
        ),
        (1, "Traceback\nValueError: no\n\n", {"failed": "ValueError: no"}),
        (3, "", {"failed": "the process ended with 3"}),
    ],
)
def test_why_a_step_was_not_compiled(code, said, reason):
    assert apart.failure(code, said) == reason


def test_a_process_of_its_own_answers_or_says_why_not():
    assert apart.call("benchmarks.ahead_of_time.none", {}, 60) == {
        "failed": f"{sys.executable}: No module named benchmarks.ahead_of_time.none"
    }
    assert apart.call("benchmarks.ahead_of_time.worker", {}, 0.01) == {
        "failed": "not compiled after 0.01 s"
    }
    wrong = apart.call("benchmarks.ahead_of_time.worker", {"target": "v4-7"}, 60)
    assert "--targets=v4-7: accepted are" in wrong["failed"]


def test_it_goes_on_where_it_was(tmp_path):
    wanted = [task(), task(batch_per_chip=64), task(batch_per_chip=128)]
    known = [wanted[0] | FOUND, wanted[1] | {"failed": "not compiled after 1 s"}]
    compiled, kept = [], []

    def compile_step(row):
        compiled.append(row["batch_per_chip"])
        return FOUND

    rows = pods.compile_missing(known, wanted, compile_step, lambda rows: kept.append(len(rows)))
    assert compiled == [64, 128]
    assert kept == [2, 3]
    assert [row["batch_per_chip"] for row in rows] == [32, 64, 128]
    assert not any("failed" in row for row in rows)
    # Another version's program is another one.
    newer = [task(versions={"libtpu": "2"})]
    pods.compile_missing(rows, newer, compile_step, lambda rows: None)
    assert compiled == [64, 128, 32]


def test_a_file_of_something_else_is_refused_and_stays(tmp_path):
    path = tmp_path / "other.json"
    path.write_text('{"rows": [{"seconds": 1}]}')
    with pytest.raises(UserError, match="no file of this benchmark as it is now"):
        pods.read(str(path))
    assert path.read_text() == '{"rows": [{"seconds": 1}]}'
    assert pods.read(str(tmp_path / "none.json")) == []
    earlier = tmp_path / "earlier.json"
    earlier.write_text(json.dumps({"rows": [task(flops=1)]}))
    with pytest.raises(UserError, match="no file of this benchmark as it is now"):
        pods.read(str(earlier))


def run(*arguments, **options):
    command = [sys.executable, "-m", "benchmarks", "pods", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **options)


def test_the_command_prints_the_table_of_a_file(tmp_path):
    path = tmp_path / "pods.json"
    path.write_text(json.dumps({"rows": [task() | FOUND]}))
    printed = run("--table", f"--output={path}", check=True).stdout
    assert "| v5e-16 |" in printed and "wide_resnet_34_10" in printed


def needs(package):
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"needs {package}")


@pytest.mark.slow
@pytest.mark.parametrize(
    "target",
    [
        pytest.param("v5e-4", marks=needs("libtpu")),
        pytest.param("h100-2", marks=needs("jax_cuda12_plugin")),
    ],
)
def test_a_small_step_is_compiled_for_chips_that_are_not_there(tmp_path, target):
    path = tmp_path / "pods.json"
    run("--rehearse", f"--targets={target}", f"--output={path}", check=True)
    (row,) = json.loads(path.read_text())["rows"]
    assert row["unknown_loops"] == 0
    assert row["sums_in_loops"] == 0
    assert row["flops"] / steps.floor(row) == pytest.approx(1.2, abs=0.2)
    # Nothing is compiled twice.
    before = path.read_bytes()
    run("--rehearse", f"--targets={target}", f"--output={path}", check=True)
    assert path.read_bytes() == before


def test_networks_of_any_size_are_asked_for(tmp_path):
    found = run("--models=wide_resnet_70_16,wide_resnet_7x", f"--output={tmp_path}/pods.json")
    assert found.returncode != 0
    assert "--models=wide_resnet_7x: accepted are" in found.stderr


def test_a_rehearsal_is_for_the_targets_that_are_given():
    found = run("--rehearse", "--targets=h100-3")
    assert found.returncode != 0
    assert "--targets=h100-3: accepted are" in found.stderr


def test_a_compiler_that_is_not_installed_is_one_line(monkeypatch):
    monkeypatch.setattr(targets, "installed", lambda name: False)
    with pytest.raises(UserError, match=r"--targets=h100-2: .*'robustjax\[cuda\]'"):
        targets.require_compiler(targets.parse("h100-2"))
