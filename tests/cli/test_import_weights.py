"""Weights that were trained elsewhere, as a person imports, evaluates and goes on with them."""

import functools
import json
import re

import jax
import numpy as np
import pytest

from robustjax import data, evaluation, interop, models, training
from robustjax.attacks import ThreatModel
from robustjax.cli import diagnose, report, transfer
from robustjax.cli import pseudo_label as labelling
from robustjax.cli.analyze import command as analyze
from robustjax.cli.evaluate import command as evaluate
from robustjax.cli.import_weights import command as importing
from robustjax.config import TrainConfig
from robustjax.evaluation.trained import load_network
from robustjax.runs.claim import claim
from robustjax.runs.folder import read_run
from robustjax.training.resuming import pretrained


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A network for digits as a file of another project."""
    model, draws = models.create("digits_cnn"), np.random.default_rng(0)
    images = jax.ShapeDtypeStruct((1, 8, 8, 1), np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    variables = jax.tree.map(lambda leaf: draws.normal(0, 0.2, leaf.shape), shapes)
    state_dict = interop.to_torch("digits_cnn", variables, layout="robustjax")
    return interop.write_safetensors(
        tmp_path_factory.mktemp("elsewhere") / "digits.safetensors", state_dict
    )


@pytest.fixture
def launch(run_command):
    return functools.partial(run_command, importing, importing.define_import_flags)


@pytest.fixture
def launch_evaluate(run_command):
    return functools.partial(run_command, evaluate, evaluate.define_evaluate_flags)


@pytest.fixture
def imported(launch, weights, tmp_path):
    folder = tmp_path / "imported"
    code, printed = launch(
        f"--weights={weights}", "--model=digits_cnn", f"--workdir={folder}", "--epsilon=0.1"
    )
    assert code == 0, printed.err
    return folder


def test_an_import_says_what_it_understood_and_is_the_same_network(imported, weights, launch):
    found = json.loads((imported / "weights.json").read_text())
    assert found["file"] == str(weights) and found["layout"] == "robustjax"
    network = load_network(imported)
    assert (network.config.method, network.config.dataset) == ("imported", "digits")
    state_dict = interop.read_weights(weights)
    variables = interop.from_torch("digits_cnn", state_dict)
    jax.tree.map(np.testing.assert_array_equal, variables, dict(network.variables))
    code, printed = launch(f"--weights={weights}", "--model=digits_cnn", f"--workdir={imported}")
    assert code == 0 and "epsilon=0.1" in printed.err
    code, printed = launch(
        f"--weights={weights}", "--model=digits_cnn", f"--workdir={imported}", "--epsilon=0.2"
    )
    assert code == 1 and "--epsilon=0.2 (was 0.1)" in printed.err


def test_evaluation_takes_it_like_a_run_and_finds_what_the_library_does(imported, launch_evaluate):
    code, printed = launch_evaluate(
        f"--workdir={imported}", "--attacks=clean,pgd-3", "--examples=50", "--cpu_devices=0"
    )
    assert code == 0, printed.err
    summary = json.loads((imported / "evaluation.json").read_text())
    assert summary["method"] == "imported" and "trained_epochs" not in summary
    model, network = models.create("digits_cnn"), load_network(imported)
    test_set = data.select(data.load("digits", "test"), np.arange(50))
    scores = evaluation.evaluate(
        ["clean", "pgd-3"],
        jax.random.key(0),
        lambda images: model.apply(network.variables, images),
        test_set,
        ThreatModel("linf", 0.1),
        batch_size=50,
    )
    assert summary["clean_accuracy"] == scores["clean"].correct.mean()
    robust = scores["pgd-3"].correct.mean()
    assert summary["attacks"]["pgd-3"]["robust_accuracy"] == pytest.approx(robust, abs=0.041)


def test_evaluation_of_a_file_needs_no_run_and_adds_up(
    weights, launch_evaluate, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    of = (f"--weights={weights}", "--model=digits_cnn", "--dataset=digits", "--examples=20")
    for norm, epsilon in (("linf", "0.1"), ("l2", "0.2")):
        ball = f"--norm={norm}", f"--epsilon={epsilon}"
        code, printed = launch_evaluate(*of, "--attacks=fgsm", *ball)
        assert code == 0, printed.err
    folder = tmp_path / "runs" / "imported-digits_cnn-digits"
    summary = json.loads((folder / "evaluation.json").read_text())
    assert summary["attacks"]["fgsm"]["epsilon"] == 0.1
    others = [(other["norm"], other["epsilon"]) for other in summary["others"]]
    assert others == [("l2", 0.2)]
    code, printed = launch_evaluate(*of[:2], "--dataset=mnist")
    assert code == 1 and "--dataset=mnist (was digits)" in printed.err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "--workdir is not given; name the folder that is to be made"),
        (
            ("--workdir=w", "--weights=W", "--model=digits_cnn", "--dataset=cifar10"),
            "--dataset=cifar10: its images of 32x32x3 do not fit the weights",
        ),
        (
            ("--workdir=w", "--weights=W", "--model=digits_cnn", "--dataset=mnist"),
            "--dataset=mnist: its images of 28x28x1 do not fit the weights",
        ),
        (
            ("--workdir=w", "--weights=W", "--model=digits_cnn", "--dataset=svhn"),
            "--dataset=svhn: its images of 32x32x3 do not fit the weights",
        ),
        (
            ("--workdir=w", "--weights=W", "--model=digits_cnn", "--dataset=digit"),
            "--dataset=digit: accepted are digits, npz, folder, huggingface, mnist",
        ),
        (("--workdir=w",), "--weights is not given; name a file"),
        (("--workdir=w", "--weights=x.pt"), "--model is not given; name the network"),
        (
            ("--workdir=w", "--weights=x.pt", "--model=resnet_18"),
            "--weights=x.pt cannot be read: No such file or directory; name a file",
        ),
        (("--workdir=w", "--weights=x.npz", "--model=resnet_18"), "--weights=x.npz: accepted are"),
        (("--workdir=w", "--weights=W", "--model=resnet"), "--model=resnet: accepted are"),
        (("--workdir=w", "--weights=W", "--model=resnet_18"), "--model=resnet_18 in the layout "),
        (("--workdir=w", "--weights=W", "--model=digits_cnn", "--entry=a"), "--entry=a: accepted"),
        (("--workdir=w", "--weights=W", "--model=digits_cnn", "--mean=0.5"), "both, or neither"),
        (("--workdir=w", "--weights=W", "--model=digits_cnn", "--epsilon=8"), "did you mean 8/255"),
        (("--workdir=w", "--weights=W", "--model=digits_cnn", "--norm=l0"), "accepted are linf"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(
    given, message, launch, weights, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    code, printed = launch(*(flag.replace("=W", f"={weights}") for flag in given))
    assert code == 1 and message in printed.err, printed.err
    assert not list(tmp_path.iterdir())


def test_weights_of_another_number_of_classes_fit_no_known_data_set(launch, weights, tmp_path):
    state_dict = dict(interop.read_weights(weights))
    for name in ("fc.weight", "fc.bias"):
        state_dict[name] = state_dict[name][:7]
    path = interop.write_safetensors(tmp_path / "x.safetensors", state_dict)
    code, printed = launch(f"--weights={path}", "--model=digits_cnn", f"--workdir={tmp_path}/w")
    assert code == 1 and "of 7 classes, fit none of mnist, cifar10" in printed.err
    named = f"--weights={path}", "--model=digits_cnn", f"--workdir={tmp_path}/w", "--dataset=digits"
    code, printed = launch(*named)
    assert (
        code == 1 and "--dataset=digits: its 10 classes do not fit the weights, of 7" in printed.err
    )


def test_a_folder_with_something_else_is_left_alone(launch, imported, weights, tmp_path):
    state_dict = {name: array + 1 for name, array in interop.read_weights(weights).items()}
    others = interop.write_safetensors(tmp_path / "others.safetensors", state_dict)
    before = (imported / "weights.json").read_text()
    code, printed = launch(f"--weights={others}", "--model=digits_cnn", f"--workdir={imported}")
    assert code == 1 and "holds other weights of the same network" in printed.err
    assert (imported / "weights.json").read_text() == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    code, printed = launch(
        f"--weights={weights}", "--model=digits_cnn", f"--workdir={tmp_path / 'full'}"
    )
    assert code == 1 and "holds other files" in printed.err


@pytest.mark.parametrize("flag", ["--model=digits_cnn", "--entry=x"])
def test_what_a_run_says_itself_is_not_said_again(launch_evaluate, imported, flag):
    code, printed = launch_evaluate(f"--workdir={imported}", flag)
    name = flag.partition("=")[0]
    assert code == 1 and f"{name}: a run says itself what it is" in printed.err


def start_from(imported, folder, **changed):
    options = {
        "method": "standard", "model": "digits_cnn", "epsilon": 0.1, "epochs": 1, "batch_size": 40,
        "holdout": 0, "train_examples": 80, "learning_rate": 1e-9, "schedule": "constant",
        "steps": 1, "measure_steps": 1, "measure_examples": 20, "init_from": str(imported),
        "workdir": str(folder),
    }  # fmt: skip
    return TrainConfig(**(options | changed))


def test_training_begins_with_the_weights_and_does_not_go_on_in_their_folder(imported, tmp_path):
    first = training.load_run(imported)
    begun = pretrained(start_from(imported, tmp_path / "run"))
    jax.tree.map(np.testing.assert_array_equal, begun, first.variables)
    with pytest.warns(UserWarning, match="init_from=.* has activation=not given, and is another"):
        pretrained(start_from(imported, tmp_path / "run", activation="silu"))
    with pytest.raises(ValueError, match="method=imported: the weights were trained elsewhere"):
        training.check_experiment(first.config)
    with pytest.raises(ValueError, match=r"method=standard \(was imported\)"):
        claim(start_from("", imported), depends_on_length=False)


@pytest.mark.slow
def test_a_run_with_no_step_to_speak_of_ends_where_the_weights_were(imported, tmp_path):
    training.train(start_from(imported, tmp_path / "run"), stream=None)
    begun, first = training.load_run(tmp_path / "run"), training.load_run(imported)
    for ours, theirs in zip(
        jax.tree.leaves(begun.variables), jax.tree.leaves(first.variables), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_the_report_says_where_the_weights_come_from(imported, run_command):
    code, printed = run_command(report, report.define_report_flags, f"--workdirs={imported}")
    assert code == 0, printed.err
    said = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", (imported / "report.html").read_text()))
    assert "digits.safetensors, trained elsewhere" in said
    assert "trained elsewhere and imported" in said and "imported by" in said
    assert "training again" not in said and "learning_rate" not in said
    assert read_run(str(imported), "imported").origin["layout"] == "robustjax"


@pytest.mark.slow
def test_every_command_on_runs_takes_it(imported, run_command, tmp_path):
    commands = {
        diagnose: (diagnose.define_diagnosis_flags, (
            f"--workdir={imported}", "--examples=20", "--batch_size=20", "--steps=1,4",
            "--attack_steps=4", "--restarts=2", "--queries=20", "--random_points=3",
        )),
        transfer: (transfer.define_transfer_flags, (
            f"--workdirs={imported}", "--attack=pgd-3", "--examples=20",
            f"--output_dir={tmp_path / 'transfer'}",
        )),
        analyze: (analyze.define_analysis_flags, (
            "--kind=probabilities", f"--workdirs={imported}", "--attack=pgd-3", "--examples=20",
        )),
        report: (report.define_report_flags, (f"--workdirs={imported}",)),
    }  # fmt: skip
    for command, (define, arguments) in commands.items():
        code, printed = run_command(command, define, *arguments)
        assert code == 0, (command, printed.err)
    labels = labelling.label_images(
        str(imported), data.load("digits", "test").images[:20], tmp_path / "labels.npz"
    )
    assert labels.shape == (20,)
