"""What is printed and written: tables, the JSON file, the traced operations, the command line."""

import json

import pytest

from benchmarks import command, results, table, trace


def test_a_table_aligns_words_left_and_numbers_right():
    text = table.markdown(("side", "s"), [("a", "1.5"), ("bcde", "-")])
    assert text.splitlines() == [
        "| side |   s |",
        "| ---- | --: |",
        "| a    | 1.5 |",
        "| bcde |   - |",
    ]


def test_results_say_on_what_they_were_measured(tmp_path):
    path = tmp_path / "new" / "results.json"
    environment = results.environment()
    results.write(str(path), environment, [{"side": "x", "seconds": 0.5}])
    content = json.loads(path.read_text())
    assert content["rows"] == [{"side": "x", "seconds": 0.5}]
    for name in ("command", "device", "versions", "cores", "load_average"):
        assert content["environment"][name]
    assert content["environment"]["versions"]["jax"]


def test_no_output_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results.write("", results.environment(), [])
    assert not list(tmp_path.iterdir())


PROGRAM = """\
HloModule jit_step
ENTRY %main.9 (p0: f32[2]) -> f32[2] {
  %p0 = f32[2]{0} parameter(0)
  %convolution.1 = f32[2,4]{1,0} convolution(%p0, %p0), metadata={op_name="jit(step)/jvp(N)/conv1/conv_general_dilated"}
  convolution.2 = f32[2,4]{1,0} convolution(p0, p0), metadata={op_name="jit(step)/transpose(jvp(N))/conv1/conv_general_dilated"}
  %dot.3 = f32[2]{0} dot(%p0, %p0), metadata={op_name="jit(step)/fc/dot_general"}
  %copy.4 = f32[2]{0} copy(%p0)
  %both = (f32[2]{0}, f32[2]{0}) while(%p0), body=%other
  ROOT %add_fusion = f32[2]{0} fusion(%p0), kind=kLoop, calls=%f, metadata={op_name="jit(step)/add"}
}
"""  # noqa: E501


def test_instructions_are_told_apart_by_where_they_came_from():
    kinds = trace.instruction_kinds(PROGRAM)
    assert kinds == {
        "p0": trace.REST,
        "convolution.1": trace.CONVOLUTION,
        "convolution.2": trace.GRADIENT,
        "dot.3": trace.PRODUCT,
        "copy.4": trace.COPY,
        "both": None,
        "add_fusion": trace.REST,
    }


def test_seconds_are_added_up_by_kind_and_on_a_gpu_by_kernel():
    gpu = "/device:GPU:0"
    seen = [
        trace.Event(gpu, "gemm_kernel", "dot.3", 0.25),
        trace.Event(gpu, "gemm_kernel", "convolution.1", 0.5),
        trace.Event(gpu, "copy_kernel", "copy.4", 0.125),
        trace.Event("/host:CPU", "thread", "", 9.0),
        trace.Event("/host:CPU", "while", "both", 9.0),
    ]
    kinds = trace.by_kind(seen, PROGRAM)
    assert kinds == {trace.CONVOLUTION: 0.5, trace.PRODUCT: 0.25, trace.COPY: 0.125}
    assert trace.by_kernel(seen) == {"gemm_kernel": 0.75, "copy_kernel": 0.125}
    assert trace.by_kernel(seen, most=1) == {"gemm_kernel": 0.75}


def test_help_lists_the_benchmarks(capsys):
    with pytest.raises(SystemExit) as end:
        command.main(["--help"])
    printed = capsys.readouterr().out
    assert end.value.code == 0
    assert all(name in printed for name in command.BENCHMARKS)


def test_an_unknown_benchmark_is_one_sentence(capsys):
    with pytest.raises(SystemExit) as end:
        command.main(["train-step"])
    assert end.value.code == 1
    assert "train_step" in capsys.readouterr().err
