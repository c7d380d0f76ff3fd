"""The train steps in PyTorch, written as someone would who wants them fast.

NHWC memory (channels_last), gradients of the attack with respect to the images alone while the
weights require none, the clean prediction in inference mode, the box and the ball as two bounds
made once, a fused optimiser. "compiled" runs networks, losses and moves through torch.compile;
"compacted" drops the examples that have stopped from the attack's batch, as FAT's authors do.
"""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from benchmarks.pytorch import losses, models, weights
from benchmarks.workload import Setting
from robustjax.config import TrainConfig

FORMS = ("eager", "compiled", "compacted")


class TorchStep:
    """A train step in PyTorch, and the weights that it moves.

    Args:
      setting: what is measured.
      config: the options of the library's side, for the attack and the optimiser.
      initial: the weights before the step.
      images: uint8 [B, H, W, 3].
      labels: int [B].
      form: one of `FORMS`.
      device: where it runs.
      compile_mode: of torch.compile.
    """

    def __init__(
        self,
        setting: Setting,
        config: TrainConfig,
        initial: Mapping[str, torch.Tensor],
        images: np.ndarray,
        labels: np.ndarray,
        *,
        form: str = "eager",
        device: str = "cpu",
        compile_mode: str = "default",
    ) -> None:
        self._setting, self._config, self._form = setting, config, form
        self._device = torch.device(device)
        self._initial = {name: array.to(self._device) for name, array in initial.items()}
        self._images, self._labels = torch.tensor(images), torch.tensor(labels).long()
        if self._device.type == "cuda":
            self._images, self._labels = self._images.pin_memory(), self._labels.pin_memory()
        model = models.create(setting.model)
        weights.load(model, initial)
        self._model = model.to(self._device, memory_format=torch.channels_last)
        self._optimizer = torch.optim.SGD(
            model.parameters(),
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            fused=True,
        )
        compiled = _compiler(compile_mode) if form == "compiled" else _as_it_is
        self._predict = compiled(self._prediction)
        self._ascended = compiled(self._attack_loss)
        self._move = compiled(_moved)
        self._descended = compiled(self._outer_loss)

    def reset(self) -> None:
        """Takes weights, statistics and momentum back to where they were, in place."""
        own = self._model.state_dict()
        for name, array in self._initial.items():
            own[name].copy_(array)
        for state in self._optimizer.state.values():
            state["momentum_buffer"].zero_()

    def run(
        self, times: int = 1, *, start: torch.Tensor | None = None, steps: int | None = None
    ) -> float:
        """Makes steps from where the weights are; returns the last one's loss when it is there.

        Args:
          times: how many.
          start: where the attack starts, float32 [B, H, W, 3]; drawn if None.
          steps: of the attack; the setting's if None.
        """
        steps = self._setting.steps if steps is None else steps
        for _ in range(times):
            loss = self._step(start, steps)
        return loss.item()

    def weights(self) -> dict[str, torch.Tensor]:
        """A copy of the weights and statistics."""
        return {name: array.clone() for name, array in self._model.state_dict().items()}

    def logits(self, images: np.ndarray, *, train: bool = False) -> np.ndarray:
        """Logits [B, K] of float images [B, H, W, 3]; in training mode the statistics move."""
        self._model.train(train)
        with torch.no_grad(), self._precision():
            inputs = torch.from_numpy(images).to(self._device).permute(0, 3, 1, 2)
            return self._model(inputs).cpu().numpy()

    def _step(self, start: torch.Tensor | None, steps: int) -> torch.Tensor:
        # Pixels come as bytes in NHWC order, which permuted is PyTorch's channels_last.
        pixels = self._images.to(self._device, non_blocking=True).permute(0, 3, 1, 2)
        clean = pixels.float() / 255
        labels = self._labels.to(self._device, non_blocking=True)
        perturbed = self._attack(clean, labels, start, steps)
        self._model.train()
        loss = self._descended(clean, perturbed, labels)
        loss.backward()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def _attack(
        self, clean: torch.Tensor, labels: torch.Tensor, start: torch.Tensor | None, steps: int
    ) -> torch.Tensor:
        epsilon, work = self._config.epsilon, self._setting.work
        lower, upper = (clean - epsilon).clamp_(min=0), (clean + epsilon).clamp_(max=1)
        if start is not None:
            images = start.to(self._device).permute(0, 3, 1, 2)
        elif work.start == "uniform":
            noise = torch.empty_like(clean).uniform_(-epsilon, epsilon)
            images = noise.add_(clean).clamp_(0, 1)
        else:
            images = torch.randn_like(clean).mul_(0.001).add_(clean)
        self._model.eval()
        target = labels
        if work.attack_loss == "kl":
            with torch.inference_mode():
                target = self._predict(clean)
            # Backward passes may not keep a tensor that was made in inference mode.
            target = target.clone()
        self._model.requires_grad_(False)
        compacted = work.stops and self._form == "compacted"
        ascend = self._ascend_active if compacted else self._ascend
        images = ascend(images, target, labels, lower, upper, steps)
        self._model.requires_grad_(True)
        return images

    def _ascend(
        self,
        images: torch.Tensor,
        target: torch.Tensor,
        labels: torch.Tensor,
        lower: torch.Tensor,
        upper: torch.Tensor,
        steps: int,
    ) -> torch.Tensor:
        """All steps on all examples; those that have stopped stay where they are."""
        active = torch.ones_like(labels, dtype=torch.bool)
        for _ in range(steps):
            logits, gradient = self._gradient(images, target)
            moved = self._move(images, gradient, lower, upper, self._config.step_size)
            if self._setting.work.stops:
                active = active & (logits.argmax(1) == labels)
                if not active.any():
                    break
                moved = torch.where(active[:, None, None, None], moved, images)
            images = moved
        return images

    def _ascend_active(
        self,
        images: torch.Tensor,
        target: torch.Tensor,
        labels: torch.Tensor,
        lower: torch.Tensor,
        upper: torch.Tensor,
        steps: int,
    ) -> torch.Tensor:
        """Steps on a batch that shrinks to the examples that have not stopped."""
        images, rows = images.clone(), torch.arange(len(labels), device=self._device)
        for _ in range(steps):
            part = images[rows].contiguous(memory_format=torch.channels_last)
            logits, gradient = self._gradient(part, target[rows])
            going = logits.argmax(1) == labels[rows]
            rows = rows[going]
            if not len(rows):
                break
            images[rows] = self._move(
                part[going], gradient[going], lower[rows], upper[rows], self._config.step_size
            )
        return images

    def _gradient(
        self, images: torch.Tensor, target: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits, and the gradient of the attack's loss with respect to the images alone."""
        images = images.detach().requires_grad_()
        loss, logits = self._ascended(images, target)
        (gradient,) = torch.autograd.grad(loss, images)
        return logits.detach(), gradient

    def _precision(self) -> contextlib.AbstractContextManager:
        if self._setting.precision != "bfloat16":
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, torch.bfloat16)

    def _prediction(self, images: torch.Tensor) -> torch.Tensor:
        with self._precision():
            return self._model(images).softmax(1)

    def _attack_loss(
        self, images: torch.Tensor, target: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        with self._precision():
            logits = self._model(images)
        return losses.attack_loss(self._setting.work.attack_loss, logits, target), logits

    def _outer_loss(
        self, clean: torch.Tensor, perturbed: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        def logits_fn(images: torch.Tensor) -> torch.Tensor:
            with self._precision():
                return self._model(images)

        return losses.outer_loss(self._setting.method, logits_fn, clean, perturbed, labels)


def set_up(precision: str, threads: int) -> None:
    """Settings of the whole process: threads on the CPU, and TF32 on NVIDIA GPUs as asked for."""
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = precision != "float32"
    torch.backends.cudnn.allow_tf32 = precision != "float32"
    torch.backends.cudnn.benchmark = True


def forget_compiled() -> None:
    """Frees what torch.compile keeps, before another network is compiled."""
    torch.compiler.reset()


def matrix_product(size: int, precision: str, device: str) -> Callable[[], Any]:
    """A function that multiplies two square matrices and waits for the product."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    left, right = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))

    def product() -> None:
        torch.mm(left, right)
        if device != "cpu":
            torch.cuda.synchronize()

    return product


def _moved(
    images: torch.Tensor,
    gradient: torch.Tensor,
    lower: torch.Tensor,
    upper: torch.Tensor,
    step_size: float,
) -> torch.Tensor:
    """One step along the gradient's sign, inside the ball and the box."""
    return torch.clamp(images + step_size * gradient.sign(), lower, upper)


def _as_it_is(function: Callable) -> Callable:
    return function


def _compiler(mode: str) -> Callable[[Callable], Callable]:
    return lambda function: torch.compile(function, mode=mode, fullgraph=True, dynamic=False)
