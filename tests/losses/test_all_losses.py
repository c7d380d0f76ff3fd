"""What every loss keeps to: shapes, types, jax transformations, messages, and its own examples."""

import doctest
import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import losses

RNG = np.random.default_rng(0)
LOGITS = RNG.standard_normal((4, 5)).astype(np.float32)
OTHER = RNG.standard_normal((4, 5)).astype(np.float32)
LABELS = np.array([0, 1, 4, 2])
TARGETS = np.array([1, 2, 0, 3])
SOFT = RNG.dirichlet(np.ones(5), 4).astype(np.float32)

# Each loss with its arguments: first what holds logits, then what does not.
CASES = {
    "cross_entropy": (losses.cross_entropy, (LOGITS,), (LABELS,)),
    "soft cross_entropy": (losses.cross_entropy, (LOGITS,), (SOFT,)),
    "boosted_cross_entropy": (losses.boosted_cross_entropy, (LOGITS,), (LABELS,)),
    "kl_divergence": (losses.kl_divergence, (LOGITS, OTHER), ()),
    "cw_margin": (losses.cw_margin, (LOGITS,), (LABELS,)),
    "dlr": (losses.dlr, (LOGITS,), (LABELS,)),
    "targeted_dlr": (losses.targeted_dlr, (LOGITS,), (LABELS, TARGETS)),
    "trades": (losses.trades, (LOGITS, OTHER), (LABELS,)),
    "mart": (losses.mart, (LOGITS, OTHER), (LABELS,)),
    "nap": (losses.nap, (LOGITS, OTHER), (LABELS,)),
    "adversarial_logit_pairing": (losses.adversarial_logit_pairing, (LOGITS, OTHER), (LABELS,)),
    "logit_pairing": (losses.logit_pairing, (LOGITS, OTHER), ()),
    "logit_squeezing": (losses.logit_squeezing, (LOGITS,), ()),
    # Without pairing: its ratio of batch means couples the rows.
    "lrm": (functools.partial(losses.lrm, pairing_ratio=None), (LOGITS, OTHER), (LABELS,)),
    "soft_logit_margin": (losses.soft_logit_margin, (LOGITS,), (LABELS,)),
}
UNLABELLED = ("soft cross_entropy", "kl_divergence", "logit_pairing", "logit_squeezing")
every_loss = pytest.mark.parametrize("name", CASES)
with_hard_labels = pytest.mark.parametrize(
    "name", [name for name in CASES if name not in UNLABELLED]
)
hard_labels_only = pytest.mark.parametrize(
    "name",
    [
        "boosted_cross_entropy",
        "cw_margin",
        "dlr",
        "targeted_dlr",
        "mart",
        "nap",
        "soft_logit_margin",
    ],
)


@every_loss
def test_jit_vmap_and_leading_shapes_agree(name):
    loss, logits, rest = CASES[name]
    value = loss(*logits, *rest)
    assert value.shape == (4,)
    np.testing.assert_allclose(jax.jit(loss)(*logits, *rest), value, rtol=1e-5)
    np.testing.assert_allclose(jax.vmap(loss)(*logits, *rest), value, rtol=1e-5)
    folded = [np.stack([a, a[::-1]]) for a in (*logits, *rest)]
    np.testing.assert_allclose(loss(*folded), np.stack([value, value[::-1]]), rtol=1e-5)


@every_loss
def test_the_result_is_at_least_float32(name):
    loss, logits, rest = CASES[name]
    for dtype in (jnp.bfloat16, jnp.float16):
        narrow = [jnp.asarray(z, dtype) for z in logits]
        value = loss(*narrow, *rest)
        assert value.dtype == jnp.float32
        # Computed in float32, not merely returned in it.
        np.testing.assert_array_equal(value, loss(*(z.astype(jnp.float32) for z in narrow), *rest))


@every_loss
def test_float64_logits_are_computed_in_float64(name):
    loss, logits, rest = CASES[name]
    with jax.enable_x64(True):
        wide = [z.astype(np.float64) * (1 + 1e-9) for z in logits]
        value = loss(*wide, *rest)
        assert value.dtype == jnp.float64
        assert not np.array_equal(value, loss(*logits, *rest))
        assert loss(*logits, *rest).dtype == jnp.float32


def test_smooth_labels_follows_the_strength_to_float64():
    with jax.enable_x64(True):
        assert losses.smooth_labels(LABELS, 5, 0.1).dtype == jnp.float32
        assert losses.smooth_labels(LABELS, 5, jnp.float64(0.1)).dtype == jnp.float64
    assert losses.smooth_labels(LABELS, 5, jnp.bfloat16(0.1)).dtype == jnp.float32


@with_hard_labels
def test_a_label_out_of_range_is_an_error_where_known_and_nan_where_traced(name):
    loss, logits, (_, *targets) = CASES[name]
    for bad in (-1, 5):
        wrong = np.array([0, 1, bad, 2])
        with pytest.raises(ValueError, match=f"labels holds {bad}: accepted are 0 to 4"):
            loss(*logits, wrong, *targets)
        with pytest.raises(ValueError, match=f"labels holds {bad}: accepted are 0 to 4"):
            loss(*logits, jnp.asarray(wrong), *targets)
        value = jax.jit(loss)(*logits, wrong, *targets)
        np.testing.assert_array_equal(np.isnan(value), [False, False, True, False])


@hard_labels_only
def test_soft_labels_are_refused_by_name(name):
    loss, logits, (_, *targets) = CASES[name]
    message = rf"{name}: labels=float32\[4, 5\]: accepted are hard labels, integers \[4\]"
    with pytest.raises(ValueError, match=message):
        loss(*logits, SOFT, *targets)
    with pytest.raises(ValueError, match=message):
        jax.jit(loss)(*logits, SOFT, *targets)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, np.uint32])
def test_any_integer_type_is_a_hard_label(dtype):
    expected = losses.cross_entropy(LOGITS, LABELS)
    np.testing.assert_array_equal(losses.cross_entropy(LOGITS, LABELS.astype(dtype)), expected)


def test_uint8_labels_reach_beyond_127_classes():
    logits = np.zeros((1, 200), np.float32)
    logits[0, 180] = 7.0
    assert losses.cw_margin(logits, np.array([180], np.uint8))[0] == -7.0
    assert losses.smooth_labels(np.array([180], np.uint8), 200, 0.0)[0, 180] == 1.0


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            LABELS[:3],
            r"labels=int\d+\[3\]: .* integers \[4\], for logits \[4, 5\]",
        ),
        (
            LABELS.astype(np.float32),
            r"labels=float32\[4\]: .*, and soft ones, floating",
        ),
        (np.eye(5, dtype=int)[LABELS], r"labels=int\d+\[4, 5\]: .*, and soft ones"),
        (SOFT[:, :4], r"labels=float32\[4, 4\]: .*, and soft ones, .* \[4, 5\]"),
    ],
)
def test_cross_entropy_says_which_labels_it_takes(labels, message):
    with pytest.raises(ValueError, match=message):
        losses.cross_entropy(LOGITS, labels)
    with pytest.raises(ValueError, match=message):
        losses.trades(LOGITS, OTHER, labels)


def test_swapped_arguments_are_named():
    with pytest.raises(ValueError, match="cross_entropy: logits=int32.*: accepted are floating"):
        losses.cross_entropy(LABELS, LOGITS)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "trades",
            {"beta": 1e40},
            r"trades: beta=1e\+40: accepted are numbers up to 3.4028",
        ),
        ("trades", {"beta": 1j}, "trades: beta=complex64.*: accepted are a number"),
        (
            "mart",
            {"classifier": "BCE"},
            "mart: classifier=BCE: .*; did you mean 'bce'",
        ),
        ("mart", {"divergence": "False"}, "mart: divergence=False: accepted are True, False"),
        ("mart", {"weighted": None}, "mart: weighted=None: accepted are True, False"),
        ("nap", {"boosted": "False"}, "nap: boosted=False: accepted are True, False"),
        ("nap", {"margin": 1}, "nap: margin=1: accepted are True, False"),
        (
            "lrm",
            {"direction": "claen"},
            "lrm: direction=claen: .*; did you mean 'clean'",
        ),
        ("lrm", {"reading": "a"}, "lrm: reading=a: accepted are .*; did you mean 'A'"),
        ("lrm", {"pairing_ratio": "6"}, "lrm: pairing_ratio=6: accepted are arrays of numbers"),
        (
            "lrm",
            {"pairing_ratio": 10**400},
            "lrm: pairing_ratio=1.*: accepted are arrays",
        ),
        ("lrm", {"pairing_ratio": 1j}, "lrm: pairing_ratio=complex64.*: accepted are None and"),
        ("lrm", {"pairing_ratio": True}, "lrm: pairing_ratio=bool.*: accepted are None and"),
        (
            "lrm",
            {"pairing_ratio": 1e39},
            r"lrm: pairing_ratio=1e\+39: accepted are None and",
        ),
    ],
)
def test_options_of_another_kind_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        getattr(losses, name)(LOGITS, OTHER, LABELS, **options)


def test_options_of_numpy_are_accepted():
    found = losses.mart(LOGITS, OTHER, LABELS, beta=np.float64(6), weighted=np.bool_(True))
    np.testing.assert_array_equal(found, losses.mart(LOGITS, OTHER, LABELS))


@every_loss
def test_one_class_is_refused(name):
    loss, logits, rest = CASES[name]
    with pytest.raises(ValueError, match=r"accepted are \[B, K\] with K >= \d classes"):
        loss(*(z[:, :1] for z in logits), *rest)


@pytest.mark.parametrize(
    "module", ["classification", "margin", "trades", "mart", "nap", "logit_pairing", "lrm", "mma"]
)
def test_the_examples_in_the_docstrings_run(module):
    outcome = doctest.testmod(importlib.import_module(f"robustjax.losses.{module}"))
    assert outcome.attempted > 0
    assert outcome.failed == 0
