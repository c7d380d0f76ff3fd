"""The losses of the methods in PyTorch: what the attack ascends, and what the weights descend."""

from collections.abc import Callable

import torch
from torch.nn import functional

BETA = 6.0
"""Weight of the regulariser in TRADES, MART and FAT-TRADES; the library's default."""


def attack_loss(name: str, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The sum over the batch of what the attack ascends.

    Args:
      name: "ce", or "kl".
      logits: [B, K] of the perturbed images.
      target: labels [B] for "ce", the clean prediction's probabilities [B, K] for "kl".
    """
    if name == "ce":
        return functional.cross_entropy(logits, target, reduction="sum")
    return functional.kl_div(functional.log_softmax(logits, 1), target, reduction="sum")


def outer_loss(
    method: str,
    model: Callable[[torch.Tensor], torch.Tensor],
    clean: torch.Tensor,
    perturbed: torch.Tensor,
    labels: torch.Tensor,
) -> torch.Tensor:
    """The mean of a method's outer loss; forward passes in the library's order.

    Args:
      method: one of `benchmarks.method_work.METHODS`.
      model: maps images [B, 3, H, W] to logits, in training mode.
      clean: the clean images.
      perturbed: the adversarial ones.
      labels: int64 [B].
    """
    if method == "standard":
        return functional.cross_entropy(model(perturbed), labels)
    clean_logits = model(clean)
    logits = model(perturbed)
    if method == "mart":
        return mart(clean_logits, logits, labels)
    return trades(clean_logits, logits, labels)


def trades(clean_logits: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """CE(x) + β KL(p(x) ‖ p(x̂)), both means over the batch."""
    divergence = functional.kl_div(
        functional.log_softmax(logits, 1),
        functional.softmax(clean_logits, 1),
        reduction="batchmean",
    )
    return functional.cross_entropy(clean_logits, labels) + BETA * divergence


def mart(clean_logits: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """BCE(x̂) + β KL(p(x) ‖ p(x̂)) · (1 − p_y(x)), the mean over the batch."""
    log_probabilities = functional.log_softmax(logits, 1)
    true_class = functional.one_hot(labels, logits.shape[1]).bool()
    wrong = log_probabilities.masked_fill(true_class, -torch.inf).amax(1)
    boosted = functional.nll_loss(log_probabilities, labels, reduction="none")
    boosted = boosted - torch.log1p(-wrong.exp())
    clean = functional.softmax(clean_logits, 1)
    divergence = functional.kl_div(log_probabilities, clean, reduction="none").sum(1)
    true_probability = clean.gather(1, labels[:, None])[:, 0]
    return (boosted + BETA * divergence * (1 - true_probability)).mean()
