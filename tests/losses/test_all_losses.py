"""What every loss keeps to; a new one is found by `losses.__all__` and its arguments' names."""

import functools
import importlib
import inspect
import pkgutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from robustjax import losses

RNG = np.random.default_rng(0)
BATCH, CLASSES = 4, 5
LOGITS, OTHER = RNG.standard_normal((2, BATCH, CLASSES)).astype(np.float32)
LABELS = np.array([0, 1, 4, 2])
TARGETS = np.array([1, 2, 0, 3])
SOFT = RNG.dirichlet(np.ones(CLASSES), BATCH).astype(np.float32)

# What public names of `losses` compute no loss.
HELPERS = {"smooth_labels"}
LOSSES = sorted(set(losses.__all__) - HELPERS)
# What a loss is given, beside logits, by the name of the argument.
ARGUMENTS = {"labels": LABELS, "targets": TARGETS}
# The options without which a loss, as its docstring says, couples its rows.
UNCOUPLED = {"lrm": {"pairing_ratio": None}}
# ‖z‖² leaves float32 beyond 1e19.
SQUARES = {"adversarial_logit_pairing", "logit_pairing", "logit_squeezing", "lrm"}


def positional(name):
    parameters = inspect.signature(getattr(losses, name)).parameters.values()
    return [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]


def of_rows(name):
    """A loss, with options under which each value belongs to its row alone."""
    return functools.partial(getattr(losses, name), **UNCOUPLED.get(name, {}))


def arguments(name):
    """What holds logits, and what does not, in the order of the signature."""
    names = positional(name)
    for one in names:
        assert one.endswith("logits") or one in ARGUMENTS, (
            f"losses.{name}: no test knows what {one} is: call it ..._logits, labels or targets, "
            f"or add an example of it to ARGUMENTS in {__file__}; what is no loss: to HELPERS"
        )
    logits = (LOGITS, OTHER)[: sum(one.endswith("logits") for one in names)]
    return logits, tuple(ARGUMENTS[one] for one in names if not one.endswith("logits"))


def takes_soft_labels(name):
    """Whether it says so: the docstring is what this is read from."""
    return "a distribution in each row" in getattr(losses, name).__doc__


every_loss = pytest.mark.parametrize("name", LOSSES)
with_labels = pytest.mark.parametrize(
    "name", [name for name in LOSSES if "labels" in positional(name)]
)


def test_every_public_function_of_the_package_is_among_these():
    modules = (
        importlib.import_module(f"{losses.__name__}.{module.name}")
        for module in pkgutil.iter_modules(losses.__path__)
        if not module.name.startswith("_")
    )
    public = {
        name
        for module in modules
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    }
    assert public == set(losses.__all__), "robustjax/losses/__init__.py lists what is public"


@every_loss
def test_every_argument_is_known_here_and_every_option_has_a_default(name):
    arguments(name)
    for parameter in inspect.signature(getattr(losses, name)).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            assert parameter.default is not parameter.empty, f"{name}: {parameter.name}"
    assert "logits" in positional(name)[0], f"losses.{name}: the logits come first"


@pytest.mark.parametrize("name", losses.__all__)
def test_it_says_what_it_takes_gives_and_where_it_is_from_and_its_example_runs(name, documented):
    sections = ("Args", "Returns", "Raises", "Example", "Source")
    documented(getattr(losses, name), f"losses.{name}", sections)


@every_loss
def test_jit_vmap_and_leading_shapes_agree(name):
    loss, (logits, rest) = of_rows(name), arguments(name)
    value = loss(*logits, *rest)
    chex.assert_shape(value, (BATCH,))
    chex.assert_type(value, jnp.float32)
    # Under vmap each row is alone.
    chex.assert_trees_all_close(jax.vmap(loss)(*logits, *rest), value, rtol=1e-5)
    folded = [np.stack([a, a[::-1]]) for a in (*logits, *rest)]
    chex.assert_trees_all_close(loss(*folded), np.stack([value, value[::-1]]), rtol=1e-5)


@every_loss
def test_the_result_is_at_least_float32(name):
    loss, (logits, rest) = getattr(losses, name), arguments(name)
    for dtype in (jnp.bfloat16, jnp.float16):
        narrow = [jnp.asarray(z, dtype) for z in logits]
        value = loss(*narrow, *rest)
        chex.assert_type(value, jnp.float32)
        # Computed in float32, not merely returned in it.
        chex.assert_trees_all_equal(value, loss(*(z.astype(jnp.float32) for z in narrow), *rest))


@every_loss
def test_float64_logits_are_computed_in_float64(name):
    loss, (logits, rest) = getattr(losses, name), arguments(name)
    with jax.enable_x64(True):
        wide = [z.astype(np.float64) * (1 + 1e-9) for z in logits]
        value = loss(*wide, *rest)
        chex.assert_type(value, jnp.float64)
        assert not np.array_equal(value, loss(*logits, *rest))
        chex.assert_type(loss(*logits, *rest), jnp.float32)


def values_and_gradients(name):
    """A function of what holds logits and what does not: values [B], and the sum's gradients."""
    loss = getattr(losses, name)

    def call(logits, rest):
        def total(logits):
            values = loss(*logits, *rest)
            return jnp.sum(values), values

        gradients, values = jax.grad(total, has_aux=True)(logits)
        return values, gradients

    return call


@functools.cache
def compiled(name):
    return jax.jit(values_and_gradients(name))


def extremes(scale):
    """Pairs of logits [8, K]: with ties where they can do most, else as they come."""
    rng = np.random.default_rng(1)
    if scale <= 1e4:
        drawn = rng.choice([-1, 0, 1], (2, 7, CLASSES))
        drawn = np.concatenate([drawn, np.ones((2, 1, CLASSES))], axis=1)
    else:
        drawn = rng.uniform(-1, 1, (2, 8, CLASSES))
    return (drawn * scale).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        (name, scale)
        for name in LOSSES
        for scale in ((1e-30, 1e4) if name in SQUARES else (1e-30, 1e4, 1e30))
    ],
)
def test_extreme_logits_have_finite_values_and_gradients(name, scale):
    logits, rest = arguments(name)
    logits = tuple(extremes(scale)[: len(logits)])
    rest = tuple(np.tile(one, 2) for one in rest)
    chex.assert_tree_all_finite(compiled(name)(logits, rest))
    # Nor where two predictions are the same.
    chex.assert_tree_all_finite(compiled(name)((logits[0],) * len(logits), rest))


@every_loss
def test_rows_are_independent_and_what_couples_them_says_so(name):
    logits, rest = arguments(name)
    spoiled = tuple(np.where(np.arange(BATCH)[:, None] == 1, np.nan, z) for z in logits)
    spoiled = tuple(z.astype(np.float32) for z in spoiled)
    kept = np.array([0, 2, 3])
    values, alone = of_rows(name)(*logits, *rest), of_rows(name)(*spoiled, *rest)
    chex.assert_trees_all_equal(np.asarray(values)[kept], np.asarray(alone)[kept])
    assert not np.isfinite(alone[1])
    order = np.array([2, 0, 3, 1])
    moved = of_rows(name)(*(a[order] for a in (*logits, *rest)))
    chex.assert_trees_all_close(moved, values[order], rtol=1e-6)
    if name in UNCOUPLED:
        assert "couples its rows" in getattr(losses, name).__doc__
        coupled = getattr(losses, name)(*spoiled, *rest)
        assert not np.isfinite(coupled).any()
    else:
        assert "couples" not in getattr(losses, name).__doc__


class Variants(chex.TestCase):
    """The same values and gradients compiled or not, put on a device or not, and mapped."""

    @chex.all_variants
    @parameterized.named_parameters((name, name) for name in LOSSES)
    def test_a_loss_and_its_gradients(self, name):
        found = self.variant(values_and_gradients(name), n_devices=1)(*arguments(name))
        chex.assert_trees_all_equal_dtypes(found, plain(name))
        chex.assert_trees_all_close(found, plain(name), rtol=1e-5, atol=1e-5)


@functools.cache
def plain(name):
    return values_and_gradients(name)(*arguments(name))


def every_argument():
    return {name: arguments(name) for name in LOSSES}


def all_values_and_gradients(given):
    return {name: values_and_gradients(name)(*given[name]) for name in LOSSES}


@pytest.mark.parametrize("mode", ["scan", "disable_jit", "debug_nans"])
def test_values_and_gradients_are_the_same_in_every_mode(mode):
    if mode == "scan":
        one_batch = jax.tree.map(lambda rows: rows[None], every_argument())
        _, found = jax.lax.scan(
            lambda _, given: (None, all_values_and_gradients(given)), None, one_batch
        )
        found = jax.tree.map(lambda rows: rows[0], found)
    else:
        with getattr(jax, mode)(True):
            found = all_values_and_gradients(every_argument())
    expected = {name: plain(name) for name in LOSSES}
    rounding = 0 if mode == "debug_nans" else 1e-5
    chex.assert_trees_all_close(found, expected, rtol=rounding, atol=rounding)


@pytest.mark.parametrize(
    "mode",
    [jax.enable_x64(True), jax.checking_leaks(), jax.numpy_dtype_promotion("strict")],
    ids=["enable_x64", "checking_leaks", "strict promotion"],
)
def test_the_trace_is_of_float32_in_every_mode(mode):
    with mode:
        found = jax.eval_shape(all_values_and_gradients, every_argument())
    chex.assert_trees_all_equal_shapes_and_dtypes(found, {name: plain(name) for name in LOSSES})


def test_smooth_labels_follows_the_strength_to_float64():
    with jax.enable_x64(True):
        assert losses.smooth_labels(LABELS, 5, 0.1).dtype == jnp.float32
        assert losses.smooth_labels(LABELS, 5, jnp.float64(0.1)).dtype == jnp.float64
    assert losses.smooth_labels(LABELS, 5, jnp.bfloat16(0.1)).dtype == jnp.float32


@with_labels
def test_a_label_out_of_range_is_an_error_where_known_and_nan_where_traced(name):
    loss, (logits, (_, *targets)) = of_rows(name), arguments(name)
    for bad in (-1, 5):
        wrong = np.array([0, 1, bad, 2])
        with pytest.raises(ValueError, match=f"labels holds {bad}: accepted are 0 to 4"):
            loss(*logits, wrong, *targets)
        with pytest.raises(ValueError, match=f"labels holds {bad}: accepted are 0 to 4"):
            loss(*logits, jnp.asarray(wrong), *targets)
        value = jax.jit(loss)(*logits, wrong, *targets)
        np.testing.assert_array_equal(np.isnan(value), [False, False, True, False])


@with_labels
def test_soft_labels_are_taken_where_the_docstring_says_so_and_else_refused_by_name(name):
    loss, (logits, (_, *targets)) = getattr(losses, name), arguments(name)
    if takes_soft_labels(name):
        one_hot = np.eye(CLASSES, dtype=np.float32)[LABELS]
        chex.assert_trees_all_close(
            loss(*logits, one_hot), loss(*logits, LABELS), rtol=1e-5, atol=1e-6
        )
        values, gradients = compiled(name)(logits, (SOFT,))
        chex.assert_shape(values, (BATCH,))
        chex.assert_type(values, jnp.float32)
        chex.assert_tree_all_finite(gradients)
        chex.assert_trees_all_close(loss(*logits, SOFT), values, rtol=1e-5)
        return
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
    loss, (logits, rest) = getattr(losses, name), arguments(name)
    with pytest.raises(ValueError, match=r"accepted are \[B, K\] with K >= \d classes"):
        loss(*(z[:, :1] for z in logits), *rest)
