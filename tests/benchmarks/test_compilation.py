"""The benchmark of compilation: it compiles the step of training; a second start reads it."""

import jax
import pytest

from benchmarks import compilation, starts
from benchmarks.workload import Setting

SETTING = Setting("standard", "cifar_resnet_8", batch_size=4, steps=1, image_size=8)


def test_the_step_that_is_lowered_takes_its_own_result():
    step, arguments = compilation.abstract_step(compilation.experiment_of(SETTING), SETTING)
    state, loss = jax.eval_shape(step, *arguments)

    def described(tree):
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)

    assert described(state) == described(arguments[0])
    assert loss.shape == (1,)
    assert arguments[1].images.shape == (1, 4, 8, 8, 3)


@pytest.mark.slow
def test_the_parts_add_up():
    row = compilation.compiled(SETTING, 1)
    assert row["lower_seconds"] > 0 and row["compile_seconds"] > 0
    assert row["seconds"] == pytest.approx(row["lower_seconds"] + row["compile_seconds"])


@pytest.mark.slow
def test_a_second_start_reads_what_the_first_has_compiled():
    first, second = starts.twice("digits_cnn", batch_size=32, steps=2, method="standard")
    assert first["from_cache"] == 0 and first["cached_files"] > 0
    assert second["from_cache"] == first["cached_files"] == second["cached_files"]
    assert second["loss"] == first["loss"]
    assert 0 < second["compile_seconds"] < first["compile_seconds"] < first["seconds"]
