"""Transfer between linear models, where what an attack does to another model is a closed form."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks, data, evaluation
from robustjax.evaluation import transfer as transfers
from robustjax.files import Path
from robustjax.reports.transfer import write
from robustjax.runs.resumable import Unfinished

EPSILON = 0.05
THREAT = attacks.ThreatModel("linf", EPSILON)
RNG = np.random.default_rng(0)
WEIGHTS = {name: RNG.normal(size=(9, 2)).astype(np.float32) for name in ("a", "b", "c")}


def linear(weights, images):
    return (images - 0.5).reshape(len(images), -1) @ weights


def partial(weights):
    return jax.tree_util.Partial(linear, jnp.asarray(weights))


NETWORKS = {name: partial(weights) for name, weights in WEIGHTS.items()}


@pytest.fixture(scope="module")
def dataset():
    # Pixels far enough from 0 and 1 that the box never matters.
    rng = np.random.default_rng(1)
    images = rng.integers(60, 196, (40, 3, 3, 1), dtype=np.uint8)
    return data.Dataset("made", images, rng.integers(0, 2, 40, dtype=np.int32), 2)


def matrix_of(dataset, attack="fgsm", sources=NETWORKS, targets=NETWORKS, **options):
    options = {"batch_size": 16, "step_size": EPSILON / 4, **options}
    return transfers.transfer_matrix(
        attack, jax.random.key(0), sources, targets, dataset, THREAT, **options
    )


def margins(weights, images, labels):
    logits = (images - 0.5).reshape(len(images), -1) @ np.float64(weights)
    rows = np.arange(len(images))
    return logits[rows, labels] - logits[rows, 1 - labels]


@pytest.mark.parametrize("attack", ["fgsm", "pgd-12", "cw-12"])
def test_the_matrix_is_that_of_the_closed_form(dataset, attack):
    """The worst images of a linear model are at the corner that its weights say."""
    found = matrix_of(dataset, attack)
    clean_images, labels = dataset.images / 255.0, dataset.labels
    for source, weights in WEIGHTS.items():
        towards_other = np.float64(weights[:, 1 - labels] - weights[:, labels]).T
        moved = clean_images + EPSILON * np.sign(towards_other).reshape(clean_images.shape)
        for target in WEIGHTS:
            clean = margins(WEIGHTS[target], clean_images, labels) > 0
            right = margins(WEIGHTS[target], moved, labels) > 0
            np.testing.assert_array_equal(found.correct[source][target], right)
            np.testing.assert_array_equal(found.robust[source][target], clean & right)
            np.testing.assert_array_equal(found.clean[target], clean)
    accuracies = {name: found.robust["a"][name].mean() for name in WEIGHTS}
    assert accuracies["a"] < min(accuracies["b"], accuracies["c"])


def test_an_image_that_an_attack_corrects_counts_as_correct_and_not_as_robust(dataset):
    """The source is the target's opposite: its attack moves images to the target's right side."""
    opposite = {"-a": partial(-WEIGHTS["a"])}
    found = matrix_of(dataset, sources=opposite, targets={"a": NETWORKS["a"]})
    np.testing.assert_array_equal(found.robust["-a"]["a"], found.clean["a"])
    margin = margins(WEIGHTS["a"], dataset.images / 255.0, dataset.labels)
    gained = EPSILON * np.abs(np.float64(WEIGHTS["a"][:, 0] - WEIGHTS["a"][:, 1])).sum()
    np.testing.assert_array_equal(found.correct["-a"]["a"], margin + gained > 0)
    assert found.correct["-a"]["a"].sum() > found.clean["a"].sum()
    (entry,) = transfers.summarize(found)["transfer"]["-a"].values()
    assert entry["accuracy"] > entry["robust_accuracy"] == found.clean["a"].mean()


def test_a_random_start_is_weaker_on_the_network_that_it_attacks(dataset):
    found = matrix_of(dataset, "fgsm-random").correct
    whole = matrix_of(dataset, "fgsm").correct
    for name in WEIGHTS:
        assert np.all(found[name][name] >= whole[name][name])
    assert found["a"]["a"].sum() > whole["a"]["a"].sum()


def test_transfer_between_identical_networks_is_white_box(dataset):
    twins = {"one": partial(WEIGHTS["a"]), "other": partial(WEIGHTS["a"].copy())}
    found = matrix_of(dataset, "pgd-3", twins, twins)
    white_box = evaluation.run_attack(
        evaluation.parse_attack("pgd-3"), jax.random.key(0), NETWORKS["a"], dataset, THREAT,
        step_size=EPSILON / 4, batch_size=7,
    )  # fmt: skip
    assert 0 < white_box.correct.sum() < found.clean["one"].sum()
    for source in twins:
        for target in twins:
            np.testing.assert_array_equal(found.robust[source][target], white_box.correct)


def test_progress_runs_over_all_sources_and_an_interrupted_matrix_goes_on(dataset, tmp_path):
    whole = matrix_of(dataset, "pgd-3")

    def kept():
        return {
            name: Unfinished(Path(tmp_path), weights, dataset.images, dataset.labels, 0)
            for name, weights in WEIGHTS.items()
        }

    told = []

    def interrupt(source, done, total):
        told.append((source, done, total))
        if source == "b":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        matrix_of(dataset, "pgd-3", progress=interrupt, unfinished=kept())
    assert told == [("a", 16, 120), ("a", 32, 120), ("a", 40, 120), ("b", 56, 120)]
    told.clear()
    resumed = matrix_of(
        dataset, "pgd-3", progress=lambda *what: told.append(what), unfinished=kept()
    )
    assert told[0] == ("a", 40, 120) and ("a", 16, 120) not in told and told[-1][1:] == (120, 120)
    for source in WEIGHTS:
        for target in WEIGHTS:
            np.testing.assert_array_equal(
                resumed.robust[source][target], whole.robust[source][target]
            )


@pytest.mark.parametrize("name", ["apgd-ce", "square", "autoattack", "clean", "pgd", "pgd-0"])
def test_other_attacks_are_refused(dataset, name):
    with pytest.raises(ValueError, match=f"attack={name}: accepted are fgsm, fgsm-random .* pgd-K"):
        matrix_of(dataset, name)


def test_an_empty_side_is_refused(dataset):
    for empty in ({"sources": {}}, {"targets": {}}):
        with pytest.raises(ValueError, match="sources and targets"):
            matrix_of(dataset, **empty)


def test_the_report_and_the_figure_hold_the_same_numbers(dataset, tmp_path):
    names = {"runs/a|1": NETWORKS["a"], "$b": NETWORKS["b"]}
    found = matrix_of(dataset, sources={"c": NETWORKS["c"], **names}, targets=names)
    summary = transfers.summarize(found, seed=3, runs={"$b": {"method": "trades"}})
    path = write(summary, Path(tmp_path))
    assert path.name == "transfer.json" and (tmp_path / "transfer.png").stat().st_size > 5000
    with open(tmp_path / "transfer.csv") as file:
        rows = {(row["source"], row["target"]): row for row in csv.DictReader(file)}
    assert len(rows) == 2 + 3 * 2
    text = (tmp_path / "transfer.md").read_text()
    tables = [part for part in text.split("\n\n") if part.startswith("| source")]
    assert len(tables) == 3  # The last one holds targets in pairs.
    for table, prefix, counted in zip(
        tables[:2], ("", "robust_"), (found.correct, found.robust), strict=True
    ):
        for source, by_target in counted.items():
            for target, right in by_target.items():
                share = right.sum() / 40
                entry, row = summary["transfer"][source][target], rows[source, target]
                assert entry[f"{prefix}accuracy"] == float(row[f"{prefix}accuracy"]) == share
                low, high = (float(row[f"{prefix}{end}_95"]) for end in ("low", "high"))
                assert [low, high] == list(entry[f"{prefix}interval_95"])
                assert low <= share <= high
                assert entry["white_box"] == (source == target)
                assert f"{100 * share:.2f} (" in table
    assert any(
        entry["accuracy"] > entry["robust_accuracy"]
        for by_target in summary["transfer"].values()
        for entry in by_target.values()
    )
    assert summary["clean"]["$b"]["accuracy"] == found.clean["$b"].mean()
    assert "runs/a\\|1" in text and "method trades" in text and "epsilon 0.05" in text
    assert [table.count("| **") for table in tables] == [2, 2, 0]


def test_targets_are_tested_in_pairs_on_each_sources_images(tmp_path):
    right = {"a": np.arange(8) < 6, "b": np.arange(8) < 1, "c": np.arange(8) >= 3}
    settings = {"name": "fgsm", "norm": "linf", "epsilon": EPSILON}
    one = transfers.TransferMatrix({"a": right["a"]}, {"b": {"a": right["a"]}}, settings)
    assert transfers.summarize(one)["paired"] == {}
    summary = transfers.summarize(transfers.TransferMatrix(right, {"a": right}, settings))
    # Of the five that a alone is right about, two sides of one coin in 32: p = 2/32.
    first, second = summary["paired"]["a"]
    assert first == {
        "best": "a", "other": "b", "best_alone": 5, "other_alone": 0, "p_value": 0.0625,
    }  # fmt: skip
    assert second["best_alone"] == 3 and second["other_alone"] == 2 and second["p_value"] == 1.0
    write(summary, Path(tmp_path))
    text = (tmp_path / "transfer.md").read_text()
    assert "| a | a | b | 5 | 0 | 0.0625 |" in text and "* paired" not in text
