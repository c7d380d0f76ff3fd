"""Whatever is typed, and however a file is damaged: it is taken, or refused in one sentence."""

import contextlib
import copy
import dataclasses
import functools
import io
import json
import sys

import hypothesis
import hypothesis.extra.numpy
import numpy as np
import pytest
from absl import flags
from hypothesis import example, given
from hypothesis import strategies as st

from robustjax import attacks, data, evaluation, methods, models, reports, training
from robustjax.arguments import shown
from robustjax.attacks.autoattack import state as ensemble_state
from robustjax.cli import (
    app,
    figures,
    flag_files,
    verify,
)
from robustjax.cli.evaluate import command as evaluate
from robustjax.cli.reproduce import command as reproduce
from robustjax.cli.sweep import command as sweep
from robustjax.config import TrainConfig, option_types
from robustjax.epoch_schedule import parse_schedule
from robustjax.evaluation import accumulated, adversarial_images
from robustjax.evaluation.spec import require_possible
from robustjax.files import Path, parse_json
from robustjax.flags import config_from_flags, define_flags, own_hyperparameters, read_flags
from robustjax.npz import read_npz
from robustjax.reports.html.page import page_of_run, page_of_runs, write_html_report
from robustjax.reports.sweep import SweepRun, Wanted
from robustjax.runs import Evaluations, Record
from robustjax.runs.folder import read_run
from robustjax.runs.log import KEYS, is_row, read_rows
from tests.commands import COMMANDS

short_and_long = pytest.mark.parametrize(
    "times", [1, pytest.param(10, marks=pytest.mark.slow)], ids=["short", "long"]
)


def tries(number):
    """Runs a property at once, on so many examples."""
    settings = hypothesis.settings(
        max_examples=number, suppress_health_check=list(hypothesis.HealthCheck)
    )
    return lambda found: settings(found)()


@contextlib.contextmanager
def no_traceback(*names):
    """Lets errors pass that the command line shows as one sentence, if it has one of the names."""
    try:
        yield
    except Exception as error:
        if not app.is_foreseen(error):
            raise
        require_sentence(app.describe(error), names, error)


def require_sentence(said, names=(), error=None):
    lines = said.splitlines()
    is_sentence = len(lines) == 1 and lines[0].strip() and len(said) < 1000
    written = [form for name in names for form in (name, shown(name))]
    if not is_sentence or (names and not any(form in said for form in written)):
        raise AssertionError(f"{len(said)} characters, {names} in {said!r:.1500}") from error


# What people type, what they mistype, and what nobody types.
TEXTS = (
    "", " ", "0", "-0.0", "1", "2", "7", "3.0", "0.5", ".5", "-1", "-2", "1e-3", "1e-400", "1e300",
    "1e308", "1e400", "nan", "NaN", "inf", "-inf", "infinity", "8/255", "8/0", "0/0", "8/255/2",
    "1e308/1e-308", "/", "1_000", "0x10", "٣", "²", "½", str(2**31 - 1), str(2**31), str(2**32),
    str(2**63), "9" * 400, "9" * 5000, "None", "none", "true", "False", "1,2", "1,2,x", ",", "1,,2",
    "75,90", "0,1@5", "0.5..0@100", "1..2", "help", "best", "latest", "clean", "linf", "l2", "test",
    "train+extra", "uniform", "'", '"', "%s", "{}", "--", "-", "=", "a=b", "a=", "=b", "beta=6",
    "a:b", "a;b", "~", "~nobody-of-that-name/x", "a\nb", "\t", "é", "日本", "🙂", "\u202e",
    "\x1b[0m", "\udcff", "x" * 3000, "x" * 300 + ".png", "a.html", "a.npz",
)  # fmt: skip

letters = st.characters(exclude_characters="\0/")
"""No program is ever given a zero byte, and no file is to be written elsewhere than here."""

numbers = st.one_of(st.integers(), st.integers(0, 100), st.floats(), st.floats(0, 1)).map(str)
texts = st.one_of(
    st.sampled_from(TEXTS),
    numbers,
    st.text(letters, max_size=12),
    st.lists(st.sampled_from(TEXTS) | numbers, min_size=2, max_size=4).map(",".join),
)


@st.composite
def mistyped(draw, words):
    """One of some words, mostly with a few letters changed."""
    word = draw(st.sampled_from(words))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(word)))
        length = draw(st.integers(0, 2))
        put = draw(st.sampled_from(["", "-", "x", "0", "9", "K", "é", "٣", "9" * 11, "."]))
        word = word[:at] + put + word[at + length :]
    return word


# Options of an experiment.

OPTIONS = {field.name: field for field in dataclasses.fields(TrainConfig)}
PLAUSIBLE = {
    "method": methods.names(),
    "model": models.names(),
    "dataset": ("digits", "npz", "cifar10", "minst"),
    "train_split": ("train", "test", "train+test", "train+"),
    "augmentation": ("none", "flip", "crop4", "crop4-flip", "reflect4-flip", "crop99", "crop-1"),
    "set": ("start=uniform", "tau=0,1@2", "beta=nan", "beta=1e400", "c=0.5..x@3", "start=None"),
    "classes": ("3,5", "3,3", "0.5", "10", "1e300"),
    "decay_epochs": ("75,90", "90,75", "0", "1e-9", "5e8"),
    "measure_attack": ("fgsm-random", "pgd-2147483647", "cw-2x2(start=clean)", "pgd-2(noise=1e300)",
                       "pgd-2(loss=dlr)", "pgd-2(step_size=1e-400)", "spsa", "pgd-2(" + "x" * 300),
    **{name: field.metadata["choices"] for name, field in OPTIONS.items()
       if field.metadata["choices"]},
}  # fmt: skip


@st.composite
def given_options(draw, most=4):
    """Flags of training and the texts that they are given."""
    names = draw(
        st.lists(
            st.sampled_from([*OPTIONS, *own_hyperparameters()]), min_size=1, max_size=most
        )
    )  # fmt: skip
    found = [
        (name, draw(texts if name not in PLAUSIBLE else texts | st.sampled_from(PLAUSIBLE[name])))
        for name in names
    ]
    if draw(st.booleans()):
        found.append(("method", draw(st.sampled_from(methods.names()))))
    return found


def parsed(options):
    values = flags.FlagValues()
    define_flags(values)
    values(["program", *(f"--{name}={text}" for name, text in options)])
    return config_from_flags(values)


@short_and_long
def test_the_text_of_an_option_is_taken_or_refused_by_its_name(times):
    @tries(350 * times)
    @given(given_options())
    def property(options):
        named = [text.partition("=")[0] if name == "set" else name for name, text in options]
        with no_traceback(*named):
            config = parsed(options)
            training.check_experiment(config)
            assert str(config.hyperparameters()) and config.to_flags()
            assert not config.differences(config)


SMALL = [("model", "digits_cnn"), ("train_examples", "40"), ("batch_size", "10")]


@short_and_long
def test_an_experiment_on_the_embedded_data_is_made_or_refused_by_an_option(times, tmp_path):
    archive = tmp_path / "mine.npz"
    images = np.zeros((12, 4, 4, 1), np.uint8)
    np.savez(archive, images=images, labels=np.arange(12) % 3)

    @tries(50 * times)
    @given(given_options(most=3), st.sampled_from(["digits", "npz"]))
    @example([("extra_data", "a\0b")], "digits")
    def property(options, dataset):
        place = [("data_dir", str(archive))] if dataset == "npz" else []
        options = [*SMALL, *options, ("dataset", dataset), *place]
        with no_traceback(*option_types()):
            made = training.create_experiment(parsed(options))
            assert made.scalars_at(1)["epsilon"] >= 0
            made.warnings()
            for line in made.warnings():
                require_sentence(line, [*option_types()])


# Schedules.

amounts = (
    st.sampled_from(["0", "1", "0.5", "8/255", "1e300", "-1e308", "1e308", "nan", ""]) | numbers
)
epochs = st.sampled_from(["@5", "@10", "@0", "@nan", "@1e300", "@", "@@1", "@8/2", ""]) | (
    st.floats(0, 1e9).map("@{}".format) | st.integers(0, 10**8).map("@{}".format)
)


@st.composite
def schedules(draw):
    """Texts of the form of a schedule, and some that just miss it."""
    if draw(st.booleans()):
        text = f"{draw(amounts)}..{draw(amounts)}{draw(epochs)}"
    else:
        steps = draw(st.lists(st.tuples(amounts, epochs).map("".join), max_size=3))
        text = ",".join([draw(amounts), *steps])
    return draw(mistyped([text])) if draw(st.booleans()) else text


@short_and_long
def test_a_schedule_is_what_its_text_says_or_is_refused_with_it(times):
    @tries(300 * times)
    @given(schedules(), st.floats(0, 1e9))
    @example("0,1@1000000,2@1000001", 0.0)
    @example("1..2@12345678", 0.0)
    @example("-1e308..1e308@10", 5.0)
    def property(text, epoch):
        with no_traceback(repr(text)[:90]):
            schedule = parse_schedule(text)
            assert np.isfinite(schedule(epoch))
            assert min(schedule.values) <= schedule(epoch) <= max(schedule.values)
            assert parse_schedule(str(schedule)) == schedule


# Names of attacks.

NAMES = (
    "clean", *(name for name in attacks.names() if name not in ("pgd", "cw", "random")),
    "pgd-20", "pgd-20x5", "cw-30", "cw-30x2", "random-8", "spsa-10x64", "spsa-10x63",
    "pgd-2147483648", "pgd-0", "PGD20", "pgd-20(step_size=2/255,start=clean)",
    "apgd-t(num_targets=3)", "square(queries=-1)", "pgd-3()",
)  # fmt: skip


@short_and_long
def test_the_name_of_an_attack_is_known_or_refused(times):
    @tries(300 * times)
    @given(mistyped(NAMES) | texts, st.sampled_from(["linf", "l2"]), st.integers(1, 10))
    @example("x" * 3000, "linf", 10)
    def property(name, norm, num_classes):
        with no_traceback("attack="):
            spec = evaluation.parse_attack(name)
            require_possible(spec, norm, num_classes)
            if spec.kind != "spsa":  # Its scales are numbers of JAX.
                threat = attacks.ThreatModel(norm, 0.1)
                completed = spec.completed(threat, num_classes)
                assert completed.name == name and json.dumps(completed.settings(norm))
                completed.complaint()


# Damaged files.


@st.composite
def damaged(draw, content, most=3):
    """Bytes with some of them changed, cut off, left out, added or repeated."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, most))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        end = at + draw(st.integers(1, 64))
        how = draw(st.sampled_from(["flip", "set", "cut", "drop", "insert", "repeat", "move"]))
        if how in ("flip", "set") and content:
            bits = draw(st.integers(1, 255) if how == "set" else st.integers(0, 7).map(
                lambda bit: 1 << bit))  # fmt: skip
            content[at] ^= bits
        elif how == "cut":
            del content[at:]
        elif how == "drop":
            del content[at:end]
        elif how == "insert":
            content[at:at] = draw(st.binary(min_size=1, max_size=8))
        else:
            part, to = content[at:end], draw(st.integers(0, len(content)))
            if how == "move":
                del content[at:end]
            content[to:to] = part
    return bytes(content)


def written(save=np.savez, **arrays):
    content = io.BytesIO()
    save(content, **arrays)
    return content.getvalue()


IMAGES = np.random.default_rng(0).integers(0, 256, (3, 2, 2, 1), np.uint8)
CLEAN = IMAGES.astype(np.float32) / 255
LABELS = np.array([0, 2, 1])
ARCHIVES = {
    "data": written(
        images=IMAGES, labels=LABELS, test_images=IMAGES[:2], test_labels=LABELS[:2],
        num_classes=4, class_names=np.array(["a", "b", "c", "d"]),
    ),
    "extra": written(np.savez_compressed, image=np.concatenate([IMAGES] * 20)),
    "adversarial": written(
        np.savez_compressed, images=CLEAN, labels=LABELS, robust=np.array([True, False, True]),
        settings=json.dumps({"norm": "linf", "epsilon": 8 / 255, "steps": 20}),
    ),
    "state": written(
        changed=np.array([1]), images=CLEAN[1:2], broken_by=np.array([-1, 0, -2], np.int8),
        pending=np.ones((2, 3), bool), doubted=np.zeros(3, bool), stage=1,
        seconds=json.dumps({"apgd-ce": 1.5}), belongs_to="digest",
    ),
}  # fmt: skip


def load_data(path):
    for split in ("train", "test"):
        found = data.load("npz", split, data_dir=str(path))
        yield from (found.images, found.labels, found.num_classes, found.class_names)


def load_extra(path):
    yield from data.load_extra(str(path), 4, IMAGES.shape[1:])
    yield data.load_images(str(path))


def load_adversarial(path):
    found = adversarial_images.load(path)
    yield from found
    yield verify._ball(found, path)
    if found.images.shape == CLEAN.shape:
        right = np.zeros(3, int)
        looked = adversarial_images.verify(found, CLEAN, found.labels, right, right, "l2", 0.1)
        yield looked.holds


def load_state(path):
    found = ensemble_state.load(path, CLEAN, "digest")
    yield from (found.images, found.broken_by, found.pending, found.stage, found.seconds)


READERS = {
    "data": load_data, "extra": load_extra, "adversarial": load_adversarial, "state": load_state,
}  # fmt: skip


def as_bytes(values):
    """Values that are equal only if they are so bit for bit, of the same types."""
    return [
        (part.dtype, part.shape, part.tobytes()) if isinstance(part, np.ndarray) else part
        for part in values
    ]


@short_and_long
@pytest.mark.parametrize("kind", ARCHIVES)
def test_a_damaged_archive_is_refused_or_read_as_it_was(times, kind):
    whole = read_npz(ARCHIVES[kind])

    @tries(150 * times)
    @given(damaged(ARCHIVES[kind]))
    def property(content):
        with no_traceback():
            found = read_npz(content)
            assert list(found) == list(whole)
            assert as_bytes(found.values()) == as_bytes(whole.values())


@short_and_long
@pytest.mark.parametrize("kind", ARCHIVES)
def test_who_reads_a_damaged_archive_names_it_or_has_what_was_written(times, kind, tmp_path):
    path = Path(tmp_path) / "file.npz"
    path.write_bytes(ARCHIVES[kind])
    whole = as_bytes(READERS[kind](path))

    @tries(60 * times)
    @given(damaged(ARCHIVES[kind]))
    def property(content):
        path.write_bytes(content)
        with no_traceback(str(path)):
            assert as_bytes(READERS[kind](path)) == whole


TYPES = ("?", "u1", "i1", "i4", "i8", "u8", "f2", "f4", "f8", "g", "c8", "U3", "S3", "V4", "O",
         "M8[s]", "m8[s]", "i4,f4", "U0", ">f4")  # fmt: skip
FILLS = (0, 1, -1, 3, 0.5, 255, 2**31, 2**63, 1e300, np.nan, np.inf, -np.inf, "", "{}", "日", None)


@st.composite
def arrays(draw):
    """Arrays of all types, shapes and values, for readers that expect others."""
    shape = draw(
        st.sampled_from([IMAGES.shape, LABELS.shape, (), (0,), (1,), (0, 2, 2, 1), (3, 2, 2, 0)])
        | hypothesis.extra.numpy.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4)
    )
    fill = draw(st.sampled_from(FILLS))
    with np.errstate(all="ignore"), contextlib.suppress(ValueError, TypeError, OverflowError):
        return np.full(shape, fill, object).astype(draw(st.sampled_from(TYPES)))
    return np.zeros(shape, draw(st.sampled_from(TYPES)))


@short_and_long
@pytest.mark.parametrize("kind", ARCHIVES)
def test_arrays_that_nobody_expects_are_refused_with_the_file(times, kind, tmp_path):
    path = Path(tmp_path) / "file.npz"
    whole = read_npz(ARCHIVES[kind])

    @tries(60 * times)
    @given(
        st.dictionaries(st.sampled_from(list(whole)), st.none() | arrays(), min_size=1, max_size=2),
        # All names but those of parameters of what writes.
        st.text(max_size=5).filter(lambda name: name not in ("file", "save")),
    )
    def property(changed, name):
        content = {**whole, **changed, name: LABELS} if name else {**whole, **changed}
        with contextlib.suppress(ValueError, UnicodeError, OSError):  # numpy's, of what no zip has.
            path.write_bytes(
                written(**{key: found for key, found in content.items() if found is not None})
            )
        with no_traceback(str(path)):
            list(READERS[kind](path))


# Damaged JSON: values of another kind, of a size that nobody expects, and what is no JSON at all.

# Texts that stand for what json.dumps does not write.
RAW = {
    "@digits": "9" * 5000,
    "@deep": "[" * 900 + "]" * 900,
    "@deeper": '{"a":' * 900 + "1" + "}" * 900,
    "@deepest": "[" * 100_000,
    "@number": "1e999",
}
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.floats(),
    st.sampled_from([*TEXTS, *RAW]),
    st.sampled_from([2**31, -(2**63), 10**400, 1e300, 1e308, -1e308, 0.5, "\ud800", "a\0b"]),
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "", "kind", "epsilon", "\n"]), inner, max_size=3)
    ),
    max_leaves=4,
)


def places(value):
    """Everything in a JSON value that can be replaced, as what holds it and its key."""
    keys = value if isinstance(value, dict) else range(len(value))
    for key in list(keys):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


@st.composite
def changed_json(draw, *documents):
    """The text of one line for each document, with values changed, left out or added."""
    documents = copy.deepcopy(list(documents))
    for _ in range(draw(st.integers(0, 3))):
        everywhere = list(places(documents))
        holder, key = everywhere[draw(st.integers(0, len(everywhere) - 1))]
        how = draw(st.sampled_from(["replace", "replace", "remove", "add", "copy"]))
        if how == "remove" and holder is not documents:
            del holder[key]
        elif how == "add" and isinstance(holder, dict):
            holder[draw(st.sampled_from(TEXTS))] = draw(values)
        elif how == "copy":
            other, found = everywhere[draw(st.integers(0, len(everywhere) - 1))]
            with contextlib.suppress(KeyError, IndexError):
                holder[key] = copy.deepcopy(other[found])
        else:
            holder[key] = draw(values)
    lines = "\n".join(map(json.dumps, documents))
    for mark, text in RAW.items():
        lines = lines.replace(f'"{mark}"', text)
    content = lines.encode(errors="surrogatepass")
    return draw(damaged(content, most=2)) if draw(st.integers(0, 3)) == 0 else content


BALL = {"norm": "linf", "epsilon": 8 / 255}
EVALUATION = {
    "clean_accuracy": 0.9,
    "interval_95": [0.8, 0.95],
    "attacks": {
        "pgd-20": {
            "robust_accuracy": 0.5, "interval_95": [0.4, 0.6], **BALL, "steps": 20,
            "step_size": 2 / 255, "start": "uniform", "success": "last",
        },
        "fgsm": {"robust_accuracy": 0.6, "interval_95": [0.5, 0.7], **BALL, "examples": 20},
        "autoattack": {
            "robust_accuracy": 0.3, "interval_95": [0.2, 0.4], **BALL,
            "after_each": {"clean": 0.9, "apgd-ce": 0.4, "square": 0.3},
            "seconds": {"apgd-ce": 12.5, "square": 250.0}, "warnings": ["masked gradients"],
        },
    },
    "worst_case_robust_accuracy": 0.3,
    "worst_case_interval_95": [0.2, 0.4],
    "examples": 40,
    "available_examples": 360,
    "dataset": "digits test",
    "checkpoint": {"kind": "best", "step": 8, "moving_average": False},
    "method": "trades",
    "seed": 0,
    "trained_epochs": 2,
    "elapsed_seconds": 3.5,
    "versions": {"jax": "0.10", "device": "cpu"},
    "commands": ["python launch/evaluate.py --workdir=run"],
    "others": [{
        **BALL, "clean_accuracy": 0.9, "interval_95": [0.8, 0.95], "attacks": {}, "examples": 40,
        "checkpoint": {"kind": "latest"}, "dataset": "mnist test",
    }],
}  # fmt: skip
DIAGNOSIS = {
    "verdict": "undecided", "suspicious": [], "undecided": ["steps"], "level": 0.0004,
    "clean_accuracy": 0.9, "examples": 40,
    "checks": [{
        "name": "steps", "verdict": "undecided", "rule": "fewer break more",
        "comparisons": [{
            "statement": "broken after 1, not after 5", "count": 7, "of": 7, "allowed": 0.5,
            "test": "sign test", "share": 1.0, "interval_95": [0.65, 1.0], "p_value": 0.0078,
            "verdict": "undecided", "suspicious": False, "deciding_examples": 80,
        }],
        "evidence": {"pgd-1": 0.25, "mean_alignment": 0.9},
    }],
    "curves": {
        "steps": [0, 1, 5], "accuracy": [0.9, 0.5, 0.25],
        "loss_quantiles_10_50_90": [[0.1, 0.2, 0.3], [0.2, 0.3, 0.4], [1.0, 2.0, 3.0]],
        "epsilons": [0.05, 0.1, 1.0], "accuracy_at_epsilon": [0.5, 0.25, 0.0],
    },
    "attacks": {"norm": "linf", "epsilon": 0.1}, "elapsed_seconds": 3.5,
}  # fmt: skip
TRANSFER = {"robust_accuracy": {"a": {"a": 0.125, "b": 0.5}}, "seconds": [1, 120.0]}
ROWS = [
    {**dict.fromkeys(KEYS, 0.5), "epoch": epoch, "step": 4 * epoch, "elapsed_seconds": 61.0 * epoch}
    for epoch in (1, 2)
]
FLAGS = TrainConfig(method="trades", dataset="digits", epochs=2, beta=6.0).to_flags()


@pytest.fixture
def run(tmp_path):
    """The folder of a run, with nothing but its flags."""
    folder = Path(tmp_path) / "run"
    folder.mkdir()
    (folder / "flags.txt").write_text(FLAGS)
    return folder


@short_and_long
def test_the_page_of_a_run_shows_whatever_its_files_hold(times, run):
    @tries(60 * times)
    @given(changed_json(EVALUATION), changed_json(DIAGNOSIS), changed_json(TRANSFER),
           damaged(FLAGS.encode()))  # fmt: skip
    def property(evaluated, diagnosed, transferred, given_flags):
        files = {"evaluation.json": evaluated, "diagnosis.json": diagnosed,
                 "transfer.json": transferred, "flags.txt": given_flags}  # fmt: skip
        for name, content in files.items():
            (run / name).write_bytes(content)
        with no_traceback(str(run)):
            page, table = write_html_report([str(run)])
            assert page.read_text() and table.read_text()


@short_and_long
def test_the_course_of_training_is_shown_whatever_the_log_holds(times, run):
    @tries(6 * times)
    @given(changed_json(*ROWS), st.sampled_from(TEXTS))
    @example(b"", "2")
    @example(json.dumps({**ROWS[0], "holdout_robust_accuracy": 1e200}).encode(), "2")
    @example(json.dumps({**ROWS[0], "learning_rate": 10**300}).encode(), "2")
    @example(json.dumps(ROWS[0]).encode(), "²")
    @example(json.dumps(ROWS[0]).encode(), "9" * 5000)
    def property(log, planned):
        (run / "metrics.jsonl").write_bytes(log)
        (run / "flags.txt").write_bytes(f"--epochs={planned}\n".encode(errors="replace"))
        with no_traceback(str(run)):
            assert page_of_run(read_run(str(run), "run"))


@short_and_long
def test_runs_are_compared_whatever_their_evaluations_hold(times, run, tmp_path):
    other = Path(tmp_path) / "other"
    other.mkdir()
    (other / "flags.txt").write_text(FLAGS)

    @tries(20 * times)
    @given(changed_json(EVALUATION), changed_json(EVALUATION))
    def property(first, second):
        for folder, content in ((run, first), (other, second)):
            (folder / "evaluation.json").write_bytes(content)
        with no_traceback(str(run), str(other)):
            assert page_of_runs([read_run(str(folder), folder.name) for folder in (run, other)])


@short_and_long
def test_of_a_damaged_log_the_whole_rows_are_left(times, run):
    @tries(200 * times)
    @given(changed_json(*ROWS, {**ROWS[0], "epoch": 3}))
    def property(log):
        (run / "metrics.jsonl").write_bytes(log)
        rows = read_rows(run / "metrics.jsonl")
        assert all(map(is_row, rows))
        found = [row["epoch"] for row in rows]
        assert found == sorted(set(found))


def record(attack, kind="best", correct=(True, False, True, True), **settings):
    return Record(
        attack=attack,
        settings=settings,
        data={"digest": "d", "dataset": "digits test", "available_examples": 4, "own": True},
        checkpoint={"digest": kind, "kind": kind, "step": 8, "moving_average": False},
        examples=4,
        accuracy=float(np.mean(correct)),
        interval=(0.0, 1.0),
        correct=np.array(correct),
        measured={"seconds": {attack: 1.0}, "warnings": ["masked gradients"]},
        about={
            "seed": 0,
            "method": "trades",
            "trained_epochs": 2,
            "versions": {"jax": "0"},
            "command": "python launch/evaluate.py",
        },
    )


RECORDS = [
    json.loads(made.to_json())
    for made in (
        record("clean"), record("pgd-20", steps=20, **BALL), record("clean", "latest"),
        record("fgsm", "latest", **BALL),
    )
]  # fmt: skip


@short_and_long
def test_an_evaluation_is_added_whatever_is_there_already(times, run):
    new = [record("clean"), record("pgd-20", steps=20, **BALL)]

    @tries(60 * times)
    @given(changed_json(*RECORDS), changed_json(EVALUATION), st.booleans())
    def property(records, earlier, has_records):
        for path in run.iterdir():
            path.unlink()
        (run / "evaluation.json").write_bytes(earlier)
        if has_records:
            (run / "evaluations.jsonl").write_bytes(records)
        told = []
        with no_traceback(str(run)):
            summary = accumulated.add_to_run(run, new, *BALL.values(), told.append)
            files = reports.write_report(summary, run)
            summary = parse_json(files[0].read_bytes())
            assert summary["attacks"]["pgd-20"]["robust_accuracy"] == 0.75
            assert reports.to_table(summary) and reports.warnings(summary)
            # What was there is there still.
            assert len(Evaluations(run).records()) >= len(new)
        for line in told:
            require_sentence(line, [str(run)])


# Sweeps.


def define_in(found, monkeypatch):
    """Makes these the flags of the process, also where a command names no others."""
    monkeypatch.setattr(flags, "FLAGS", found)
    for kind in ("bool", "integer", "list", "multi_string", "string"):
        define = getattr(flags, f"DEFINE_{kind}")
        monkeypatch.setattr(flags, f"DEFINE_{kind}", functools.partial(define, flag_values=found))


@pytest.fixture
def launch(monkeypatch, tmp_path):
    """Runs a command in this process, in an empty folder; gives its exit status and errors."""
    monkeypatch.delenv("ROBUSTJAX_TRACEBACK", raising=False)
    monkeypatch.setattr(evaluate.parallel, "force_cpu_devices", lambda number: None)
    monkeypatch.chdir(tmp_path)

    def launch(main, define, arguments):
        found = flags.FlagValues()
        define_in(found, monkeypatch)
        monkeypatch.setattr(sys, "argv", ["program", *arguments])
        errors = io.StringIO()
        with (
            pytest.raises(SystemExit) as end,
            contextlib.redirect_stderr(errors),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            app.run(main, lambda: define(found), description="", groups={}, arguments=arguments)
        return end.value.code, errors.getvalue()

    return launch


def require_no_traceback(ended, names=()):
    """Sees that a command did its work, or ended with one sentence, after warnings perhaps."""
    code, errors = ended
    if "Traceback" in errors:
        raise AssertionError(errors)
    assert code in (0, 1)
    _, error, said = errors.partition("error: ")
    assert bool(error) == code
    if error:
        require_sentence(said.removesuffix("\n"), names)


@pytest.fixture
def swept(tmp_path, monkeypatch):
    """The folder of a sweep of two runs, and its sweep.json; its figures are not drawn."""
    for name in ("accuracy_against_value", "settings_side_by_side"):
        monkeypatch.setattr(sweep.sweep_figures, name, lambda *_, **__: Path(tmp_path))
    folder = Path(tmp_path) / "swept"
    runs = []
    for beta in ("1", "6"):
        workdir = folder / "runs" / f"beta={beta}-seed=0"
        workdir.mkdir(parents=True)
        (workdir / "evaluation.json").write_text(json.dumps(EVALUATION))
        (workdir / "metrics.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
        runs.append(SweepRun({"beta": beta}, 0, workdir))
    wanted = Wanted(["clean", "pgd-20"], 40, "best", 8 / 255, 2 / 255, 2)
    about = {"command": "launch/sweep.py", "center": "median", "total_seconds": 12.5}
    sweep.write_results(folder, runs, about, {run.workdir: wanted for run in runs})
    return folder, json.loads((folder / "sweep.json").read_text())


@short_and_long
def test_a_sweep_is_reported_again_whatever_its_record_holds(times, swept, launch):
    folder, content = swept

    @tries(60 * times)
    @given(changed_json(content))
    def property(record):
        (folder / "sweep.json").write_bytes(record)
        ended = launch(
            sweep._main, sweep.define_sweep_flags, [f"--sweep_dir={folder}", "--report_only"]
        )
        require_no_traceback(ended, [str(folder)])

    @tries(60 * times)
    @given(changed_json(content))
    def property_of_its_figure(record):
        (folder / "sweep.json").write_bytes(record)
        ended = launch(
            figures._main, figures.define_figure_flags, ["--kind=sweep", f"--sweep_dirs={folder}"]
        )
        require_no_traceback(ended, [str(folder), "--kind=sweep"])


@short_and_long
def test_a_sweep_is_reported_again_whatever_its_runs_hold(times, swept, launch):
    folder, content = swept
    run = folder / "runs" / "beta=1-seed=0"

    @tries(40 * times)
    @given(changed_json(EVALUATION), changed_json(*RECORDS), changed_json(*ROWS), st.booleans())
    def property(evaluated, records, log, has_records):
        (folder / "sweep.json").write_text(json.dumps(content))
        (run / "evaluation.json").write_bytes(evaluated)
        (run / "metrics.jsonl").write_bytes(log)
        (run / "evaluations.jsonl").unlink(missing_ok=True)
        if has_records:
            (run / "evaluations.jsonl").write_bytes(records)
        ended = launch(
            sweep._main, sweep.define_sweep_flags, [f"--sweep_dir={folder}", "--report_only"]
        )
        require_no_traceback(ended)


# Flag files.

LINES = (
    "--flagfile=a.flags", "--flagfile=b.flags", "--flagfile=./a.flags", "--flagfile=none.flags",
    "--flagfile", "a.flags", "-flagfile=b.flags", "--flagfile=", "--flagfile=.", "--flagfile=a\0b",
    "--flagfile=~nobody-of-that-name/a", "--flagfile=" + "x" * 300, "--flagfile=a.flags,b.flags",
    "--noflagfile", "--epochs=3", "--epochs=x", "--epochs", "--nesterov", "--nonesterov",
    "--nesterov=2", "--noepochs", "--set=tau=1", "--set=", "--beta=", "--tau=0,1@2", "--epsilom=1",
    "--", "-", "---", "--=", "=", "# --epochs=0", "// --epochs=0", "--help", "--undefok=a",
    "--method=fat", "--steps=0", "epochs=3", "  --epochs=4  ", "--epochs =4", "--epochs= 4",
)  # fmt: skip
lines = st.sampled_from(LINES) | st.text(max_size=8) | texts.map("--beta={}".format)


@st.composite
def flag_file(draw):
    content = "\n".join(draw(st.lists(lines, max_size=5))).encode(errors="surrogatepass")
    return draw(damaged(content)) if draw(st.integers(0, 3)) == 0 else content


@short_and_long
def test_flag_files_are_read_or_refused_by_name(times, launch, tmp_path):
    first, second = Path(tmp_path) / "a.flags", Path(tmp_path) / "b.flags"

    @tries(150 * times)
    @given(flag_file(), flag_file())
    @example(b"--flagfile=a\0b", b"")
    @example(b"--flagfile=~nobody-of-that-name/a", b"")
    @example(b"--flagfile=b.flags", b"--flagfile=./a.flags")
    def property(one, other):
        first.write_bytes(one)
        second.write_bytes(other)
        with no_traceback("--flagfile"):
            flag_files.expanded(["--flagfile=a.flags"])
        require_no_traceback(launch(lambda: None, define_flags, ["--flagfile=a.flags"]), ["-", "'"])
        with no_traceback(str(first)):
            assert read_flags(first) == read_flags(first)


# Command lines.


def names_of(define):
    """The flags of a command."""
    found = flags.FlagValues()
    with pytest.MonkeyPatch.context() as patch:
        define_in(found, patch)
        define(found)
    return list(found)


@st.composite
def arguments(draw, names):
    """What follows the name of a program; mostly flags that it has."""
    found = []
    for _ in range(draw(st.integers(0, 4))):
        name = draw(st.sampled_from(names) | mistyped(names))
        text = draw(texts)
        how = draw(st.sampled_from(["=", "=", "=", " ", "alone", "no", "text", "short"]))
        found += {
            "=": [f"--{name}={text}"], " ": [f"--{name}", text], "alone": [f"--{name}"],
            "no": [f"--no{name}"], "text": [text], "short": [f"-{name}={text}"],
        }[how]  # fmt: skip
    return found


@short_and_long
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_line_is_understood_or_refused(times, name, launch):
    _, define = COMMANDS[name]
    ran = []

    @tries(25 * times)
    @given(arguments(names_of(define)))
    def property(given_arguments):
        ran.clear()
        ended = launch(lambda: ran.append(True), define, given_arguments)
        require_no_traceback(ended)
        is_help = any(argument in app.HELP for argument in given_arguments)
        assert (ended[0] == 0) == (bool(ran) or is_help)


REQUIRED = {
    "evaluate": "--workdir=absent", "verify": "--workdir=absent", "diagnose": "--workdir=absent",
    "report": "--workdirs=absent", "figures": "--workdirs=absent", "transfer": "--workdirs=absent",
    "analyze": "--workdirs=absent", "pseudo_label": "--workdir=absent",
    "sweep": "--sweep_dir=made", "reproduce": "--item=lrm/section5_3",
    "import_weights": "--weights=absent.safetensors",
}  # fmt: skip


@short_and_long
@pytest.mark.parametrize("name", REQUIRED)
def test_a_command_looks_at_its_flags_before_it_works(times, name, launch, monkeypatch):
    command, define = COMMANDS[name]
    monkeypatch.setattr(sweep, "run_all", lambda *_: None)
    monkeypatch.setattr(reproduce.running, "run", lambda *_: {})
    own = [flag for flag in names_of(define) if f"--{flag}" not in REQUIRED[name]]

    @tries(25 * times)
    @given(
        st.lists(st.tuples(st.sampled_from(own), texts).map("--{0[0]}={0[1]}".format), max_size=3)
    )
    def property(given_arguments):
        ended = launch(command._main, define, [*given_arguments, REQUIRED[name]])
        require_no_traceback(ended)
