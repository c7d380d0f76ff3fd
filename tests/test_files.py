"""Files that are written whole or not at all, and JSON that is read with one error."""

import errno
import json
import os
import stat
import threading

import numpy as np
import pytest

from robustjax.files import (
    Path,
    is_local,
    parse_json,
    read_json,
    require_writable,
    set_aside,
    write_whole,
)

NUMBERS = np.arange(6, dtype="<i4")
CONTENTS = {
    "text": ("ä text\n", b"\xc3\xa4 text\n"),
    "bytes": (b"\x00\xff\r\n", b"\x00\xff\r\n"),
    "memory": (memoryview(b"abc")[1:], b"bc"),
    "memory of numbers": (memoryview(NUMBERS), NUMBERS.tobytes()),
    "nothing": ("", b""),
}


@pytest.mark.parametrize(("content", "written"), CONTENTS.values(), ids=list(CONTENTS))
def test_a_file_is_written_and_replaced(tmp_path, content, written):
    path = tmp_path / "new" / "folder" / "file"
    assert write_whole(str(path), content) == path
    assert path.read_bytes() == written
    path.write_bytes(b"something longer that was there before")
    write_whole(path, content)
    assert path.read_bytes() == written
    assert os.listdir(path.parent) == ["file"]


def test_a_relative_name_is_of_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_whole("file", "content")
    assert (tmp_path / "file").read_text() == "content"


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("before", ["the old content", None], ids=["replaced", "new"])
def test_a_write_that_fails_leaves_everything_as_it_was(tmp_path, monkeypatch, function, before):
    path = tmp_path / "file"
    if before:
        path.write_text(before)

    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device", "a name nobody knows")

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError) as caught:
        write_whole(path, "the new content")
    monkeypatch.undo()
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(path)
    assert [other.name for other in tmp_path.iterdir()] == (["file"] if before else [])
    assert not before or path.read_text() == before


def test_a_folder_of_that_name_is_not_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_whole(tmp_path / "folder", "content")
    assert caught.value.filename == str(tmp_path / "folder")
    assert os.listdir(tmp_path) == ["folder"] and (tmp_path / "folder").is_dir()


def test_a_file_in_the_place_of_the_folder_is_an_error(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(OSError, match="file"):
        write_whole(tmp_path / "file" / "below", "content")
    assert (tmp_path / "file").read_text() == "old" and os.listdir(tmp_path) == ["file"]


def test_the_content_is_on_the_disk_before_it_gets_the_name(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(handle):
        status = os.fstat(handle)
        events.append("folder" if stat.S_ISDIR(status.st_mode) else status.st_size)
        fsync(handle)

    def recorded_replace(source, target):
        events.append(os.path.basename(target))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    write_whole(tmp_path / "file", b"x" * 5000)
    assert events == [5000, "file", "folder"]


def test_writers_at_once_do_not_mix_and_no_reader_sees_half(tmp_path):
    path = tmp_path / "file"
    whole = {letter * 300_000 for letter in "abc"}
    write_whole(path, "a" * 300_000)
    errors, finished = [], threading.Event()

    def write(content):
        try:
            for _ in range(15):
                write_whole(path, content)
        except BaseException as error:
            errors.append(error)

    def read():
        while not finished.is_set():
            if path.read_text() not in whole:
                errors.append("half a file")

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(content,)) for content in whole]
    reader.start()
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    finished.set()
    reader.join()
    assert errors == []
    assert path.read_text() in whole and os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("value", [{"a": [1, None, "ä"]}, {}, [1, {"b": 2.5}], []], ids=str)
def test_json_is_read_back(tmp_path, value):
    path = tmp_path / "file.json"
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    assert read_json(path, type(value)) == read_json(str(path), type(value)) == value
    assert parse_json(path.read_bytes()) == parse_json(path.read_text(encoding="utf-8")) == value


DAMAGED = {
    "nothing": b"",
    "cut off": b'{"a": [1, 2',
    "two values": b'{"a": 1}{"a": 2}',
    "no text": b"\xff\xfe{\x00}\x00",
    "text": b"a text",
    "lists nested too deeply": b"[" * 100_000,
    "objects nested too deeply": b'{"a":' * 100_000,
    "a number of five thousand digits": b'{"a": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=list(DAMAGED))
def test_damaged_json_is_one_error_that_names_the_file(tmp_path, content):
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"file\.json is damaged \(.+\); make it again, or remove"):
        read_json(path)
    with pytest.raises(ValueError):
        parse_json(content)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        ("[1]", dict, "holds no JSON object"),
        ("5", dict, "holds no JSON object"),
        ("null", dict, "holds no JSON object"),
        ('{"a": 1}', list, "holds no JSON list"),
        ('"[1]"', list, "holds no JSON list"),
    ],
)
def test_json_of_another_kind_is_damaged(tmp_path, content, kind, message):
    (tmp_path / "file.json").write_text(content)
    with pytest.raises(ValueError, match=rf"file\.json is damaged \(it {message}\)"):
        read_json(tmp_path / "file.json", kind)


def test_json_that_is_not_there_is_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "absent.json")


def test_a_folder_that_can_be_written_into_is_made_and_left_empty(tmp_path):
    folder = tmp_path / "new" / "folder"
    assert require_writable(str(folder), "--output=x") == folder
    assert folder.is_dir() and os.listdir(folder) == []
    (folder / "file").write_text("mine")
    require_writable(folder, "--output=x")
    assert os.listdir(folder) == ["file"] and (folder / "file").read_text() == "mine"


@pytest.mark.parametrize("below", ["", "below", "below/it"])
def test_a_file_in_the_way_of_a_folder_names_the_flag(tmp_path, below):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match=r"^--output=x: the folder \S+ cannot be written into: "):
        require_writable(tmp_path / "file" / below, "--output=x")
    assert os.listdir(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_cannot_be_written_into_names_the_flag(tmp_path, monkeypatch):
    def refuse(path, *arguments, **options):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(type(Path(tmp_path)), "write_bytes", refuse)
    with pytest.raises(ValueError, match=r"^--output=x: the folder .*: Permission denied$"):
        require_writable(tmp_path, "--output=x")
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no /proc")
def test_a_folder_that_not_even_root_can_make_names_the_flag():
    with pytest.raises(ValueError, match="--output=x: the folder /proc/robustjax cannot be"):
        require_writable("/proc/robustjax", "--output=x")


@pytest.mark.parametrize(
    ("path", "local"),
    [
        ("file", True),
        ("/folder/file", True),
        ("C:\\folder\\file", True),
        ("a:b", True),
        ("gs://bucket/file", False),
        ("s3://bucket/file", False),
        (Path("/folder/file"), True),
        (Path("gs://bucket/file"), False),
    ],
    ids=str,
)
def test_what_is_in_a_bucket(path, local):
    assert is_local(path) is local


@pytest.mark.parametrize("name", ["x.json", "x.2.json"])
def test_what_is_set_aside_gets_the_first_free_name(tmp_path, name):
    path = Path(tmp_path) / name
    kept = []
    for content in ("first", "second"):
        path.write_text(content)
        kept.append(set_aside(path))
    assert not path.exists()
    assert [other.read_text() for other in kept] == ["first", "second"]
    assert all(other.suffix == path.suffix and other.parent == path.parent for other in kept)


def test_names_that_are_taken_by_the_other_kind_are_refused_before_anything_is_made(tmp_path):
    (tmp_path / "table.md").mkdir()
    (tmp_path / "figures").touch()
    for arguments in ({"files": ["a", "table.md"]}, {"folders": ["b", "figures"]}):
        with pytest.raises(
            ValueError, match=r"^--output: .*(table\.md is a folder|figures is a file)"
        ):
            require_writable(tmp_path, "--output", **arguments)
    require_writable(tmp_path, "--output", files=["figures", "new"], folders=["table.md", "other"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures", "table.md"]
