"""Suites of attacks on a linear model, whose robust accuracy is known in closed form."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks, data, evaluation
from robustjax.attacks import registry
from robustjax.attacks.autoattack import state as ensemble_state
from robustjax.evaluation import protocols
from robustjax.evaluation.broken import KEPT, FirstBroken
from robustjax.files import Path
from robustjax.runs.resumable import Unfinished

EPSILON = 0.05
WEIGHTS = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)


def linear(weights, images):
    return (images - 0.5).reshape(len(images), -1) @ weights


LOGITS_FN = jax.tree_util.Partial(linear, jnp.asarray(WEIGHTS))


class Interrupted(Exception):
    pass


@pytest.fixture(scope="module")
def dataset():
    # Pixels far enough from 0 and 1 that the box never matters.
    rng = np.random.default_rng(1)
    images = rng.integers(60, 196, (25, 2, 2, 1), dtype=np.uint8)
    return data.Dataset("made", images, rng.integers(0, 2, 25, dtype=np.int32), 2)


def logits(dataset):
    return (dataset.images / 255.0 - 0.5).reshape(len(dataset), -1) @ np.float64(WEIGHTS)


def margins(dataset):
    found, rows = logits(dataset), np.arange(len(dataset))
    return found[rows, dataset.labels] - found[rows, 1 - dataset.labels]


def scores(dataset, names, batch_size=8, **options):
    return evaluation.evaluate(
        names,
        jax.random.key(0),
        LOGITS_FN,
        dataset,
        attacks.ThreatModel("linf", EPSILON),
        step_size=EPSILON / 4,
        batch_size=batch_size,
        **options,
    )


def test_accuracies_are_those_of_the_closed_form(dataset):
    found = scores(dataset, ["fgsm", "pgd-10", "pgd-3x2", "cw-10"])
    margin = margins(dataset)
    np.testing.assert_array_equal(found["clean"].correct, margin > 0)
    # The worst perturbation of a linear model lowers the margin by epsilon times the l1 norm.
    worst = margin - EPSILON * np.abs(np.float64(WEIGHTS[:, 0] - WEIGHTS[:, 1])).sum()
    assert 0 < (worst > 0).sum() < (margin > 0).sum()
    for name in ("fgsm", "pgd-10", "cw-10"):
        np.testing.assert_array_equal(found[name].correct, worst > 0, err_msg=name)
    assert np.all(found["pgd-3x2"].correct >= (worst > 0))
    assert list(found) == ["clean", "fgsm", "pgd-10", "pgd-3x2", "cw-10"]


def test_spsa_takes_the_steps_and_points_of_its_name(dataset, monkeypatch):
    asked = []

    def recording(self, *arguments):
        asked.append(dataclasses.asdict(self))
        return attack(self, *arguments)

    attack = attacks.SPSA.__call__
    monkeypatch.setattr(attacks.SPSA, "__call__", recording)
    score = scores(dataset, ["spsa-30x64"], batch_size=25)["spsa-30x64"]
    # A hundredth of the box: enough to cross this ball in 30 steps.
    settings = {"steps": 30, "samples": 64, "delta": 0.01, "learning_rate": 0.01, "chunk": 256}
    assert asked == [settings]
    assert {name: score.settings[name] for name in settings} == settings
    clean = margins(dataset)
    worst = clean - EPSILON * np.abs(np.float64(WEIGHTS[:, 0] - WEIGHTS[:, 1])).sum()
    assert np.all(score.correct >= (worst > 0)) and score.correct.sum() < (clean > 0).sum()


def test_the_size_of_a_batch_changes_nothing(dataset):
    one, other = (scores(dataset, ["pgd-2"], batch_size=size) for size in (7, 25))
    np.testing.assert_array_equal(one["pgd-2"].correct, other["pgd-2"].correct)


def test_no_example_is_robust_that_is_not_correct(dataset):
    found = scores(dataset, ["pgd-1"])
    assert not np.any(found["pgd-1"].correct & ~found["clean"].correct)


def test_a_clean_accuracy_that_is_known_is_not_measured_again(dataset):
    both = scores(dataset, ["fgsm"])
    alone = scores(dataset, ["fgsm"], with_clean=False)
    assert list(both) == ["clean", "fgsm"] and list(alone) == ["fgsm"]
    np.testing.assert_array_equal(alone["fgsm"].correct, both["fgsm"].correct)
    assert list(scores(dataset, ["fgsm", "clean"], with_clean=False)) == ["fgsm", "clean"]


def test_a_network_that_answers_nan_is_right_about_nothing(dataset):
    broken = jax.tree_util.Partial(linear, jnp.full_like(WEIGHTS, jnp.nan))
    found = evaluation.run_attack(
        evaluation.parse_attack("clean"),
        jax.random.key(0),
        broken,
        dataset,
        attacks.ThreatModel(),
        step_size=0.1,
    )
    assert not np.any(found.correct)


def test_progress_is_reported_after_every_batch(dataset):
    heard = []
    scores(dataset, ["clean"], report=lambda *news: heard.append(news))
    right = margins(dataset) > 0
    assert heard == [("clean", n, 25, right[:n].mean()) for n in (8, 16, 24, 25)]


@pytest.mark.parametrize(
    "name",
    [
        "pgd",
        "apgdx",
        "pgd-20x",
        "spsa-9",
        "",
    ],
)
def test_unknown_attacks_are_named(name):
    with pytest.raises(ValueError, match=f"attack={name}: accepted are clean"):
        evaluation.parse_attack(name)


@pytest.mark.parametrize(
    "name", ["pgd-0", "pgd-20x0", "cw-2147483648", "random-0", "spsa-0x8", f"pgd-{'9' * 5000}"]
)
def test_the_numbers_in_names_of_attacks_are_those_an_int_holds(name):
    accepted = r": accepted are whole numbers, 1 to 2147483647$"
    with pytest.raises(ValueError, match=f"^attack={name[:40]}.*{accepted}") as refused:
        evaluation.parse_attack(name)
    assert len(str(refused.value)) < 200


def test_spsa_takes_pairs_of_points():
    with pytest.raises(ValueError, match="^attack=spsa-9x7: .* are an even number$"):
        evaluation.parse_attack("spsa-9x7")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("pdg-20", "pgd-20"),
        ("PGD-20", "pgd-20"),
        ("auto-attack", "autoattack"),
        ("apgdce", "apgd-ce"),
    ],
)
def test_the_nearest_attack_is_named(name, meant):
    with pytest.raises(ValueError, match=f"did you mean '{meant}'"):
        evaluation.parse_attack(name)


def test_names_of_attacks():
    assert evaluation.parse_attack("pgd-60x20").attack == attacks.PGD(steps=60, restarts=20)
    assert evaluation.parse_attack("cw-30").attack == attacks.CW(steps=30)
    assert evaluation.parse_attack("random-8").attack == attacks.RandomNoise(8)
    assert evaluation.parse_attack("spsa-20x64").attack == attacks.SPSA(steps=20, samples=64)
    assert [evaluation.parse_attack(name).attack.samples for name in ("spsa", "spsa-2x64")] == [
        8192, 64,
    ]  # fmt: skip
    assert evaluation.parse_attack("apgd-t").attack == attacks.APGDTargeted()


def test_cw_needs_linf(dataset):
    with pytest.raises(ValueError, match="linf attack; the threat model is l2"):
        evaluation.evaluate(
            ["cw-3"], jax.random.key(0), LOGITS_FN, dataset, attacks.ThreatModel("l2"), step_size=1
        )


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    # Published examples of the Wilson interval: Newcombe (1998), table I.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_of_newcombe(successes, total, low, high):
    found = evaluation.wilson_interval(successes, total)
    np.testing.assert_allclose(found, (low, high), atol=6e-5)


@pytest.mark.parametrize(
    ("successes", "total", "message"),
    [(1, 0, "total=0"), (5, 3, "successes=5"), (-1, 3, "successes=-1"), (0.5, 3, "successes=0.5")],
)
def test_an_interval_of_what_is_no_fraction_is_refused(successes, total, message):
    with pytest.raises(ValueError, match=f"^{message}: accepted are whole numbers"):
        evaluation.wilson_interval(successes, total)


def test_wilson_interval_of_all_is_below_one():
    low, high = evaluation.wilson_interval(20, 20)
    np.testing.assert_allclose((low, high), (1 - 0.1611, 1.0), atol=6e-5)


def test_an_attack_s_own_settings_go_first(dataset):
    # At twice the radius the closed form breaks more; the attack says so in its settings.
    own = evaluation.parse_attack("fgsm")._replace(name="far", epsilon=2 * EPSILON)
    found = scores(dataset, ["fgsm", own])
    slope = np.abs(np.float64(WEIGHTS[:, 0] - WEIGHTS[:, 1])).sum()
    np.testing.assert_array_equal(found["far"].correct, margins(dataset) > 2 * EPSILON * slope)
    assert found["far"].settings["epsilon"] == 2 * EPSILON
    few = evaluation.parse_attack("fgsm")._replace(name="few", examples=10)
    found = scores(dataset, ["fgsm", few])
    np.testing.assert_array_equal(found["few"].correct, found["fgsm"].correct[:10])
    summary = evaluation.summarize(found)
    assert summary["attacks"]["few"]["examples"] == 10
    assert summary["worst_case_robust_accuracy"] == found["fgsm"].correct.mean()


def test_what_is_complete_is_not_completed_anew():
    threat = attacks.ThreatModel("linf", EPSILON)
    spec = evaluation.parse_attack("pgd-7")
    found = spec.completed(threat, 2, step_size=0.03, start="clean", success="any")
    assert (found.stepped.step_size, found.attack.start, found.attack.success) == (
        0.03, "clean", "any"
    )  # fmt: skip
    assert found.completed(threat, 2) == found
    assert found.completed(attacks.ThreatModel("linf", 1.0), 2, step_size=0.5) == found


def test_a_targeted_attack_succeeds_where_any_wrong_class_is_reached():
    """Of three classes; where the target is not reached, the images are another's all the same."""
    rng = np.random.default_rng(3)
    weights = rng.normal(size=(4, 3)).astype(np.float32)
    logits_fn = jax.tree_util.Partial(linear, jnp.asarray(weights))
    images = rng.integers(60, 196, (60, 2, 2, 1), dtype=np.uint8)
    labels = np.argmax((images / 255.0 - 0.5).reshape(60, 4) @ weights, axis=1).astype(np.int32)
    dataset = data.Dataset("made", images, labels, 3)
    found = evaluation.run_attack(
        evaluation.parse_attack("pgd-5(targets=least)"), jax.random.key(0), logits_fn, dataset,
        attacks.ThreatModel("linf", 0.1), keep_images=True,
    )  # fmt: skip
    predicted = np.argmax((found.images - 0.5).reshape(60, 4) @ weights, axis=1)
    least = np.argmin((images / 255.0 - 0.5).reshape(60, 4) @ weights, axis=1)
    assert ((predicted != labels) & (predicted != least)).any()
    np.testing.assert_array_equal(found.correct, predicted == labels)


@pytest.mark.parametrize(
    "name",
    [
        "apgd-ce(steps=8,restarts=3)", "apgd-dlr(steps=8)", "apgd-t(steps=6)", "malt(steps=6)",
        "fab-t(steps=6)", "square(queries=40)",
    ],
)  # fmt: skip
def test_attacks_of_autoattack_compute_only_what_stands_and_find_the_same(name):
    """Beside all examples attacked together, whose images are then kept."""
    rng = np.random.default_rng(5)
    first, last = (rng.normal(size=shape).astype(np.float32) for shape in ((16, 12), (12, 5)))
    logits_fn = jax.tree_util.Partial(
        lambda first, last, x: jnp.tanh((x.reshape(len(x), -1) - 0.5) @ first * 3) @ last,
        first, last,
    )  # fmt: skip
    images = rng.integers(0, 256, (50, 4, 4, 1), dtype=np.uint8)
    labels = np.array(jnp.argmax(logits_fn(images / np.float32(255)), axis=1), np.int32)
    labels[:5] = (labels[:5] + 1) % 5
    dataset = data.Dataset("made", images, labels, 5)
    given = (
        evaluation.parse_attack(name), jax.random.key(2), logits_fn, dataset,
        attacks.ThreatModel("linf", 0.04),
    )  # fmt: skip
    heard = []
    found = evaluation.run_attack(*given, batch_size=16, report=lambda *told: heard.append(told))
    together = evaluation.run_attack(*given, batch_size=16, keep_images=True)
    np.testing.assert_array_equal(found.correct, together.correct)
    assert 0 < found.correct.sum() < 45 and found.settings == together.settings
    assert {told[0] for told in heard} == {name} and heard[-1][1] == heard[-1][2]
    assert heard[-1][3] == found.correct.mean()
    turns = {"apgd-ce": 3, "apgd-t": 4, "malt": 4, "fab-t": 4}.get(name.split("(")[0], 1)
    assert heard[-1][2] == 45 * turns  # Of the examples that are right.
    broken = found.broken
    assert not found.correct[broken.positions].any() and broken.positions.min() >= 5


def test_a_set_too_large_for_memory_is_attacked_batch_by_batch(dataset, monkeypatch):
    def told():
        heard = []
        found = scores(
            dataset, ["apgd-ce(steps=3,restarts=2)"], report=lambda *told: heard.append(told)
        )
        return heard[-1][2], list(found.values())[-1].correct

    turns, at_once = told()
    right = int((margins(dataset) > 0).sum())
    assert turns == 2 * right  # Each example that is right has two restarts to face.
    monkeypatch.setattr("robustjax.evaluation.one_attack._MOST_BYTES", 4 * dataset.images.size - 1)
    examples, in_batches = told()
    assert examples == len(dataset)
    np.testing.assert_array_equal(in_batches, at_once)


def test_an_attack_of_autoattack_goes_on_where_it_was_interrupted(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(ensemble_state, "SECONDS_BETWEEN_SAVES", 0.0)
    name = "apgd-ce(steps=5,restarts=2)"
    whole = scores(dataset, [name])
    kept = Unfinished(Path(tmp_path) / "unfinished", dataset.images)

    def stop(told, done, of, accuracy):
        if told == name:
            raise Interrupted

    with pytest.raises(Interrupted):
        scores(dataset, [name], report=stop, unfinished=kept)
    assert [path for path in kept.folder.iterdir() if path.name.startswith("apgd-ce")]
    heard = []
    found = scores(
        dataset, [name], batch_size=5, unfinished=kept,
        report=lambda told, done, of, accuracy: heard.append((told, done, of)),
    )  # fmt: skip
    np.testing.assert_array_equal(found[name].correct, whole[name].correct)
    afresh = []
    scores(dataset, [name], report=lambda *told: afresh.append(told))
    begun = next(done for told, done, _ in heard if told == name)
    assert begun > next(done for told, done, *_ in afresh if told == name)
    kept.remove()
    assert not kept.folder.exists()


def test_where_no_example_is_right_an_attack_is_over_at_once(dataset):
    wrong = dataclasses.replace(dataset, labels=(1 - np.argmax(logits(dataset), 1)).astype("int32"))
    heard = []
    found = scores(wrong, ["apgd-ce"], report=lambda *told: heard.append(told))
    assert not found["apgd-ce"].correct.any() and "apgd-ce" in {told[0] for told in heard}


@pytest.mark.parametrize(
    ("name", "threat"),
    [
        ("apgd-ce(steps=2)", attacks.ThreatModel("linf", EPSILON, None)),
        ("fab-t(steps=2)", attacks.ThreatModel("linf", np.inf)),
    ],
)
def test_a_ball_without_a_box_or_without_an_end_is_as_good(dataset, name, threat):
    found = evaluation.run_attack(
        evaluation.parse_attack(name), jax.random.key(0), LOGITS_FN, dataset, threat
    )
    assert found.correct.shape == (25,)


def test_several_devices_give_the_same_verdicts_and_images(dataset):
    one, four = (
        scores(dataset, ["pgd-4"], keep_images=True, devices=jax.devices()[:count])
        for count in (1, 4)
    )
    np.testing.assert_array_equal(one["pgd-4"].correct, four["pgd-4"].correct)
    np.testing.assert_allclose(one["pgd-4"].images, four["pgd-4"].images, atol=1e-6)
    moved = np.abs(one["pgd-4"].images - dataset.images / 255.0).max()
    assert 0.9 * EPSILON < moved <= EPSILON + 1e-6


@pytest.mark.parametrize(
    ("name", "success"), [("pgd-4x3", "last"), ("pgd-4", "any"), ("cw-4x3", "last")]
)
def test_rows_that_have_stopped_are_not_computed(dataset, monkeypatch, name, success):
    rows = []

    def counted(weights, images):
        jax.debug.callback(lambda: rows.append(len(images)))
        return linear(weights, images)

    def run():
        rows.clear()
        found = evaluation.run_attack(
            evaluation.parse_attack(name),
            jax.random.key(0),
            jax.tree_util.Partial(counted, jnp.asarray(WEIGHTS)),
            dataset,
            attacks.ThreatModel("linf", EPSILON),
            step_size=EPSILON / 4,
            success=success,
            batch_size=25,
            keep_images=True,
        )
        jax.effects_barrier()
        # Less the look at the first that are broken.
        return found, sum(rows) - 25

    monkeypatch.setattr("robustjax.attacks.engine.cpu.ROWS_OF_A_CHUNK", 3)
    found, computed = run()
    kind = type(evaluation.parse_attack(name).attack)
    attack = kind.__call__
    monkeypatch.setattr(
        kind, "__call__", lambda *given, independent_rows, **options: attack(*given, **options)
    )
    expected, all_rows = run()
    np.testing.assert_array_equal(found.correct, expected.correct)
    np.testing.assert_allclose(found.images, expected.images, atol=1e-6)
    assert 0 < found.correct.sum() < len(dataset) and computed < 0.8 * all_rows


@pytest.mark.parametrize(("devices", "promised"), [(0, True), (1, True), (4, False)])
def test_rows_that_devices_share_stay_where_they_are(dataset, monkeypatch, devices, promised):
    seen = []

    def spied(*given, independent_rows, **options):
        seen.append(independent_rows)
        return attack(*given, independent_rows=independent_rows, **options)

    attack = attacks.PGD.__call__
    monkeypatch.setattr(attacks.PGD, "__call__", spied)
    scores(dataset, ["pgd-2x2"], devices=jax.devices()[:devices])
    assert set(seen) == {promised}


def test_an_interrupted_evaluation_goes_on_and_another_begins_anew(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("robustjax.runs.resumable.SECONDS_BETWEEN_SAVES", 0.0)
    whole = scores(dataset, ["fgsm", "pgd-3"], keep_images=True)

    def stop(name, done, of, accuracy):
        if name == "pgd-3" and done == 16:
            raise Interrupted

    def kept(seed=0):
        return Unfinished(Path(tmp_path) / "unfinished", dataset.images, seed)

    with pytest.raises(Interrupted):
        scores(dataset, ["fgsm", "pgd-3"], report=stop, unfinished=kept(), keep_images=True)
    heard = []

    def listen(name, done, of, accuracy):
        heard.append((name, done))

    found = scores(dataset, ["fgsm", "pgd-3"], report=listen, unfinished=kept(), keep_images=True)
    assert heard == [("clean", 25), ("fgsm", 25), ("pgd-3", 16), ("pgd-3", 24), ("pgd-3", 25)]
    for name in ("fgsm", "pgd-3"):
        np.testing.assert_array_equal(found[name].correct, whole[name].correct)
        np.testing.assert_array_equal(found[name].images, whole[name].images)
    heard.clear()
    other = kept(seed=1)
    scores(dataset, ["fgsm"], report=listen, unfinished=other)
    assert heard[0] == ("clean", 8)
    other.remove()
    assert len(list((tmp_path / "unfinished").iterdir())) == 3  # Nobody takes another's away.
    finished = kept()
    scores(dataset, ["fgsm", "pgd-3"], unfinished=finished, keep_images=True)
    finished.remove()
    assert not (tmp_path / "unfinished").exists()


def test_an_attack_of_ones_own_begins_anew_for_its_code_may_be_another(
    dataset, tmp_path, monkeypatch
):
    monkeypatch.setattr("robustjax.runs.resumable.SECONDS_BETWEEN_SAVES", 0.0)
    moved = []

    @attacks.register("mine")
    def mine(key, logits_fn, images, labels, threat):
        moved.append(len(images))
        return images

    def stop(name, done, of, accuracy):
        if name == "mine" and done == 16:
            raise Interrupted

    kept = Unfinished(Path(tmp_path) / "unfinished", dataset.images)
    try:
        with pytest.raises(Interrupted):
            scores(dataset, ["mine"], report=stop, unfinished=kept)
        assert moved == [8, 8]
        scores(dataset, ["mine"], unfinished=kept)
        assert moved == [8] * 6
    finally:
        del registry.ENTRIES["mine"]


def test_the_slash_of_a_fraction_makes_no_folder(dataset, tmp_path):
    name, kept = "pgd-2(step_size=2/255)", Unfinished(Path(tmp_path), dataset.images)
    scores(dataset, [name], unfinished=kept)
    (file,) = [path for path in tmp_path.iterdir() if path.name.startswith("pgd-2")]
    assert file.name.startswith("pgd-2(step_size=2_255)-")
    kept.remove()
    assert not tmp_path.exists()


def test_protocols_are_those_of_the_papers():
    nap = {spec.name: spec for spec in protocols.protocol_attacks("nap", "cifar10")}
    assert nap["pgd-60x20"].epsilon == 8 / 255
    assert nap["pgd-60x20"].attack == attacks.PGD(60, 0.01, restarts=20, success="any")
    assert nap["pgd-20"].attack == attacks.PGD(20, 0.8 / 255, start="clean")
    trades = protocols.protocol_attacks("trades", "cifar10")[1]
    assert trades.epsilon == 0.031 and trades.attack == attacks.PGD(20, 0.003, start="clean")
    sense = protocols.protocol_attacks("sense", "mnist")[1]
    assert sense.epsilon == 0.3 and sense.attack == attacks.PGD(500, 0.01, restarts=20)
    of_fat = {
        name: {spec.name: spec for spec in protocols.protocol_attacks(name, "cifar10")}
        for name in ("fat", "fat_trades", "fat_trades_random", "fat_mart")
    }
    for name, specs in of_fat.items():
        # Table 2 alone is without a random start, of FGSM as of the others.
        start = "clean" if name == "fat_trades" else "uniform"
        assert {spec.attack.start for spec in specs.values() if spec.attack} == {start}, name
    assert of_fat["fat_trades_random"]["pgd-20"].attack == attacks.PGD(20, 0.003)
    assert of_fat["fat_trades_random"]["fgsm-random"].epsilon == 0.031
    mart = {spec.name: spec for spec in protocols.protocol_attacks("mart_wrn", "cifar10")}
    assert list(mart) == ["clean", "fgsm-random", "pgd-20", "pgd-100", "cw-30"]
    assert mart["fgsm-random"].attack == attacks.FGSM(start="uniform")
    with pytest.raises(ValueError, match="protocol=pnas: accepted are trades, "):
        protocols.protocol_attacks("pnas", "cifar10")
    with pytest.raises(ValueError, match="protocol=nap is for cifar10, and the run was trained"):
        protocols.protocol_attacks("nap", "mnist")
    assert "pgd-60x20" in protocols.describe()


TWICE = evaluation.parse_attack("pgd-2")._replace(epsilon=0.2)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"threat": "linf"}, "threat=linf: accepted"),
        ({"threat": attacks.ThreatModel("linf", jnp.full(6, 0.1))}, "one radius per example"),
        ({"key": None}, "key=None: accepted are"),
        ({"logits_fn": "net"}, "logits_fn=net: accepted are"),
        ({"dataset": None}, "dataset=NoneType: accepted"),
        ({"batch_size": 0}, "batch_size=0: accepted are"),
        ({"names": None}, "names=None: accepted are"),
        (
            {"names": ["pgd-2", evaluation.parse_attack("pgd-2")._replace(epsilon=0.2)]},
            "two attacks of one name",
        ),
        ({"logits_fn": lambda images: jnp.zeros((len(images), 2))}, "gives 2 logits, and labels"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_subject_of_an_evaluation_is_named(changed, message):
    images = np.zeros((6, 4, 4, 1), np.uint8)
    arguments = {
        "names": "fgsm", "key": jax.random.key(0),
        "logits_fn": lambda images: images.reshape(len(images), -1)[:, :3],
        "dataset": data.Dataset("six", images, np.arange(6, dtype=np.int32) % 3, 3),
        "threat": attacks.ThreatModel("linf", 0.1), **changed,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        evaluation.evaluate(**arguments)


def test_a_network_that_varies_is_called_random():
    calls = []

    def network(images):
        calls.append(images)
        noise = jax.random.normal(jax.random.key(len(calls)), (len(images), 3))
        return images.reshape(len(images), -1)[:, :3] + noise

    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 1), np.uint8)
    dataset = data.Dataset("six", images, np.arange(6, dtype=np.int32) % 3, 3)
    with pytest.warns(UserWarning, match="the network is random"):
        evaluation.evaluate(
            "clean", jax.random.key(0), network, dataset, attacks.ThreatModel("linf", 0.1)
        )


def test_batch_norm_in_training_mode_is_seen_on_images_of_one_grey():
    def network(images):
        logits = images.reshape(len(images), -1)[:, :3] * jnp.arange(1.0, 4.0)
        return logits - logits.mean(axis=0)

    images = np.full((6, 4, 4, 1), 128, np.uint8)
    dataset = data.Dataset("grey", images, np.arange(6, dtype=np.int32) % 3, 3)
    with pytest.warns(UserWarning, match="rows depend on each other"):
        evaluation.evaluate(
            "clean", jax.random.key(0), network, dataset, attacks.ThreatModel("linf", 0.1)
        )


@pytest.mark.parametrize(
    "arrays", [{"done": np.array(2)}, {"done": np.array(2), "correct": np.ones(4, bool)}], ids=str
)
def test_what_else_lies_under_the_name_of_an_unfinished_attack_is_no_part_of_it(tmp_path, arrays):
    kept = Unfinished(Path(tmp_path), "network")
    np.savez(kept.path("pgd-2", {}), **arrays)
    assert kept.load("pgd-2", {}, 4) is None
    kept.save("pgd-2", {}, now=True, done=np.array(2), correct=np.ones(4, bool))
    assert kept.load("pgd-2", {}, 4)["done"] == 2


@pytest.mark.parametrize("name", ["fgsm", "pgd-3"])
def test_the_first_broken_examples_are_kept_whatever_the_size_of_a_batch(dataset, name):
    found = scores(dataset, [name])
    score, clean = found[name], found["clean"]
    assert clean.broken is None
    expected = np.flatnonzero(clean.correct & ~score.correct)[:KEPT]
    broken = score.broken
    np.testing.assert_array_equal(broken.positions, expected)
    np.testing.assert_array_equal(broken.labels, dataset.labels[expected])
    np.testing.assert_allclose(broken.clean, dataset.images[expected] / 255.0, atol=1e-7)
    assert np.abs(broken.adversarial - broken.clean).max() <= EPSILON + 1e-6
    # What the network says, in float64.
    for images, logits in (
        (broken.clean, broken.clean_logits), (broken.adversarial, broken.adversarial_logits),
    ):  # fmt: skip
        flat = (np.float64(images) - 0.5).reshape(len(images), -1)
        np.testing.assert_allclose(logits, flat @ np.float64(WEIGHTS), atol=1e-5)
    assert np.all(broken.clean_logits.argmax(axis=1) == broken.labels)
    assert np.all(broken.adversarial_logits.argmax(axis=1) != broken.labels)


def test_nothing_broken_is_nothing_kept_and_no_more_than_a_few_are():
    collected, images = FirstBroken(), np.zeros((4, 2, 2, 1), np.float32)
    collected.add(np.arange(4), np.zeros(4, bool), images)
    assert collected.as_arrays() == {} and collected.of(None, None) is None
    for first in (0, 4):
        collected.add(np.arange(first, first + 4), np.array([True, False, True, True]), images)
    stored = FirstBroken(collected.as_arrays()).as_arrays()
    assert stored["broken_positions"].tolist() == [0, 2, 3, 4, 6, 7]
    assert stored["broken_images"].shape == (KEPT, 2, 2, 1)
