"""The choices of the train step that are fixed when it is compiled."""

import dataclasses

from robustjax import data


@dataclasses.dataclass(frozen=True)
class StepSettings:
    """The choices of the train step that are fixed when it is compiled.

    Attributes:
      norm: the norm of the threat model.
      attack_steps: the inner maximisation's largest number of steps.
      sparsity: of a step of that attack under "l1", see `methods.Inner`.
      augmentation: what happens to the images on the device before anything else.
      batch_norm: "global" averages the statistics of a forward pass over all devices, "per_device"
        normalises each device's share by itself and averages the running statistics after the step.
      ema_decay: of the moving average of the weights; 0 keeps none.
      mixing: whether images and labels are mixed with those of another example.
      label_smoothing: share of each label that goes to the other classes.
      num_classes: of the labels; needed where they are mixed or smoothed.
      weight_perturbation: whether the gradient is taken at adversarially perturbed weights (AWP).
      microbatch: examples of a device that are attacked and differentiated together; 0: all. See
        `robustjax.training.step.microbatch` for what does not depend on it, and what batch norm
        does.
      remat: whether the gradient computes the activations of a whole training pass again; for
        networks without residual blocks, the others have an option of their own.
      early_stop: see `methods.Inner`.
    """

    norm: str
    attack_steps: int
    augmentation: data.Augmentation
    batch_norm: str = "global"
    ema_decay: float = 0.0
    mixing: data.Mixing = dataclasses.field(default_factory=data.Mixing)
    label_smoothing: float = 0.0
    num_classes: int = 0
    weight_perturbation: bool = False
    microbatch: int = 0
    remat: bool = False
    early_stop: str = ""
    sparsity: float | None = None

    @property
    def soft_labels(self) -> bool:
        """Whether the methods get distributions for labels."""
        return self.mixing.kind != "none" or self.label_smoothing > 0
