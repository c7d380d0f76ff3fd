"""Reads what CIFAR's Python files hold without unpickling: nothing in a file is called.

Such a file is a pickle of a dictionary of texts, numbers, lists and arrays of bytes. Its
instructions are listed by the standard library's `pickletools`, which runs none of them, and the
few that build such values are followed here, as Python 2 and 3 write them. Any other instruction
or name is an error. Bytes become texts of Latin-1, which Python 2's strings are read as.
"""

import math
import pickletools
from typing import Any

import numpy as np

_RECONSTRUCT = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")
_ENCODE = "_codecs encode"
"""Of a text of Latin-1: bytes, as Python 3 writes them for Python 2."""
_NAMES = (*_RECONSTRUCT, _ENCODE, "numpy ndarray", "numpy dtype")
_BYTES = ("u1", "|u1", "uint8")

_MARK = object()

_VALUES = frozenset({
    "BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
})  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Name(str):
    """Of something in NumPy, or of the codecs; never looked up."""


class _Array:
    """An array, once its state is known."""

    values: np.ndarray | None = None


class _Kind(str):
    """What the entries of an array are, as NumPy calls it."""


def read_pickled_data(content: bytes) -> dict[str, Any]:
    """The dictionary in a file as CIFAR's Python version has them.

    Args:
        content: The bytes of the file.

    Returns:
        Texts -> texts, numbers, lists of these, and arrays uint8.

    Raises:
        ValueError: If there is anything else in it, or it is cut off; nothing of it was run.
    """
    stack: list[Any] = []
    memory: dict[int, Any] = {}
    try:
        for instruction, argument, _ in pickletools.genops(content):
            if instruction.name == "STOP":
                break
            _follow(instruction.name, argument, stack, memory)
        found = stack.pop()
    except (IndexError, KeyError, TypeError, AttributeError) as error:
        # Instructions that take what is not there, or what is of another kind.
        raise ValueError(f"its instructions do not fit together ({error})") from error
    if stack or not isinstance(found, dict):
        raise ValueError("it holds no dictionary")
    return {
        key: value.values if isinstance(value, _Array) else value for key, value in found.items()
    }


def _follow(name: str, argument: Any, stack: list[Any], memory: dict[int, Any]) -> None:
    """One instruction, on the stack of values."""
    if name in _VALUES:
        stack.append(argument.decode("latin-1") if isinstance(argument, bytes) else argument)
    elif name in _CONSTANTS:
        stack.append(_CONSTANTS[name])
    elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
        memory[argument] = stack[-1]
    elif name == "MEMOIZE":
        memory[len(memory)] = stack[-1]
    elif name in ("GET", "BINGET", "LONG_BINGET"):
        stack.append(memory[argument])
    elif name == "MARK":
        stack.append(_MARK)
    elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
        stack.append({"EMPTY_DICT": {}, "EMPTY_LIST": [], "EMPTY_TUPLE": ()}[name])
    elif name == "DICT":
        stack.append(_pairs(_since_mark(stack)))
    elif name == "LIST":
        stack.append(_since_mark(stack))
    elif name == "TUPLE":
        stack.append(tuple(_since_mark(stack)))
    elif name in _TUPLES:
        parts = [stack.pop() for _ in range(_TUPLES[name])]
        stack.append(tuple(reversed(parts)))
    elif name in ("APPEND", "APPENDS"):
        added = [stack.pop()] if name == "APPEND" else _since_mark(stack)
        stack[-1].extend(added)
    elif name in ("SETITEM", "SETITEMS"):
        added = [stack.pop(), stack.pop()][::-1] if name == "SETITEM" else _since_mark(stack)
        stack[-1].update(_pairs(added))
    elif name == "GLOBAL" and argument in _NAMES:
        stack.append(_Name(argument))
    elif name == "STACK_GLOBAL" and f"{stack[-2]} {stack[-1]}" in _NAMES:
        stack.append(_Name(" ".join(reversed((stack.pop(), stack.pop())))))
    elif name == "REDUCE":
        arguments, called = stack.pop(), stack.pop()
        stack.append(_made(called, arguments))
    elif name == "BUILD":
        state = stack.pop()
        _fill(stack[-1], state)
    elif name not in ("PROTO", "FRAME"):
        said = f"{name} {argument}" if argument is not None else name
        raise ValueError(f"it holds more than texts, numbers and arrays: {said!r:.80}")


def _since_mark(stack: list[Any]) -> list[Any]:
    """Takes off the stack what lies on it since the last mark, and the mark."""
    begin = len(stack) - 1
    while stack[begin] is not _MARK:
        begin -= 1
        if begin < 0:
            raise IndexError("no mark")
    found = stack[begin + 1 :]
    del stack[begin:]
    return found


def _pairs(values: list[Any]) -> dict[Any, Any]:
    return dict(zip(values[::2], values[1::2], strict=True))


def _made(called: Any, arguments: tuple[Any, ...]) -> Any:
    """The array or the kind of numbers that an instruction begins, or the text that bytes are."""
    if isinstance(called, _Name) and called in _RECONSTRUCT:
        return _Array()
    if isinstance(called, _Name) and called == "numpy dtype":
        return _Kind(arguments[0])
    if isinstance(called, _Name) and called == _ENCODE and arguments[1:] == ("latin1",):
        return str(arguments[0])
    raise ValueError(f"it calls {called!r:.80}, which is no array")


def _fill(made: Any, state: Any) -> None:
    """Gives an array its shape and bytes."""
    if isinstance(made, _Kind):
        return  # Byte order and the like, which bytes do not have.
    if not isinstance(made, _Array):
        raise ValueError("it holds more than texts, numbers and arrays")
    _, shape, kind, by_columns, numbers = state
    if kind not in _BYTES:
        raise ValueError(f"an array is of {kind!r:.20}; accepted are bytes, 'u1'")
    data = numbers.encode("latin-1")
    if not all(isinstance(length, int) and length >= 0 for length in shape):
        raise ValueError(f"an array is of the shape {shape!r:.40}")
    if len(data) != math.prod(shape):
        raise ValueError(f"an array of the shape {shape} has {len(data)} bytes")
    made.values = np.frombuffer(data, np.uint8).reshape(shape, order="F" if by_columns else "C")
