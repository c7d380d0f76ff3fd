"""Flag files are read as absl reads them; those that cannot be are refused by name."""

import errno
from pathlib import Path

import pytest
from absl import flags

from robustjax.cli.flag_files import expanded


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path


def write(**contents):
    for name, content in contents.items():
        Path(name).write_text(content)


def chain(length):
    """The first of so many files, each of which includes the next."""
    for number in range(length - 1):
        Path(f"file{number}").write_text(f"--flagfile=file{number + 1}\n")
    Path(f"file{length - 1}").write_text("--epochs=3\n")
    return "--flagfile=file0"


SPELLINGS = {
    "an equals sign": ["--flagfile={}"],
    "the next argument": ["--flagfile", "{}"],
    "one minus": ["-flagfile={}"],
    "one minus and the next argument": ["-flagfile", "{}"],
    "among others": ["--epochs=3", "--flagfile={}", "--seed=1"],
    "the second of two": ["--flagfile=good", "--flagfile={}"],
    "after one in the next argument": ["--flagfile", "good", "--flagfile", "{}"],
    "after a name that looks like a flag": ["--flagfile", "--flagfile", "--flagfile={}"],
}  # fmt: skip


def spelled(spelling, name):
    return [part.format(name) for part in spelling]


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=list(SPELLINGS))
def test_every_spelling_is_understood(spelling):
    write(good="--epochs=3\n", **{"--flagfile": "--epochs=5\n"})
    expanded(spelled(spelling, "good"))
    with pytest.raises(ValueError, match="^--flagfile=absent cannot be read: No such file"):
        expanded(spelled(spelling, "absent"))


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=list(SPELLINGS))
def test_the_flags_are_those_that_absl_finds(spelling):
    inner = "# a comment\n\n//another\n  --seed=2  \n--title=two words\n-flagfile=inner\n--seed=3"
    write(good="--epochs=4", outer=inner, inner="--epochs=6\n", **{"--flagfile": "--seed=7"})
    given = spelled(spelling, "outer")
    found = expanded(given)
    assert found == flags.FlagValues().read_flags_from_files(given, force_gnu=True)
    assert "--title=two words" in found and "--epochs=6" in found


def test_a_file_that_is_not_here_is_found_in_the_package(folder):
    packaged = expanded(["--flagfile=quickstart.flags"])
    assert "--model=digits_cnn" in packaged
    assert expanded(["--flagfile=launch/quickstart.flags"]) == packaged
    # A flag file of the package that includes another.
    assert "--model=sense_mnist_cnn_3" in expanded(["--flagfile=mnist/trades.flags"])
    write(**{"quickstart.flags": "--epochs=3\n"})
    assert expanded(["--flagfile=quickstart.flags"]) == ["--epochs=3"]
    with pytest.raises(ValueError, match="^--flagfile=quikstart.flags cannot be read: No such"):
        expanded(["--flagfile=quikstart.flags"])


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--flagfile="],
        ["-flagfile="],
        ["--epochs=3", "absent"],
        ["--other_flagfile=absent"],
        ["--flagfiles=absent"],
        ["--title=--flagfile=absent"],
        ["flagfile=absent"],
        ["---flagfile=absent"],
        # absl says what is missing.
        ["--flagfile"],
    ],
    ids=str,
)
def test_what_names_no_flag_file_is_let_through(arguments):
    expanded(arguments)
    expanded(iter(arguments))


def test_a_folder_is_no_flag_file(folder):
    (folder / "folder").mkdir()
    with pytest.raises(ValueError, match="^--flagfile=folder cannot be read: Is a directory$"):
        expanded(["--flagfile=folder"])


def test_a_file_that_may_not_be_read_says_so(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    from robustjax.files import Path as AnyPath

    monkeypatch.setattr(type(AnyPath("file")), "read_bytes", refuse)
    with pytest.raises(ValueError, match="^--flagfile=file cannot be read: Permission denied$"):
        expanded(["--flagfile=file"])


def test_a_name_of_two_lines_is_a_name():
    with pytest.raises(ValueError, match="^--flagfile=a\nb cannot be read: "):
        expanded(["--flagfile=a\nb"])


@pytest.mark.parametrize("content", [b"--epochs=\xff\n", b"\x89PNG\r\n\x1a\n", b"\xff\xfe-\x00"])
def test_a_file_that_is_no_text_says_so(folder, content):
    (folder / "picture").write_bytes(content)
    with pytest.raises(ValueError, match="^--flagfile=picture is no text: .*utf-8"):
        expanded(["--flagfile=picture"])


def test_text_of_other_languages_is_text(folder):
    (folder / "größe").write_text("# Größe der Kugel, 半径\n--epochs=3\n", encoding="utf-8")
    expanded(["--flagfile=größe"])


def test_a_file_that_includes_itself_says_so():
    write(own="--epochs=3\n  --flagfile=own  \n")
    with pytest.raises(ValueError, match="^--flagfile=own includes itself, by way of own$"):
        expanded(["--flagfile=own"])


def test_a_file_that_includes_itself_by_way_of_others_names_the_last():
    write(first="-flagfile=second\n", second="--flagfile=third\n", third="--flagfile=first")
    with pytest.raises(ValueError, match="^--flagfile=first includes itself, by way of third$"):
        expanded(["--seed=1", "--flagfile=first"])
    with pytest.raises(ValueError, match="^--flagfile=second includes itself, by way of first$"):
        expanded(["--flagfile=second"])


def test_another_name_of_the_same_file_ends_too():
    write(own="--flagfile=./own\n")
    with pytest.raises(ValueError, match=r"^--flagfile=\./own includes itself"):
        expanded(["--flagfile=own"])


def test_a_file_may_be_included_twice():
    write(left="--flagfile=common", right="--flagfile=common", common="--epochs=3")
    write(top="--flagfile=left\n--flagfile=right\n--flagfile=common\n")
    expanded(["--flagfile=top", "--flagfile=top"])


def test_a_damaged_file_inside_others_is_named():
    write(first="# a comment\n\n--flagfile=second\n", second="--epochs=3\n--flagfile=absent\n")
    with pytest.raises(ValueError, match="^--flagfile=absent cannot be read"):
        expanded(["--flagfile=first"])


def test_what_a_comment_says_is_not_read():
    write(file="# --flagfile=absent\n//--flagfile=absent\n--epochs=3\n")
    expanded(["--flagfile=file"])


def test_twenty_files_may_include_each_other():
    expanded([chain(20)])


def test_a_longer_chain_is_refused_and_names_its_beginning():
    with pytest.raises(ValueError) as caught:
        expanded([chain(21)])
    assert str(caught.value) == (
        "--flagfile=file20: more than 20 flag files include each other, from --flagfile=file0 on"
    )


def test_the_tilde_is_the_home_of_whoever_runs_it(folder):
    (folder / "home" / "mine").write_text("--flagfile=~/inner\n")
    (folder / "home" / "inner").write_text("--epochs=3\n")
    for spelling in SPELLINGS.values():
        write(good="", **{"--flagfile": ""})
        expanded(spelled(spelling, "~/mine"))
    (folder / "home" / "inner").unlink()
    with pytest.raises(ValueError, match="^--flagfile=~/inner cannot be read"):
        expanded(["--flagfile=~/mine"])
