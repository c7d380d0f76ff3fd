"""What a compiled program does: its products, its tensors in memory, its sums over the devices.

Read from XLA's optimised HLO, with the turns of every loop. `cost_analysis` counts the body of a
loop once, and knows nothing of padding. The compiler for TPUs writes beside each operation how many
cycles it expects it to take.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator

_BITS = {
    "pred": 8, "s8": 8, "u8": 8, "s16": 16, "u16": 16, "bf16": 16, "f16": 16, "s32": 32, "u32": 32,
    "f32": 32, "s64": 64, "u64": 64, "f64": 64,
}  # fmt: skip
_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) \(.*\) -> .* \{\s*$")
_INSTRUCTION = re.compile(
    r"^\s+(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<shape>\(.*?\)(?= [a-z])|\S+) (?P<kind>[\w\-]+)\("
    r"(?P<rest>.*)$"
)
_SHAPE = re.compile(
    r"(?P<type>[a-z]+\d*)\[(?P<sizes>[\d,]*)\]"
    r"(?:\{(?P<minor>[\d,]*)(?::(?P<layout>[^}]*))?\})?"
)
_TILE = re.compile(r"T\((?P<sizes>[\d,]+)\)")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition|async_computation)=%?([\w.\-]+)")
_CONDITION = re.compile(r"condition=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_WINDOW = re.compile(r"window=\{size=([\dx]+)")
_LABELS = re.compile(r"dim_labels=(\w+)_(\w+)->(\w+)")
_CUDNN = re.compile(r'custom_call_target="__cudnn\$conv(\w+)"')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_CONTRACTED = re.compile(r"lhs_contracting_dims=\{([\d,]*)\}")
_NO_MEMORY = ("tuple", "get-tuple-element", "bitcast", "parameter", "constant", "while", "-start")


@dataclasses.dataclass(frozen=True)
class Shape:
    """An array of the program.

    Attributes:
      type: e.g. "bf16".
      sizes: of its dimensions.
      minor_to_major: its dimensions, the one with neighbours side by side first.
      tile: of the most minor dimensions, the most minor last; empty where it has none.
    """

    type: str
    sizes: tuple[int, ...]
    minor_to_major: tuple[int, ...] = ()
    tile: tuple[int, ...] = ()

    @property
    def bytes(self) -> int:
        """Without padding."""
        return math.prod(self.sizes) * _BITS.get(self.type, 32) // 8

    @property
    def padded_bytes(self) -> int:
        """With it: the most minor dimensions take up whole tiles."""
        taken = list(self.sizes)
        for dimension, length in zip(self.minor_to_major, reversed(self.tile), strict=False):
            taken[dimension] = math.ceil(taken[dimension] / length) * length
        return math.prod(taken) * _BITS.get(self.type, 32) // 8


@dataclasses.dataclass(frozen=True)
class Summary:
    """A program in numbers, per device.

    Attributes:
      flops: of its convolutions and matrix products.
      estimated_cycles: that its operations take by the compiler's own estimate, one after another;
        0 where it says none. Sums over the devices and transfers in the background have none.
      product_cycles: those of the operations with a convolution or matrix product in them.
      written_bytes: of the tensors that its operations write to memory, without padding.
      padded_bytes: the same with padding.
      summed_bytes: of what it sums over the devices.
      sums: how many such operations.
      sums_in_loops: those of them inside a loop.
      converted_bytes: written by operations that do nothing but convert floating-point types.
      copied_bytes: written by copies.
      unknown_loops: loops whose turns are not known; they count once.
    """

    flops: int
    estimated_cycles: int
    product_cycles: int
    written_bytes: int
    padded_bytes: int
    summed_bytes: int
    sums: int
    sums_in_loops: int
    converted_bytes: int
    copied_bytes: int
    unknown_loops: int


def summarise(text: str) -> Summary:
    """Counts what a compiled program does, from its text."""
    program = _Program.read(text)
    total: collections.Counter[str] = collections.Counter()
    for name, turns in program.turns.items():
        computation, shapes = program.computations[name], program.shapes[name]
        in_memory = name not in program.fused
        for instruction in computation:
            total["flops"] += turns * _product_flops(instruction, shapes)
            if in_memory and (said := _CYCLES.search(instruction.rest)):
                total["estimated_cycles"] += turns * int(said[1])
                total["product_cycles"] += turns * int(said[1]) * program.multiplies(instruction)
            # What is started is written when it is done.
            if not in_memory or instruction.kind.endswith(_NO_MEMORY):
                continue
            written = shapes[instruction.name]
            size = sum(shape.bytes for shape in written)
            total["written_bytes"] += turns * size
            total["padded_bytes"] += turns * sum(shape.padded_bytes for shape in written)
            if instruction.kind in ("all-reduce", "all-reduce-done"):
                total["summed_bytes"] += turns * size
                total["sums"] += 1
                total["sums_in_loops"] += name in program.in_loops
            if instruction.kind == "copy":
                total["copied_bytes"] += turns * size
            if program.only_converts(instruction):
                total["converted_bytes"] += turns * size
    counted = {
        field.name: total[field.name]
        for field in dataclasses.fields(Summary)
        if field.name != "unknown_loops"
    }
    return Summary(**counted, unknown_loops=program.unknown_loops)


@dataclasses.dataclass(frozen=True)
class _Instruction:
    name: str
    kind: str
    shape: str
    rest: str

    @property
    def operands(self) -> list[str]:
        return re.findall(r"%([\w.\-]+)", self.rest.partition(")")[0])


@dataclasses.dataclass
class _Program:
    """The computations of a program, and how often each of them runs.

    Attributes:
      computations: name -> its instructions.
      shapes: computation -> instruction -> the arrays that it gives.
      turns: computation -> how often it runs in one run of the program.
      fused: the computations whose results never are in memory.
      in_loops: the computations that run inside a loop.
      unknown_loops: loops without a known number of turns.
    """

    computations: dict[str, list[_Instruction]]
    shapes: dict[str, dict[str, list[Shape]]]
    turns: dict[str, int]
    fused: set[str]
    in_loops: set[str]
    unknown_loops: int = 0

    @classmethod
    def read(cls, text: str) -> "_Program":
        computations: dict[str, list[_Instruction]] = {}
        entry, current = "", None
        for line in text.splitlines():
            if started := _COMPUTATION.match(line):
                current = computations.setdefault(started["name"], [])
                entry = started["name"] if started["entry"] else entry
            elif current is not None and (found := _INSTRUCTION.match(line)):
                current.append(_Instruction(**found.groupdict()))
        shapes = {
            name: {instruction.name: _shapes(instruction.shape) for instruction in instructions}
            for name, instructions in computations.items()
        }
        program = cls(computations, shapes, collections.Counter(), set(), set())
        program._walk(entry, 1, in_loop=False)
        return program

    def _walk(self, name: str, turns: int, *, in_loop: bool, fused: bool = False) -> None:
        if name not in self.computations:
            return
        self.turns[name] += turns
        if in_loop:
            self.in_loops.add(name)
        if fused:
            self.fused.add(name)
        for instruction in self.computations[name]:
            called = _CALLED.findall(instruction.rest)
            for branches in _BRANCHES.findall(instruction.rest):
                called += [branch.strip(" %") for branch in branches.split(",")]
            inside = turns
            if instruction.kind == "while":
                known = self._turns_of_loop(instruction)
                self.unknown_loops += known is None
                inside = turns * (known or 1)
            looped = in_loop or instruction.kind == "while"
            # A reduction's function is applied entry by entry.
            hidden = fused or instruction.kind not in ("while", "conditional", "call")
            for other in called:
                self._walk(other, inside, in_loop=looped, fused=hidden)

    def _turns_of_loop(self, loop: _Instruction) -> int | None:
        """How often the body of a loop runs, where that is known."""
        if said := _TURNS.search(loop.rest):
            return int(said[1])
        # XLA for TPUs does not say it. A loop of JAX with a known length counts from 0 by ones
        # while its counter is below a constant.
        called = _CONDITION.search(loop.rest)
        condition = self.computations.get(called[1], []) if called else []
        constants = {
            instruction.name: int(instruction.rest.partition(")")[0])
            for instruction in condition
            if instruction.kind == "constant" and instruction.shape.startswith("s32[]")
        }
        for instruction in condition:
            if instruction.kind == "compare" and "direction=LT" in instruction.rest:
                return constants.get(instruction.operands[1])
        return None

    def multiplies(self, instruction: _Instruction) -> bool:
        """Whether an operation is a convolution or matrix product, or has one in it."""
        return bool({"convolution", "dot"} & self._kinds(instruction))

    def _kinds(self, instruction: _Instruction) -> set[str]:
        """Of an operation and, if it is a fusion, of what it consists of."""
        found, called = {instruction.kind}, _CALLED.findall(instruction.rest)
        if instruction.kind == "fusion":
            found |= {inner.kind for name in called for inner in self.computations.get(name, ())}
        return found

    def only_converts(self, instruction: _Instruction) -> bool:
        """Whether an operation changes the type of its operand, perhaps its layout, and no more."""
        if instruction.kind == "convert":
            return True
        if instruction.kind != "fusion":
            return False
        kinds = self._kinds(instruction) - {"fusion"}
        plain = {"parameter", "convert", "copy", "bitcast", "transpose", "tuple"}
        return "convert" in kinds and kinds <= plain


def _shapes(text: str) -> list[Shape]:
    return list(_each_shape(text))


def _each_shape(text: str) -> Iterator[Shape]:
    for found in _SHAPE.finditer(text):
        tile = _TILE.search(found["layout"] or "")
        yield Shape(
            found["type"],
            _numbers(found["sizes"]),
            _numbers(found["minor"]),
            _numbers(tile["sizes"]) if tile else (),
        )


def _numbers(text: str | None) -> tuple[int, ...]:
    return tuple(int(number) for number in (text or "").split(",") if number)


def _product_flops(instruction: _Instruction, shapes: dict[str, list[Shape]]) -> int:
    """Two for each multiplication and its addition of a product, zeros of padding included."""
    cudnn = _CUDNN.search(instruction.rest) if instruction.kind == "custom-call" else None
    if cudnn is None and instruction.kind not in ("convolution", "dot"):
        return 0
    left, right = (_operand(instruction, shapes, number) for number in range(2))
    result = shapes[instruction.name][0]
    if instruction.kind == "dot":
        found = _CONTRACTED.search(instruction.rest)
        contracted = math.prod(left.sizes[axis] for axis in _numbers(found[1] if found else ""))
        return 2 * math.prod(result.sizes) * contracted
    labels = _LABELS.search(instruction.rest)
    assert labels is not None, instruction.rest
    window = _WINDOW.search(instruction.rest)
    sizes = [int(size) for size in window[1].split("x")] if window else []
    # A 1×1 kernel may be what is written as the images, and the images as a kernel beyond it.
    extents = [left.sizes[labels[1].index(str(axis))] for axis in range(len(sizes))]
    taps = math.prod(map(min, sizes, extents))
    # cuDNN's gradients are labelled as the convolution that they are of.
    direction = cudnn[1] if cudnn else "Forward"
    kernel = result if direction == "BackwardFilter" else right
    outputs = {"BackwardInput": left, "BackwardFilter": right}.get(direction, result)
    return 2 * math.prod(outputs.sizes) * kernel.sizes[labels[2].index("i")] * taps


def _operand(instruction: _Instruction, shapes: dict[str, list[Shape]], number: int) -> Shape:
    return shapes[instruction.operands[number]][0]
