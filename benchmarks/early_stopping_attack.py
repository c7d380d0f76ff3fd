"""The library's side of the early-stopping benchmark: one attack on one batch, in three forms."""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.early_stopping_cases import Case
from benchmarks.workload import NUM_CLASSES, Workload
from robustjax import attacks
from robustjax.attacks.engine import cpu, run
from robustjax.data import to_float
from robustjax.training.experiment import create_model

FORMS = ("whole", "masked", "compacted")
"""PGD-K without a stop, the scan that computes what has stopped too, and the loop that does not."""

IN_PARTS = "compacted 1/"
"""With a number: compacted, in chunks that are this part of the batch."""


class Found(NamedTuple):
    """What an attack came to.

    Attributes:
      images: float32 [B, H, W, 3].
      steps_taken: int32 [B], backward passes of each example.
    """

    images: np.ndarray
    steps_taken: np.ndarray


class LibraryAttack:
    """`attacks.pgd` inside jit, as training runs it; compiled once for every form and kind of case.

    Args:
      workload: its network with running statistics, its images and labels.
    """

    def __init__(self, workload: Workload) -> None:
        config = workload.experiment.config
        self._model = create_model(config, NUM_CLASSES)
        self._threat = attacks.ThreatModel("linf", config.epsilon)
        self._steps, self._step_size = config.steps, config.step_size
        self._batch = jax.device_put(
            (
                workload.state.variables(),
                jax.random.key(workload.setting.seed),
                to_float(workload.images),
                workload.labels,
            )
        )
        self._compiled = jax.jit(self._attack, static_argnames=("steps", "form"))

    def starts(self) -> np.ndarray:
        """Where the attack starts, float32 [B, H, W, 3]."""
        return np.asarray(self._compiled(*self._batch, None, None, steps=0, form="whole")[0])

    def run(self, form: str, case: Case) -> Found:
        """Runs a form of the attack on a case; returns what it found."""
        return Found(*(np.asarray(part) for part in self._started(form, case)))

    def wait(self, form: str, case: Case) -> None:
        """Runs it and returns when the device is done."""
        jax.block_until_ready(self._started(form, case))

    def _started(self, form: str, case: Case) -> tuple[jax.Array, jax.Array]:
        budget, tau = (None, None) if form == "whole" else (case.budget, case.tau)
        return self._compiled(
            *self._batch,
            None if budget is None else jnp.asarray(budget),
            None if tau is None else jnp.int32(tau),
            steps=self._steps,
            form=form,
        )

    def _attack(
        self,
        variables: Any,
        key: jax.Array,
        images: jax.Array,
        labels: jax.Array,
        budget: jax.Array | None,
        tau: jax.Array | None,
        *,
        steps: int,
        form: str,
    ) -> tuple[jax.Array, jax.Array]:
        parts = int(form.removeprefix(IN_PARTS)) if form.startswith(IN_PARTS) else None
        with _chunks(parts):
            result = attacks.pgd(
                key,
                lambda images: self._model.apply(variables, images, train=False),
                images,
                labels,
                self._threat,
                steps=steps,
                step_size=self._step_size,
                stop=None if tau is None else attacks.stopping.misclassified(tau),
                budget=budget,
                independent_rows=form.startswith("compacted"),
            )
        return result.images, result.backward_passes


@contextlib.contextmanager
def _chunks(parts: int | None) -> Iterator[None]:
    """What is traced inside has chunks that are a part of the batch; the library's own if None."""
    if parts is None:
        yield
        return

    def rows_of_a_chunk(batch_size: int) -> int:
        return -(-batch_size // parts)

    with (
        mock.patch.object(run, "_rows_of_a_chunk", rows_of_a_chunk),
        mock.patch.object(cpu, "rows_of_a_chunk", rows_of_a_chunk),
    ):
        yield
