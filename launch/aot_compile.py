"""Compiles a config's training step for a TPU topology with no TPU present, and tells if it fits.

python -m launch.aot_compile --config=configs/flavars.py:base --topology=v5e:16x16 \\
    --batch_per_chip=128 --output=report.json

The step is the one that a main runs: same objective, optimizer, sharding and batch. No data is
read: sizes that a run takes from its data (the vocabulary) are those of the config. Topologies are
named by chips, as v5e:16x16, v5p:4x8x8, v6e:16x16; "local" is this machine. `--config.key=value`
overrides as in a main. docs/aot.md says what the numbers mean.
"""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from launch import arguments
from launch.aot import chips as hardware
from rsvl_jax import command, runtime
from rsvl_jax.errors import UserError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from launch.aot.report import Outcome, Report

ALL = "all"


def main(argv: Sequence[str]) -> None:
    """Compiles, prints the table and writes the report."""
    options, rest = _parser().parse_known_args(argv)
    for path in filter(None, (options.output, options.stablehlo)):
        _check_writable(path)
    config = command.parse(["aot_compile", *rest, "--workdir=none"]).config
    runtime.add_xla_flags()  # as a main does
    hardware.prepare(options.topology)
    chips = hardware.open_chips(options.topology, options.slices, options.chip)
    report = _Session(options, config, chips).run(_source(rest))
    report["command"] = _command(argv)
    # After `prepare`: importing it starts JAX.
    from launch.aot.report import table

    print(table(report), flush=True)
    if options.output:
        _write(options.output, json.dumps(report, indent=1) + "\n")


def _parser() -> arguments.Parser:
    parser = arguments.Parser(prog="python -m launch.aot_compile", description=__doc__)
    parser.add_argument("--topology", required=True, help=", ".join(hardware.EXAMPLES))
    parser.add_argument("--slices", type=_positive, default=1, help="how many of the topology")
    parser.add_argument(
        "--chip", help="whose compiler flags to take (launch.flags; default: the topology's own)"
    )
    parser.add_argument(
        "--batch_per_chip", type=_positive, help="in place of config.data.batch_size"
    )
    parser.add_argument(
        "--remat",
        help="in place of config.model.remat; all: find the one that computes least again",
    )
    parser.add_argument("--fit", action="store_true", help="find the largest batch a chip")
    parser.add_argument("--output", help="JSON file to write")
    parser.add_argument("--stablehlo", help="file to write the step's StableHLO to")
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return int(text)


class _Session:
    """One call: a config, and the chips to compile it for."""

    def __init__(self, options: argparse.Namespace, config: "ConfigDict", chips: hardware.Chips):
        from rsvl_jax.parallel.mesh import mesh_from

        self.options, self.config, self.chips = options, config, chips
        self.mesh = mesh_from(config.mesh, chips.devices)
        self._outcomes: dict[tuple[int, str], Outcome] = {}
        if options.batch_per_chip:
            self._set(batch_per_chip=options.batch_per_chip)
        if options.remat not in (None, ALL):
            self._set(remat=options.remat)
        if options.fit and chips.hbm is None:
            raise UserError("--fit needs a device whose memory is known, such as a TPU topology")

    def _set(self, batch_per_chip: int | None = None, remat: str | None = None) -> None:
        with self.config.unlocked():
            if batch_per_chip:
                self.config.data.batch_size = batch_per_chip * self.mesh.size
            if remat:
                self.config.model.remat = remat

    def run(self, source: str) -> "Report":
        found: dict[str, Any] = {}
        if self.options.remat == ALL:
            found |= self._best_policy()
        if self.options.fit:
            found |= self._largest_batch()
        return {"config": source, **self._describe(), **found}

    def _program(self) -> Any:
        from launch.aot.program import Program

        return Program.make(self.config, self.mesh)

    def _compile(self) -> "Outcome":
        """Of the config as it now stands; each is compiled once."""
        from launch.aot.report import compile_program

        key = self.config.data.batch_size, self.config.model.remat
        if key in self._outcomes:
            return self._outcomes[key]
        what = f"{key[0] / self.mesh.size:,.10g} a chip, remat {key[1]}"
        _say(f"compiling {what} for {self.chips.name}")
        outcome = compile_program(self._program().lower(), self.chips.hbm)
        self._outcomes[key] = outcome
        needed = outcome.memory.get("peak", 0) / 2**30
        verdict = "fits" if outcome.fits else "does not fit"
        _say(f"{what}: {verdict}, {needed:.2f} GiB, compiled in {outcome.seconds:.0f} s")
        return outcome

    def _describe(self) -> "Report":
        """Of the config as it now stands."""
        from launch.aot.recompute import cost
        from launch.aot.report import describe

        program = self._program()
        if self.options.stablehlo:
            _write(self.options.stablehlo, program.lower().as_text())
        return describe(program, self.chips, self._compile(), cost(program))

    def _attempt(self, **values: Any) -> tuple[bool, int | None]:
        self._set(**values)
        outcome = self._compile()
        return outcome.fits, outcome.memory.get("peak")

    def _best_policy(self) -> "Report":
        from launch.aot import recompute, search

        costs = {}
        for policy in recompute.policies():
            self._set(remat=policy)
            costs[policy] = recompute.cost(self._program())
        best, rows = search.best_policy(
            costs,
            lambda policy: self._attempt(remat=policy),
            self.chips.hbm,
            recompute.beside(self._program(), costs),
        )
        self._set(remat=best or "full")
        return {"remat_best": best, "remat_search": rows}

    def _largest_batch(self) -> "Report":
        from launch.aot import search

        assert self.chips.hbm is not None
        rows: list[dict[str, Any]] = []

        def attempt(per_chip: int) -> tuple[bool, int | None]:
            fits, peak = self._attempt(batch_per_chip=per_chip)
            memory = {} if peak is None else {"peak": peak}
            rows.append({"per_chip": per_chip, "fits": fits, "memory": memory})
            return fits, peak

        start = self.options.batch_per_chip or 8
        best = search.largest_batch(attempt, self.chips.hbm, start)
        self._set(batch_per_chip=best or start)
        return {"fit_largest": best, "fit_search": rows}


def _source(rest: Sequence[str]) -> str:
    """The config as it was asked for, with its overrides."""
    return " ".join(word.removeprefix("--config=") for word in rest)


def _command(argv: Sequence[str]) -> str:
    return shlex.join(["python", "-m", "launch.aot_compile", *argv])


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _check_writable(path: str) -> None:
    """Raises UserError where a file could not be written after minutes of compiling."""
    folder = os.path.dirname(path) or "."
    if os.path.isdir(path):
        raise UserError(f"{path!r} is a folder: name a file in it")
    if not os.path.isdir(folder):
        raise UserError(f"cannot write {path!r}: there is no folder {folder!r}")
    if not os.access(folder, os.W_OK):
        raise UserError(f"cannot write {path!r}: folder {folder!r} is not writable")


def _write(path: str, text: str) -> None:
    temporary = f"{path}.{os.getpid()}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, path)


if __name__ == "__main__":
    sys.exit(runtime.exit_status(lambda: main(sys.argv[1:])))
