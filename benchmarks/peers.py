"""The sides that the library is compared with, made only where they are asked for.

Everything else can be imported, and the library be timed alone, where PyTorch is not installed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import jax
from absl import flags

from benchmarks import matrix_rate as rates
from benchmarks import results, step_flags
from benchmarks.library_step import LibraryStep, Probe
from benchmarks.workload import Setting, Workload
from robustjax.errors import UserError

if TYPE_CHECKING:
    from benchmarks.agreement import Agreement, Reference
    from benchmarks.pytorch.step import TorchStep

NAMES = ("eager", "compiled", "compacted")
GROUPS = {"peers": ["peers", "compile_mode", "threads"]}


def define_flags() -> None:
    """Defines the flags of the peers."""
    flags.DEFINE_list("peers", list(NAMES), "any of these; empty: the library alone")
    flags.DEFINE_string("compile_mode", "default", "mode of torch.compile")
    flags.DEFINE_integer("threads", None, "of PyTorch on the CPU; as many as cores if not given")


def wanted() -> list[str]:
    """The peers that the parsed flags ask for.

    Raises:
      UserError: there is no such peer, or it cannot run here; says what to do.
    """
    names = [name for name in flags.FLAGS.peers if name]
    step_flags.require_known("peers", names, NAMES)
    if not names:
        return names
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"--peers={','.join(names)} need PyTorch: pip install -r benchmarks/requirements.txt, "
            "or --peers= for the library alone"
        ) from error
    backend = jax.default_backend()
    if backend not in ("cpu", "gpu"):
        raise UserError(f"on a {backend} there are no peers: use --peers= for the library alone")
    if backend == "gpu" and not torch.cuda.is_available():
        raise UserError(
            "JAX runs on a GPU and this PyTorch cannot: install a PyTorch with CUDA, set "
            "JAX_PLATFORMS=cpu to compare on the CPU, or --peers= for the library alone"
        )
    return names


def require_counterparts(
    networks: Iterable[str], otherwise: str, channels: int | None = None
) -> None:
    """Sees, before anything is measured, that PyTorch has the networks of --models.

    Args:
      networks: their names.
      otherwise: what to do without PyTorch, for the message.
      channels: of the images; any if None.

    Raises:
      UserError: it lacks one, or has it for other images; says which there are.
    """
    import torch

    from benchmarks.pytorch import models

    for name in dict.fromkeys(networks):
        try:
            # Without memory for the weights.
            with torch.device("meta"):
                network = models.create(name)
            if channels and network.conv1.in_channels != channels:
                raise UserError(
                    f"its counterpart in PyTorch is for images of {network.conv1.in_channels} "
                    f"channel, and these have {channels}"
                )
        except ValueError as error:
            raise UserError(f"--models={name}: {error}; {otherwise}") from error


def taking_part(names: list[str], setting: Setting) -> list[str]:
    """The peers of a setting: a method that never stops has nothing to compact."""
    return [name for name in names if name != "compacted" or setting.work.stops]


def reference(workload: Workload, library: LibraryStep, probed: Probe) -> Reference:
    """What the peers of a workload have to agree with."""
    from benchmarks import agreement

    return agreement.reference(workload, library, probed)


def create(name: str, reference: Reference) -> tuple[TorchStep, Agreement]:
    """A peer that computes what the library computes, and how closely it does.

    Raises:
      agreement.Disagreement: it does not.
    """
    from benchmarks import agreement
    from benchmarks.pytorch import step, weights

    workload, setting = reference.workload, reference.workload.setting
    step.set_up(setting.precision, _threads())
    peer = step.TorchStep(
        setting,
        workload.experiment.config,
        weights.to_torch(workload.state.params, workload.state.statistics),
        workload.images,
        workload.labels,
        form=name,
        device=_torch_device(),
        compile_mode=flags.FLAGS.compile_mode,
    )
    agreed = agreement.compare(reference, peer)
    agreed.require(setting.precision)
    return peer, agreed


def forget(names: list[str]) -> None:
    """Frees what the peers of one setting have compiled."""
    if names:
        from benchmarks.pytorch import step

        step.forget_compiled()


def matrix_rate(precision: str, names: list[str]) -> float:
    """Operations per second of the fastest product, in JAX or, with peers, in PyTorch."""
    size = rates.default_size()
    products = [rates.jax_product(size, precision)]
    if names:
        from benchmarks.pytorch import step

        step.set_up(precision, _threads())
        products.append(step.matrix_product(size, precision, _torch_device()))
    return max(rates.best_rate(product, size) for product in products)


def _threads() -> int:
    return flags.FLAGS.threads or results.usable_cores()


def _torch_device() -> str:
    return "cuda" if jax.default_backend() == "gpu" else "cpu"
