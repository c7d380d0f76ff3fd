"""What is computed of trained networks, on linear models whose answers are known, and drawn."""

import csv

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustjax import attacks, data, losses, models
from robustjax.analysis.convergence import Convergence, pgd_convergence
from robustjax.analysis.embedding import crossed_over, embed
from robustjax.analysis.friendly_examples import friendly_images
from robustjax.analysis.layer_features import layer_features, layer_names
from robustjax.analysis.loss_surface import loss_surface
from robustjax.analysis.model_statistics import compute_logits, statistics_of
from robustjax.attacks.engine.keys import per_example_keys
from robustjax.files import Path
from robustjax.reports.figures import (
    convergence as convergence_figures,
)
from robustjax.reports.figures import (
    embedding as embedding_figures,
)
from robustjax.reports.figures import (
    examples as example_figures,
)
from robustjax.reports.figures import (
    logits as logit_figures,
)
from robustjax.reports.figures import (
    loss_surface as surface_figures,
)
from robustjax.reports.figures import (
    probabilities as probability_figures,
)
from robustjax.reports.figures.histograms import shared_edges, shares
from robustjax.step_size import ReachWarning

CLASSES = 3
WEIGHTS = np.random.default_rng(0).normal(size=(8, CLASSES)).astype(np.float32)
EPSILON = 0.1
THREAT = attacks.ThreatModel("linf", EPSILON)


def linear(weights, images):
    return (images - 0.5).reshape(len(images), -1) @ weights


LOGITS_FN = jax.tree_util.Partial(linear, jnp.asarray(WEIGHTS))


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(1)
    # Far enough from 0 and 1 that the box never matters.
    images = rng.integers(80, 176, (23, 2, 2, 2), dtype=np.uint8)
    labels = np.argmax(float_logits(images), axis=1).astype(np.int32)
    labels[::5] = (labels[::5] + 1) % CLASSES
    return data.Dataset("made", images, labels, CLASSES)


def float_logits(images):
    """The linear model in float64."""
    images = images / 255.0 if images.dtype == np.uint8 else np.float64(images)
    return (images - 0.5).reshape(len(images), -1) @ np.float64(WEIGHTS)


def columns(path):
    with open(path.with_suffix(".csv")) as file:
        return list(csv.DictReader(file))


def said(images, labels):
    return statistics_of(compute_logits(LOGITS_FN, images), labels)


# Statistics and histograms.


@pytest.mark.parametrize("batch_size", [1, 5, 23, 100])
def test_statistics_are_those_of_the_formula_whatever_the_batch(dataset, batch_size):
    logits = float_logits(dataset.images)
    found = statistics_of(compute_logits(LOGITS_FN, dataset.images, batch_size), dataset.labels)
    np.testing.assert_allclose(found.logits, logits, atol=1e-5)
    for row, label in enumerate(dataset.labels):
        probabilities = np.exp(logits[row]) / np.exp(logits[row]).sum()
        others = np.delete(logits[row], label)
        assert found.probability[row] == pytest.approx(probabilities[label], abs=1e-5)
        assert found.confidence[row] == pytest.approx(probabilities.max(), abs=1e-5)
        assert found.gap[row] == pytest.approx(logits[row, label] - others.max(), abs=1e-5)
        assert found.prediction[row] == np.argmax(logits[row])
    assert 0 < found.wrong.sum() < len(dataset)
    np.testing.assert_array_equal(found.wrong, found.gap < 0)


def test_logits_that_are_not_finite_are_no_prediction():
    logits = np.array([[0.0, np.nan], [1e30, -1e30]], np.float32)
    found = statistics_of(logits, np.array([0, 0]))
    assert found.prediction.tolist() == [-1, 0] and found.wrong.tolist() == [True, False]
    assert found.probability[1] == 1


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=50), st.integers(1, 30))
def test_shares_hold_every_value_once(values, bins):
    values = np.array(values)
    edges = shared_edges(values, values[:1], bins=bins)
    heights = shares(values, edges)
    assert len(edges) == bins + 1 and (np.diff(edges) >= 0).all()
    assert heights.sum() == pytest.approx(100) and (heights >= 0).all()


def test_values_that_are_not_finite_have_no_bins():
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError, match="not finite"):
            shared_edges(np.array([0.0, value]), bins=4)


def test_the_bins_of_probabilities_are_the_counts(dataset, tmp_path):
    rng = np.random.default_rng(2)
    adversarial = np.clip(dataset.images / 255.0 + rng.normal(0, 0.2, dataset.images.shape), 0, 1)
    adversarial = adversarial.astype(np.float32)
    pair = said(dataset.images, dataset.labels), said(adversarial, dataset.labels)
    path = probability_figures.probability_histograms(
        {"a": pair, "b": pair[::-1]}, Path(tmp_path / "figure.png"), "title"
    )
    probabilities = []
    for images in (dataset.images, adversarial):
        logits = float_logits(images)
        every = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        probabilities.append(every[np.arange(len(logits)), dataset.labels])
    clean, other = probabilities
    rows = columns(path)
    for run, quantity, values in (
        ("a", "clean", clean), ("a", "adversarial", other), ("a", "difference", clean - other),
        ("b", "clean", other), ("b", "difference", other - clean),
    ):  # fmt: skip
        own = [row for row in rows if (row["run"], row["quantity"]) == (run, quantity)]
        assert sum(float(row["share"]) for row in own) == pytest.approx(100, abs=1e-3)
        for row in own:
            left, right = float(row["left"]), float(row["right"])
            inside = ((values >= left) & (values < right)).sum()
            assert float(row["share"]) == pytest.approx(100 * inside / len(values), abs=1e-3)


def test_the_bins_of_logits_have_their_mean(dataset, tmp_path):
    pair = said(dataset.images, dataset.labels), said(1 - dataset.images / 255.0, dataset.labels)
    path = logit_figures.logit_histograms({"a": pair}, Path(tmp_path / "figure.png"))
    logits = float_logits(dataset.images)
    expected = {
        "all": logits,
        "true": logits[np.arange(len(logits)), dataset.labels],
        "gap": [row[y] - np.delete(row, y).max() for row, y in zip(logits, dataset.labels)],  # noqa: B905
    }
    for quantity, values in expected.items():
        own = [
            row for row in columns(path) if (row["images"], row["quantity"]) == ("clean", quantity)
        ]
        middles = [(float(row["left"]) + float(row["right"])) / 2 for row in own]
        width = float(own[0]["right"]) - float(own[0]["left"])
        mean = np.dot(middles, [float(row["share"]) / 100 for row in own])
        assert mean == pytest.approx(np.mean(values), abs=width / 2)
        assert sum(float(row["share"]) for row in own) == pytest.approx(100, abs=1e-2)


# Layers and their embedding.


@pytest.fixture(scope="module")
def digits_network():
    model = models.create("digits_cnn", num_classes=4)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    images = np.random.default_rng(3).uniform(size=(7, 8, 8, 1)).astype(np.float32)
    return model, variables, images


def test_layers_are_named_in_their_order_and_penultimate_feeds_the_logits(digits_network):
    model, variables, images = digits_network
    assert layer_names(*digits_network) == ("conv1", "conv2", "conv3", "penultimate", "fc")
    features = layer_features(*digits_network, batch_size=3)
    head = jax.tree.map(np.float64, variables["params"]["fc"])
    logits = model.apply(variables, images, train=False)
    np.testing.assert_allclose(features @ head["kernel"] + head["bias"], logits, atol=1e-5)
    np.testing.assert_allclose(layer_features(*digits_network, "fc"), logits, atol=1e-6)
    # What a captured layer gives is what Flax says it gives.
    _, state = model.apply(variables, images, capture_intermediates=True, mutable=["intermediates"])
    expected = state["intermediates"]["conv2"]["__call__"][0].reshape(len(images), -1)
    found = layer_features(*digits_network, "conv2", batch_size=4)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_layer_inside_a_block_has_a_slash_and_a_wrong_one_lists_them(digits_network):
    model = models.create("resnet_8", num_classes=10)
    images = jnp.zeros((1, 8, 8, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    names = layer_names(model, variables, images)
    assert {"conv1", "layer1_0", "layer1_0/conv1", "penultimate", "linear"} <= set(names)
    assert names.index("layer1_0/conv1") < names.index("layer1_0") < names.index("layer2_0")
    with pytest.raises(ValueError, match=r"layer=fc9: .* conv1, conv2, conv3, penultimate, fc"):
        layer_features(*digits_network, "fc9")


def test_a_network_without_a_dense_layer_has_no_penultimate_one():
    class Convolution(nn.Module):
        @nn.compact
        def __call__(self, images, train=False):
            return nn.Conv(2, (2, 2), padding=0, name="only")(images).reshape(len(images), -1)

    images = np.zeros((2, 2, 2, 1), np.float32)
    variables = Convolution().init(jax.random.key(0), images)
    assert layer_names(Convolution(), variables, images) == ("only",)
    with pytest.raises(ValueError, match="accepted are only"):
        layer_features(Convolution(), variables, images)


def test_the_plane_of_a_pca_is_that_of_the_singular_vectors():
    rng = np.random.default_rng(4)
    sets = {name: rng.normal(size=(9, 6)) * np.arange(1, 7) for name in ("clean", "other")}
    found = embed(sets, np.arange(9) % 2)
    together = np.concatenate(list(sets.values()))
    centred = together - together.mean(axis=0)
    _, lengths, directions = np.linalg.svd(centred, full_matrices=False)
    expected = centred @ directions[:2].T
    points = np.concatenate(list(found.points.values()))
    signs = np.sign((points * expected).sum(axis=0))
    np.testing.assert_allclose(points * signs, expected, atol=1e-3)
    np.testing.assert_allclose(found.explained, (lengths**2 / (lengths**2).sum())[:2], rtol=1e-4)


def test_crossing_over_is_measured_against_clean_examples_of_others():
    rng = np.random.default_rng(5)
    labels = np.repeat([0, 1], 20)
    clean = rng.normal(0, 0.1, (40, 3)) + 10 * labels[:, None]
    assert crossed_over(clean, clean, labels) == 0
    assert crossed_over(clean[::-1], clean, labels) == 1
    half = clean.copy()
    half[:10] += 10
    assert crossed_over(half, clean, labels) == pytest.approx(0.25)
    # Copies of one point: an example is not its own neighbour, and nothing breaks.
    assert crossed_over(np.zeros((1, 3)), np.zeros((1, 3)), labels[:1]) == 0
    assert 0 <= crossed_over(np.zeros((4, 3)), np.zeros((4, 3)), labels[18:22]) <= 1
    # Two examples of two classes: the one neighbour of each is the other.
    assert crossed_over(clean[[0, 20]], clean[[0, 20]], np.array([0, 1])) == 1


@pytest.mark.parametrize("seed", range(4))
def test_neighbours_are_the_five_nearest_clean_ones_without_the_own(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 40)
    clean = rng.normal(size=(40, 3))
    for moved in (clean, clean + rng.normal(0, 0.3, clean.shape), rng.normal(size=(40, 3))):
        other_class = []
        for row in range(40):
            distances = np.linalg.norm(moved[row] - clean, axis=1)
            distances[row] = np.inf
            other_class.append(labels[np.argsort(distances)[:5]] != labels[row])
        assert crossed_over(moved, clean, labels) == pytest.approx(np.mean(other_class))


def test_tsne_keeps_far_classes_apart_and_a_seed_repeats_it(tmp_path):
    rng = np.random.default_rng(6)
    labels = np.repeat([0, 1], 12)
    clean = rng.normal(0, 0.1, (24, 5)) + 20 * labels[:, None]
    sets = {"clean": clean, "other": clean + 0.05}
    first, second = embed(sets, labels, "tsne", seed=1), embed(sets, labels, "tsne", seed=1)
    np.testing.assert_array_equal(first.points["other"], second.points["other"])
    assert first.explained is None
    centres = [first.points["clean"][labels == label].mean(axis=0) for label in (0, 1)]
    for name in sets:
        distances = [np.linalg.norm(first.points[name] - centre, axis=1) for centre in centres]
        np.testing.assert_array_equal(np.argmin(distances, axis=0), labels)
    path = embedding_figures.embedding_panels(
        {"a": first}, labels, ("cat", "dog"), Path(tmp_path / "figure.png")
    )
    rows = columns(path)
    assert [int(row["label"]) for row in rows] == 2 * labels.tolist()
    drawn = [(float(row["x"]), float(row["y"])) for row in rows if row["set"] == "other"]
    np.testing.assert_allclose(drawn, first.points["other"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("features", "method", "message"),
    [
        (np.zeros((4, 2)), "umap", "method=umap: accepted are pca, tsne"),
        (np.zeros((1, 2)), "pca", "1 points in all"),
        (np.full((4, 2), np.nan), "pca", "not finite"),
    ],
)
def test_an_embedding_that_cannot_be_is_refused(features, method, message):
    with pytest.raises(ValueError, match=message):
        embed({"clean": features}, np.zeros(len(features), int), method)


# Attacks, step by step.


def iterates(dataset, keys, steps, restarts=1):
    """The images of PGD after each number of steps, from the attack itself."""
    images = data.to_float(dataset.images)
    return [
        attacks.pgd(
            keys, LOGITS_FN, images, jnp.asarray(dataset.labels), THREAT,
            steps=count, step_size=EPSILON / 4, restarts=restarts,
        )
        for count in range(steps + 1)
    ]  # fmt: skip


@pytest.mark.parametrize("tau", [0, 2])
def test_friendly_images_are_tau_steps_beyond_the_first_misclassified_iterate(dataset, tau):
    key, steps = jax.random.key(3), 5
    found = friendly_images(
        key, LOGITS_FN, dataset, THREAT, tau=tau, steps=steps, step_size=EPSILON / 4, batch_size=10
    )
    points = iterates(dataset, per_example_keys(key, len(dataset)), steps)
    stopped = 0
    for row in range(len(dataset)):
        wrong = [bool(point.success[row]) for point in points]
        counts = np.cumsum(wrong)
        # Stops where it is misclassified and tau of the points before were.
        ends = [step for step in range(steps) if wrong[step] and counts[step] > tau]
        expected = points[ends[0] if ends else steps].images[row]
        np.testing.assert_allclose(found[row], expected, atol=1e-6)
        stopped += bool(ends)
    assert 0 < stopped < len(dataset)


def test_convergence_is_what_pgd_of_each_length_finds(dataset):
    key, steps, restarts = jax.random.key(4), 4, 3
    options = {"steps": steps, "step_size": EPSILON / 4, "restarts": restarts}
    found = pgd_convergence(key, LOGITS_FN, dataset, THREAT, batch_size=10, **options)
    whole = pgd_convergence(key, LOGITS_FN, dataset, THREAT, batch_size=23, **options)
    np.testing.assert_array_equal(found.wrong, whole.wrong)
    np.testing.assert_allclose(found.loss, whole.loss, atol=1e-6)
    assert found.loss.shape == (restarts, steps + 1, len(dataset))
    right = np.argmax(float_logits(dataset.images), axis=1) == dataset.labels
    np.testing.assert_array_equal(found.clean_wrong, ~right)
    keys = per_example_keys(key, len(dataset))
    for count in range(1, restarts + 1):
        for step, result in enumerate(iterates(dataset, keys, steps, count)):
            robust = (right & ~np.asarray(result.success)).mean()
            assert found.robust_accuracy[count - 1, step] == pytest.approx(robust)
            if count == 1:
                logits = float_logits(np.asarray(result.images))
                odds = np.exp(logits - logits[np.arange(len(logits)), dataset.labels][:, None])
                np.testing.assert_allclose(found.loss[0, step], np.log(odds.sum(axis=1)), atol=1e-5)
    assert found.robust_accuracy[0, 0] > found.robust_accuracy[-1, -1]
    assert (np.diff(found.worst_loss, axis=0) >= 0).all()


def test_what_is_wrong_clean_or_in_an_earlier_restart_stays_wrong():
    wrong = np.array([[[0, 0, 1], [0, 1, 0]], [[0, 0, 0], [0, 0, 0]]], bool)
    found = Convergence(np.zeros(wrong.shape), wrong, np.array([True, False, False]))
    np.testing.assert_allclose(found.robust_accuracy, np.array([[1, 1], [1, 1]]) / 3)
    found = found._replace(clean_wrong=np.zeros(3, bool))
    np.testing.assert_allclose(found.robust_accuracy, np.array([[2, 2], [2, 2]]) / 3)


@pytest.mark.parametrize("restarts", [1, 3])
def test_the_numbers_of_convergence_lie_beside_it(dataset, tmp_path, restarts):
    found = pgd_convergence(
        jax.random.key(0), LOGITS_FN, dataset, THREAT, steps=2, step_size=0.03, restarts=restarts
    )
    path = Path(tmp_path / "figure.png")
    convergence_figures.convergence_panels({"a": found}, path)
    accuracy = [float(row["robust_accuracy"]) for row in columns(path)]
    np.testing.assert_allclose(accuracy, 100 * found.robust_accuracy.ravel(), rtol=1e-5)
    with np.load(path.with_suffix(".npz")) as stored:
        np.testing.assert_array_equal(stored["a/loss"], found.loss)


def of_no_number(images):
    """The linear model, with NaN for what the first image of the data set resembles."""
    odd = images[:, 0, 0, 0] < 81 / 255
    return jnp.where(odd[:, None], jnp.nan, linear(jnp.asarray(WEIGHTS), images))


def test_a_loss_of_no_number_is_left_out_of_the_mean_and_said(dataset):
    images = np.array(dataset.images)
    images[:, 0, 0, 0] = 128
    images[3, 0, 0, 0] = 0
    odd = data.Dataset("odd", images, dataset.labels, CLASSES)
    options = {"steps": 2, "step_size": EPSILON, "restarts": 2}
    with pytest.warns(UserWarning, match="the loss of 1 of 23 examples is NaN"):
        found = pgd_convergence(jax.random.key(0), of_no_number, odd, THREAT, **options)
    assert np.isfinite(found.worst_loss).all() and found.wrong[:, :, 3].all()
    rest = found._replace(loss=np.delete(found.loss, 3, axis=2))
    np.testing.assert_allclose(found.worst_loss, rest.worst_loss, rtol=1e-6)
    none = found._replace(loss=np.full_like(found.loss, np.nan))
    assert np.isnan(none.worst_loss).all()


def test_each_example_may_have_a_radius_of_its_own(dataset):
    radii = np.linspace(0, EPSILON, len(dataset)).astype(np.float32)
    threat, key = attacks.ThreatModel("linf", radii), jax.random.key(0)
    options = {"steps": 2, "step_size": radii}
    some, whole = (
        pgd_convergence(key, LOGITS_FN, dataset, threat, batch_size=size, **options)
        for size in (10, 23)
    )
    np.testing.assert_allclose(some.loss, whole.loss, atol=1e-6)
    found = friendly_images(key, LOGITS_FN, dataset, threat, tau=0, batch_size=10, **options)
    moved = np.abs(found - dataset.images / 255.0).max(axis=(1, 2, 3))
    assert (moved <= radii + 1e-6).all() and moved[-1] > 0


def attacked_by(name, made, **changed):
    """One of the functions that attack a data set, with an argument changed."""
    key = changed.pop("key", jax.random.key(0))
    logits_fn = changed.pop("logits_fn", LOGITS_FN)
    dataset, threat = changed.pop("dataset", made), changed.pop("threat", THREAT)
    own, function = {
        "convergence": ({"steps": 1, "step_size": EPSILON}, pgd_convergence),
        "friendly": ({"tau": 0, "steps": 1, "step_size": EPSILON}, friendly_images),
    }[name]
    return function(key, logits_fn, dataset, threat, **{**own, **changed})


FOREIGN = [
    ({"batch_size": 0}, "batch_size=0: accepted"),
    ({"threat": "linf"}, "threat=str: accepted are values of"),
    ({"threat": attacks.ThreatModel("linf", np.inf)}, "threat.epsilon.* inf|=inf: accepted"),
    ({"threat": attacks.ThreatModel("linf", 0.1, (0.0, 0.1))}, "those inside of threat.bounds"),
    (
        {"threat": attacks.ThreatModel("linf", np.ones(3))},
        r"epsilon=float\d+\[3\]: accepted",
    ),
    ({"dataset": None}, "dataset=NoneType: accepted"),
    ({"key": None}, "key=None: accepted"),
    ({"logits_fn": "net"}, "logits_fn=net: accepted"),
    ({"steps": 1.5}, "steps=1.5: accepted"),
    ({"step_size": np.nan}, "step_size=nan: accepted are finite"),
]


@pytest.mark.parametrize("name", ["convergence", "friendly"])
@pytest.mark.parametrize(("changed", "message"), FOREIGN, ids=[text for _, text in FOREIGN])
def test_what_cannot_be_attacked_is_named(dataset, name, changed, message):
    with pytest.raises(ValueError, match=message):
        attacked_by(name, dataset, **changed)


def test_convergence_of_no_restart_and_of_short_steps(dataset):
    with pytest.raises(ValueError, match="restarts=0: accepted"):
        attacked_by("convergence", dataset, restarts=0)
    with pytest.warns(ReachWarning, match="1 step of step_size 0.01 reach 0.01"):
        attacked_by("convergence", dataset, step_size=0.01)


def test_statistics_are_of_images_and_of_classes_that_there_are(dataset):
    for images in (dataset.images[:0], None, []):
        with pytest.raises(ValueError, match="images=.*: accepted is an array"):
            compute_logits(LOGITS_FN, images)
    with pytest.raises(ValueError, match="batch_size=0: accepted"):
        compute_logits(LOGITS_FN, dataset.images, 0)
    with pytest.raises(ValueError, match="labels holds 2: accepted are 0 to 1"):
        statistics_of(np.zeros((2, 2), np.float32), np.array([0, 2]))
    with pytest.raises(ValueError, match=r"logits of shape \(2, 2\), labels of shape \(3,\)"):
        statistics_of(np.zeros((2, 2), np.float32), np.array([0, 1, 1]))


def test_probabilities_of_no_number_are_counted(tmp_path):
    logits = np.float32([[0, 1], [np.nan, 0], [1, 0], [0, 0]])
    found = statistics_of(logits, np.zeros(4, int))
    path = probability_figures.probability_histograms(
        {"a": (found, found)}, Path(tmp_path / "a.png")
    )
    rows = [row for row in columns(path) if row["quantity"] == "clean"]
    assert [row["share"] for row in rows if row["left"] == "nan"] == ["25"]
    assert sum(float(row["share"]) for row in rows) == pytest.approx(100)


# The loss around an image.


def two_class_logits(weights, images):
    score = (images - 0.5).reshape(len(images), -1) @ weights
    return jnp.stack([score, -score], axis=1)


def surface_of(weights, images, key=None, **options):
    logits_fn = jax.tree_util.Partial(two_class_logits, jnp.asarray(weights))
    key = jax.random.key(0) if key is None else key
    options = {"points": 5, "batch_size": 7, **options}
    threat = options.pop("threat", THREAT)
    labels = np.zeros(len(images), np.int32)
    return loss_surface(key, logits_fn, images, labels, threat, **options)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("extent", [1.0, 2.0])
def test_the_surface_of_a_linear_model_is_a_plane_of_margins(norm, extent):
    weights = np.random.default_rng(7).normal(size=8).astype(np.float32)
    images = np.random.default_rng(8).uniform(0.45, 0.55, (3, 2, 2, 2)).astype(np.float32)
    threat = attacks.ThreatModel(norm, EPSILON)
    found = surface_of(weights, images, threat=threat, extent=extent)
    assert found.offsets.tolist() == [-extent, -extent / 2, 0, extent / 2, extent]
    # The loss is log(1 + exp(-margin)), and the margin falls by epsilon times the dual norm.
    margin = -np.log(np.expm1(np.float64(found.loss)))
    clean = 2 * (np.float64(images) - 0.5).reshape(3, -1) @ np.float64(weights)
    slope = 2 * EPSILON * np.linalg.norm(weights, 1 if norm == "linf" else 2)
    np.testing.assert_allclose(margin[:, 2, 2], clean, atol=1e-4)
    for row in range(3):
        along = margin[row] + slope * found.offsets[None, :] - clean[row]
        # What is left depends on the random offset alone, is linear in it, and less steep.
        np.testing.assert_allclose(along, along[:, :1] * np.ones(5), atol=1e-4)
        rise = along[4, 0] / extent
        np.testing.assert_allclose(along[:, 0], rise * found.offsets, atol=1e-4)
        assert 0 < abs(rise) < slope
    np.testing.assert_array_equal(found.wrong, margin < 0)
    np.testing.assert_array_equal(found.zero_gradient, 0)


def test_the_surface_stays_in_the_box_and_an_image_keeps_its_direction():
    weights = np.ones(8, np.float32)
    corner = np.zeros((2, 2, 2, 2), np.float32)
    found = surface_of(weights, corner, points=3)
    # The gradient's step lowers every pixel, which is 0 already.
    np.testing.assert_allclose(found.along_gradient[:, 2], found.along_gradient[:, 1], atol=1e-6)
    assert (found.along_gradient[:, 0] < found.along_gradient[:, 1] - 0.1).all()
    images = np.random.default_rng(9).uniform(0.3, 0.7, (3, 2, 2, 2)).astype(np.float32)
    weights = np.arange(8, dtype=np.float32) / 8
    keys = per_example_keys(jax.random.key(5), 3)
    together = surface_of(weights, images, keys, points=3)
    alone = surface_of(weights, images[2:], keys[2:], points=3)
    np.testing.assert_allclose(together.loss[2], alone.loss[0], atol=1e-6)


def test_a_masked_gradient_shows_as_a_flat_axis_and_is_counted():
    images = np.full((2, 2, 2, 2), 0.5, np.float32)

    def rounded(weights, images):
        return two_class_logits(weights, jnp.round(images * 20) / 20 + 0.01)

    logits_fn = jax.tree_util.Partial(rounded, jnp.arange(1, 9, dtype=jnp.float32))
    found = loss_surface(
        jax.random.key(0), logits_fn, images, np.zeros(2, np.int32), THREAT, points=3
    )
    np.testing.assert_array_equal(found.zero_gradient, 1)
    assert (found.along_gradient == found.along_gradient[:, :1]).all()
    assert (found.along_random != found.along_random[:, 1:2]).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"extent": 0.0}, "extent=0.0: accepted are finite numbers above 0"),
        ({"points": 4}, "points=4: accepted are odd numbers of 3 or more"),
        ({"points": 1}, "points=1: accepted"),
        ({"points": 5.5}, "points=5.5: accepted"),
        ({"extent": "1"}, "extent=1: accepted"),
        ({"threat": "linf"}, "threat=str: accepted"),
        ({"threat": attacks.ThreatModel("linf", np.inf)}, "threat.epsilon=inf: accepted"),
        ({"batch_size": 0}, "batch_size=0: accepted"),
        ({"key": "0"}, "key=0: accepted"),
        ({"images": np.zeros((1, 2, 2, 2), np.uint8)}, "images=uint8.*: accepted are floating"),
        ({"images": np.full((1, 2, 2, 2), np.nan, np.float32)}, "pixels that are NaN"),
        ({"images": np.full((1, 2, 2, 2), 2, np.float32)}, "those inside of threat.bounds"),
        ({"images": np.zeros((0, 2, 2, 2), np.float32)}, "images holds no image: accepted"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(options, message):
    options = {"images": np.zeros((1, 2, 2, 2), np.float32), **options}
    with pytest.raises(ValueError, match=message):
        surface_of(np.ones(8, np.float32), **options)


def test_surfaces_lie_beside_their_figure(tmp_path):
    images = np.random.default_rng(10).uniform(0.3, 0.7, (2, 2, 2, 2)).astype(np.float32)
    found = surface_of(np.ones(8, np.float32), images, loss=losses.cross_entropy)
    path = surface_figures.surface_panels(
        {"a": found, "b": found}, {"a": ["one", "two"], "b": ["one", "two"]},
        Path(tmp_path / "figure.png"), "title",
    )  # fmt: skip
    with np.load(path.with_suffix(".npz")) as stored:
        np.testing.assert_array_equal(stored["b/loss"], found.loss)
        np.testing.assert_array_equal(stored["a/offsets"], found.offsets)


# Examples.


def attacked(channels, size=0.1):
    rng = np.random.default_rng(11)
    clean = rng.uniform(0.2, 0.8, (4, 4, 4, channels)).astype(np.float32)
    adversarial = clean + size * rng.choice([-1, 0, 1], clean.shape).astype(np.float32)
    weights = rng.normal(size=(clean[0].size, 3)).astype(np.float32)
    labels = np.array([0, 1, 2, 0])
    before, after = (
        statistics_of((part - 0.5).reshape(4, -1) @ weights, labels)
        for part in (clean, adversarial)
    )
    return example_figures.AttackedExamples(np.arange(4) + 10, clean, adversarial, before, after)


def pixels(path):
    image = (255 * matplotlib.image.imread(path)).round().astype(int)
    return set(map(tuple, image[..., :3].reshape(-1, 3).tolist()))


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_perturbations_fill_the_range_around_grey(tmp_path, channels):
    examples = attacked(channels)
    path = example_figures.example_grid(examples, "abc", Path(tmp_path / "figure.png"))
    with np.load(path.with_suffix(".npz")) as stored:
        assert stored["factor"] == pytest.approx(5, rel=1e-4)
        np.testing.assert_array_equal(stored["adversarial"], examples.adversarial)
        np.testing.assert_array_equal(stored["positions"], [10, 11, 12, 13])
    drawn = pixels(path)
    grey = {(value, value, value) for value in (127, 128)}
    assert drawn & grey
    if channels == 3:
        # One channel raised, one lowered and one unchanged.
        assert any(sorted(pixel) in ([0, 127, 255], [0, 128, 255]) for pixel in drawn)


def test_no_perturbation_is_all_grey(tmp_path):
    examples = attacked(1, size=0.0)
    path = example_figures.example_grid(examples, "abc", Path(tmp_path / "figure.png"))
    with np.load(path.with_suffix(".npz")) as stored:
        assert stored["factor"] == 1


def test_the_examples_that_an_attack_changes_are_chosen():
    labels = np.array([0, 0, 1, 1])
    clean = statistics_of(np.float32([[1, 0], [0, 1], [0, 1], [0, 1]]), labels)
    after = statistics_of(np.float32([[0, 1], [0, 1], [0, 1], [1, 0]]), labels)
    images = np.zeros((4, 2, 2, 1), np.float32)
    examples = example_figures.AttackedExamples(np.arange(4) + 5, images, images, clean, after)
    rows = examples.newly_misclassified()
    assert rows.tolist() == [0, 3]
    chosen = examples.select(rows)
    assert chosen.positions.tolist() == [5, 8]
    assert chosen.before.labels.tolist() == [0, 1] and chosen.after.wrong.all()
