"""Adversarial images in a run's folder and on its page."""

import base64
import copy
import io
import json

import numpy as np
import pytest
from PIL import Image

from robustjax import evaluation
from robustjax.evaluation.broken import BrokenExamples
from robustjax.files import Path
from robustjax.reports.examples import add_examples, as_png
from robustjax.reports.html.examples import examples
from robustjax.reports.html.page import page_of_run
from robustjax.runs.folder import RunFolder, read_run

CLEAN = np.linspace(0, 1, 2 * 4 * 5, dtype=np.float32).reshape(2, 4, 5, 1)

LOG_OF_3 = float(np.log(3))


def score(change=0.1, images=CLEAN, logits=((0.0, 0.0, LOG_OF_3), (0.0, 9.0, 0.0))):
    """Two examples of labels 0 and 1, whose adversarial logits are given."""
    broken = BrokenExamples(
        positions=np.array([3, 17]), labels=np.array([0, 1]), clean=images,
        adversarial=images + change, clean_logits=np.array([[9.0, 0, 0], [0, 9.0, 0]]),
        adversarial_logits=np.array(logits),
    )  # fmt: skip
    settings = {"norm": "linf", "epsilon": 8 / 255}
    return evaluation.AttackScore(np.zeros(20, bool), settings, broken=broken)


def decoded(text):
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        return np.asarray(image)


def write(folder, scores, names=("cat", "<dog>", "owl")):
    path = add_examples(folder, scores, names, checkpoint={"kind": "best", "step": 8})
    return json.loads(path.read_text())


def test_images_and_what_the_network_says_are_in_the_file(tmp_path):
    entry = write(Path(tmp_path), {"pgd-20": score()})["attacks"]["pgd-20"]
    first, second = entry["examples"]
    assert (first["position"], first["label"], second["label"]) == (3, "cat", "<dog>")
    assert first["after"]["class"] == "owl"
    assert first["after"]["confidence"] == pytest.approx(3 / 5)
    np.testing.assert_array_equal(decoded(first["clean"]), np.round(255 * CLEAN[0, ..., 0]))
    # The largest change becomes white.
    assert entry["factor"] == pytest.approx(5.0, rel=1e-5)
    assert np.all(decoded(second["change"]) == 255)
    assert np.all(decoded(first["adversarial"])[CLEAN[0, ..., 0] > 0.9] == 255)


def test_images_of_other_attacks_stay_and_a_damaged_file_is_replaced(tmp_path):
    folder = Path(tmp_path)
    assert add_examples(folder, {"clean": evaluation.AttackScore(np.ones(2), {})}, ()) is None
    write(folder, {"fgsm": score(), "pgd-20": score(0.1)})
    found = write(folder, {"pgd-20": score(0.05)}, names=())["attacks"]
    assert set(found) == {"fgsm", "pgd-20"} and found["pgd-20"]["factor"] > 9
    assert found["pgd-20"]["examples"][0]["label"] == "0"
    (folder / "adversarial_examples.json").write_text("{")
    assert set(write(folder, {"fgsm": score()})["attacks"]) == {"fgsm"}


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_any_number_of_channels_and_any_number_is_a_picture(channels):
    image = np.full((2, 3, channels), np.nan, np.float32)
    image[0] = 7.0
    shown = decoded(as_png(image))
    assert shown.shape == ((2, 3, 3) if channels == 3 else (2, 3))
    assert np.all(shown[0] == 255) and np.all(shown[1] == 0)


def test_the_page_shows_the_strongest_attack_and_folds_the_others(tmp_path):
    folder = Path(tmp_path)
    (folder / "flags.txt").write_text("--method=trades\n")
    write(folder, {"fgsm": score(), "pgd-20": score(logits=((0, 0, np.nan), (9.0, 0, 0)))})
    run = read_run(str(folder), "run")
    assert [of.attack for of in examples(run.examples, {"fgsm": 0.5, "pgd-20": 0.4})] == [
        "pgd-20", "fgsm",
    ]  # fmt: skip
    page = page_of_run(run)
    assert page.count('class="attacked"') == 2 and "By pgd-20" in page
    assert "image 17: &lt;dog&gt;" in page and "attacked → not finite" in page
    assert "norm linf, epsilon 8/255, best checkpoint, step 8; changes × 5, around grey" in page
    # Five pixels are enlarged by a whole number.
    assert page.count('width="95" height="76"') == 12


@pytest.mark.parametrize(
    "change",
    [
        lambda of: of.update(attacks=[]),
        lambda of: of["attacks"].update({"pgd-20": None}),
        lambda of: of["attacks"]["pgd-20"].update(examples="two"),
        lambda of: [one.update(clean="no base64") for one in of["attacks"]["pgd-20"]["examples"]],
        lambda of: [one.update(change="aGVsbG8=") for one in of["attacks"]["pgd-20"]["examples"]],
        lambda of: [one.pop("adversarial") for one in of["attacks"]["pgd-20"]["examples"]],
    ],
)
def test_what_has_another_form_is_left_out(tmp_path, change):
    content = write(Path(tmp_path), {"pgd-20": score()})
    assert len(examples(content, {})) == 1
    changed = copy.deepcopy(content)
    change(changed)
    assert examples(changed, {}) == []
    assert page_of_run(RunFolder("x", "x", {}, examples=changed))
