"""Dynamic adversarial training: FOSC by its definition, and the bound's line over the epochs."""

import itertools
from pathlib import Path

import jax
import numpy as np
import pytest

from robustjax import attacks, methods
from robustjax.flags import read_flags

LAUNCH = Path(__file__).resolve().parents[2] / "launch"


def slope_of(problem, formulas, x, label):
    kernel = np.float64(problem.network.params["Dense_0"]["kernel"])
    deviation = np.sqrt(float(problem.network.statistics["BatchNorm_0"]["var"][0]) + 1e-5)
    p = formulas.softmax(problem.logits(x[None], "eval"))[0]
    return (kernel @ (p - np.eye(3)[label])).reshape(x.shape) / deviation


def by_the_paper(problem, formulas, start, bound, steps, epsilon):
    """Steps until FOSC is at most the bound; FOSC is the largest gain in the ball, by corners."""
    images, taken = [], []
    for row, (clean, label) in enumerate(zip(problem.clean, problem.labels, strict=True)):
        x, count = np.float64(start[row]), 0
        while count < steps:
            slope = slope_of(problem, formulas, x, label)
            corners = clean + epsilon * np.sign(slope)
            if count > 0 and np.sum((corners - x) * slope) <= bound:
                break
            x = np.clip(x + problem.step_size * np.sign(slope), clean - epsilon, clean + epsilon)
            x = np.clip(x, 0, 1)
            count += 1
        images.append(x)
        taken.append(count)
    return np.stack(images), taken


@pytest.mark.parametrize("start", ["uniform", "clean"])
@pytest.mark.parametrize("bound", [0.5, 0.2, 0.05])
def test_the_images_are_those_of_the_algorithm_step_by_step(bound, start, problem, formulas):
    method = methods.create("dynamic", fosc=bound, start=start)
    changes = {"threat": attacks.ThreatModel("linf", 0.1), "steps": 8}
    begin = problem.start(method, **changes)
    expected, taken = by_the_paper(problem, formulas, begin, bound, 8, 0.1)
    found = problem.perturb(method, **changes)
    np.testing.assert_array_equal(found.backward_passes, taken)
    np.testing.assert_allclose(found.images, expected, atol=3e-6)
    assert min(taken) >= 1


def test_a_smaller_bound_takes_more_steps_and_none_stops_too_late(problem):
    passes = [
        np.asarray(problem.perturb(methods.create("dynamic", fosc=bound), steps=8).backward_passes)
        for bound in (1e9, 0.5, 0.1, -1e9)
    ]
    # The first step is unconditional; a bound below anything is met by nothing.
    np.testing.assert_array_equal(passes[0], 1)
    np.testing.assert_array_equal(passes[-1], 8)
    for looser, tighter in itertools.pairwise(passes):
        assert np.all(looser <= tighter)


def test_the_bound_is_the_papers_line_in_one_program(problem):
    method = methods.create("dynamic")
    for epoch in (0.0, 1.0, 37.5, 99.0, 100.0, 119.5):
        expected = max(0.5 - epoch * 0.5 / 100, 0)
        assert method.scalars_at(epoch)["fosc"] == pytest.approx(expected, abs=1e-12)
    traces, inner = [], problem.inner(method, steps=8)

    @jax.jit
    def passes(scalars):
        traces.append(None)
        return method.perturb(inner._replace(scalars=scalars)).backward_passes

    early, late = (np.asarray(passes(problem.scalars(method, epoch))) for epoch in (0.0, 99.0))
    assert len(traces) == 1
    assert np.all(early <= late) and early.sum() < late.sum()


def test_the_flag_file_holds_the_settings_of_marts_comparison():
    config = read_flags(LAUNCH / "dynamic.flags")
    assert config.hyperparameters() == {"fosc": "0.5..0@100"}
    assert (config.epsilon, config.step_size, config.steps) == (8 / 255, 2 / 255, 10)
    assert (config.epochs, config.decay_epochs) == (120, (75, 90))


def test_what_it_does_not_accept_is_named():
    with pytest.raises(ValueError, match="fosc='0.5..0': accepted are"):
        methods.create("dynamic", fosc="0.5..0")
    with pytest.raises(ValueError, match="start=far: accepted are"):
        methods.create("dynamic", start="far")
