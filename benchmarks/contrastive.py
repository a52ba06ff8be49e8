"""Memory of the contrasts on TPU slices, compiled ahead: no TPU is needed, only `libtpu`.

Temporaries are what the compiler allots in a device's memory beside arguments and results, of the
value and the gradients by both sides, temperature and bias. The batch is split over all chips of
the topology: 512 samples a chip make 32,768 on v5e:8x8 and 131,072 on v5e:16x16.

    pip install --no-deps libtpu
    python -m benchmarks.contrastive [--topologies=v5e:8x8,v5e:16x16] [--local=512]
        [--losses=info_nce,sigmoid,...] [--implementations=dense,gather,...]

"gather-in" gathers over one axis of the chips and passes around the other; "gather-blocks" is
gather in blocks of 128 rows. Multi-positive contrasts have 8 photos a tile; ids and overlaps are on
in all of them, and identical captions in `info_nce_ids`.
"""

import argparse
import math
import os
import re
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

# Nothing may look for a TPU, nor for the one process that may own it.
os.environ |= {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rsvl_jax.losses import contrastive, multi_positive
from rsvl_jax.losses.distributed import Spread
from rsvl_jax.losses.relation import Relation, same_id

Tree = Any
AXES = ("data", "fsdp")
WIDTH, PHOTOS = 512, 8
LOSSES = ("info_nce", "info_nce_ids", "sigmoid", "image_photos", "pixel_photos", "photos_sigmoid")
# name -> (implementation, axes gathered within, rows in a block)
IMPLEMENTATIONS: dict[str, tuple[str, tuple[str, ...], int | None]] = {
    "dense": ("dense", (), None),
    "gather": ("gather", (), None),
    "gather-blocks": ("gather", (), 128),
    "gather-in": ("ring", ("fsdp",), None),
    "ring": ("ring", (), None),
}
COLLECTIVES = ("collective-permute", "all-gather", "reduce-scatter", "all-reduce", "all-to-all")


class Compiled(NamedTuple):
    """MiB of temporaries, seconds to compile, and collectives in the program by kind."""

    temporaries: float
    seconds: float
    collectives: str


def near(a: jax.Array, b: jax.Array) -> jax.Array:
    """Whether boxes [b, 4] and [c, 4] (west, south, east, north) overlap, bool [b, c]."""
    apart = [(a[:, None, i] >= b[:, i + 2]) | (b[:, i] >= a[:, None, i + 2]) for i in (0, 1)]
    return ~(apart[0] | apart[1])


def loss(name: str, varied: Tree, fixed: Tree, spread: Spread, block_rows: int | None) -> jax.Array:
    """The mean of one of `LOSSES`."""
    arguments = {"spread": spread, "block_rows": block_rows, "logit_scale": varied["scale"]}
    if "sigmoid" in name:
        arguments["logit_bias"] = varied["bias"]
    if "photos" in name:
        total, count = getattr(multi_positive, "sigmoid" if "sigmoid" in name else "info_nce")(
            anchors=varied["a"],
            photos=varied["b"],
            mask=fixed["mask"],
            photo_ids=fixed["ids"],
            ignore=Relation(fixed["place"], fixed["place"], near),
            **arguments,
        )
    else:
        positives = None if name == "info_nce" else same_id(fixed["captions"])
        function = contrastive.sigmoid if name == "sigmoid" else contrastive.info_nce
        total, count = function(a=varied["a"], b=varied["b"], positives=positives, **arguments)
    return total / count


def shapes(name: str, rows: int, mesh: Mesh) -> tuple[Tree, Tree]:
    """What is differentiated, and what is not, as they lie on the mesh."""

    def array(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
        spec = PartitionSpec(AXES) if shape else PartitionSpec()
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))

    varied = {"a": array(rows, WIDTH), "b": array(rows, WIDTH), "scale": array(), "bias": array()}
    if "photos" not in name:
        return varied, {"captions": array(rows, dtype=jnp.int32)}
    varied["b"] = array(rows, PHOTOS, WIDTH)
    if name == "pixel_photos":
        varied["a"] = varied["b"]
    fixed = {
        "mask": array(rows, PHOTOS, dtype=jnp.bool_),
        "ids": array(rows, PHOTOS, dtype=jnp.int32),
        "place": array(rows, 4),
    }
    return varied, fixed


def sides(topology: str) -> tuple[int, ...]:
    """v5e:8x16 -> (8, 16)."""
    return tuple(int(size) for size in topology.split(":")[1].split("x"))


def compile_loss(name: str, implementation: str, topology: str, local: int) -> Compiled:
    """Compiles value and gradients for a topology, `local` samples a chip."""
    chips = topologies.get_topology_desc(topology_name=topology, platform="tpu")
    mesh = topologies.make_mesh(chips, sides(topology), AXES)
    kind, inner, block_rows = IMPLEMENTATIONS[implementation]
    spread = Spread(kind, mesh, AXES, inner)

    def run(varied: Tree, fixed: Tree) -> jax.Array:
        return loss(name, varied, fixed, spread, block_rows)

    lowered = jax.jit(jax.value_and_grad(run)).lower(*shapes(name, local * mesh.size, mesh))
    start = time.perf_counter()
    program = lowered.compile()
    seconds = time.perf_counter() - start
    text = program.as_text() or ""
    counts = {kind: len(re.findall(rf" {kind}(?:-start)?\(", text)) for kind in COLLECTIVES}
    found = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    memory: Any = program.memory_analysis()
    return Compiled(memory.temp_size_in_bytes / 2**20, seconds, found)


def row(name: str, implementation: str, topology: str, local: int) -> str:
    """One line of the table; a program that the chip cannot hold says so."""
    rows = local * math.prod(sides(topology))
    start = f"| {name} | {implementation} | {topology} | {rows:,} |"
    try:
        found = compile_loss(name, implementation, topology, local)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return f"{start} does not fit | - | - |"
    return f"{start} {found.temporaries:,.2f} | {found.seconds:.0f} | {found.collectives} |"


def libtpu_version() -> str:
    try:
        return version("libtpu")
    except PackageNotFoundError:
        return "of unknown version"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--topologies", default="v5e:8x8,v5e:16x16")
    parser.add_argument("--local", type=int, default=512)
    parser.add_argument("--losses", default=",".join(LOSSES))
    parser.add_argument("--implementations", default=",".join(IMPLEMENTATIONS))
    options = parser.parse_args()
    print(
        f"\n### Contrasts of width {WIDTH}, {options.local} samples a chip, float32 "
        f"(jax {version('jax')}, libtpu {libtpu_version()})\n\n"
        "| loss | implementation | topology | global batch | temporaries, MiB a chip | compile, s "
        "| collectives in the program |\n|---|---|---|---|---|---|---|"
    )
    for name in options.losses.split(","):
        for implementation in options.implementations.split(","):
            for topology in options.topologies.split(","):
                print(row(name, implementation, topology, options.local), flush=True)


if __name__ == "__main__":
    main()
