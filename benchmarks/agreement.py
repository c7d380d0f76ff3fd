"""Whether two train steps compute the same: nothing is timed that does not.

The logits are compared strictly. What comes after an attack cannot be: where a gradient or the
input of a ReLU is nearly zero, rounding decides which way a pixel moves, and the next step starts
from there. The weights' update therefore is compared after one step of the attack, and after all of
them the loss, which hardly feels it.
"""

import dataclasses

import numpy as np
import torch

from benchmarks.library_step import LibraryStep, Probe
from benchmarks.pytorch import weights
from benchmarks.pytorch.step import TorchStep
from benchmarks.workload import Workload

TOLERANCES = {
    "float32": {"logits": 1e-4, "update": 0.2, "loss": 0.02},
    "tf32": {"logits": 0.01, "update": 0.5, "loss": 0.05},
    "bfloat16": {"logits": 0.05, "update": 0.8, "loss": 0.1},
}
"""The relative difference of each figure of `Agreement` that rounding is granted."""


class Disagreement(RuntimeError):
    """Two sides do not compute the same step."""


@dataclasses.dataclass(frozen=True)
class Reference:
    """What the library computes from the workload's state.

    Attributes:
      workload: what is trained.
      starts: where its attack starts, float32 [B, H, W, 3].
      loss: of the step.
      update: of the weights, by a step whose attack has one step; in PyTorch's layout.
    """

    workload: Workload
    starts: torch.Tensor
    loss: float
    update: dict[str, torch.Tensor]


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How close a peer comes to the library, from the same weights, images and start.

    Attributes:
      logits: largest difference over the largest logit, of the clean images, in evaluation and in
        training mode.
      update: |Δw − Δw'| / |Δw| over all weights together, for one step of the attack.
      library_loss: of the whole step.
      peer_loss: likewise.
    """

    logits: float
    update: float
    library_loss: float
    peer_loss: float

    @property
    def loss(self) -> float:
        """The difference of the losses over the library's."""
        return abs(self.library_loss - self.peer_loss) / abs(self.library_loss)

    def require(self, precision: str) -> None:
        """Refuses to go on if the sides differ by more than rounding explains.

        Raises:
          Disagreement: says by how much.
        """
        for name, accepted in TOLERANCES[precision].items():
            difference = getattr(self, name)
            # Written so that a NaN is refused too.
            if not difference <= accepted:
                raise Disagreement(
                    f"its {name} differs from the library's by {difference:.3g} of its size; "
                    f"{accepted:g} is accepted"
                )


def reference(workload: Workload, library: LibraryStep, probed: Probe) -> Reference:
    """Takes one step with the library, and one with a shorter attack."""
    library.reset()
    loss = library.run()
    short = LibraryStep(workload, attack_steps=1)
    short.reset()
    short.run()
    before = weights.to_torch(workload.state.params)
    after = weights.to_torch(short.host_state().params)
    update = {name: after[name] - before[name] for name in before}
    return Reference(workload, torch.tensor(probed.starts), loss, update)


def compare(reference: Reference, peer: TorchStep) -> Agreement:
    """Takes the same steps with a peer."""
    workload = reference.workload
    logits = 0.0
    for train, ours in ((False, workload.logits), (True, workload.training_logits)):
        peer.reset()
        theirs = peer.logits(workload.images.astype(np.float32) / 255, train=train)
        logits = max(logits, float(np.abs(ours - theirs).max() / np.abs(ours).max()))
    peer.reset()
    peer.run(start=reference.starts, steps=1)
    before, after = weights.to_torch(workload.state.params), peer.weights()
    differences = {
        name: after[name].cpu() - before[name] - update for name, update in reference.update.items()
    }
    peer.reset()
    return Agreement(
        logits=logits,
        update=_length(differences) / _length(reference.update),
        library_loss=reference.loss,
        peer_loss=peer.run(start=reference.starts),
    )


def _length(arrays: dict[str, torch.Tensor]) -> float:
    return float(np.sqrt(sum(float(array.double().square().sum()) for array in arrays.values())))
