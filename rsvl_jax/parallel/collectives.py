"""What devices send to one another in a compiled program, read from its HLO."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

KINDS = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
    "ragged-all-to-all",
)
_BYTES = {"pred": 1, "s4": 0.5, "u4": 0.5, "bf16": 2, "c64": 8, "c128": 16}

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)$")
_SHAPE = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")
_CALLED = re.compile(
    r"\b(?:calls|body|to_apply|called_computation|(?:true|false)_computation)=%?([\w.\-]+)"
)
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_NAME = re.compile(r"%([\w.\-]+)")


@dataclass(frozen=True)
class Collective:
    """One instruction of a program.

    kind: of `KINDS`. shapes: of its results on one device. bytes: of its operands or its results on
    one device, whichever are more. times: how often a step runs it, with the loops it is in.
    source: the operation of the model that it comes from, where the program says. chain: of parts
    of one collective that the compiler has spread over several computations; "" for a whole one.
    """

    kind: str
    shapes: tuple[tuple[int, ...], ...]
    bytes: int
    times: int
    source: str
    chain: str = ""


@dataclass(frozen=True)
class _Instruction:
    name: str
    type: str
    opcode: str
    rest: str


def collectives(hlo: str) -> list[Collective]:
    """The collectives of a compiled program (`Compiled.as_text()`), in its own order.

    Loops count as often as they run, where the program tells; else once.
    """
    computations, entry = _parse(hlo)
    types = {i.name: i.type for body in computations.values() for i in body}
    times = _times(computations, entry)
    found = [
        _collective(instruction, kind, types, times[name])
        for name, body in computations.items()
        if times[name]
        for instruction in body
        if (kind := _kind(instruction.opcode))
    ]
    return _joined(found)


def _joined(found: list[Collective]) -> list[Collective]:
    """With one collective for all parts of a chain. It may begin before a loop and go on in it, so
    it runs as often as the rarest of its parts."""
    whole = [each for each in found if not each.chain]
    chains: dict[str, Collective] = {}
    for each in found:
        if each.chain:
            known = chains.setdefault(each.chain, each)
            chains[each.chain] = min(known, each, key=lambda part: part.times)
    return whole + list(chains.values())


def by_kind(found: Iterable[Collective]) -> dict[str, dict[str, int]]:
    """kind -> {"count", "bytes"}: how many a step runs, and their bytes on one device in all."""
    table: dict[str, dict[str, int]] = {}
    for each in found:
        row = table.setdefault(each.kind, {"count": 0, "bytes": 0})
        row["count"] += each.times
        row["bytes"] += each.times * each.bytes
    return dict(sorted(table.items()))


def _parse(hlo: str) -> tuple[dict[str, list[_Instruction]], str]:
    """Instructions by computation, and the name of the entry."""
    computations: dict[str, list[_Instruction]] = {}
    entry, body = "", None
    for line in hlo.splitlines():
        if body is not None and (match := _INSTRUCTION.match(line)):
            body.append(_Instruction(*match.groups()))
        elif not line.startswith(" ") and (match := _HEADER.match(line)):
            body = computations.setdefault(match[2], [])
            entry = match[2] if match[1] else entry
    return computations, entry


def _times(computations: dict[str, list[_Instruction]], entry: str) -> dict[str, int]:
    """How often each computation runs."""
    times: dict[str, int] = defaultdict(int)

    def visit(name: str, count: int) -> None:
        times[name] += count
        for instruction in computations.get(name, ()):
            inner = count * _trips(instruction, computations)
            for called in _called(instruction.rest):
                visit(called, inner)

    visit(entry, 1)
    return times


def _called(rest: str) -> Iterator[str]:
    yield from _CALLED.findall(rest)
    if branches := _BRANCHES.search(rest):
        yield from _NAME.findall(branches[1])


def _trips(instruction: _Instruction, computations: dict[str, list[_Instruction]]) -> int:
    """How often a loop runs: as noted by the compiler, or compared with in its condition."""
    if instruction.opcode != "while":
        return 1
    if noted := re.search(r'"known_trip_count":\{"n":"(\d+)"\}', instruction.rest):
        return int(noted[1])
    condition = re.search(r"condition=%?([\w.\-]+)", instruction.rest)
    body = computations.get(condition[1], []) if condition else []
    constants = {i.name: i.rest for i in body if i.opcode == "constant"}
    for each in body:
        if each.opcode == "compare" and "direction=LT" in each.rest:
            limits = [constants[n] for n in _NAME.findall(each.rest) if n in constants]
            if limits and (number := re.match(r"(\d+)\)", limits[0])):
                return int(number[1])
    return 1


def _kind(opcode: str) -> str | None:
    plain = opcode.removesuffix("-start")
    return plain if plain in KINDS else None


def _collective(
    instruction: _Instruction, kind: str, types: dict[str, str], times: int
) -> Collective:
    operands = _NAME.findall(instruction.rest.split("), ")[0])
    given = [shape for name in operands for shape in _shapes(types.get(name, ""))]
    results = _shapes(instruction.type)
    if instruction.opcode.endswith("-start") and kind != "all-reduce":
        results = results[len(given) :]  # they stand beside the operands
    size = max(sum(map(_size, given)), sum(map(_size, results)))
    source = re.search(r'op_name="([^"]*)"', instruction.rest)
    chain = re.search(r"channel_id=\d+(?=.*async_collective_fusion_config)", instruction.rest)
    return Collective(
        kind,
        tuple(dims for _, dims in results),
        size,
        times,
        source[1] if source else "",
        chain[0] if chain else "",
    )


def _shapes(text: str) -> list[tuple[str, tuple[int, ...]]]:
    """(dtype, dimensions) of the arrays of a type."""
    return [
        (dtype, tuple(int(n) for n in dims.split(",") if n)) for dtype, dims in _SHAPE.findall(text)
    ]


def _size(shape: tuple[str, tuple[int, ...]]) -> int:
    dtype, dims = shape
    bits = re.search(r"\d+", dtype)
    width = _BYTES.get(dtype, int(bits[0]) / 8 if bits and not dtype.startswith("f8") else 1)
    return math.ceil(width * math.prod(dims))
