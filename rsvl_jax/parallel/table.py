"""Where each parameter lives: a table for the start of a run, and a limit on what is replicated."""

import math
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding

from rsvl_jax.errors import UserError
from rsvl_jax.parallel.mesh import describe
from rsvl_jax.parallel.sharding import LogicalAxes

Tree = Any
_NAMED = 3  # of the replicated parameters, in an error


@dataclass(frozen=True)
class Placement:
    """One parameter on the mesh.

    axes: logical name of each dimension. split: mesh axis of each dimension, None where it is
    whole (an axis of one device splits nothing). bytes: of the whole array; local: of one device's
    part.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    axes: LogicalAxes
    split: tuple[str | None, ...]
    bytes: int
    local: int

    @property
    def replicated(self) -> bool:
        """Whether every device holds all of it."""
        return self.local == self.bytes


def placements(params: Tree, axes: Tree) -> list[Placement]:
    """The placement of each parameter, in the order of the tree.

    params: arrays or ShapeDtypeStructs with NamedShardings, such as `abstract_state(...).params`;
    axes: the same tree of tuples of logical names.
    """
    found: list[Placement] = []

    def add(path: Any, leaf: Any, names: LogicalAxes) -> None:
        sharding: NamedSharding = leaf.sharding
        sizes = sharding.mesh.shape
        spec = tuple(axis if axis and sizes[axis] > 1 else None for axis in sharding.spec)
        shape = tuple(leaf.shape)
        found.append(
            Placement(
                name=jax.tree_util.keystr(path, simple=True, separator="/"),
                shape=shape,
                dtype=str(leaf.dtype),
                axes=names,
                split=spec + (None,) * (len(shape) - len(spec)),
                bytes=math.prod(shape) * leaf.dtype.itemsize,
                local=math.prod(sharding.shard_shape(shape)) * leaf.dtype.itemsize,
            )
        )

    jax.tree_util.tree_map_with_path(add, params, axes)
    return found


def table(params: Tree, axes: Tree) -> str:
    """Parameter, shape, dtype, logical axes, placement and bytes per device; below them the totals.

    Arguments as in `placements`.
    """
    found = placements(params, axes)
    rows = [("parameter", "shape", "dtype", "axes", "placement", "bytes a device")]
    rows += [
        (
            each.name,
            "x".join(map(str, each.shape)) or "scalar",
            each.dtype,
            _names(each.axes),
            _names(each.split),
            f"{each.local:,}",
        )
        for each in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    count = sum(math.prod(each.shape) for each in found)
    local = sum(each.local for each in found)
    total = f"{count:,} parameters, {local:,} bytes a device, {fraction(found):.1%} replicated"
    return "\n".join([*lines, total])


def fraction(found: list[Placement]) -> float:
    """The share of the parameters' bytes that every device holds all of."""
    whole = sum(each.bytes for each in found)
    return sum(each.bytes for each in found if each.replicated) / whole if whole else 0.0


def check_replicated(params: Tree, axes: Tree, mesh: Mesh, limit: float) -> None:
    """Raises UserError where a mesh that splits parameters leaves more than `limit` of them whole.

    limit: share of their bytes, 1 for no limit. A mesh without fsdp and tensor replicates them all
    on purpose, and passes. Other arguments as in `placements`.
    """
    if mesh.shape["fsdp"] * mesh.shape["tensor"] == 1:
        return
    found = placements(params, axes)
    share = fraction(found)
    if share <= limit:
        return
    largest = sorted((each for each in found if each.replicated), key=lambda each: -each.bytes)
    names = ", ".join(f"{each.name} {each.shape}" for each in largest[:_NAMED])
    raise UserError(
        f"mesh {describe(mesh.shape)} leaves {share:.1%} of the parameters on every device, more "
        f"than mesh.max_replicated={limit}; the largest are {names}: choose sizes that divide "
        "them, or raise the limit"
    )


def _names(names: tuple[str | None, ...]) -> str:
    return "(" + ", ".join(name or "-" for name in names) + ")"
