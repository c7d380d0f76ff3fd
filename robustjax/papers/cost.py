"""What a network costs to train and to attack, before anybody has done it: operations, and hours.

An estimate for a choice, not a measurement: convolutions and products alone, an attack's every step
taken by every example, and of the two machines the rates that training was once measured to have.
"""

import functools
from collections.abc import Iterable, Sequence

from robustjax.arguments import is_number
from robustjax.attacks import naming
from robustjax.config import TrainConfig
from robustjax.models import flops
from robustjax.papers.black_box import Pair
from robustjax.papers.planned import Network
from robustjax.papers.scale import test_images, train_images

H100_FLOPS_PER_SECOND = 198e12
"""Of one H100 in bfloat16: standard training of ResNet-18 with K = 10, 7,760 images/s (README)."""

CPU_FLOPS_PER_SECOND = 454e9
"""Of two cores of a server's CPU in float32: the same step, 17.79 images/s (benchmarks/results).

Small networks reach a fraction of it."""

_SHAPES = {"mnist": (28, 28, 1), "digits": (8, 8, 1)}
_CLASSES = 10

# In forward passes: a gradient for the image is one pass forward and one back, a gradient for the
# weights one more.
_IMAGE_GRADIENT, _STEP = 2, 3

_ONE_PASS = ("natural", "standard", "fat", "sense", "fast", "free", "logit_squeezing", "dynamic")
"""Methods whose outer loss looks at one image of each example; at two otherwise."""

_WITHOUT_ATTACK = ("natural", "clp", "logit_squeezing")


def training_flops(config: TrainConfig, attack_steps: float | None = None) -> float:
    """Operations of a training.

    Args:
      config: the experiment.
      attack_steps: that an example takes on average, where it is known; None: all of them.
    """
    outer = _STEP * (1 if config.method in _ONE_PASS else 2)
    steps = config.steps if attack_steps is None else attack_steps
    inner = 0 if config.method in _WITHOUT_ATTACK else _IMAGE_GRADIENT * steps
    return train_images(config) * config.epochs * (inner + outer) * _forward(config)


def evaluation_flops(network: Network) -> float:
    """Operations of all attacks that are asked of a network."""
    config = network.config
    passes = 0.0
    for evaluation in network.evaluations:
        examples = evaluation.examples or test_images(config)
        passes += sum(attack_passes(attack) for attack in evaluation.attacks) * examples
    return passes * _forward(config)


def black_box_flops(pairs: Sequence[Pair], networks: Iterable[Network]) -> float:
    """Operations of making adversarial images on some networks and showing them to others.

    Args:
      pairs: of source and target; those that share their images pay for them once.
      networks: of the pairs, and maybe others.
    """
    configs = {network.workdir: network.config for network in networks}

    def images(pair: Pair) -> int:
        return pair.sets * (pair.examples or test_images(configs[pair.source]))

    made = {pair.images(): pair for pair in pairs}.values()
    making = (
        images(pair) * attack_passes(pair.attack) * _forward(configs[pair.source]) for pair in made
    )
    judging = (images(pair) * _forward(configs[pair.target]) for pair in pairs)
    return sum(making) + sum(judging)


def total_flops(networks: Sequence[Network], pairs: Sequence[Pair] = ()) -> float:
    """Operations of training and attacking some networks, and of their black-box pairs."""
    own = sum(training_flops(one.config) + evaluation_flops(one) for one in networks)
    return own + black_box_flops(pairs, networks)


@functools.cache
def attack_passes(name: str) -> float:
    """Forward passes that an attack needs for an image, a gradient counted as two."""
    if name == "clean":
        return 1
    parsed = naming.parse(name)
    kind, attack = parsed.kind, parsed.attack

    def setting(field: str, default: float = 1) -> float:
        value = getattr(attack, field, default)
        return float(value) if is_number(value) else default

    if kind in ("autoattack", "autoattack-rand"):
        return sum(map(attack_passes, ("apgd-ce", "apgd-t", "fab-t", "square")))
    if kind == "square":
        return setting("queries", 5000)
    if kind == "spsa":
        return setting("steps") * setting("samples")
    if kind == "random":
        return setting("draws")
    classes = setting("num_targets") if kind in ("apgd-t", "malt", "fab-t") else 1
    if kind == "deepfool":
        classes = _CLASSES
    return _IMAGE_GRADIENT * setting("steps") * setting("restarts") * classes


def _forward(config: TrainConfig) -> float:
    return _forward_of(config.model, _SHAPES.get(config.dataset, (32, 32, 3)))


@functools.cache
def _forward_of(model: str, shape: tuple[int, int, int]) -> float:
    return flops.forward(model, shape)


def hours(operations: float, flops_per_second: float) -> str:
    """How long so many operations take, in words: "40 s", "3.5 h", "12 days"."""
    seconds = operations / flops_per_second
    for unit, size in (("days", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.{1 if seconds < 10 * size else 0}f} {unit}"
    return f"{seconds:.2g} s"
