"""What is told of a compiled step: one JSON object, and the same as a table for people."""

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import jax

from launch.aot.chips import Chips, versions
from launch.aot.program import Program
from launch.aot.recompute import Cost
from rsvl_jax.parallel import collectives
from rsvl_jax.training.flops import peak_flops

Report = dict[str, Any]
_REFUSED = re.compile(r"Used ([\d.]+)([KMGT]) of|\(([\d.]+)([KMGT])\) exceeds")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class Outcome:
    """A compilation. memory: bytes of one device by use, its `peak` among them; where the program
    does not fit, only what the compiler says it would need. traffic: of a program that fits, its
    `bytes_accessed` and its `collectives` by kind.
    """

    fits: bool
    memory: dict[str, int]
    seconds: float
    traffic: Report = field(default_factory=dict)


def compile_program(lowered: jax.stages.Lowered, hbm: int | None) -> Outcome:
    """Compiles; that a program does not fit the memory is an outcome, and no error."""
    start = time.perf_counter()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return Outcome(False, _refused(str(error)), time.perf_counter() - start)
    seconds = time.perf_counter() - start
    memory = _memory(compiled.memory_analysis())
    return Outcome(hbm is None or memory["peak"] <= hbm, memory, seconds, _traffic(compiled))


def _memory(found: Any) -> dict[str, int]:
    """arguments: state and batch; outputs: those that take no argument's place."""
    parts = {
        "arguments": found.argument_size_in_bytes,
        "outputs": found.output_size_in_bytes - found.alias_size_in_bytes,
        "temporaries": found.temp_size_in_bytes,
        "program": found.generated_code_size_in_bytes,
    }
    return {**parts, "peak": sum(parts.values())}


def _traffic(compiled: jax.stages.Compiled) -> Report:
    found = collectives.collectives(compiled.as_text() or "")
    return {
        "bytes_accessed": _bytes_accessed(compiled),
        "collectives": collectives.by_kind(found),
    }


def _refused(message: str) -> dict[str, int]:
    needs = [
        float(match[1] or match[3]) * _UNITS[match[2] or match[4]]
        for match in _REFUSED.finditer(message)
    ]
    return {"peak": int(max(needs))} if needs else {}


def describe(program: Program, chips: Chips, outcome: Outcome, cost: Cost) -> Report:
    """The report of one program; see docs/aot.md for what each number is."""
    config, mesh = program.config, program.mesh
    per_sample = program.objective.flops_per_sample()
    samples = config.data.batch_size
    return {
        "method": program.method,
        "topology": chips.name,
        "devices": mesh.size,
        "mesh": dict(mesh.shape),
        "batch": {"global": samples, "per_chip": samples / mesh.size},
        "micro_batches": program.micro_batches,
        "remat": config.model.remat,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(program.state.params)),
        "fits": outcome.fits,
        "memory": {**outcome.memory, "hbm": chips.hbm},
        "flops": {
            "per_sample": per_sample,
            "per_chip": per_sample * samples / mesh.size,
            "per_chip_with_recomputation": cost.flops,
            "peak_per_second": _peak(mesh),
        },
        "versions": versions(),
        "flags": chips.flags,
        **outcome.traffic,
    }


def _peak(mesh: jax.sharding.Mesh) -> float | None:
    device = mesh.devices.flat[0]
    return None if device.platform == "cpu" else peak_flops([device])


def _bytes_accessed(compiled: jax.stages.Compiled) -> int | None:
    costs = compiled.cost_analysis() or {}
    value = costs.get("bytes accessed") if isinstance(costs, dict) else None
    return None if value is None else int(value)


def table(report: Report) -> str:
    """The report in Markdown."""
    memory, flops = report["memory"], report["flops"]
    rows = [
        ("mesh", " x ".join(f"{name} {size}" for name, size in report["mesh"].items())),
        ("batch", f"{report['batch']['global']:,} ({report['batch']['per_chip']:,.10g} a chip)"),
        ("remat", report["remat"]),
        ("parameters", f"{report['parameters']:,}"),
        ("fits", _verdict(report)),
        *((f"memory: {name}", _gib(memory[name])) for name in memory if memory[name] is not None),
        ("FLOPs of a sample", f"{flops['per_sample'] / 1e9:,.1f} G"),
        ("FLOPs of a chip and step", f"{flops['per_chip'] / 1e12:,.2f} T"),
        ("with what is computed again", f"{flops['per_chip_with_recomputation'] / 1e12:,.2f} T"),
    ]
    if report.get("bytes_accessed"):
        moved = _gib(report["bytes_accessed"])
        rows.append(("bytes moved, loop bodies counted once", moved))
    for kind, found in report.get("collectives", {}).items():
        rows.append((kind, f"{found['count']:,} with {found['bytes'] / 2**20:,.1f} MiB"))
    for each in report.get("remat_search", []):
        rows.append((f"remat {each['policy']}", _policy(each)))
    for each in report.get("fit_search", []):
        rows.append((f"{each['per_chip']} a chip", _verdict(each)))
    head = f"| {report['config']} on {report['topology']} | one chip, one step |"
    return "\n".join([head, "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _verdict(report: Report) -> str:
    needed = report["memory"].get("peak")
    word = "yes" if report["fits"] else "NO"
    return f"{word}, {_gib(needed)}" if needed else word


def _policy(each: Report) -> str:
    again = f"{each['recomputed_flops'] / 1e12:,.2f} T again, keeps {_gib(each['kept'])}"
    if each["fits"] is None:
        return f"{again}: not compiled, it would need about {_gib(each['memory']['estimate'])}"
    return f"{again}: fits {_verdict(each)}"


_COLUMNS = {
    "config": "---",
    "chips": "---",
    "a chip": "--:",
    "parameters": "--:",
    "state": "--:",
    "temporaries": "--:",
    "peak of HBM": "--:",
    "fits": "---",
    "remat": "---",
    "FLOPs": "--:",
    "again": "--:",
    "sent": "--:",
}


def summary(reports: Iterable[Report]) -> str:
    """A line of Markdown for each report; see docs/aot.md for what the columns are."""
    head = [_line(_COLUMNS), _line(_COLUMNS.values())]
    return "\n".join([*head, *(_line(_cells(report)) for report in reports)])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(report: Report) -> list[str]:
    memory, flops = report["memory"], report["flops"]
    sent = sum(found["bytes"] for found in report.get("collectives", {}).values())
    return [
        f"`{report['config'].removeprefix('configs/')}`",
        report["topology"],
        f"{report['batch']['per_chip']:,.10g}",
        f"{report['parameters'] / 1e6:,.0f} M",
        _short(memory.get("arguments")),
        _short(memory.get("temporaries")),
        f"{_short(memory.get('peak'))} of {_short(memory['hbm'])}",
        "yes" if report["fits"] else "**no**",
        report["remat"],
        f"{flops['per_chip'] / 1e12:,.1f} T",
        _again(report),
        _short(sent or None),
    ]


def _again(report: Report) -> str:
    """What is computed again, in per cent of the analytic FLOPs; of a report with a search."""
    searched = {row["policy"]: row for row in report.get("remat_search", [])}
    if report["remat"] not in searched:
        return ""
    again = searched[report["remat"]]["recomputed_flops"] / report["flops"]["per_chip"]
    return f"{100 * again:.1f} %"


def _short(size: float | None) -> str:
    return "" if size is None else f"{size / 2**30:,.1f}"


def _gib(size: float) -> str:
    return f"{size / 2**30:,.2f} GiB"
