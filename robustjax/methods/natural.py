"""Natural training: a loss of clean images, the reference without robustness."""

from robustjax.methods.method import Inner, Method, Objective, Outer, Perturbation
from robustjax.methods.standard import CITATION, checked_loss

__all__ = ["CITATION", "SUMMARY", "create"]

SUMMARY = "natural training: cross-entropy (or BCE) on clean images, no attack"


def create(*, loss: str = "ce") -> Method:
    """Natural training: minimises the loss of the clean prediction, CE(z(x), y) or BCE(z(x), y).

    Args:
      loss: "ce", or "bce", the boosted cross-entropy, as in NAP's table 6 (there on the first
        10,000 images: `train_examples=10000`).

    Returns:
      The method; `perturb` gives the clean images and counts no backward pass.

    Raises:
      ValueError: another loss.

    Example:
      >>> from robustjax import methods
      >>> methods.create("natural").goes_by  # neither steps nor a step size
      ()

    Source: the empirical risk minimisation that Madry et al. (2018), section 2, start from.
    """
    loss_fn = checked_loss(loss)

    def outer(outer: Outer) -> Objective:
        logits, network = outer.network.train(outer.batch.images, outer.key)
        return Objective(loss_fn(logits, outer.batch.labels), network.statistics)

    return Method(
        name="natural", perturb=_perturb, outer=outer, soft_labels=loss == "ce", goes_by=()
    )


def _perturb(inner: Inner) -> Perturbation:
    return inner.clean()
