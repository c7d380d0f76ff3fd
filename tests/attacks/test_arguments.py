"""What attacks refuse, each by one sentence that names the argument."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks
from robustjax.attacks import ThreatModel

KEY = jax.random.key(0)
IMAGES = np.full((3, 2, 2, 1), 0.5, np.float32)
LABELS = np.array([0, 1, 2])
WEIGHTS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
THREAT = ThreatModel("linf", 0.1)

ATTACKS = {
    "apgd": attacks.apgd,
    "apgd_targeted": attacks.apgd_targeted,
    "autoattack": attacks.autoattack,
    "cw_linf": attacks.cw_linf,
    "deepfool": attacks.deepfool,
    "fab_targeted": attacks.fab_targeted,
    "fgsm": attacks.fgsm,
    "pgd": attacks.pgd,
    "random_noise": attacks.random_noise,
    "spsa": attacks.spsa,
    "square": attacks.square,
}
every_attack = pytest.mark.parametrize("attack", ATTACKS.values(), ids=list(ATTACKS))

BY_GRADIENTS = [name for name in ATTACKS if name not in ("random_noise", "spsa", "square")]


def test_every_attack_is_here():
    functions = {name for name in attacks.__all__ if inspect.isfunction(getattr(attacks, name))}
    assert set(ATTACKS) == functions - {"create", "names", "register", "transfer"}, "add it above"


def linear(images):
    return images.reshape(len(images), 4) @ WEIGHTS


def pixel(value):
    images = IMAGES.copy()
    images[1, 0, 0, 0] = value
    return images


@every_attack
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            1.5,
            r"images holds pixels from 0.5 to 1.5: accepted are those .* threat.bounds, \(0, 1\)",
        ),
        (
            -0.01,
            "images holds pixels from -0.01 to 0.5: accepted are those inside",
        ),
        (np.nan, "images holds pixels that are NaN or infinite"),
        (np.inf, "images holds pixels that are NaN or infinite"),
    ],
)
def test_images_outside_the_box(attack, value, message):
    with pytest.raises(ValueError, match=message):
        attack(KEY, linear, pixel(value), LABELS, THREAT)


def test_what_rounding_leaves_outside_the_box_is_no_mistake():
    mean, deviation = np.float32(0.4914), np.float32(0.2470)
    images = ((np.ones((3, 2, 2, 1), np.float32) - mean) / deviation) * deviation + mean
    found = attacks.fgsm(KEY, linear, images + np.float32(1e-7), LABELS, THREAT)
    assert np.max(found.images) <= 1


@every_attack
@pytest.mark.parametrize("images", [None, [[0.5] * 4] * 3, "images", IMAGES.astype(np.uint8)],
                         ids=["none", "list", "text", "uint8"])  # fmt: skip
def test_what_is_no_array_of_floats(attack, images):
    with pytest.raises(ValueError, match="^images=.*: accepted are"):
        attack(KEY, linear, images, LABELS, THREAT)


@every_attack
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "labels"),
        (np.array([0, 1]), r"labels=int32\[2\]: accepted are integers \[3\]"),
        (np.array([0.0, 1.0, 2.0]), "labels=float.*: accepted are integers"),
        (np.array([0, -1, 2]), "labels holds -1"),
        (np.array([0, 7, 2]), "labels holds 7"),
    ],
    ids=["none", "too few", "floats", "negative", "too large"],
)
def test_what_are_no_labels(attack, labels, message):
    with pytest.raises(ValueError, match=message):
        attack(KEY, linear, IMAGES, labels, THREAT)


@pytest.mark.parametrize("name", ["fgsm", "pgd", "apgd"])
@pytest.mark.parametrize(
    "row", [[0.5, 0.5, 0.5], [1.5, -0.5, 0.0], [np.nan, 0.5, 0.5], [0.0, 0.0, 0.0]],
    ids=["sum", "sign", "nan", "nothing"],
)  # fmt: skip
def test_soft_labels_that_are_no_distribution(name, row):
    soft = np.eye(3, dtype=np.float32)
    soft[1] = row
    with pytest.raises(ValueError, match="holds .*: accepted are (distributions|probabilities)"):
        ATTACKS[name](KEY, linear, IMAGES, soft, THREAT)


@every_attack
@pytest.mark.parametrize("threat", [None, 0.1, {"norm": "linf"}], ids=["none", "number", "dict"])
def test_what_is_no_threat_model(attack, threat):
    with pytest.raises(ValueError, match="threat=.*: accepted are values of ThreatModel"):
        attack(KEY, linear, IMAGES, LABELS, threat)


@pytest.mark.parametrize("bounds", [5, (1,), "01", (0, 1, 2), (1, 0), (0, np.nan), (0, "x")])
def test_what_are_no_bounds(bounds):
    with pytest.raises(ValueError, match="bounds"):
        attacks.pgd(KEY, linear, IMAGES, LABELS, ThreatModel("linf", 0.1, bounds))


@pytest.mark.parametrize("epsilon", [-0.1, np.nan, "8/255", None, [0.1, 0.2]])
def test_what_is_no_radius(epsilon):
    with pytest.raises(ValueError, match="epsilon"):
        attacks.pgd(KEY, linear, IMAGES, LABELS, ThreatModel("linf", epsilon))


@pytest.mark.parametrize("norm", ["Linf", "L1", None, 2, np.inf])
def test_what_is_no_norm(norm):
    with pytest.raises(ValueError, match="norm"):
        attacks.pgd(KEY, linear, IMAGES, LABELS, ThreatModel(norm, 0.1))


@every_attack
@pytest.mark.parametrize("network", [None, WEIGHTS, "resnet_18"], ids=["none", "array", "name"])
def test_what_is_no_network(attack, network):
    with pytest.raises(ValueError, match="logits_fn=.*: accepted are"):
        attack(KEY, network, IMAGES, LABELS, THREAT)


@every_attack
def test_a_network_that_gives_no_logits(attack):
    with pytest.raises(ValueError, match="logits"):
        attack(KEY, lambda images: images.reshape(len(images), 4).sum(1), IMAGES, LABELS, THREAT)


@pytest.mark.parametrize("name", BY_GRADIENTS)
def test_integer_logits_have_no_gradient(name):
    options = {"num_targets": 2} if name in ("apgd_targeted", "fab_targeted") else {}
    with pytest.raises(ValueError, match="logits=int32.*: accepted are floating"):
        ATTACKS[name](KEY, lambda x: linear(x).astype(jnp.int32), IMAGES, LABELS, THREAT, **options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("pgd", {"steps": 2**31}),
        ("pgd", {"steps": 2.5}),
        ("pgd", {"restarts": 0}),
        ("pgd", {"restarts": True}),
        ("pgd", {"step_size": np.nan}),
        ("pgd", {"step_size": -1}),
        ("pgd", {"start": "unifrom"}),
        ("pgd", {"success": "sometimes"}),
        ("pgd", {"targets": np.array([0, 1])}),
        ("pgd", {"targets": np.array([0, 1, 3])}),
        ("cw_linf", {"steps": -1}),
        ("apgd", {"steps": None}),
        ("apgd", {"loss": "cross"}),
        ("square", {"queries": 1e9}),
        ("spsa", {"samples": 3}),
        ("spsa", {"delta": "small"}),
        ("fab_targeted", {"num_targets": 0}),
        ("autoattack", {"batch_size": 0}),
        ("autoattack", {"version": "plus"}),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_what_else_is_no_argument(name, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ATTACKS[name](KEY, linear, IMAGES, LABELS, THREAT, **options)


@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "autoattack"])
def test_no_images_are_attacked_in_vain(name):
    found = ATTACKS[name](KEY, linear, IMAGES[:0], LABELS[:0], THREAT)
    assert found.images.shape == (0, 2, 2, 1) and found.success.shape == (0,)


def test_autoattack_takes_images_and_not_vectors():
    vectors = IMAGES.reshape(3, 4)
    with pytest.raises(ValueError, match=r"images=float32\[3, 4\]: accepted are \[N, H"):
        attacks.autoattack(KEY, lambda x: x @ WEIGHTS, vectors, LABELS, THREAT)
