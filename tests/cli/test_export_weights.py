"""A run's weights as they leave: the file, the model card, and the fields of RobustBench."""

import functools
import json
import re

import jax
import numpy as np
import pytest

from robustjax import interop, models
from robustjax.cli.evaluate import evaluate_run
from robustjax.cli.export_weights import command as exporting
from robustjax.config import TrainConfig
from robustjax.runs.checkpoint import Checkpoints
from robustjax.training import load_run


def run_of(folder, model, image_shape, **options):
    """The folder of a run without its training: random weights, and an average of them."""
    config = TrainConfig(method="trades", beta=3.0, model=model, epsilon=0.1, holdout=0, **options)
    network = models.create(model, **config.network_options())
    images = jax.ShapeDtypeStruct((1, *image_shape), np.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), images)
    draws = np.random.default_rng(0)
    state = {
        "step": np.asarray(7),
        "params": jax.tree.map(lambda leaf: draws.random(leaf.shape, np.float32), shapes["params"]),
    }
    if "batch_stats" in shapes:
        state["statistics"] = jax.tree.map(
            lambda leaf: draws.random(leaf.shape, np.float32), shapes["batch_stats"]
        )
    folder.mkdir()
    (folder / "flags.txt").write_text(config.to_flags())
    with Checkpoints(folder / "checkpoints", keep_best=False) as checkpoints:
        record = {"options": config.options(), "num_classes": 10, "image_shape": [*image_shape]}
        checkpoints.save(7, state, record)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("run") / "trades", "digits_cnn", (8, 8, 1))


@pytest.fixture
def launch(run_command):
    return functools.partial(run_command, exporting, exporting.define_export_flags)


def test_what_leaves_is_what_was_there_and_the_card_says_what_it_is(run, launch, tmp_path):
    path = tmp_path / "mine.safetensors"
    code, printed = launch(f"--workdir={run}", f"--output={path}")
    assert code == 0, printed.err
    arrays, metadata = interop.read_safetensors(path)
    assert metadata["format"] == "pt" and metadata["layout"] == "robustjax"
    variables = interop.from_torch("digits_cnn", arrays)
    jax.tree.map(np.testing.assert_array_equal, variables, load_run(run).variables)
    card = path.with_suffix(".md").read_text()
    for text in ("# digits_cnn, digits, trades", "15,338 parameters", "beta 3", "step 7",
                 "--learning_rate=0.1", "@inproceedings", "None of this checkpoint"):  # fmt: skip
        assert text in card, text
    assert "--workdir" not in card.partition("## Flags")[2]
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    names = {}
    exec(code.replace("mine.safetensors", str(path)), names)
    jax.tree.map(np.testing.assert_array_equal, names["variables"], variables)
    entry = json.loads(path.with_suffix(".json").read_text())
    assert entry["clean_acc"] is entry["autoattack_acc"] is entry["link"] is None
    assert (entry["eps"], entry["threat_model"]) == ("0.1", "Linf")
    assert (entry["additional_data"], entry["number_forward_passes"]) == (False, 1)


def test_accuracies_are_those_of_the_exported_checkpoint_on_the_whole_test_set(run, tmp_path):
    evaluate_run(str(run), ["clean", "fgsm"], quiet=True)
    files = exporting.export_weights(str(run), tmp_path / "x.safetensors")
    summary = json.loads((run / "evaluation.json").read_text())
    entry = json.loads(files.entry.read_text())
    assert entry["clean_acc"] == f"{100 * summary['clean_accuracy']:.2f}"
    assert entry["autoattack_acc"] is None
    card = files.card.read_text()
    assert re.search(r"\| fgsm \| *\d", card) and "None of this checkpoint" not in card
    summary["attacks"]["autoattack"] = {"robust_accuracy": 0.1234}
    (run / "evaluation.json").write_text(json.dumps(summary))
    entry = json.loads(exporting.export_weights(str(run), files.weights).entry.read_text())
    assert entry["autoattack_acc"] == "12.34"
    summary["checkpoint"]["step"] = 6
    (run / "evaluation.json").write_text(json.dumps(summary))
    files = exporting.export_weights(str(run), files.weights)
    assert json.loads(files.entry.read_text())["autoattack_acc"] is None
    assert "None of this checkpoint" in files.card.read_text()


def test_the_layout_follows_the_padding_and_the_options_go_along(tmp_path):
    told = {"stride_padding": "same", "mean": (0.5,) * 3, "std": (0.2,) * 3}
    run = run_of(tmp_path / "run", "wide_resnet_10_1", (32, 32, 3), activation="silu", **told)
    files = exporting.export_weights(str(run))
    assert files.weights == run / "weights.safetensors"
    arrays, metadata = interop.read_safetensors(files.weights)
    assert metadata["layout"] == "deepmind" and metadata["activation"] == "silu"
    assert interop.told_options("wide_resnet_10_1", arrays) == {"num_classes": 10, **told}
    assert json.loads(files.entry.read_text())["architecture"] == "WideResNet-10-1"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "--workdir is not given"),
        (("--workdir=nowhere",), "--workdir=nowhere holds no run"),
        (("--workdir=RUN", "--checkpoint=first"), "--checkpoint=first: accepted are best, latest"),
        (("--workdir=RUN", "--layout=keras"), "--layout=keras: of digits_cnn accepted are robust"),
        (("--workdir=RUN", "--output=x.pt"), "--output=x.pt: accepted is NAME.safetensors"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(given, message, run, launch, tmp_path,
                                                     monkeypatch):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    code, printed = launch(*(flag.replace("RUN", str(run)) for flag in given))
    assert code == 1 and message in printed.err, printed.err
    assert not list(tmp_path.iterdir())


def test_a_network_that_no_other_project_has_is_refused(tmp_path, launch):
    run = run_of(tmp_path / "run", "sense_mnist_cnn_1", (28, 28, 1))
    code, printed = launch(f"--workdir={run}")
    assert code == 1 and "model=sense_mnist_cnn_1: how other projects name" in printed.err
