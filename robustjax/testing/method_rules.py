"""What holds for a method: images in the box, a loss per example, and a gradient."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from robustjax import attacks, methods, parallel
from robustjax.errors import UserError
from robustjax.methods import Batch, Inner, Objective, Outer, Perturbation
from robustjax.testing.broken_rule import (
    BATCH,
    CLASSES,
    EPSILON,
    KEPT,
    SHAPE,
    broken,
    have_one_form,
    images_near_the_edges,
    linear_weights,
    require,
    require_finite_numbers,
    require_rows,
    same,
    some_labels,
)
from robustjax.training.step import BoundNetwork

PyTree = Any


def check_method(
    method: methods.Method | Callable[..., methods.Method] | str, *, radius: float | None = None
) -> None:
    """Tries the rules of methods on one that is yours.

    They are: `perturb` gives a `methods.Perturbation` of float32 images in the box and in the ball,
    which without a radius are the clean ones, int32 passes [B], and the memory as it is given;
    `outer` gives a `methods.Objective` of a floating loss [B], not reduced, whose gradient by the
    weights is finite and not 0; batch-norm statistics are handed on; the same key gives the same
    again; an example is treated alike in any company, unless the method says `couples_rows`; labels
    that are distributions are taken where it says `soft_labels`, those that are absent where it
    says `unlabelled`; and logits of size 10⁴ do no harm.

    Args:
      method: the value; or what makes it, called without hyper-parameters; or a name as
        `methods.create` takes it.
      radius: how far its images may be from the clean ones, where that is not epsilon.

    Raises:
      BrokenRule: names the first rule that does not hold.

    Example:
      >>> check_method("trades")
    """
    made = _made(method)
    subject = f"method {made.name}"
    try:
        scalars = made.scalars_at(0.0)
    except (TypeError, ValueError) as error:
        broken(subject, f"its scalars are no numbers at epoch 0 ({error})")
    require_finite_numbers(list(scalars.values()), subject, "what scalars_at(0.0) gives")

    problem = _problem(made)
    run = jax.jit(_on_one_device(made, subject))
    found = run(problem)
    _check_kinds(found, problem, subject)
    images = np.asarray(found.perturbation.images)
    in_box = images.min() >= 0 and images.max() <= 1
    require(in_box, subject, f"its images lie in [{images.min():g}, {images.max():g}], not [0, 1]")
    furthest = float(np.abs(images - problem.rows["images"]).max())
    allowed = EPSILON if radius is None else radius
    require(
        furthest <= allowed + 1e-6,
        subject,
        f"its images are {furthest:.4g} from the clean ones in a ball of radius {allowed:g}; a "
        "method with a radius of its own is checked with radius=",
    )
    if radius is None:
        clean = np.asarray(run(problem._replace(epsilon=np.float32(0))).perturbation.images)
        unmoved = np.allclose(clean, problem.rows["images"], atol=1e-6)
        require(unmoved, subject, "with epsilon=0 its images are not the clean ones")
    require(
        found.handed_on,
        subject,
        "the objective's statistics are not those that the network's last forward pass left",
    )
    require(same(found, run(problem)), subject, "the same key gives other results")
    _check_company(made, run, found, problem, subject)
    for scale in (0.0, 1e4):
        extreme = run(problem._replace(kernel=linear_weights(scale)))
        require_finite_numbers(
            (extreme.losses, extreme.gradient, extreme.perturbation.images),
            subject,
            f"its loss, its gradient or its images, at logits of size {scale:g},",
        )
    _check_labels(made, problem, subject)


def _made(method: Any) -> methods.Method:
    if isinstance(method, str):
        return methods.create(method)
    if isinstance(method, methods.Method):
        return method
    require(callable(method), f"method {method!r:.40}", "it is no methods.Method, nor makes one")
    subject = f"method {getattr(method, '__name__', method)}"
    try:
        found = method()
    except TypeError as error:
        broken(subject, f"every hyper-parameter needs a default ({error})")
    require(
        isinstance(found, methods.Method),
        subject,
        f"it gives {type(found).__name__}; accepted is methods.Method",
    )
    return found


class _Counting(nn.Module):
    """A linear network that counts its forward passes in training, as statistics of batch norm."""

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool = False, batch_statistics: bool | None = None
    ) -> jax.Array:
        count = self.variable("batch_stats", "passes", lambda: jnp.zeros(()))
        if train and self.is_mutable_collection("batch_stats"):
            count.value = count.value + 1
        return nn.Dense(CLASSES)(images.reshape(len(images), -1))


class _Problem(NamedTuple):
    """What is given: rows [B], and what is one for all."""

    rows: dict[str, Any]
    epsilon: Any
    kernel: np.ndarray


class _Solved(NamedTuple):
    """What a method makes of it."""

    perturbation: Perturbation
    losses: jax.Array
    gradient: PyTree
    handed_on: jax.Array


def _problem(method: methods.Method, seed: int = 1) -> _Problem:
    memory = method.init(BATCH, SHAPE)
    rows = {
        "images": images_near_the_edges(seed),
        "labels": some_labels(seed),
        "positions": np.arange(BATCH, dtype=np.int32),
        "keys": jax.random.split(jax.random.key(seed), BATCH),
        "memory": jax.tree.map(np.asarray, memory),
    }
    return _Problem(rows, np.float32(EPSILON), linear_weights())


def _on_one_device(method: methods.Method, subject: str) -> Callable[[_Problem], _Solved]:
    """The method's two parts as a function of the problem, under the mapped axis of training."""

    def run(problem: _Problem) -> _Solved:
        rows = problem.rows
        params = {"Dense_0": {"kernel": problem.kernel, "bias": jnp.zeros(CLASSES)}}
        statistics = {"passes": jnp.zeros(())}
        scalars = {name: jnp.float32(value) for name, value in method.scalars_at(0.0).items()}
        batch = Batch(rows["images"], rows["labels"], rows["positions"], jnp.ones(BATCH))
        inner = Inner(
            keys=rows["keys"],
            positions=rows["positions"],
            batch_size=BATCH,
            logits_fn=BoundNetwork(_Counting(), params, statistics).logits_fn("eval"),
            batch=batch,
            threat=attacks.ThreatModel("linf", problem.epsilon),
            steps=2,
            step_size=jnp.asarray(0.8 * problem.epsilon),
            scalars=scalars,
            memory=rows["memory"],
        )
        perturbation = method.perturb(inner)
        require(
            isinstance(perturbation, Perturbation),
            subject,
            f"perturb gives {type(perturbation).__name__}; accepted is a Perturbation, as "
            "inner.found(result) makes one",
        )
        perturbation = jax.lax.stop_gradient(perturbation)
        passes: list[int] = []

        def loss(params: PyTree) -> tuple[jax.Array, tuple[jax.Array, PyTree]]:
            network = _Watched(BoundNetwork(_Counting(), params, statistics), passes)
            outer = Outer(jax.random.key(0), network, batch, perturbation, scalars)
            found = method.outer(outer)
            require(
                isinstance(found, Objective),
                subject,
                f"outer gives {type(found).__name__}; accepted is methods.Objective(loss, "
                "statistics)",
            )
            require_rows(found.loss, subject, "the loss of outer", (BATCH,), jnp.floating)
            require(
                have_one_form(found.statistics, statistics),
                subject,
                "the statistics of outer are not the network's; accepted is network.statistics",
            )
            return jnp.mean(found.loss), (found.loss, found.statistics)

        gradient, (losses, left) = jax.grad(loss, has_aux=True)(params)
        handed_on = left["passes"] == float(max(passes, default=0))
        return _Solved(perturbation, losses, gradient, handed_on)

    def on_one_device(problem: _Problem) -> _Solved:
        one = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], problem)
        return jax.tree.map(lambda leaf: leaf[0], jax.vmap(run, axis_name=parallel.AXIS)(one))

    return on_one_device


class _Watched(NamedTuple):
    """A network that notes how many forward passes in a row it has behind it."""

    network: BoundNetwork
    passes: list[int]
    behind: int = 0

    @property
    def statistics(self) -> PyTree:
        return self.network.statistics

    def train(self, images: jax.Array, key: jax.Array) -> tuple[jax.Array, "_Watched"]:
        logits, network = self.network.train(images, key)
        self.passes.append(self.behind + 1)
        return logits, _Watched(network, self.passes, self.behind + 1)


def _check_kinds(found: _Solved, problem: _Problem, subject: str) -> None:
    perturbation = found.perturbation
    require_rows(perturbation.images, subject, "its images", (BATCH, *SHAPE), jnp.floating)
    passes = perturbation.backward_passes
    require_rows(passes, subject, "its backward_passes", (BATCH,), np.integer)
    given, kept = problem.rows["memory"], perturbation.memory
    fits = have_one_form(given, kept)
    require(fits, subject, "the memory that it gives back has not the form of the one it was given")
    require_finite_numbers(found.losses, subject, "its loss")
    require_finite_numbers(found.gradient, subject, "the gradient of its loss by the weights")
    moves = any(bool(jnp.any(jnp.abs(leaf) > 1e-9)) for leaf in jax.tree.leaves(found.gradient))
    require(moves, subject, "the gradient of its loss by the weights is 0")


def _check_company(
    method: methods.Method,
    run: Callable[[_Problem], _Solved],
    found: _Solved,
    problem: _Problem,
    subject: str,
) -> None:
    """An example in two companies."""
    if method.couples_rows:
        return

    def mixed(mine: Any, theirs: Any) -> Any:
        return jnp.where(KEPT.reshape(-1, *[1] * (mine.ndim - 1)), mine, theirs)

    company = jax.tree.map(mixed, problem.rows, _problem(method, seed=3).rows)
    other = run(problem._replace(rows=company))
    one, two = ((part.perturbation.images, part.losses) for part in (found, other))
    require(
        same(one, two, KEPT, 1e-5),
        subject,
        "the images or the loss of an example change with the others of the batch; a method that "
        "means it says couples_rows=True",
    )


def _check_labels(method: methods.Method, problem: _Problem, subject: str) -> None:
    run = _on_one_device(method, subject)

    def with_labels(labels: np.ndarray) -> _Problem:
        return problem._replace(rows={**problem.rows, "labels": labels})

    if method.soft_labels:
        even = np.full((BATCH, CLASSES), 1 / CLASSES, np.float32)
        try:
            jax.eval_shape(run, with_labels(even))
        except (TypeError, ValueError, UserError) as error:
            first = str(error).splitlines()[0]
            broken(
                subject,
                f"labels that are distributions [B, K] are not taken ({first}); a method whose "
                "loss needs a true class says soft_labels=False",
            )
    if method.unlabelled:
        absent = np.where(KEPT, problem.rows["labels"], -1).astype(np.int32)
        solved = jax.jit(run)(with_labels(absent))
        require_finite_numbers(solved.losses, subject, "its loss where a label is -1")
