"""Host arrays onto the devices of a mesh, and results back to every process."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from rsvl_jax.parallel.mesh import batch_shards
from rsvl_jax.parallel.sharding import batch_sharding, replicated


def chunk_size(most: int, rows: int, mesh: Mesh | None) -> int:
    """Rows to take at a time: `most` a shard or all there are, a multiple of the shards."""
    shards = 1 if mesh is None else batch_shards(mesh)
    return -(-min(most * shards, max(rows, 1)) // shards) * shards


def put(rows: np.ndarray, mesh: Mesh | None, *, split: bool) -> jax.Array:
    """The array on the devices, its rows over the batch axes or, without `split`, whole on each.

    mesh: None for the default device. Every process hands over the same array.
    """
    if mesh is None:
        return jnp.asarray(rows)
    sharding = batch_sharding(mesh) if split else replicated(mesh)
    return jax.make_array_from_callback(rows.shape, sharding, lambda index: rows[index])


def whole(found: Any, mesh: Mesh | None) -> Any:
    """The array, or a tree of arrays, all of it, on a device of this process."""
    if mesh is None:
        return found
    everywhere = jax.jit(lambda x: x, out_shardings=replicated(mesh))(found)
    return jax.tree.map(lambda x: x.addressable_data(0), everywhere)
