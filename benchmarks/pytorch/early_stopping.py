"""PGD in PyTorch: whole, and early-stopped as FAT's authors write it, on a batch that shrinks.

What both spend time on is written as in `benchmarks.pytorch.step`: NHWC memory, the gradient with
respect to the images alone, the box and the ball as two bounds made once.
"""

from collections.abc import Mapping

import numpy as np
import torch

from benchmarks.pytorch import losses, models, weights
from benchmarks.workload import Setting
from robustjax.config import TrainConfig


class TorchAttack:
    """An attack on the cross-entropy of one batch, under the running batch-norm statistics.

    Args:
      setting: the network and the precision, float32 or tf32.
      config: the options of the library's side, for the attack.
      arrays: weights and statistics.
      images: float32 [B, H, W, 3].
      labels: int [B].
      device: where it runs.
    """

    def __init__(
        self,
        setting: Setting,
        config: TrainConfig,
        arrays: Mapping[str, torch.Tensor],
        images: np.ndarray,
        labels: np.ndarray,
        *,
        device: str = "cpu",
    ) -> None:
        self._config, self._device = config, torch.device(device)
        model = models.create(setting.model)
        weights.load(model, arrays)
        model = model.to(self._device, memory_format=torch.channels_last)
        self._model = model.eval().requires_grad_(False)
        self._clean = self._nchw(images)
        self._labels = torch.tensor(labels).long().to(self._device)
        epsilon = config.epsilon
        self._lower = (self._clean - epsilon).clamp_(min=0)
        self._upper = (self._clean + epsilon).clamp_(max=1)

    def logits(self) -> np.ndarray:
        """Of the clean images, [B, K]."""
        with torch.inference_mode():
            return self._model(self._clean).cpu().numpy()

    def whole(self, start: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """All steps on all examples.

        Args:
          start: float32 [B, H, W, 3]; drawn uniformly from the ball if None.

        Returns:
          Images [B, H, W, 3] and the steps [B] that each example took.
        """
        images = self._start(start)
        for _ in range(self._config.steps):
            _, gradient = self._gradient(images, self._labels)
            images = self._moved(images, gradient, self._lower, self._upper)
        return self._nhwc(images), np.full(len(images), self._config.steps)

    def shrinking(
        self,
        budget: np.ndarray | None = None,
        tau: int | None = None,
        start: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Every step on a batch of the examples that have not stopped.

        Args:
          budget: int [B], steps that each example may take.
          tau: an example stops where it is misclassified after so many misclassified points.
          start: as for `whole`.

        Returns:
          As `whole`.
        """
        images, total = self._start(start), len(self._labels)
        rows = torch.arange(total, device=self._device)
        taken = torch.zeros(total, dtype=torch.long, device=self._device)
        allowed = torch.full_like(taken, self._config.steps)
        if budget is not None:
            allowed = torch.tensor(budget).long().to(self._device)
        let_pass = None if tau is None else torch.full_like(taken, tau)
        for _ in range(self._config.steps):
            rows = rows[taken[rows] < allowed[rows]]
            if not len(rows):
                break
            part = images[rows].contiguous(memory_format=torch.channels_last)
            logits, gradient = self._gradient(part, self._labels[rows])
            if let_pass is not None:
                wrong = logits.argmax(1) != self._labels[rows]
                going = ~wrong | (let_pass[rows] > 0)
                let_pass[rows] -= wrong.long()
                rows, part, gradient = rows[going], part[going], gradient[going]
            images[rows] = self._moved(part, gradient, self._lower[rows], self._upper[rows])
            taken[rows] += 1
        return self._nhwc(images), taken.cpu().numpy()

    def _start(self, start: np.ndarray | None) -> torch.Tensor:
        if start is not None:
            return self._nchw(start)
        epsilon = self._config.epsilon
        noise = torch.empty_like(self._clean).uniform_(-epsilon, epsilon)
        return noise.add_(self._clean).clamp_(0, 1)

    def _gradient(
        self, images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits, and the gradient of the summed cross-entropy with respect to the images."""
        images = images.detach().requires_grad_()
        logits = self._model(images)
        (gradient,) = torch.autograd.grad(losses.attack_loss("ce", logits, labels), images)
        return logits.detach(), gradient

    def _moved(
        self,
        images: torch.Tensor,
        gradient: torch.Tensor,
        lower: torch.Tensor,
        upper: torch.Tensor,
    ) -> torch.Tensor:
        return torch.clamp(images + self._config.step_size * gradient.sign(), lower, upper)

    def _nchw(self, images: np.ndarray) -> torch.Tensor:
        return torch.tensor(images).to(self._device).permute(0, 3, 1, 2)

    def _nhwc(self, images: torch.Tensor) -> np.ndarray:
        # What comes back to the host is there: the clock of the benchmark needs no other wait.
        return images.permute(0, 2, 3, 1).cpu().numpy()
