"""PyTorch's side of the early-stopping benchmark: a copy of the network that computes the same."""

import jax
import numpy as np
import torch

from benchmarks import results
from benchmarks.agreement import TOLERANCES
from benchmarks.pytorch import step, weights
from benchmarks.pytorch.early_stopping import TorchAttack
from benchmarks.workload import Workload
from robustjax.errors import UserError


def create(workload: Workload, threads: int | None) -> TorchAttack:
    """The attack in PyTorch, on the device that JAX uses.

    Args:
      workload: whose weights, images and labels it gets.
      threads: of PyTorch on the CPU; as many as cores if None.

    Raises:
      UserError: it cannot run there, has no such network, or computes other logits.
    """
    setting, device = workload.setting, "cpu"
    if jax.default_backend() == "gpu":
        if not torch.cuda.is_available():
            raise UserError("JAX runs on a GPU and this PyTorch cannot; --nopeer leaves it out")
        device = "cuda"
    step.set_up(setting.precision, threads or results.usable_cores())
    # The shapes of a batch that shrinks are new ones: trying all algorithms for each takes longest.
    torch.backends.cudnn.benchmark = False
    try:
        peer = TorchAttack(
            setting,
            workload.experiment.config,
            weights.to_torch(workload.state.params, workload.state.statistics),
            workload.images.astype(np.float32) / 255,
            workload.labels,
            device=device,
        )
    except ValueError as error:
        raise UserError(f"{error}; --nopeer times the library alone") from error
    difference = float(
        np.abs(peer.logits() - workload.logits).max() / np.abs(workload.logits).max()
    )
    accepted = TOLERANCES[setting.precision]["logits"]
    # Written so that a NaN is refused too.
    if not difference <= accepted:
        raise UserError(
            f"{setting.model}: PyTorch's logits differ from the library's by {difference:.3g} of "
            f"their size; {accepted:g} is accepted"
        )
    return peer
