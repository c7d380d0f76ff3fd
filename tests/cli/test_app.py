"""What every launcher does with its command line."""

import os
import sys

import pytest
from absl import flags

from robustjax import installed, parallel
from robustjax.batching import batches_of_one_shape
from robustjax.cli import app
from robustjax.errors import UserError


@pytest.fixture
def launch(monkeypatch, capsys):
    """Runs a launcher with fresh flags; gives its exit status and what it printed."""

    def launch(main, *arguments):
        values = flags.FlagValues()
        monkeypatch.setattr(flags, "FLAGS", values)

        def define():
            flags.DEFINE_integer("number", 3, "a whole number", flag_values=values)
            flags.DEFINE_multi_string("word", [], "a word", flag_values=values)

        with pytest.raises(SystemExit) as end:
            app.run(
                lambda: main(values),
                define,
                description="Does things.",
                groups={"things": ["number", "word"]},
                arguments=arguments,
            )
        return end.value.code, capsys.readouterr()

    return launch


def test_a_reader_that_has_read_enough_is_no_mistake(launch, monkeypatch):
    def main(values):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(app.os, "dup2", lambda *_: None)
    monkeypatch.setattr(app.sys, "stdout", open(os.devnull, "w"))  # noqa: SIM115
    code, printed = launch(main)
    assert code == 141 and printed.err == ""


def test_the_home_of_the_user_is_meant_by_a_tilde(launch, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    seen = []
    monkeypatch.setattr(app, "PATHS", ("word", "absent"))
    code, _ = launch(lambda values: seen.append(values.word), "--word=~/run", "--word=a~b")
    assert code == 0 and seen == [["/home/me/run", "a~b"]]


def test_flags_reach_the_launcher(launch):
    seen = []
    code, _ = launch(lambda values: seen.append(values.number), "--number=7")
    assert code == 0 and seen == [7]


@pytest.mark.parametrize("argument", ["--help", "-h", "--helpfull"])
def test_help_lists_groups_flags_and_defaults(launch, argument):
    code, printed = launch(lambda values: pytest.fail("ran"), argument)
    assert code == 0
    assert printed.out.startswith("Does things.\n\nthings:\n")
    assert "  --number                 a whole number [3]\n" in printed.out
    assert "--flagfile=FILE" in printed.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nubmer=7"], "--nubmer: there is no such flag; did you mean --number?"),
        (["--number=seven"], "flag --number=seven"),
        (["number"], "'number' is not a flag; flags are written as --name=value"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(launch, arguments, message):
    code, printed = launch(lambda values: pytest.fail("ran"), *arguments)
    assert code == 1 and message in printed.err
    assert printed.err.startswith("error: ") and "Traceback" not in printed.err


def raise_(error):
    raise error


def test_what_is_recorded_and_said_names_the_command_that_was_run(launch, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["launch/train.py", "--word=a b"])
    assert app.command_line() == "python launch/train.py '--word=a b'"
    monkeypatch.setenv("ROBUSTJAX_PROGRAM", "robustjax")
    monkeypatch.setattr(installed, "_command_here", ["robustjax", "train"])
    assert app.command_line() == "robustjax train '--word=a b'"

    def main(values):
        app.warn("see launch/verify.py")
        raise UserError("label it with launch/pseudo_label.py")

    code, printed = launch(main)
    said = "warning: see robustjax verify\nerror: label it with robustjax pseudo-label\n"
    assert (code, printed.err) == (1, said)


def test_a_missing_extra_is_one_sentence_that_names_it(launch):
    error = ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")
    code, printed = launch(lambda values: raise_(error))
    said = "this needs matplotlib, which is not installed: pip install 'robustjax[figures]'"
    assert (code, printed.err) == (1, f"error: {said}\n")


def test_errors_of_this_package_are_one_sentence(launch, monkeypatch):
    monkeypatch.delenv("ROBUSTJAX_TRACEBACK", raising=False)

    def main(values):
        raise UserError("no such thing")

    code, printed = launch(main)
    assert (code, printed.err) == (1, "error: no such thing\n")
    from robustjax.text import parse_number

    code, printed = launch(lambda values: parse_number("x"))
    assert code == 1 and printed.err.startswith("error: 'x' is not a number")


def test_errors_that_nobody_foresaw_keep_their_traceback(launch):
    code, printed = launch(lambda values: raise_(KeyError("lost")))
    assert code == 1 and "Traceback" in printed.err and "lost" in printed.err


def test_a_value_error_that_nobody_raised_on_purpose_keeps_its_traceback(launch):
    code, printed = launch(lambda values: list(batches_of_one_shape(3, size=0)))
    assert code == 1 and "Traceback" in printed.err and "batching.py" in printed.err


def test_a_traceback_can_be_asked_for(launch, monkeypatch):
    monkeypatch.setenv("ROBUSTJAX_TRACEBACK", "1")
    code, printed = launch(lambda values: raise_(UserError("no such thing")))
    assert code == 1 and "Traceback" in printed.err


def test_interrupting_is_not_an_error_report(launch):
    code, printed = launch(lambda values: raise_(KeyboardInterrupt()))
    assert (code, printed.err) == (130, "interrupted\n")


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("number=9: accepted are 1 to 3", "--number=9: accepted are 1 to 3"),
        ("number is not given", "--number is not given"),
        ("word=a number=2: together", "--word=a --number=2: together"),
        ("words=a: accepted is one", "words=a: accepted is one"),
        ("other=1: a number of it, number", "other=1: a number of it, number"),
        (
            "word=b(number=1): not accepted (number=1)",
            "--word=b(number=1): not accepted (number=1)",
        ),
        ("--number=9 as it is", "--number=9 as it is"),
        ("'number=1': a run", "'number=1': a run"),
    ],
)
def test_arguments_are_said_as_the_flags_that_gave_them(launch, said, shown):
    code, printed = launch(lambda values: raise_(UserError(said)))
    assert (code, printed.err) == (1, f"error: {shown}\n")


def test_the_flag_of_several_is_said_of_one(launch, monkeypatch):
    def main(values):
        flags.DEFINE_list("attacks", [], "names", flag_values=values)
        raise UserError("attack=x: accepted are clean, fgsm")

    code, printed = launch(main)
    assert (code, printed.err) == (1, "error: --attacks=x: accepted are clean, fgsm\n")


@pytest.mark.parametrize(
    "said",
    [
        "UNKNOWN: Gloo all-reduce failed: Connection closed by peer",
        "INTERNAL: task 1 stopped sending heartbeats",
        "UNAVAILABLE: failed to connect to all addresses",
        "DEADLINE_EXCEEDED: Barrier timed out",
        "INTERNAL: NCCL operation failed: unhandled system error",
    ],
)
def test_a_lost_process_is_known_by_what_each_library_says_of_it(monkeypatch, said):
    monkeypatch.setattr(parallel, "is_one_of_several", lambda: True)
    assert app.is_foreseen(RuntimeError(said))
    assert not app.is_foreseen(TypeError(said))


def test_a_process_that_is_gone_is_told_from_other_errors(monkeypatch):
    gone = RuntimeError("UNKNOWN: Gloo all-reduce failed: Connection reset by peer\nand more")
    assert not app.is_foreseen(gone)
    monkeypatch.setattr(parallel, "is_one_of_several", lambda: True)
    assert app.is_foreseen(gone)
    assert app.describe(gone).startswith("another process of this run has ended")
    assert "and more" not in app.describe(gone)
    assert not app.is_foreseen(RuntimeError("INTERNAL: a program of ours"))
