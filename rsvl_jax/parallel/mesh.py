"""The device mesh (replica, data, fsdp, tensor)."""

import math
from collections.abc import Mapping, Sequence

import jax
from jax.sharding import AxisType, Mesh

from rsvl_jax.errors import UserError

AXES = ("replica", "data", "fsdp", "tensor")
BATCH_AXES = ("replica", "data", "fsdp")


def make_mesh(
    replica: int = 1,
    data: int = -1,
    fsdp: int = 1,
    tensor: int = 1,
    devices: Sequence[jax.Device] | None = None,
) -> Mesh:
    """Mesh over `devices` (default: all of them), outermost axis first.

    Batches are split over replica, data and fsdp; parameters over fsdp and tensor. One size may be
    -1: it takes the devices that are left. The axes are Auto, so the compiler places intermediate
    values (`jax.make_mesh` alone would make them Explicit).

    Raises UserError where the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else list(devices)
    sizes = _fill(dict(zip(AXES, (replica, data, fsdp, tensor), strict=True)), len(devices))
    types = (AxisType.Auto,) * len(AXES)
    return jax.make_mesh(tuple(sizes.values()), AXES, axis_types=types, devices=devices)


def _fill(sizes: dict[str, int], devices: int) -> dict[str, int]:
    """The sizes with -1 replaced, checked against the number of devices."""
    text = describe(sizes)
    wrong = [name for name, size in sizes.items() if size != -1 and size < 1]
    unknown = [name for name, size in sizes.items() if size == -1]
    if wrong:
        raise UserError(f"mesh {text}: size of '{wrong[0]}' must be positive, or -1 for the rest")
    if len(unknown) > 1:
        raise UserError(f"mesh {text}: only one size may be -1, not {' and '.join(unknown)}")
    given = math.prod(size for size in sizes.values() if size != -1)
    if devices % given or (not unknown and given != devices):
        raise UserError(
            f"mesh {text}: {given} does not fit {devices} devices; "
            f"choose sizes whose product is {devices}, or set one to -1"
        )
    return {name: devices // given if size == -1 else size for name, size in sizes.items()}


def describe(sizes: Mapping[str, int]) -> str:
    """Sizes as text: replica 1 x data 8 x fsdp 1 x tensor 1."""
    return " x ".join(f"{name} {size}" for name, size in sizes.items())


def batch_shards(mesh: Mesh) -> int:
    """Into how many parts the mesh splits a batch."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def check_batch(batch_size: int, mesh: Mesh) -> None:
    """Raises UserError where a global batch cannot be split evenly over the mesh."""
    shards = batch_shards(mesh)
    if batch_size < 1 or batch_size % shards:
        near = max(shards, round(batch_size / shards) * shards)
        sizes = describe({axis: mesh.shape[axis] for axis in BATCH_AXES})
        raise UserError(
            f"batch size {batch_size} does not divide over {shards} devices ({sizes}); "
            f"choose a multiple of {shards}, such as {near}"
        )
