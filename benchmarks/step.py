"""Speed and memory of the full FLAVA training step beside Hugging Face `FlavaForPreTraining`.

Both sides run the same work on the same random batch, float32 on the CPU: clean and masked image,
clean and masked text, fusion of the masked ones, six losses, backward, AdamW. Visual words are
given, on both sides. With real captions ours trims the text to length buckets, as its input
pipeline does; the other pads to the full length, as its processor does.

    pip install -e . torch==2.13.0 transformers
    python -m benchmarks.step [--rounds=9] [--batch=16]

Peak memory is the resident set of the whole process. Compiling a program takes memory too, which
a training run gives back as soon as it has the program in the compilation cache; the table measures
a process that finds it there, and names the first start apart.
"""

import argparse
import sys
import tempfile
from importlib.metadata import version
from typing import Any

from benchmarks import contest
from benchmarks.step_shape import SHAPE, SIZES, Shape, captions, paired_batch

TORCH = "Hugging Face FLAVA"
PACKAGES = ("jax", "flax", "torch", "transformers")


def recipe(shape: Shape) -> Any:
    """A shape of the benchmark as an ordinary config."""
    from configs.flavars import get_config

    config = get_config("flava")
    tower = {"width": shape.width, "heads": shape.heads, "mlp_dim": 4 * shape.width}
    config.model.image.update(size=SHAPE.image, patch=SHAPE.patch, depth=SHAPE.depth, **tower)
    config.model.text.update(vocab_size=SHAPE.vocabulary, length=SHAPE.text, depth=SHAPE.depth)
    config.model.text.update(tower)
    config.model.fusion.update(depth=SHAPE.fusion_depth, **tower)
    config.model.embed_dim = shape.width
    if shape is not SHAPE:
        config.model.update(dtype="bfloat16", remat="none")  # as the other side keeps everything
    config.objective.update(codebook_size=SHAPE.codebook, image_mask_ratio=75 / 196)
    return config


def serve(batch_size: int, real_captions: bool, shape: Shape) -> None:
    """Answers rounds with our step."""
    from rsvl_jax import runtime

    runtime.start()
    import jax
    import numpy as np

    from flavars_jax.objective import FlavarsObjective
    from rsvl_jax.parallel.mesh import make_mesh
    from rsvl_jax.parallel.sharding import batch_sharding
    from rsvl_jax.training.optimizer import make_optimizer
    from rsvl_jax.training.schedules import Lengths
    from rsvl_jax.training.state import abstract_state, create_state
    from rsvl_jax.training.step import CompiledStep

    config = recipe(shape)
    codebook = np.zeros((SHAPE.codebook, 3 * SHAPE.patch**2), np.float32)
    objective = FlavarsObjective(config, codebook=codebook)
    mesh = make_mesh()
    lengths = Lengths(batch_size, 10_000, 1_000)
    optimizer = make_optimizer(config.optimizer, objective.logical_axes()["params"], lengths)
    abstract = abstract_state(objective, optimizer, mesh)
    state = create_state(objective, optimizer, abstract, seed=0)
    step = CompiledStep(objective, optimizer, abstract, mesh, seed=0)
    sample = paired_batch(batch_size, captions() if real_captions else None, trim=real_captions)
    unused = ("image_normalised", "mim_labels_dense", "mlm_labels_dense")
    paired = {name: value for name, value in sample.items() if name not in unused}
    batch = jax.device_put({"paired": paired}, batch_sharding(mesh))
    step.prepare(state, batch)

    def work() -> None:
        nonlocal state
        state, metrics = step(state, batch)
        assert bool(metrics["finite"])

    contest.serve(work)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int, default=SHAPE.batch)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--real_captions", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--size", default="small", choices=SIZES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.batch, options.real_captions, SIZES[options.size])
        return
    for captioned in (False, True):
        print(_title(captioned, options.batch), flush=True)
        print(_compare(options, captioned), flush=True)


def _title(captioned: bool, batch: int) -> str:
    text = "real captions" if captioned else "full-length text"
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return f"\n### Training step, batch {batch}, {text} ({packages})\n"


def _compare(options: argparse.Namespace, captioned: bool) -> str:
    extra = [f"--batch={options.batch}"] + ["--real_captions"] * captioned
    python = [sys.executable, "-m"]
    ours = [*python, "benchmarks.step", "--serve", *extra]
    with tempfile.TemporaryDirectory() as cache:
        contest.ENVIRONMENT["JAX_COMPILATION_CACHE_DIR"] = cache
        cold = contest.run({"ours": ours}, rounds=1)[0]
        commands = {TORCH: [*python, "benchmarks.step_torch", *extra], "ours": ours}
        contenders = contest.run(commands, options.rounds, warmup=2)
    table = contest.table(contenders, options.batch, reference=TORCH)
    first = f"First start, compiling: {cold.peak_bytes / 2**30:.2f} GiB peak."
    return f"{table} {first}"


if __name__ == "__main__":
    main()
