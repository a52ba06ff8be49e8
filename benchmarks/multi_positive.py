"""The multi-positive contrast block by block beside its direct, dense form, on the CPU.

Value and gradients by tiles and photos, float32, of 4,096 tiles x 8 photos x 512, with ragged
photos, repeated photo ids and overlapping tiles. Each contender is a process of its own and runs
the same random batch.

    python -m benchmarks.multi_positive [--rounds=3] [--tiles=4096] [--block_rows=256]

Temporary memory is what the compiler allots beside arguments and results, gradients included. At
the pixel level the dense form would take more memory than most machines have: it is compiled, not
run, unless `--dense_pixels` is given.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import contest

PHOTOS, WIDTH = 8, 512
LEVELS = ("image", "pixel")


class Measured(NamedTuple):
    """One program: its temporaries in bytes, and value and gradients, None where it was not run."""

    temporaries: int
    value: float | None
    gradients: tuple[np.ndarray, ...] | None


def batch(level: str, tiles: int) -> dict[str, np.ndarray]:
    """The same batch for every contender."""
    rng = np.random.default_rng(0)
    slots = () if level == "image" else (PHOTOS,)
    count = rng.integers(0, PHOTOS + 1, (tiles, 1))
    place = rng.random((tiles, 2)) * np.sqrt(tiles)
    near = np.abs(place[:, None] - place[None]).max(-1) < 0.5
    return {
        "anchors": rng.standard_normal((tiles, *slots, WIDTH)).astype(np.float32),
        "photos": rng.standard_normal((tiles, PHOTOS, WIDTH)).astype(np.float32),
        "mask": np.arange(PHOTOS) < count,
        "photo_ids": rng.integers(0, tiles * PHOTOS, (tiles, PHOTOS)).astype(np.int32),
        "ignore": near,
    }


def program(level: str, tiles: int, block_rows: int | None) -> tuple[Any, Any]:
    """The compiled value and gradients, and their arguments."""
    import jax
    import jax.numpy as jnp

    from rsvl_jax.losses import multi_positive

    def loss(varied: dict[str, Any], fixed: dict[str, Any]) -> jax.Array:
        total, count = multi_positive.info_nce(
            **varied, **fixed, logit_scale=jnp.log(1 / 0.07), block_rows=block_rows
        )
        return total / count

    data = batch(level, tiles)
    varied = {name: data.pop(name) for name in ("anchors", "photos")}
    arguments = varied, data
    return jax.jit(jax.value_and_grad(loss)).lower(*arguments).compile(), arguments


def serve(options: argparse.Namespace) -> None:
    """Writes down what was compiled and computed, then answers rounds."""
    import jax

    compiled, arguments = program(options.level, options.tiles, options.block_rows)
    found = {"temporaries": compiled.memory_analysis().temp_size_in_bytes}
    if not options.compile_only:
        placed = jax.device_put(arguments)
        value, gradients = jax.device_get(compiled(*placed))
        found |= {"value": value, **gradients}
    np.savez(options.out, **found)
    if not options.compile_only:
        contest.serve(lambda: jax.block_until_ready(compiled(*placed)))


def compare(level: str, options: argparse.Namespace) -> list[str]:
    """The rows of one level."""
    runs_dense = level == "image" or options.dense_pixels
    with tempfile.TemporaryDirectory() as directory:
        commands, files = {}, {}
        for name, block_rows in (("dense", None), ("blockwise", options.block_rows)):
            files[name] = Path(directory) / f"{name}.npz"
            commands[name] = _command(level, options.tiles, block_rows, files[name])
        if not runs_dense:
            subprocess.run([*commands.pop("dense"), "--compile_only"], check=True)
        contenders = {c.name: c for c in contest.run(commands, options.rounds, warmup=0)}
        measured = {name: _read(path) for name, path in files.items()}
    return [_row(level, name, contenders.get(name), measured) for name in files]


def _row(
    level: str, name: str, contender: contest.Contender | None, measured: dict[str, Measured]
) -> str:
    """One line of the table; a program that was not run has no contender."""
    seconds, peak, differs = "not run", "-", "-"
    if contender:
        low, high = min(contender.seconds), max(contender.seconds)
        seconds = f"{statistics.median(contender.seconds):.2f} ({low:.2f}-{high:.2f})"
        peak = f"{contender.peak_bytes / 2**30:.2f} GiB"
    if name != "dense" and measured["dense"].gradients:
        differs = _difference(measured["dense"], measured[name])
    size, base = measured[name].temporaries, measured["dense"].temporaries
    return (
        f"| {level} | {name} | {size / 2**20:,.0f} MiB | {size / base:.3f} "
        f"| {seconds} | {peak} | {differs} |"
    )


def _command(level: str, tiles: int, block_rows: int | None, out: Path) -> list[str]:
    command = [sys.executable, "-m", "benchmarks.multi_positive", "--serve", f"--level={level}"]
    command += [f"--tiles={tiles}", f"--out={out}"]
    return [*command, f"--block_rows={block_rows or 0}"]


def _read(path: Path) -> Measured:
    with np.load(path) as file:
        value = float(file["value"]) if "value" in file else None
        gradients = (file["anchors"], file["photos"]) if "anchors" in file else None
        return Measured(int(file["temporaries"]), value, gradients)


def _difference(dense: Measured, other: Measured) -> str:
    """Of the value, relative, and of the gradients, relative to the largest entry of each."""
    assert dense.value and other.value and dense.gradients and other.gradients
    value = abs(other.value / dense.value - 1)
    slopes = max(
        float(np.abs(a - b).max() / np.abs(a).max())
        for a, b in zip(dense.gradients, other.gradients, strict=True)
    )
    return f"{value:.0e}, {slopes:.0e}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiles", type=int, default=4096)
    parser.add_argument("--block_rows", type=int, default=256)
    parser.add_argument("--dense_pixels", action="store_true")
    for flag in ("--serve", "--compile_only"):
        parser.add_argument(flag, action="store_true", help=argparse.SUPPRESS)
    for flag in ("--level", "--out"):
        parser.add_argument(flag, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.block_rows = options.block_rows or None
    if options.serve:
        serve(options)
        return
    print(
        f"\n### Multi-positive contrast, {options.tiles} tiles x {PHOTOS} photos x {WIDTH}, "
        f"blocks of {options.block_rows} tiles (jax {version('jax')})\n\n"
        "| level | form | temporaries | ratio | seconds, median (min-max) | peak of the process "
        "| difference of value, gradients |\n|---|---|---|---|---|---|---|"
    )
    for level in LEVELS:
        print("\n".join(compare(level, options)), flush=True)
    print(f"\n{options.rounds} interleaved rounds; {contest.hardware()}")


if __name__ == "__main__":
    main()
