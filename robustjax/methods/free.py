"""Free adversarial training (Shafahi et al., 2019): one gradient for the weights and the images."""

import dataclasses

import jax
import jax.numpy as jnp

from robustjax.arguments import require_whole
from robustjax.methods.method import Inner, Method, Perturbation, PyTree
from robustjax.methods.standard import adversarial_outer

SUMMARY = "Free AT (Shafahi et al., 2019): CE on x + δ, δ updated by the gradient of the same pass"

CITATION = """\
@inproceedings{shafahi2019adversarial,
  title     = {Adversarial Training for Free!},
  author    = {Shafahi, Ali and Najibi, Mahyar and Ghiasi, Amin and Xu, Zheng and
               Dickerson, John and Studer, Christoph and Davis, Larry S. and Taylor, Gavin and
               Goldstein, Tom},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2019},
}"""


def create(*, replays: int = 8) -> Method:
    """Free AT: each batch is replayed m times; every pass updates the weights and δ.

    In each step the loss CE(z(x + δ), y) is differentiated once, by the weights, which descend, and
    by the images, which ascend: δ ← Π(δ + ε sign ∇). δ stays from batch to batch, by the position
    in the batch, and begins at 0; the replays of a batch see it augmented alike. steps and
    step_size play no part. An epoch is m passes over the data, so the paper's N epochs are
    epochs=N/m here.

    Args:
      replays: m; 8 on CIFAR-10 and 100 in the paper.

    The paper's algorithm has no box; as in the authors' code, x + δ is clipped to it and δ is not.
    But there no gradient passes through the clip: a δ that leaves the box waits for the next batch.

    `mean_backward_passes` counts the one pass of each step, although it costs nothing extra.

    Returns:
      The method; its memory is δ for each position in the batch, float32.

    Raises:
      ValueError: replays that are no count of 1 or more.

    Example:
      >>> from robustjax import methods
      >>> method = methods.create("free", replays=4)
      >>> method.replays, method.memory_of, method.init(16, (8, 8, 1))["delta"].shape
      (4, 'position', (16, 8, 8, 1))

    Source: Shafahi et al. (2019), Algorithm 1.
    """
    require_whole("replays", replays, 1)

    def perturb(inner: Inner) -> Perturbation:
        images = inner.threat.project(
            inner.batch.images + inner.memory["delta"], inner.batch.images
        )
        one_pass = jnp.ones(inner.positions.shape, jnp.int32)
        return Perturbation(images, one_pass, inner.memory)

    def remember(inner: Inner, perturbation: Perturbation, gradient: jax.Array) -> PyTree:
        ball = dataclasses.replace(inner.threat, bounds=None).for_batch(
            len(gradient), gradient.dtype
        )
        delta = inner.memory["delta"]
        moved = delta + inner.threat.epsilon * ball.steepest(gradient)
        return {"delta": ball.project(moved, jnp.zeros_like(delta))}

    return Method(
        name="free",
        perturb=perturb,
        outer=adversarial_outer(),
        init=lambda rows, image_shape: {"delta": jnp.zeros((rows, *image_shape))},
        memory_of="position",
        remember=remember,
        replays=replays,
        goes_by=(),
    )
