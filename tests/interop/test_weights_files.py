"""Files of weights: the format of .safetensors to the byte, damage of every kind, PyTorch's own."""

import builtins
import json
import pickle
import re
import struct
import sys
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustjax import interop
from robustjax.errors import UserError
from robustjax.interop.safetensors_file import SafetensorsError

ARRAYS = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.array(7, np.int64),
    "none": np.zeros((0, 4), np.float16),
    "flags": np.array([True, False, True]),
    "half": np.asarray(jnp.array([1.5, -2.0], jnp.bfloat16)),
}


def file_of(header, numbers=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + numbers


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_a_file_written_by_hand_is_read():
    header = {
        "__metadata__": {"format": "pt"},
        "x": entry(shape=(2, 1), offsets=(2, 10)),
        "y": entry("BF16", (), (0, 2)),
    }
    numbers = struct.pack("<H", 0x3FC0) + struct.pack("<ff", 1.0, -2.0)
    arrays, metadata = interop.read_safetensors(file_of(header, numbers))
    assert metadata == {"format": "pt"} and list(arrays) == ["x", "y"]
    np.testing.assert_array_equal(arrays["x"], [[1.0], [-2.0]])
    assert float(arrays["y"]) == 1.5


def test_what_is_written_is_read_again_bit_for_bit(tmp_path):
    path = interop.write_safetensors(tmp_path / "x.safetensors", ARRAYS, {"by": "robustjax ü"})
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    assert length % 8 == 0 and header["b"]["dtype"] == "F32" and header["b"]["shape"] == [2, 3]
    for name, array in ARRAYS.items():
        assert header[name]["data_offsets"][0] % array.dtype.itemsize == 0
    arrays, metadata = interop.read_safetensors(path)
    assert metadata == {"by": "robustjax ü"} and set(arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype and arrays[name].shape == array.shape
        assert arrays[name].tobytes() == array.tobytes()


def test_the_format_s_own_library_reads_and_writes_the_same(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "x.safetensors"
    plain = {name: array for name, array in ARRAYS.items() if name != "half"}
    interop.write_safetensors(path, plain, {"by": "us"})
    for name, array in library.load_file(path).items():
        assert array.dtype == plain[name].dtype and array.tobytes() == plain[name].tobytes()
    library.save_file(plain, path, {"by": "them"})
    arrays, metadata = interop.read_safetensors(path)
    assert metadata == {"by": "them"}
    for name, array in plain.items():
        assert arrays[name].shape == array.shape and arrays[name].tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "too short"),
        (b"PK\x03\x04 and so on, a zip", "its header is to have"),
        (struct.pack("<Q", 2**63), "its header is to have"),
        (file_of(b"not json"), "it is no .safetensors file: Expecting value"),
        (file_of(b"[" * 100_000), "it is no .safetensors file"),
        (file_of(b"\xff\xff"), "it is no .safetensors file"),
        (file_of([1]), "no JSON object"),
        (file_of(b'{"x": 1, "x": 2}'), "two things of one name"),
        (file_of(b'{"\\ud800": 1}'), "it is no .safetensors file"),
        (file_of({"__metadata__": {"x": 1}}), "metadata are not texts"),
        (file_of({"__metadata__": 3}), "metadata are not texts"),
        (file_of({"x": 3}), "'x' what is no array"),
        (file_of({"x": {**entry(), "code": "import os"}}, b"abcd"), "'x' what is no array"),
        (file_of({"x": entry(shape=(-1,))}, b"abcd"), "'x' what is no array"),
        (file_of({"x": entry(shape=(True,))}, b"abcd"), "'x' what is no array"),
        (file_of({"x": entry(shape=(1,) * 40)}, b"abcd"), "'x' what is no array"),
        (file_of({"x": entry(offsets=(0, 4, 8))}, b"abcd"), "'x' what is no array"),
        (file_of({"x": entry(offsets=(4, 0))}, b"abcd"), "has -4 bytes, and its shape"),
        (file_of({"x": entry("F8_E4M3", (4,))}, b"abcd"), "the kind 'F8_E4M3'; accepted are F64"),
        (file_of({"x": entry(3)}, b"abcd"), "the kind 3"),
        (file_of({"x": entry(shape=(2,))}, b"abcd"), "4 bytes, and its shape [2] needs 8"),
        (file_of({"x": entry(shape=(2**62, 2**62))}, b"abcd"), "and its shape"),
        (file_of({"x": entry()}, b"abc"), "incomplete: 'x' ends at byte 4 of 3"),
        (file_of({"x": entry()}, b"abcde"), "1 bytes follow"),
        (file_of({"x": entry(offsets=(4, 8))}, b"abcdefgh"), "'x' leaves a gap"),
        (file_of({"x": entry(), "y": entry()}, b"abcd"), "'y' overlaps"),
        (file_of({"x": entry(shape=(0, 2**62, 2**62), offsets=(0, 0))}), "array 'x'"),
    ],
)
def test_a_damaged_file_is_one_sentence(content, message, tmp_path):
    with pytest.raises(SafetensorsError) as error:
        interop.read_safetensors(content)
    assert message in str(error.value)
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        interop.read_weights(path)
    assert str(error.value).startswith(f"weights={path}: ") and message in str(error.value)


@given(st.data())
def test_whatever_byte_is_changed_nothing_but_a_refusal_or_other_numbers_comes(data):
    content = file_of({"x": entry(), "y": entry("I8", (2, 2), (4, 8))}, b"abcdefgh")
    place = data.draw(st.integers(0, len(content) - 1))
    changed = bytearray(content)
    changed[place] = data.draw(st.integers(0, 255))
    try:
        arrays, _ = interop.read_safetensors(bytes(changed[: data.draw(st.integers(0, 400))]))
    except SafetensorsError:
        return
    assert sum(array.nbytes for array in arrays.values()) == 8


def test_what_has_no_place_in_a_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="'x' \\(complex64\\) has no place"):
        interop.write_safetensors(tmp_path / "x", {"x": np.zeros(1, np.complex64)})
    with pytest.raises(UserError, match="has no place"):
        interop.write_safetensors(tmp_path / "x", {"__metadata__": np.zeros(1, np.float32)})
    assert not list(tmp_path.iterdir())


def test_files_of_other_kinds_are_named(tmp_path):
    with pytest.raises(UserError, match=r"weights=.*x\.npz: accepted are files that end in \.safe"):
        interop.read_weights(tmp_path / "x.npz")
    for name in ("x.safetensors", "x.pt"):
        with pytest.raises(FileNotFoundError):
            interop.read_weights(tmp_path / name)
    path = interop.write_safetensors(tmp_path / "x.safetensors", {})
    with pytest.raises(UserError, match="it holds no state dict"):
        interop.read_weights(path)


class Malicious:
    def __reduce__(self):
        return (print, ("code ran",))


def test_without_pytorch_a_pt_is_refused_and_never_unpickled(tmp_path, monkeypatch, capsys):
    path = tmp_path / "x.pt"
    path.write_bytes(pickle.dumps(Malicious()))
    importing = builtins.__import__

    def without_torch(name, *rest):
        if name == "torch":
            raise ImportError(name)
        return importing(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_torch)
    with pytest.raises(
        UserError, match=r"^weights=.*x\.pt .* not installed: pip install 'robustjax\[torch\]'"
    ):
        interop.read_weights(path)
    assert "code ran" not in capsys.readouterr().out


def test_what_pytorch_has_saved_is_read_and_nothing_in_it_is_run(tmp_path, capsys):
    torch = pytest.importorskip("torch")
    weights = {"fc.weight": torch.arange(6.0).reshape(2, 3), "fc.half": torch.ones(2).bfloat16()}
    path = tmp_path / "x.pt"

    def saved(content):
        torch.save(content, path)
        return path

    found = interop.read_weights(saved(weights))
    np.testing.assert_array_equal(found["fc.weight"], [[0, 1, 2], [3, 4, 5]])
    assert found["fc.half"].dtype == np.float32
    assert set(interop.read_weights(saved({"epoch": 3, "state_dict": weights}))) == set(weights)
    two = {"model": weights, "ema": {"module": weights}, "best": weights}
    with pytest.raises(UserError, match="it holds several state dicts: model, best; say which"):
        interop.read_weights(saved(two))
    assert set(interop.read_weights(path, "ema.module")) == set(weights)
    with pytest.raises(UserError, match="entry=nothing: accepted are model, ema, best"):
        interop.read_weights(path, "nothing")
    with pytest.raises(UserError, match="entry=ema holds no state dict"):
        interop.read_weights(path, "ema")
    with pytest.raises(UserError, match="it holds no state dict, but epoch"):
        interop.read_weights(saved({"epoch": 3}))
    with pytest.raises(UserError, match=r"more than weights, .* was not read: .*GLOBAL \w+"):
        interop.read_weights(saved({"fc.weight": Malicious()}))
    whole = saved({"fc.weight": torch.ones(2000)}).read_bytes()
    for content in (b"nonsense", b"", whole[:5000], whole[:-100]):
        path.write_bytes(content)
        with pytest.raises(
            UserError, match=r"^weights=.*x\.pt holds more than weights, or is damaged"
        ) as caught:
            interop.read_weights(path)
        assert "weights_only" not in str(caught.value)
    assert "code ran" not in capsys.readouterr().out


def stand_in(monkeypatch, version, content):
    """A PyTorch that reads some content from any file; the ways in which it was asked."""
    asked = []

    def load(file, **how):
        asked.append(how)
        return content

    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(__version__=version, load=load))
    return asked


@pytest.mark.parametrize("version", ["1.13.1", "2.5.1+cpu"])
def test_a_pytorch_that_could_be_made_to_run_code_is_not_asked(tmp_path, monkeypatch, version):
    (tmp_path / "x.pt").write_bytes(b"a file")
    asked = stand_in(monkeypatch, version, {"x": np.ones(1)})
    said = rf"^weights=.*x\.pt: PyTorch {re.escape(version)} could be made to run .* 2\.6"
    with pytest.raises(UserError, match=said):
        interop.read_weights(tmp_path / "x.pt")
    assert not asked


@pytest.mark.parametrize("version", ["2.6.0", "2.10.0+cu126", "3.0"])
def test_a_newer_pytorch_is_asked_for_weights_alone(tmp_path, monkeypatch, version):
    (tmp_path / "x.pt").write_bytes(b"a file")
    asked = stand_in(monkeypatch, version, {"x": np.ones(1)})
    assert set(interop.read_weights(tmp_path / "x.pt")) == {"x"}
    assert asked == [{"map_location": "cpu", "weights_only": True}]


def test_of_several_state_dicts_in_a_file_one_has_to_be_named(tmp_path, monkeypatch):
    (tmp_path / "x.pt").write_bytes(b"a file")
    model, best = {"x": np.zeros(1)}, {"x": np.ones(1)}
    stand_in(monkeypatch, "2.6.0", {"epoch": 3, "model": model, "best": best})
    with pytest.raises(UserError, match="it holds several state dicts: model, best; say which"):
        interop.read_weights(tmp_path / "x.pt")
    assert interop.read_weights(tmp_path / "x.pt", "best")["x"] == 1
    stand_in(monkeypatch, "2.6.0", {"epoch": 3, "model": model})
    assert interop.read_weights(tmp_path / "x.pt")["x"] == 0
