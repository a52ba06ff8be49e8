"""How the matrix of all similarities is cut into blocks and spread over the devices of a mesh.

    dense   arrays are global, the compiler divides the work; whole, or block by block
    gather  each device gathers the columns of all, and keeps its own rows
    ring    columns travel around the ring of devices, and what gathers along them goes with them

gather and ring are one: columns are gathered over the `inner` axes of a mesh and passed around its
`outer` ones. gather has no outer axes, ring no inner ones, unless they are named: gathering within
a slice and passing around between slices sends few large messages over the slow network.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from rsvl_jax.errors import UserError

Tree = Any
# The axes that split a batch (`parallel.mesh`); what is parallel knows no losses, nor these it.
BATCH_AXES = ("replica", "data", "fsdp")
IMPLEMENTATIONS = ("dense", "gather", "ring", "auto")
# "auto" is dense while the float32 logits of a device take no more than this, and ring beyond. A
# dense gradient keeps two to four of such matrices.
DENSE_BYTES = 64 * 2**20
# Rows and columns in a block of the ring: 1 MiB of logits, and of a float32 block of width 512.
BLOCK = 512


@dataclass(frozen=True)
class Plan:
    """Tiles in a block, of rows and of columns; of one device where there is a mesh."""

    rows: int
    columns: int
    mesh: Mesh | None = None
    inner: tuple[str, ...] = ()
    outer: tuple[str, ...] = ()

    @property
    def hops(self) -> int:
        """Devices that a block of columns visits."""
        return _devices(self.mesh, self.outer)

    @property
    def gathered(self) -> int:
        """Devices whose columns are side by side in a block."""
        return _devices(self.mesh, self.inner)

    def run(self, function: Callable[..., Tree], *arguments: Tree) -> Tree:
        """function on each device's rows of trees of arrays [B, ...]; so are its results."""
        if self.mesh is None:
            return function(*arguments)
        axes = tuple(name for name in self.mesh.axis_names if name in self.inner + self.outer)
        rows = PartitionSpec(axes)
        # Nothing here is differentiated: the reductions bring gradients of their own.
        return jax.shard_map(
            function, mesh=self.mesh, in_specs=rows, out_specs=rows, check_vma=False
        )(*arguments)

    def gather(self, tree: Tree) -> Tree:
        """Arrays [c, ...] of the inner devices side by side, [inner * c, ...]."""
        if not self.inner:
            return tree
        return jax.tree.map(lambda x: jax.lax.all_gather(x, self.inner, tiled=True), tree)

    def maximum(self, x: jax.Array) -> jax.Array:
        """The largest over the inner devices."""
        return jax.lax.pmax(x, self.inner) if self.inner else x

    def scatter_sum(self, x: jax.Array) -> jax.Array:
        """Inverse of `gather` that adds up: [inner * c, ...] of each -> own [c, ...]."""
        return jax.lax.psum_scatter(x, self.inner, tiled=True) if self.inner else x

    def own(self, x: jax.Array) -> jax.Array:
        """Inverse of `gather` of what is equal on all: [inner * c, ...] -> own [c, ...]."""
        if not self.inner:
            return x
        size = x.shape[0] // self.gathered
        return jax.lax.dynamic_slice_in_dim(x, jax.lax.axis_index(self.inner) * size, size)

    def pass_on(self, tree: Tree) -> Tree:
        """To the next device of the ring; after `hops` of them everything is home again."""
        if not self.outer:
            return tree
        ring = [(i, (i + 1) % self.hops) for i in range(self.hops)]
        send = functools.partial(jax.lax.ppermute, axis_name=self.outer, perm=ring)
        leaves, structure = jax.tree.flatten(tree)
        # What is no embedding goes in one message: a hop costs by messages as by bytes.
        largest = max(x.size for x in leaves)
        small = [i for i, x in enumerate(leaves) if _packs(x, largest)]
        if small:
            packed = send(jnp.concatenate([_to_words(leaves[i]) for i in small]))
        for i, x in enumerate(leaves):
            if i in small:
                leaves[i], packed = _from_words(packed[: x.size], x), packed[x.size :]
            else:
                leaves[i] = send(x)
        return jax.tree.unflatten(structure, leaves)

    def cut(self, x: jax.Array, size: int) -> jax.Array:
        """[B, ...] -> [blocks, size, ...], padded with zeros.

        Of a global array, block i holds rows i, i + blocks, ...: every device has its share in it.
        """
        blocks = -(-x.shape[0] // size)
        padding = [(0, blocks * size - x.shape[0])] + [(0, 0)] * (x.ndim - 1)
        x = jnp.pad(x, padding)
        if self.mesh is not None:
            return x.reshape(blocks, size, *x.shape[1:])
        return x.reshape(size, blocks, *x.shape[1:]).swapaxes(0, 1)

    def join(self, x: jax.Array, count: int) -> jax.Array:
        """Inverse of `cut`: [blocks, size, ...] -> [B, ...]."""
        x = x if self.mesh is not None else x.swapaxes(0, 1)
        return x.reshape(-1, *x.shape[2:])[:count]


@dataclass(frozen=True)
class Spread:
    """How a contrast is spread over a mesh; raises UserError for names that do not exist.

    implementation: one of `IMPLEMENTATIONS`; axes: of the mesh, those that split the batch; inner:
    those of them over which "ring" gathers. Without a mesh, or on one device, "gather" is "dense",
    and "ring" goes block by block.
    """

    implementation: str = "dense"
    mesh: Mesh | None = None
    axes: tuple[str, ...] = BATCH_AXES
    inner: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.implementation not in IMPLEMENTATIONS:
            raise UserError(
                f"contrast.implementation is '{self.implementation}'; "
                f"choose one of {', '.join(IMPLEMENTATIONS)}"
            )
        if self.mesh is None:
            return
        _check("axes", self.axes, tuple(self.mesh.axis_names))
        _check("inner", self.inner, self.axes)

    def plan(
        self, *, tiles: int, anchors: int = 1, photos: int = 1, block_rows: int | None = None
    ) -> Plan | None:
        """The plan for tiles x anchors rows, tiles x photos columns; None: all of it at once.

        block_rows: tiles in a block, over all devices where dense, else of one device; None: all of
        a device, but blocks of `BLOCK` rows and columns in "ring". Raises UserError where the mesh
        does not divide the tiles.
        """
        devices = _devices(self.mesh, self.axes)
        kind = self.implementation
        if kind == "auto":
            logits = 4 * tiles * anchors * tiles * photos // devices
            kind = "dense" if logits <= DENSE_BYTES else "ring"
        spreads = kind != "dense" and devices > 1
        if spreads and tiles % devices:
            raise UserError(
                f"contrast of {tiles} samples does not divide over {devices} devices (axes "
                f"{', '.join(self.axes)}); choose a multiple of {devices}, or 'dense'"
            )
        local = tiles // devices if spreads else tiles
        if block_rows is not None:
            sizes = block_rows, block_rows
        elif kind == "ring":
            sizes = max(1, BLOCK // anchors), max(1, BLOCK // photos)
        elif spreads:
            sizes = local, local
        else:
            return None
        rows, columns = (min(size, local) for size in sizes)
        if not spreads:
            return Plan(rows, columns)
        inner = self.axes if kind == "gather" else self.inner
        outer = tuple(name for name in self.axes if name not in inner)
        return Plan(rows, columns, self.mesh, inner, outer)


DENSE = Spread()


def _packs(x: jax.Array, largest: int) -> bool:
    return (x.dtype == bool or x.dtype.itemsize == 4) and 8 * x.size <= largest


def _to_words(x: jax.Array) -> jax.Array:
    """Booleans, or bits of 32-bit numbers, as uint32 [size]."""
    words = x if x.dtype == bool else jax.lax.bitcast_convert_type(x, jnp.uint32)
    return words.astype(jnp.uint32).reshape(-1)


def _from_words(words: jax.Array, like: jax.Array) -> jax.Array:
    words = words.reshape(like.shape)
    if like.dtype == bool:
        return words.astype(bool)
    return jax.lax.bitcast_convert_type(words, like.dtype)


def _check(what: str, given: tuple[str, ...], known: tuple[str, ...]) -> None:
    wrong = [name for name in given if name not in known]
    if wrong:
        raise UserError(
            f"contrast over mesh {what} '{wrong[0]}', which is not one of {', '.join(known)}"
        )


def _devices(mesh: Mesh | None, axes: tuple[str, ...]) -> int:
    return 1 if mesh is None else math.prod(mesh.shape[name] for name in axes)
