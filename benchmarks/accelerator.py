"""Training steps of both methods on whatever accelerator there is: samples per second and MFU.

    python -m benchmarks.accelerator                      # everything, on all local devices
    python -m benchmarks.accelerator --cases=clip,flavars --sizes=B --batches=256,512

Each row is a process of its own, so that one that runs out of memory costs only itself. The step is
the one that `main` compiles, in bfloat16, on a made-up batch that lies on the device: no input is
measured. MFU counts the analytic FLOPs of the model (nothing that is recomputed) against the
devices' dense bfloat16 peak. `--cases=full` compares attention implementations and remat policies
at one batch. Where PyTorch sees a GPU, `FlavaForPreTraining` of Hugging Face runs beside ours,
compiled and in bfloat16; see `benchmarks.step` for what both compute.
"""

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

# name -> (recipe, presets, what)
CASES = {
    "clip": ("flavars", "base,clip", "image-text contrast"),
    "flavars": ("flavars", "base,flavars", "all of FLAVARS"),
    "graft": ("graft", "sentinel2,image", "GRAFT, image level, cached photos"),
    "graft_pixel": ("graft", "sentinel2,pixel", "GRAFT, pixel level, cached photos"),
}
# Towers by size: width, depth, heads of the image, of text and fusion as in the recipe.
SIZES = {"B": (768, 12, 12), "L": (1024, 24, 16), "tiny": (64, 2, 2)}
ATTENTION = ("auto", "dot", "xla", "cudnn")
REMAT = ("none", "matmuls", "attention", "full")


class Case(NamedTuple):
    """One row: see `CASES` and `SIZES`; batch: of all devices."""

    name: str
    size: str
    batch: int
    attention: str
    remat: str


def config_of(case: Case) -> Any:
    """The recipe at this size and batch."""
    import importlib

    recipe, presets, _ = CASES[case.name]
    config = importlib.import_module(f"configs.{recipe}").get_config(presets)
    width, depth, heads = SIZES[case.size]
    config.model.image.update(width=width, depth=depth, heads=heads, mlp_dim=4 * width)
    if case.size == "tiny":
        small = {"width": width, "depth": depth, "heads": heads, "mlp_dim": 4 * width}
        config.model.image.update(size=32)
        for part in ("text", "fusion"):
            if part in config.model:
                config.model[part].update(small)
    config.model.update(attention=case.attention, remat=case.remat, dtype="bfloat16")
    config.data.batch_size = case.batch
    config.training.update(steps=10_000, epochs=None)
    return config


def measure(case: Case, steps: int) -> dict[str, Any]:
    """Seconds of a step after three unmeasured ones, and what they mean."""
    from rsvl_jax import runtime

    runtime.start()
    import jax

    from launch.aot.program import Program
    from rsvl_jax.parallel.mesh import make_mesh
    from rsvl_jax.training.flops import peak_flops
    from rsvl_jax.training.state import create_state
    from rsvl_jax.training.step import CompiledStep

    program = Program.make(config_of(case), make_mesh())
    state = create_state(program.objective, program.optimizer, program.state, seed=0)
    step = CompiledStep(program.objective, program.optimizer, program.state, program.mesh, seed=0)
    batch = jax.tree_util.tree_map_with_path(_filled, program.batch)
    step.prepare(state, batch)
    seconds = []
    for number in range(steps + 3):
        start = time.perf_counter()
        state, metrics = step(state, batch)
        finite = bool(metrics["finite"])
        seconds += [time.perf_counter() - start] if number >= 3 else []
        assert finite, "the loss is not finite"
    median = statistics.median(seconds)
    rate = case.batch / median
    peak = peak_flops(list(program.mesh.devices.flat))
    memory = jax.local_devices()[0].memory_stats() or {}
    return {
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "jax": jax.__version__,
        "seconds": median,
        "spread": [min(seconds), max(seconds)],
        "rate": rate,
        "mfu": None if peak is None else rate * program.objective.flops_per_sample() / peak,
        "peak_bytes": memory.get("peak_bytes_in_use"),
    }


def _filled(path: Any, leaf: Any) -> Any:
    """Made-up values that every index may have: what they are costs no time."""
    import jax
    import numpy as np

    name = jax.tree_util.keystr(path, simple=True, separator="/").rsplit("/", 1)[-1]
    rng = np.random.default_rng(0)
    if name == "mim_mask":
        value = rng.random(leaf.shape) < 0.4
    elif leaf.dtype == bool:
        value = np.ones(leaf.shape, bool)
    elif leaf.dtype == np.uint8:
        value = rng.integers(0, 256, leaf.shape, np.uint8)
    elif name in ("text", "text_masked"):
        value = rng.integers(5, 1000, leaf.shape)
    elif name.endswith("_id"):
        value = np.arange(leaf.size).reshape(leaf.shape)
    elif name.endswith("positions") or name == "mae_keep":
        value = np.broadcast_to(np.arange(leaf.shape[-1]), leaf.shape)
    elif name == "photos":
        value = rng.standard_normal(leaf.shape, np.float32)
    elif name == "footprint":  # tiles side by side, none over another
        west = np.arange(leaf.shape[0]) / leaf.shape[0] * 300 - 150
        value = np.stack([west, west * 0, west + 1e-3, west * 0 + 1e-3], axis=1)
    else:
        value = np.ones(leaf.shape)
    return jax.device_put(np.asarray(value, leaf.dtype), leaf.sharding)


def cases(given: argparse.Namespace) -> Iterator[Case]:
    """The rows that a command line asks for."""
    batches = [int(batch) for batch in given.batches.split(",")]
    for name in given.cases.split(","):
        for size in given.sizes.split(","):
            if name == "full":
                ways = [(attention, "full") for attention in ATTENTION]
                ways += [("auto", remat) for remat in REMAT if remat != "full"]
                for attention, remat in ways:
                    yield Case("flavars", size, batches[0], attention, remat)
                continue
            for batch in batches:
                yield Case(name, size, batch, "auto", given.remat)


def row(case: Case, steps: int) -> str:
    """One line of the table, by a process of its own."""
    command = [sys.executable, "-m", "benchmarks.accelerator", f"--one={json.dumps(case)}"]
    done = subprocess.run([*command, f"--steps={steps}"], capture_output=True, text=True)
    start = (
        f"| {CASES[case.name][2]} | {case.size} | {case.batch} | {case.attention} | {case.remat}"
    )
    if done.returncode:
        full = "RESOURCE_EXHAUSTED" in done.stderr or "out of memory" in done.stderr.lower()
        last = next((x for x in reversed(done.stderr.splitlines()) if "Error: " in x), "no word")[
            :160
        ]
        return f"{start} | {'out of memory' if full else last} | | | |"
    found = json.loads(done.stdout.strip().splitlines()[-1])
    low, high = (1000 * value for value in found["spread"])
    mfu = "" if found["mfu"] is None else f"{100 * found['mfu']:.1f} %"
    peak = "" if found["peak_bytes"] is None else f"{found['peak_bytes'] / 2**30:.1f} GiB"
    return (
        f"{start} | {1000 * found['seconds']:.0f} ({low:.0f}-{high:.0f}) | {found['rate']:.0f} | "
        f"{mfu} | {peak}, {found['device']}, jax {found['jax']} |"
    )


def beside_torch(batch: int, rounds: int) -> str:
    """The full FLAVA step of ViT-B/16 beside PyTorch's, on one GPU; empty without PyTorch."""
    if importlib.util.find_spec("torch") is None:
        return ""
    import torch

    if not torch.cuda.is_available():
        return ""
    from benchmarks import contest

    contest.ENVIRONMENT.pop("JAX_PLATFORMS", None)
    # Both contenders live on the device at once: neither may take it all.
    contest.ENVIRONMENT["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    extra = [f"--batch={batch}", "--size=base"]
    python = [sys.executable, "-m"]
    commands = {
        "Hugging Face FLAVA, torch.compile": [*python, "benchmarks.step_torch", *extra],
        "ours": [*python, "benchmarks.step", "--serve", *extra],
    }
    found = contest.run(commands, rounds, warmup=4)
    title = f"\n### Full FLAVA step, ViT-B/16, bfloat16, batch {batch}\n\n"
    return title + contest.table(found, batch, reference=next(iter(commands)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", default="clip,flavars,graft,graft_pixel,full")
    parser.add_argument("--sizes", default="B,L")
    parser.add_argument("--batches", default="128,256,512,1024")
    parser.add_argument("--remat", default="full")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--torch_batch", type=int, default=64, help="0: leave PyTorch out")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(Case(*json.loads(given.one)), given.steps)))
        return
    print(
        "| step | size | batch | attention | remat | ms, median (min-max) | samples/s | MFU | peak"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for case in cases(given):
        print(row(case, given.steps), flush=True)
    if given.torch_batch:
        print(beside_torch(given.torch_batch, rounds=15), flush=True)


if __name__ == "__main__":
    main()
