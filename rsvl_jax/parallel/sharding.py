"""Logical axis rules: where each dimension of a parameter lives on the mesh, declared once."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rsvl_jax.parallel.mesh import AXES, BATCH_AXES

Tree = Any
LogicalAxes = tuple[str | None, ...]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LogicalRules:
    """Pairs (logical axis name, physical mesh axis or None for "never split").

    Raises ValueError at once for a name given twice and for a mesh axis that does not exist:
    rules that are resolved in silence by their order are a known source of wrong placements.
    """

    rules: tuple[tuple[str, str | None], ...]

    def __post_init__(self) -> None:
        names = [name for name, _ in self.rules]
        twice = sorted({name for name in names if names.count(name) > 1})
        strange = [axis for _, axis in self.rules if axis is not None and axis not in AXES]
        if twice:
            raise ValueError(f"logical axes {twice} have more than one rule")
        if strange:
            raise ValueError(f"mesh axes {strange} are not among {AXES}")

    def spec(self, axes: LogicalAxes) -> PartitionSpec:
        """The mesh axis of each dimension; None in `axes` means never split.

        Raises ValueError for a name without a rule, and where two dimensions ask for one mesh axis.
        """
        table = dict(self.rules)
        unknown = [name for name in axes if name is not None and name not in table]
        if unknown:
            raise ValueError(f"no rule for logical axes {unknown}; known are {sorted(table)}")
        physical = [None if name is None else table[name] for name in axes]
        used = [axis for axis in physical if axis is not None]
        if len(set(used)) < len(used):
            raise ValueError(f"logical axes {axes} put two dimensions on one mesh axis {used}")
        return PartitionSpec(*physical)


DEFAULT_RULES = LogicalRules(
    (
        # Every weight matrix has one `embed` side, so fsdp reaches all of them.
        ("embed", "fsdp"),
        # The other side: Megatron's split, column then row parallel, needs one reduction a block.
        ("mlp", "tensor"),
        ("heads", "tensor"),
        ("vocab", "tensor"),
        # A scanned stack is read one layer at a time: splitting it would move layers around.
        ("layers", None),
        ("head_dim", None),
        ("positions", None),
        ("patch", None),
        ("features", None),
        ("classes", None),
    )
)


def tree_shardings(
    axes: Tree, shapes: Tree, mesh: Mesh, rules: LogicalRules = DEFAULT_RULES
) -> Tree:
    """NamedShardings for a tree of parameters.

    axes: tree of tuples of logical names, shapes: same tree of arrays or ShapeDtypeStructs.
    Dimensions that the mesh does not divide are replicated, and logged in one line.
    Raises ValueError (naming the parameter) where names and shapes do not fit, see LogicalRules.
    """
    undivided: list[str] = []

    def place(path: Any, leaf: Any, names: LogicalAxes) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        spec, lost = _fit(name, names, tuple(leaf.shape), mesh.shape, rules)
        undivided.extend(lost)
        return NamedSharding(mesh, spec)

    shardings = jax.tree_util.tree_map_with_path(place, shapes, axes)
    if undivided:
        logger.warning("replicated, because the mesh does not divide: %s", "; ".join(undivided))
    return shardings


def _fit(
    name: str,
    axes: LogicalAxes,
    shape: tuple[int, ...],
    sizes: Mapping[str, int],
    rules: LogicalRules,
) -> tuple[PartitionSpec, list[str]]:
    """The spec of one parameter with indivisible dimensions left whole, and a note on each."""
    if not isinstance(axes, tuple) or len(axes) != len(shape):
        raise ValueError(f"{name}: logical axes {axes!r} do not fit shape {shape}")
    try:
        wanted = rules.spec(axes)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    kept: list[str | None] = []
    notes = []
    for logical, physical, size in zip(axes, wanted, shape, strict=True):
        fits = physical is None or size % sizes[physical] == 0
        kept.append(physical if fits else None)
        if not fits:
            notes.append(f"{name} {logical} {size} over {physical} {sizes[physical]}")
    return PartitionSpec(*kept), notes


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Batches: first dimension over (replica, data, fsdp), the others whole."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def rows(x: jax.Array) -> jax.Array:
    """x [B, ...], split as batches are and by nothing else, where a step is traced for a mesh.

    Parameters are split over the same devices as batches are. Where both meet, the compiler would
    else now and then split an activation as the parameter is, and send it around and back.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def bytes_per_device(shapes: Tree, shardings: Tree) -> int:
    """Bytes that a tree of arrays takes on one device under these shardings."""
    sizes = jax.tree.map(
        lambda leaf, sharding: (
            math.prod(sharding.shard_shape(tuple(leaf.shape))) * leaf.dtype.itemsize
        ),
        shapes,
        shardings,
    )
    return sum(jax.tree.leaves(sizes))
