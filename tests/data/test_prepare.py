"""From the authors' archives on a server to identical arrays in memory, without TensorFlow."""

import dataclasses
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from absl import flags

from robustjax import data
from robustjax.cli import app, prepare_data
from robustjax.data import DataError
from robustjax.data.prepared import originals

NAMES = ["mnist", "cifar10", "cifar100", "svhn"]
ROOT = Path(__file__).resolve().parents[2]
tfds = pytest.importorskip("tensorflow_datasets")


def in_order_of_pixels(images, *labels):
    order = sorted(range(len(images)), key=lambda row: images[row].tobytes())
    return [np.asarray(array)[order] for array in (images, *labels)]


def looks_prepared(directory):
    return list(Path(directory).rglob("dataset_info.json"))


def prepare(name, directory, published, server, **options):
    return data.prepare(
        name, str(directory), base_url=server.url, archives=published[name].archives, **options
    )


@pytest.mark.parametrize("name", NAMES)
def test_everything_published_arrives_unchanged(name, published, serve, tmp_path):
    wanted = published[name]
    server = serve(wanted.files)
    lines = []
    directory = prepare(name, tmp_path, published, server, progress=lines.append)
    version = originals.ORIGINALS[name].version
    assert directory == str(tmp_path / wanted.tfds_name / version)
    assert any(version in line for line in lines)
    assert "tensorflow" not in sys.modules

    for split, (images, labels) in wanted.splits.items():
        source = tfds.data_source(
            wanted.tfds_name, split=split, data_dir=str(tmp_path), download=False
        )
        examples = source.__getitems__(range(len(source)))
        read_images = np.stack([example["image"] for example in examples])
        read_labels = [example["label"] for example in examples]
        expected = in_order_of_pixels(images, labels)
        for ours, theirs in zip(
            expected, in_order_of_pixels(read_images, read_labels), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
        if name != "mnist":
            digits = 6 if name == "svhn" else 5
            numbers = [
                int(example["id"].decode().removeprefix(f"{split}_")) for example in examples
            ]
            assert {len(example["id"]) for example in examples} == {len(split) + 1 + digits}
            np.testing.assert_array_equal(read_images, images[numbers])
        if wanted.coarse:
            coarse = [example["coarse_label"] for example in examples]
            np.testing.assert_array_equal(coarse, wanted.coarse[split][numbers])

        loaded = data.load(name, split, data_dir=str(tmp_path), allow_prepare=False)
        np.testing.assert_array_equal(loaded.images, read_images)
        np.testing.assert_array_equal(loaded.labels, read_labels)
        assert loaded.name == name
        assert loaded.num_classes == (100 if name == "cifar100" else 10)
        assert len(loaded.class_names) == loaded.num_classes
    if name == "cifar10":
        assert loaded.class_names[:2] == ("airplane", "automobile")
    if name == "cifar100":
        assert loaded.class_names[99] == "thing_99"
    assert not list(tmp_path.rglob("escaped")) and not list(tmp_path.rglob("link"))
    assert not Path("/robustjax-escaped").exists()
    assert not list(tmp_path.glob(".*preparing*"))

    asked = len(server.requests)
    assert prepare(name, tmp_path, published, server) == directory
    assert len(server.requests) == asked


def test_splits_of_svhn_can_be_joined(published, serve, tmp_path):
    prepare("svhn", tmp_path, published, serve(published["svhn"].files))
    train = data.load("svhn", "train", data_dir=str(tmp_path))
    extra = data.load("svhn", "extra", data_dir=str(tmp_path))
    both = data.load("svhn", "train+extra", data_dir=str(tmp_path))
    np.testing.assert_array_equal(both.images, np.concatenate([train.images, extra.images]))
    np.testing.assert_array_equal(both.labels, np.concatenate([train.labels, extra.labels]))
    with pytest.raises(DataError, match=r"no split 'validation'.*train, test, extra"):
        data.load("svhn", "validation", data_dir=str(tmp_path))


def test_loading_prepares_by_itself(published, serve, tmp_path, monkeypatch):
    server = serve(published["mnist"].files)
    original = dataclasses.replace(
        originals.ORIGINALS["mnist"],
        archives=tuple(published["mnist"].archives),
        base_urls=("http://127.0.0.1:9", server.url),
    )
    monkeypatch.setitem(originals.ORIGINALS, "mnist", original)
    with pytest.raises(DataError, match="not prepared"):
        data.load("mnist", "test", data_dir=str(tmp_path), allow_prepare=False)
    assert not server.requests
    loaded = data.load("mnist", "test", data_dir=str(tmp_path))
    expected = in_order_of_pixels(*published["mnist"].splits["test"])
    for ours, theirs in zip(
        expected, in_order_of_pixels(loaded.images, loaded.labels), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_sum_leaves_nothing(name, published, serve, tmp_path):
    files = dict(published[name].files)
    last = list(files)[-1]
    changed = bytearray(files[last])
    changed[len(changed) // 2] ^= 1
    server = serve({**files, last: bytes(changed)})
    with pytest.raises(DataError, match=f"{last}: wrong checksum: sha256 [0-9a-f]{{64}} instead"):
        prepare(name, tmp_path, published, server)
    assert not looks_prepared(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(last)]
    server.files.update(files)
    prepare(name, tmp_path, published, server)
    assert len(looks_prepared(tmp_path)) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_is_continued(ranges, published, serve, tmp_path):
    (name, whole), *_ = published["cifar10"].files.items()
    server = serve(published["cifar10"].files)
    server.break_after, server.ranges = 1000, ranges
    with pytest.raises(DataError, match=f"ended after 1000 of {len(whole)} bytes"):
        prepare("cifar10", tmp_path, published, server)
    assert not looks_prepared(tmp_path)
    assert not (tmp_path / "downloads" / name).exists()
    assert (tmp_path / "downloads" / f"{name}.part").read_bytes() == whole[:1000]
    server.break_after = None
    prepare("cifar10", tmp_path, published, server)
    assert server.requests[-1] == ("GET", f"/{name}", "bytes=1000-")
    assert (tmp_path / "downloads" / name).read_bytes() == whole
    assert len(data.load("cifar10", "train", data_dir=str(tmp_path))) == 25


def test_a_file_that_is_too_long_or_missing_is_refused(published, serve, tmp_path):
    (name, whole), *_ = published["cifar10"].files.items()
    server = serve({name: whole + b"more"})
    with pytest.raises(DataError, match="longer than the published"):
        prepare("cifar10", tmp_path, published, server)
    server.files.clear()
    with pytest.raises(DataError, match="answered 404"):
        prepare("cifar10", tmp_path, published, server)
    assert not looks_prepared(tmp_path) and not list(tmp_path.rglob("*.part"))


def test_archives_put_there_by_hand_need_no_network(published, tmp_path, no_network):
    (tmp_path / "downloads").mkdir()
    for name, content in published["cifar100"].files.items():
        (tmp_path / "downloads" / name).write_bytes(content)
    data.prepare("cifar100", str(tmp_path), archives=published["cifar100"].archives)
    assert len(data.load("cifar100", "test", data_dir=str(tmp_path))) == 7
    assert not no_network


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("mnist", b"not gzip", "gz cannot be read: Not a gzipped file"),
        ("cifar10", b"not a tar", "is not a .tar.gz archive"),
        ("svhn", b"not a mat file", "is not a MATLAB file"),
    ],
)
def test_archives_in_another_format_are_refused(name, content, message, published, serve, tmp_path):
    wrong = dataclasses.replace(
        published[name], files=dict.fromkeys(published[name].files, content)
    )
    with pytest.raises(DataError, match=message):
        prepare(name, tmp_path, {name: wrong}, serve(wrong.files))
    assert not looks_prepared(tmp_path) and not list(tmp_path.glob(".*preparing*"))


def test_a_killed_preparation_never_looks_prepared(published, tmp_path):
    (tmp_path / "downloads").mkdir()
    for file, content in published["mnist"].files.items():
        (tmp_path / "downloads" / file).write_bytes(content)
    archives = [dataclasses.astuple(archive) for archive in published["mnist"].archives]
    program = f"""
import os
from robustjax.data.prepared import download, preparation
write = preparation._write_records
def write_and_die(*arguments):
    write(*arguments)
    os._exit(9)
preparation._write_records = write_and_die
archives = [download.Archive(*fields) for fields in {archives}]
preparation.prepare("mnist", {str(tmp_path)!r}, archives=archives)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    assert killed.returncode == 9
    assert looks_prepared(tmp_path), "the hidden folder should have been complete"
    with pytest.raises(DataError, match="not prepared there"):
        data.load("mnist", "train", data_dir=str(tmp_path), allow_prepare=False)
    data.prepare("mnist", str(tmp_path), archives=published["mnist"].archives)
    assert not list(tmp_path.glob(".*preparing*"))
    assert len(data.load("mnist", "train", data_dir=str(tmp_path))) == 23


def test_two_at_once_prepare_it_once(published, serve, tmp_path):
    server = serve(published["cifar100"].files)
    threads = [
        threading.Thread(target=prepare, args=("cifar100", tmp_path, published, server))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([request for request in server.requests if request[0] == "GET"]) == 1
    assert len(data.load("cifar100", "train", data_dir=str(tmp_path))) == 20


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("imagenet", {}, "accepted are, to prepare, mnist, cifar10, cifar100, svhn"),
        ("mnist", {"data_dir": "gs://bucket/data"}, "gs://bucket/data: accepted is a local folder"),
        ("mnist", {"base_url": "file:///etc"}, "base_url=file:///etc: accepted are http"),
    ],
)
def test_arguments_that_cannot_be(name, options, message, tmp_path):
    with pytest.raises(DataError, match=message):
        data.prepare(name, **{"data_dir": str(tmp_path), **options})


def test_a_folder_that_cannot_be_written(published, serve, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"data_dir=.*file"):
        prepare("mnist", tmp_path / "file", published, serve(published["mnist"].files))


def test_without_a_server_loading_says_what_to_do_within_five_seconds(tmp_path, monkeypatch):
    original = originals.ORIGINALS["cifar10"]
    refusing = dataclasses.replace(original, base_urls=("http://127.0.0.1:9",))
    monkeypatch.setitem(originals.ORIGINALS, "cifar10", refusing)
    directory = tmp_path / "nothing"
    start = time.monotonic()
    with pytest.raises(DataError) as caught:
        data.load("cifar10", "train", data_dir=str(directory))
    assert time.monotonic() - start < 5
    message = str(caught.value)
    assert f"data_dir={directory}: the data set 'cifar10' is not prepared there" in message
    assert "refused" in message
    command = f"python launch/prepare_data.py --dataset=cifar10 --data_dir={directory}"
    assert command in message
    assert "dataset=digits" in message
    assert not directory.exists()


def test_a_name_server_that_never_answers_is_not_waited_for(tmp_path, monkeypatch):
    released = threading.Event()

    def wait(*arguments, **options):
        released.wait(60)
        raise OSError("no such host")

    monkeypatch.setattr("socket.getaddrinfo", wait)
    start = time.monotonic()
    with pytest.raises(DataError, match=r"within 3 s.*prepare_data"):
        data.load("mnist", "train", data_dir=str(tmp_path / "nothing"))
    released.set()
    assert time.monotonic() - start < 5


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, str(ROOT / "launch" / "prepare_data.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd="/",
        env={**os.environ, "PYTHONPATH": "", **environment},
    )


def test_the_command_fails_with_one_line(tmp_path):
    finished = run("--dataset=svhn", f"--data_dir={tmp_path}", "--base_url=http://127.0.0.1:9")
    assert finished.returncode == 1
    assert finished.stdout == ""
    assert finished.stderr.count("\n") == 1
    assert finished.stderr.startswith("error: http://127.0.0.1:9/train_32x32.mat: ")


@pytest.fixture
def command(monkeypatch, capsys):
    """(*arguments) -> exit status and what launch/prepare_data.py printed, in this process."""

    def call(*arguments):
        values = flags.FlagValues()
        monkeypatch.setattr(flags, "FLAGS", values)
        with pytest.raises(SystemExit) as end:
            app.run(
                prepare_data._main,
                lambda: prepare_data.define_flags(values),
                description=prepare_data.DESCRIPTION,
                groups=prepare_data.GROUPS,
                arguments=arguments,
            )
        return end.value.code, capsys.readouterr()

    return call


def test_the_command_prepares(published, serve, tmp_path, monkeypatch, command):
    server = serve(published["mnist"].files)
    original = dataclasses.replace(
        originals.ORIGINALS["mnist"], archives=tuple(published["mnist"].archives)
    )
    monkeypatch.setitem(originals.ORIGINALS, "mnist", original)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    status, printed = command("--dataset=mnist", f"--base_url={server.url}")
    assert status == 0 and f"--data_dir={tmp_path}" in printed.out
    assert len(data.load("mnist", "train")) == 23


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--dataset is missing; it may be mnist, cifar10, cifar100, svhn"),
        (["--dataset=imagenet"], "mnist, cifar10, cifar100, svhn"),
        (["--dataset=mnist", "here"], "'here' is not a flag"),
        (["--datset=mnist"], "did you mean --dataset?"),
    ],
)
def test_the_command_refuses_wrong_flags(command, arguments, message):
    status, printed = command(*arguments)
    assert status == 1
    assert printed.err.startswith("error: ") and message in printed.err


def test_the_command_explains_itself(command):
    _, printed = command("--help")
    assert all(f"--{flag}" in printed.out for flag in ("dataset", "data_dir", "base_url"))
