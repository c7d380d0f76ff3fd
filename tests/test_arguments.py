"""What a person most likely meant, and which values are refused in which words."""

import math

import numpy as np
import pytest

from robustjax.arguments import (
    LARGEST_COUNT,
    did_you_mean,
    is_finite,
    is_number,
    nearest,
    require_choice,
    require_finite,
    require_truth,
    require_whole,
    shown,
    unknown_flag,
)
from robustjax.config import option_types

FLAGS = ("learning_rate", "batch_size", "epsilon", "steps", "step_size", "workdir", "weight_decay")
ATTACKS = ("fgsm", "pgd-20", "autoattack", "cw-linf")

MEANT = {
    "a letter too few": ("epsilo", FLAGS, "epsilon"),
    "letters exchanged": ("pdg-20", ATTACKS, "pgd-20"),
    "another letter": ("epsilom", FLAGS, "epsilon"),
    "another case": ("FGSM", ATTACKS, "fgsm"),
    "another case and a letter too many": ("AutoAttacks", ATTACKS, "autoattack"),
    "the known one has capitals": ("autoattack", ("FGSM", "AutoAttack"), "AutoAttack"),
    "a minus for an underscore": ("batch-size", FLAGS, "batch_size"),
    "an underscore for a minus": ("CW_Linf", ATTACKS, "cw-linf"),
    "a short form": ("lr", FLAGS, "learning_rate"),
    "a short form in capitals": ("LR", FLAGS, "learning_rate"),
    "a name of other codebases": ("num_steps", FLAGS, "steps"),
    "alpha is the step": ("Alpha", FLAGS, "step_size"),
    "wd": ("wd", FLAGS, "weight_decay"),
    "initials": ("wrn", ("resnet_18", "wide_resnet_n"), "wide_resnet_n"),
    "a beginning": ("auto", ATTACKS, "autoattack"),
    "no text": (5, ("four", "5"), "5"),
    "nothing near": ("zebra", FLAGS, None),
    "a short form of what there is not": ("lr", ATTACKS, None),
    "nothing": ("", FLAGS, None),
    "one letter says nothing": ("w", FLAGS, None),
    "nothing known": ("epsilon", (), None),
}


@pytest.mark.parametrize(("name", "known", "meant"), MEANT.values(), ids=list(MEANT))
def test_what_was_meant(name, known, meant):
    assert nearest(name, known) == nearest(name, iter(known)) == meant
    assert did_you_mean(name, known) == ("" if meant is None else f"; did you mean '{meant}'?")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("lr", "learning_rate"), ("eps", "epsilon"), ("batch", "batch_size"), ("bs", "batch_size"),
        ("batchsize", "batch_size"), ("wd", "weight_decay"), ("arch", "model"), ("net", "model"),
        ("data", "dataset"), ("num_epochs", "epochs"), ("opt", "optimizer"), ("dtype", "precision"),
        ("stepsize", "step_size"), ("random_seed", "seed"), ("out_dir", "workdir"),
    ],
)  # fmt: skip
def test_what_other_codebases_call_a_flag_is_understood_among_all_of_them(name, meant):
    said = f"--{name}: there is no such flag; did you mean --{meant}?"
    assert unknown_flag(name, option_types()) == said


def test_a_flag_that_is_near_none_is_told_where_they_are_listed():
    said = "--quux: there is no such flag; --help lists those there are"
    assert unknown_flag("quux", option_types()) == said


@pytest.mark.parametrize("name", ["output", "Output", "OUTPUT"])
def test_a_known_name_is_never_taken_for_a_short_form_of_another(name):
    assert nearest(name, ["output", "workdir"]) == "output"
    assert nearest(name, ["workdir"]) == "workdir"


@pytest.mark.parametrize(
    ("value", "choices"),
    [
        ("linf", ["linf", "l2"]),
        ("", ["", "l2"]),
        (1, [True, 1]),
        (True, [1, True]),
        (1.0, [1, 1.0]),
        (None, [None, "l2"]),
    ],
    ids=str,
)
def test_a_choice_is_accepted(value, choices):
    require_choice("norm", value, choices)


@pytest.mark.parametrize(
    ("value", "choices", "message"),
    [
        (True, [0, 1], "norm=True: accepted are 0, 1"),
        (1, [False, True], "norm=1: accepted are False, True"),
        (1.5, [1, 2], r"norm=1\.5: accepted are 1, 2"),
        (1.0, [1, 2], r"norm=1\.0: accepted are 1, 2"),
        (1, [1.0], r"norm=1: accepted are 1\.0"),
        ("1", [1, 2], "norm=1: accepted are 1, 2"),
        ("linff", ["linf", "l2"], "norm=linff: accepted are linf, l2; did you mean 'linf'[?]"),
        ("l3", ["linf", "l2"], "norm=l3: accepted are linf, l2"),
        ("LINF", ["linf", "l2"], "norm=LINF: accepted are linf, l2; did you mean 'linf'[?]"),
        ("zebra", ["linf", "l2"], "norm=zebra: accepted are linf, l2"),
        ("zebra", ["", "l2"], r"norm=zebra: accepted are '' \(not given\), l2"),
        (None, ["", "l2"], r"norm=None: accepted are '' \(not given\), l2"),
        (math.nan, [0.5], r"norm=nan: accepted are 0\.5"),
        (["l2"], ["l2"], r"norm=\['l2'\]: accepted are l2.*"),
        (np.zeros(2), [0, "l2"], r"norm=array\(\[0., 0.\]\): accepted are 0, l2"),
    ],
    ids=str,
)
def test_what_is_no_choice_is_refused(value, choices, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        require_choice("norm", value, choices)


@pytest.mark.parametrize("value", [0, 1, LARGEST_COUNT, np.int64(5), np.uint8(200)])
def test_whole_numbers_are_accepted(value):
    require_whole("steps", value)
    require_whole("steps", value, value, value)


NOT_WHOLE = [True, False, 1.5, 2.0, math.nan, math.inf, "3", None, [1], np.float32(2), 1j]
NOT_WHOLE += [np.bool_(True)]


@pytest.mark.parametrize(
    "value", [*NOT_WHOLE, -1, LARGEST_COUNT + 1, 10**400, -(10**5000)], ids=type
)
def test_what_is_no_whole_number_in_the_range_is_refused(value):
    with pytest.raises(
        ValueError, match=r"^steps=.+: accepted are whole numbers, 0 to 2147483647$"
    ):
        require_whole("steps", value)


def test_the_range_of_whole_numbers_is_said():
    for value in (1, 11):
        with pytest.raises(
            ValueError, match=f"^steps={value}: accepted are whole numbers, 2 to 10$"
        ):
            require_whole("steps", value, 2, 10)
    with pytest.raises(ValueError, match="^steps=1: accepted are even ones$"):
        require_whole("steps", 1, 2, 10, "even ones")


@pytest.mark.parametrize(
    "value", [0, -1, 0.5, -1e300, 10**300, np.float64(0.5), np.float32(0.5)], ids=str
)
def test_finite_numbers_are_accepted(value):
    require_finite("epsilon", value)


NOT_FINITE = [math.nan, math.inf, -math.inf, True, False, 10**400, -(10**400), 10**5000]
NOT_FINITE += [np.float32("nan"), np.float16("inf")]
NO_NUMBERS = ["0.5", None, [0.5], 1j, np.zeros(1), np.bool_(True)]


@pytest.mark.parametrize("value", [*NOT_FINITE, *NO_NUMBERS], ids=type)
def test_what_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match=r"^epsilon=.+: accepted are finite numbers$"):
        require_finite("epsilon", value)


@pytest.mark.parametrize(
    ("value", "limits", "message"),
    [
        (-0.1, {"least": 0}, "-0.1: accepted are finite numbers, at least 0"),
        (1.5, {"most": 0.25}, "1.5: accepted are finite numbers, at most 0.25"),
        (2, {"least": 0, "most": 1}, "2: accepted are finite numbers, at least 0 and at most 1"),
        (math.nan, {"least": 0}, "nan: accepted are finite numbers, at least 0"),
        (5, {"most": 1, "accepted": "parts of one"}, "5: accepted are parts of one"),
    ],
)  # fmt: skip
def test_the_range_of_finite_numbers_is_said(value, limits, message):
    with pytest.raises(ValueError) as caught:
        require_finite("epsilon", value, **limits)
    assert str(caught.value) == f"epsilon={message}"


def test_the_ends_of_a_range_are_in_it():
    require_finite("epsilon", 0.25, 0.25, 0.25)


@pytest.mark.parametrize(
    ("value", "finite"),
    [
        (0, True),
        (1.5, True),
        (10**308, True),
        (10**309, False),
        (-(10**5000), False),
        (math.nan, False),
        (math.inf, False),
    ],
    ids=range(7),
)
def test_finite_is_what_a_float_can_hold(value, finite):
    assert is_finite(value) is finite and is_number(value)


@pytest.mark.parametrize("value", [True, False, "1", None, [1], 1j, np.bool_(True)], ids=str)
def test_no_number(value):
    assert not is_number(value)


SHOWN = {
    "a whole float": (1.0, "1.0"),
    "a small float": (0.03, "0.03"),
    "a large float": (1e22, "1e+22"),
    "not a number": (math.nan, "nan"),
    "a truth value": (True, "True"),
    "a number of NumPy": (np.float32(0.5), "0.5"),
    "a truth value of NumPy": (np.bool_(True), "True"),
    "nothing": (None, "None"),
    "a text": ("pgd", "pgd"),
    "a text that ends like a float": ("1.0", "1.0"),
    "an empty list": ([], "[]"),
    "a list": ([1.0, "a"], "[1.0, 'a']"),
    "a text of two lines": ("a\nb", "'a\\nb'"),
    "a text with a bell": ("a\x07", "'a\\x07'"),
    "sixty letters": ("x" * 60, "x" * 60),
    "sixty-one letters": ("x" * 61, "x" * 40 + "... (61 characters)"),
    "a long list": ([0] * 100, "[" + "0, " * 13 + "... (300 characters)"),
    "401 digits": (10**400, "1" + "0" * 39 + "... (401 characters)"),
}


@pytest.mark.parametrize(("value", "text"), SHOWN.values(), ids=list(SHOWN))
def test_a_value_in_a_message(value, text):
    assert shown(value) == text


@pytest.mark.parametrize("value", [True, False, np.bool_(True)])
def test_truth_values_are_accepted(value):
    require_truth("remat", value)


@pytest.mark.parametrize("value", ["False", "", 0, 1, None])
def test_what_is_no_truth_value_is_refused(value):
    with pytest.raises(ValueError, match="^remat=.*: accepted are True, False"):
        require_truth("remat", value)


@pytest.mark.parametrize("value", [10**5000, -(10**5000)], ids=["above", "below"])
def test_a_number_that_python_does_not_write_has_its_digits_counted(value):
    assert shown(value) in ("(a number of some 5000 digits)", "(a number of some 5001 digits)")


@pytest.mark.parametrize("value", [[10**5000], (1, 10**5000), {"a": 10**5000}], ids=type)
def test_whatever_holds_such_a_number_is_shown_too(value):
    assert len(shown(value)) <= 80
