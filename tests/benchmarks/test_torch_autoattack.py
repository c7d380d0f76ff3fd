"""The ensemble composed in PyTorch: its verdicts, its copy of the network, and what it spends."""
# ruff: noqa: E402  (what imports torch comes after the check that it is there)

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchattacks")

from benchmarks.autoattack_work import ATTACKS, Budget
from benchmarks.pytorch import models as torch_models
from benchmarks.pytorch import weights
from benchmarks.pytorch.autoattack import TorchAutoAttack
from robustjax import models


@pytest.fixture(autouse=True)
def one_thread():
    """Several threads would wait for each other longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


SMALL = Budget(steps=8, queries=30, targets=3)


def test_logits_of_the_small_network_are_the_flax_one_s():
    random = np.random.default_rng(0)
    model = models.create("small_cnn")
    images = random.uniform(size=(2, 28, 28, 1)).astype(np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    # The last layer begins at zero, which would hide everything before it.
    variables = jax.tree.map(
        lambda leaf: random.normal(0, 0.1, leaf.shape).astype(np.float32), shapes
    )
    mirror = torch_models.create("small_cnn")
    weights.load(mirror, weights.to_torch(variables["params"]))
    with torch.no_grad():
        theirs = mirror.eval()(torch.tensor(images).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(theirs, model.apply(variables, images), rtol=1e-4, atol=1e-5)


def test_an_attack_leaves_batch_norm_as_it_was_and_sees_the_true_gradient():
    random = np.random.default_rng(1)
    images = random.uniform(size=(3, 8, 8, 3)).astype(np.float32)
    network = torch_models.create("resnet_8")
    copy = torch_models.create("resnet_8").eval()
    copy.load_state_dict(network.state_dict())
    options = {"norm": "linf", "epsilon": 0.01, "budget": SMALL, "batch_size": 3}
    labels = copy(torch.tensor(images).permute(0, 3, 1, 2)).argmax(1).numpy()
    peer = TorchAutoAttack(network, images, labels, **options)
    before = peer.logits()
    peer.run("apgd-ce")
    np.testing.assert_array_equal(peer.logits(), before)
    gradients = []
    for model in (copy, peer._model):
        x = torch.tensor(images).permute(0, 3, 1, 2).contiguous().requires_grad_()
        gradients.append(torch.autograd.grad(model(x).square().sum(), x)[0])
    assert gradients[1].is_contiguous()
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-6)


class Steep(torch.nn.Module):
    """Four classes by the sum of the pixels; counts the images that it sees, and gradients."""

    def __init__(self, height):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor([0.0, 1.0, 0.9, 0.8]))
        self.height, self.forwards, self.gradients = height, 0, 0

    def forward(self, images):
        self.forwards += len(images)
        if images.requires_grad:
            images.register_hook(self.count)
        total = images.sum((1, 2, 3))[:, None]
        # Class 0 until the sum reaches the height. Class 3 decides nothing below it.
        return self.slope * total - self.height * (self.slope > 0).float()

    def count(self, gradient):
        self.gradients += len(gradient)
        return gradient


def side(images, height, **options):
    model = Steep(height)
    labels = np.zeros(len(images), np.int64)
    options = {"norm": "linf", "epsilon": 0.1, "budget": SMALL, "batch_size": 4, **options}
    return model, TorchAutoAttack(model, images, labels, **options)


def test_what_can_be_broken_is_broken_and_the_rest_is_left_alone():
    # 16 pixels: a sum can grow by 1.6. At 0.6 each it is 9.6, at 0.55 it is 8.8.
    values = [0.6, 0.55, 0.6, 0.55, 0.7, 0.55]
    images = np.stack([np.full((4, 4, 1), value, np.float32) for value in values])
    model, peer = side(images, 10.8)
    np.testing.assert_array_equal(peer.robust, [True] * 4 + [False, True])
    peer.run("apgd-ce")
    np.testing.assert_array_equal(peer.robust, [False, True, False, True, False, True])
    seen = model.forwards
    peer.run("square")
    # Three survivors: a look, the queries and the start, and the look afterwards.
    assert model.forwards - seen >= 3 * SMALL.queries
    np.testing.assert_array_equal(peer.robust, [False, True, False, True, False, True])


def test_no_survivors_and_a_single_one_in_the_last_batch():
    _, peer = side(np.full((1, 4, 4, 1), 0.9, np.float32), 5.0)
    for attack in ATTACKS:
        peer.run(attack)
    assert not peer.robust.any()
    _, peer = side(np.full((5, 4, 4, 1), 0.3, np.float32), 8.0)
    for attack in ATTACKS:
        peer.run(attack)
    assert peer.robust.all()


def test_the_authors_algorithms_spend_at_least_the_units_and_little_more():
    # Nothing in the ball is misclassified, but outside of it something is.
    images = np.full((1, 4, 4, 1), 0.3, np.float32)
    for attack in ATTACKS:
        model, peer = side(images, 8.0)
        before, gradients = model.forwards, model.gradients
        peer.run(attack)
        spent = model.forwards - before + model.gradients - gradients
        targets = SMALL.targets if attack in ("apgd-t", "fab-t") else 1
        # Looks at the clean and the final image of each target, and APGD's last gradient.
        assert SMALL.units(attack) <= spent <= SMALL.units(attack) + 5 * targets, attack
        assert peer.robust.all()
