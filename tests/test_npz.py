"""Arrays of .npz files: what comes back, and that damage or deceit is one kind of error."""

import io
import os
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from robustjax.npz import NpzError, NpzFile, read_npz

SAVERS = [np.savez, np.savez_compressed]

ARRAYS = {
    "bytes": np.arange(256, dtype=np.uint8).reshape(4, 8, 8),
    "half": np.array([0.5, -np.inf], np.float16),
    "single": np.array([[1.5], [np.nan]], np.float32),
    "double": np.array([-0.0, 5e-324]),
    "big endian": np.array([1, 258], ">i4"),
    "truth": np.array([True, False, True]),
    "complex": np.array([1 + 2j]),
    "text": np.array(["a", "ä", "字"]),
    "record": np.array([(1, 2.5)], [("a", "i2"), ("b", "f8")]),
    "moment": np.array(["2024-02-29"], "datetime64[D]"),
    "scalar": np.array(7),
    "empty": np.zeros((0, 3, 5), np.float32),
    "empty last": np.zeros((4, 0), np.int64),
    "first axis fastest": np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
    "not contiguous": np.arange(20)[::3],
}
SMALL = {"a": np.arange(6, dtype=np.int16).reshape(2, 3), "note": np.array("hello")}


def saved(save=np.savez, **arrays):
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def same(found, wanted):
    return list(found) == list(wanted) and all(
        found[name].dtype == array.dtype
        and found[name].shape == array.shape
        and found[name].tobytes() == array.tobytes()
        for name, array in wanted.items()
    )


def member(shape, body, descr="'|u1'"):
    """A .npy file whose header says what one wants."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + body


def zipped(*members, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return bytearray(file.getvalue())


def promise_size(content, size):
    """Makes an archive of one member say that it has another size when it is unpacked."""
    directory = content.index(b"PK\x01\x02")
    content[22:26] = content[directory + 24 : directory + 28] = struct.pack("<L", size)
    return bytes(content)


@pytest.mark.parametrize("save", SAVERS)
def test_what_numpy_saves_comes_back(tmp_path, save):
    path = tmp_path / "file.npz"
    save(path, **ARRAYS)
    assert same(read_npz(path), ARRAYS)
    assert same(read_npz(str(path)), ARRAYS)
    assert same(read_npz(path.read_bytes()), ARRAYS)


def test_the_layout_in_memory_comes_back():
    found = read_npz(saved(**ARRAYS))
    assert found["first axis fastest"].flags.f_contiguous
    assert found["bytes"].flags.c_contiguous and found["bytes"].flags.writeable


@pytest.mark.parametrize("save", SAVERS)
def test_a_header_says_what_the_array_is_and_where_its_numbers_begin(save):
    content = saved(save, **ARRAYS)
    with NpzFile(content) as archive, zipfile.ZipFile(io.BytesIO(content)) as members:
        for name, array in ARRAYS.items():
            header = archive.header(name)
            assert (header.shape, header.dtype) == (array.shape, array.dtype)
            order = "F" if header.fortran_order else "C"
            assert members.read(f"{name}.npy")[header.size :] == array.tobytes(order)
        assert archive.header("first axis fastest").fortran_order
        assert not archive.header("bytes").fortran_order


def test_it_is_a_mapping_by_the_names_that_were_given(tmp_path):
    names = ["a", "folder/b", "größe", "", "c.npy", "d.txt"]
    arrays = {name: np.array(number) for number, name in enumerate(names)}
    np.savez(tmp_path / "file.npz", **arrays)
    with NpzFile(tmp_path / "file.npz") as archive:
        assert archive.path == tmp_path / "file.npz"
        assert list(archive) == names and len(archive) == 6
        assert "c.npy" in archive and "c" not in archive and "a.npy" not in archive
        assert [int(archive[name]) for name in names] == list(range(6))
        for ask in (archive.__getitem__, archive.header, archive.information, archive.text):
            with pytest.raises(KeyError, match="unheard"):
                ask("unheard of")
    assert NpzFile(saved()).path is None


def test_no_arrays_are_no_error():
    assert read_npz(saved()) == {}


def test_whether_a_name_is_there_is_known_without_its_array():
    content = bytearray(saved(**SMALL))
    content[content.index(SMALL["a"].tobytes())] ^= 1
    with NpzFile(bytes(content)) as archive:
        assert "a" in archive
        # Damage to one array does not take another with it.
        assert archive.text("note") == "hello"
        with pytest.raises(NpzError, match="the array 'a' cannot be read"):
            archive["a"]


def test_text():
    archive = NpzFile(saved(note="ä note", one=np.array(["x"]), two=["x", "y"], number=3, raw=b"x"))
    assert archive.text("note") == "ä note" and type(archive.text("note")) is str
    assert archive.text("one") == "x"
    for name in ("two", "number", "raw"):
        with pytest.raises(NpzError, match=f"the array '{name}' is .*, not a text"):
            archive.text(name)


class Harmful:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("save", SAVERS)
def test_python_objects_are_refused_and_not_made(tmp_path, save):
    content = saved(save, a=np.array([Harmful(tmp_path / "harm")], object), b=np.arange(3))
    with NpzFile(content) as archive:
        for ask in (archive.__getitem__, archive.header, archive.text):
            with pytest.raises(NpzError, match="'a' .*Python objects.*pickle"):
                ask("a")
        np.testing.assert_array_equal(archive["b"], range(3))
    with pytest.raises(NpzError, match="pickle"):
        read_npz(content)
    assert not (tmp_path / "harm").exists()
    # The file is what it is meant to be: whoever unpickles it comes to harm.
    np.load(io.BytesIO(content), allow_pickle=True)["a"]
    assert (tmp_path / "harm").exists()


def test_python_objects_in_a_record_are_refused():
    content = zipped(("a.npy", member("(1,)", bytes(8), descr="[('x', '|O')]")))
    with pytest.raises(NpzError, match="Python objects"):
        read_npz(bytes(content))


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF], ids=hex)
@pytest.mark.parametrize("save", SAVERS)
def test_no_flipped_byte_changes_an_array(save, mask):
    content = saved(save, **SMALL)
    refused = 0
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= mask
        try:
            found = read_npz(bytes(damaged))
        except NpzError:
            refused += 1
        else:
            assert same(found, SMALL), position
    # All but dates, rights and what else is not of the arrays.
    assert refused > len(content) / 2


@pytest.mark.parametrize("save", SAVERS)
def test_every_file_that_ends_early_is_refused(save):
    content = saved(save, **SMALL)
    assert same(read_npz(content), SMALL)
    for length in range(len(content)):
        with pytest.raises(NpzError, match="it is (empty|incomplete or damaged|not written by)"):
            read_npz(content[:length])


MADE_UP = {
    "more than there is": (member(f"({10**12},)", b"abcd"), f"promises {10**12} bytes, and 4 f"),
    "a byte more than there is": (member("(5,)", b"abcd"), "promises 5 bytes, and 4 follow"),
    "a byte less than there is": (member("(3,)", b"abcd"), "promises 3 bytes, and 4 follow"),
    "less than nothing": (member("(-4,)", b"abcd"), "promises -4 bytes"),
    "twice less than nothing": (member("(-2, -2)", b"abcd"), "promises"),
    "endlessly many of nothing": (member(f"({10**12},)", b"", "'<U0'"), "promises"),
    "too many axes": (member(f"({'1, ' * 100})", b"a"), ""),
    "a shape that is no number": (member("('a',)", b"a"), "it is no array"),
    "a program": (member("__import__('os').getpid()", b"a"), "it is no array"),
    "signs without end": (member(f"({'-' * 8000}1,)", b"a"), "it is no array"),
    "no type": (member("(1,)", b"a", "'nothing'"), "it is no array"),
    "another format": (b"\x93NUMPY\x09\x00" + member("(1,)", b"a")[8:], r"\(9, 0\) is not known"),
    "no .npy": (b"these are no numbers", "it is no array"),
    "nothing": (b"", "it is no array"),
}


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize(("content", "message"), MADE_UP.values(), ids=list(MADE_UP))
def test_a_header_that_is_not_true_is_refused_before_anything_is_allocated(
    content, message, compression
):
    archive = zipped(("a.npy", content), compression=compression)
    tracemalloc.start()
    try:
        with pytest.raises(NpzError, match=f"the array 'a' cannot be read: .*{message}"):
            read_npz(bytes(archive))
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_few_bytes_that_promise_gigabytes_are_refused_before_anything_is_allocated(compression):
    size = 3 * 10**9
    content = member(f"({size},)", bytes(10_000))
    header = len(content) - 10_000
    archive = promise_size(zipped(("a.npy", content), compression=compression), header + size)
    tracemalloc.start()
    try:
        with pytest.raises(NpzError, match=f"bytes cannot hold the {header + size}"):
            read_npz(archive)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_what_compresses_as_well_as_deflate_can_is_read():
    zeros = np.zeros(10**7, np.uint8)
    content = saved(np.savez_compressed, zeros=zeros)
    assert len(content) < zeros.nbytes / 1000
    np.testing.assert_array_equal(read_npz(content)["zeros"], zeros)


@pytest.mark.parametrize("save", SAVERS)
def test_an_array_of_more_than_is_read_at_once_comes_back(save):
    numbers = np.arange(10**7) // 2**12
    assert numbers.nbytes > 4 * 2**24
    content = bytearray(saved(save, numbers=numbers))
    np.testing.assert_array_equal(read_npz(bytes(content))["numbers"], numbers)
    # The last number, or close to it.
    content[content.index(b"PK\x01\x02") - 20] ^= 1
    with pytest.raises(NpzError, match="'numbers' cannot be read"):
        read_npz(bytes(content))


def test_numbers_that_end_before_the_promised_size_are_refused():
    content = member("(2000,)", np.random.default_rng(0).bytes(1000))
    archive = zipped(("a.npy", content), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(NpzError, match="it ends after 1000 of 2000 bytes"):
        read_npz(promise_size(archive, len(content) + 1000))


def entries(content):
    """Where the members begin in the directory at the end of an archive."""
    return [at for at in range(len(content)) if content[at : at + 4] == b"PK\x01\x02"]


def test_a_member_that_the_directory_hides_is_missed():
    content = bytearray(saved(**SMALL))
    first, second = entries(content)
    end = content.index(b"PK\x05\x06")
    # The second member becomes a comment on the first.
    content[first + 32 : first + 34] = struct.pack("<H", end - second)
    with pytest.raises(NpzError, match="lists 2 members, of which 1 can be found"):
        NpzFile(bytes(content))


@pytest.mark.parametrize("listed", [0, 1, 3])
def test_another_number_of_members_is_refused(listed):
    content = bytearray(saved(**SMALL))
    end = content.index(b"PK\x05\x06")
    content[end + 8 : end + 12] = struct.pack("<HH", listed, listed)
    with pytest.raises(NpzError, match=f"lists {listed} members, of which 2 can be found"):
        NpzFile(bytes(content))


def test_a_member_with_two_names_is_refused():
    content = bytearray(saved(**SMALL))
    first, _ = entries(content)
    assert content[first + 46 : first + 51] == b"a.npy"
    content[first + 46] = ord("b")
    with pytest.raises(NpzError, match="incomplete or damaged"):
        NpzFile(bytes(content))


def one_array():
    file = io.BytesIO()
    np.save(file, np.arange(3))
    return file.getvalue()


NO_ARCHIVES = {
    "an empty file": (b"", "^it is empty$"),
    "one array": (one_array(), "^it holds one array, as numpy.save writes it$"),
    "text": (b"no arrays", "^it is not written by numpy.savez"),
    "half an archive": (saved(**SMALL)[:100], "^it is incomplete or damaged"),
}


@pytest.mark.parametrize(("content", "message"), NO_ARCHIVES.values(), ids=list(NO_ARCHIVES))
def test_a_file_that_is_no_archive_says_what_it_is(tmp_path, content, message):
    (tmp_path / "file.npz").write_bytes(content)
    for source in (tmp_path / "file.npz", content):
        with pytest.raises(NpzError, match=message):
            NpzFile(source)


def test_a_file_that_cannot_be_opened_is_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.npz"):
        NpzFile(tmp_path / "absent.npz")
    with pytest.raises(IsADirectoryError):
        read_npz(tmp_path)
