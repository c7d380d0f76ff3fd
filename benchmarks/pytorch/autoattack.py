"""The standard ensemble composed from torchattacks, each attack on what withstood those before."""

from collections.abc import Callable

import numpy as np
import torch
import torchattacks

from benchmarks.autoattack_work import Budget

NORMS = {"linf": "Linf", "l2": "L2"}


class TorchAutoAttack:
    """Standard AutoAttack by hand: settings of its authors, survivors only, in batches.

    Args:
      model: maps images [B, C, H, W] to logits.
      images: clean, float32 [N, H, W, C].
      labels: int [N].
      norm: "linf" or "l2".
      epsilon: of the ball.
      budget: steps and queries.
      batch_size: how many survivors are attacked together.
      seed: of every attack.
      device: where it runs.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        norm: str,
        epsilon: float,
        budget: Budget,
        batch_size: int,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        model = model.to(device, memory_format=torch.channels_last)
        # torchattacks returns a network to the mode that it finds it in, by the outermost module.
        # Weights that need gradients might be given them along with the images.
        self._model = ChannelsLast(model).eval().requires_grad_(False)
        self._images = torch.tensor(images).permute(0, 3, 1, 2).contiguous()
        self._labels = torch.tensor(labels).long()
        self._norm, self._epsilon, self._budget = norm, epsilon, budget
        self._batch_size, self._seed, self._device = batch_size, seed, device
        self._robust = torch.tensor(self.logits().argmax(1)) == self._labels

    @property
    def robust(self) -> np.ndarray:
        """Bool [N], what nothing has broken so far."""
        return self._robust.numpy().copy()

    def logits(self) -> np.ndarray:
        """Of the clean images, [N, K]."""
        with torch.no_grad():
            batches = self._images.split(self._batch_size)
            return torch.cat([self._model(x.to(self._device)).cpu() for x in batches]).numpy()

    def run(self, name: str) -> None:
        """Runs one attack on what still stands; when it returns, the device is done."""
        if not self._robust.any():
            # An empty tensor is split into one empty batch, which the attacks do not take.
            return
        attack = self._attack(name)
        for rows in torch.nonzero(self._robust).flatten().split(self._batch_size):
            images, labels = (part[rows].to(self._device) for part in (self._images, self._labels))
            found = attack(images, labels)
            difference = (found - images).flatten(1)
            order = float("inf") if self._norm == "linf" else 2
            distance = torch.linalg.vector_norm(difference, order, dim=1)
            with torch.no_grad():
                right = self._model(found).argmax(1) == labels
            outside = distance > 1.0001 * self._epsilon + 1e-6
            self._robust[rows] = (right | outside).cpu()

    def _attack(self, name: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        budget = self._budget
        common = {"norm": NORMS[self._norm], "eps": self._epsilon, "n_restarts": 1}
        common["seed"] = self._seed
        gradient = {**common, "steps": budget.steps}
        classes = budget.targets + 1
        if name == "apgd-ce":
            return torchattacks.APGD(self._model, loss="ce", rho=0.75, **gradient)
        if name == "apgd-t":
            return torchattacks.APGDT(self._model, rho=0.75, n_classes=classes, **gradient)
        if name == "fab-t":
            return torchattacks.FAB(self._model, multi_targeted=True, n_classes=classes, **gradient)
        return torchattacks.Square(
            self._model,
            n_queries=budget.queries,
            p_init=0.8,
            loss="margin",
            resc_schedule=False,
            **common,
        )


class ChannelsLast(torch.nn.Module):
    """Computes in channels_last, which is faster; torchattacks wants the usual layout outside."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps [B, C, H, W] to logits."""
        return self.model(_Relaid.apply(images))


class _Relaid(torch.autograd.Function):
    """channels_last on the way in, contiguous for the gradient on the way back."""

    @staticmethod
    def forward(context: object, images: torch.Tensor) -> torch.Tensor:
        return images.contiguous(memory_format=torch.channels_last)

    @staticmethod
    def backward(context: object, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.contiguous()
