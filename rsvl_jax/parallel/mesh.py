"""The device mesh (replica, data, fsdp, tensor)."""

import collections
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from rsvl_jax.errors import UserError

logger = logging.getLogger(__name__)

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
    -1: it takes the devices that are left. Neighbours in the mesh are neighbours in the network;
    where devices are in several slices, see `slices_by_axis`. The axes are Auto, so the compiler
    places intermediate values.

    Raises UserError where the sizes do not multiply to the number of devices, or do not fit slices
    or hosts.
    """
    devices = jax.devices() if devices is None else list(devices)
    sizes = _fill(dict(zip(AXES, (replica, data, fsdp, tensor), strict=True)), len(devices))
    mesh = Mesh(_arrange(sizes, devices), AXES, axis_types=(AxisType.Auto,) * len(AXES))
    _check_hosts(mesh)
    return mesh


def mesh_from(section: Mapping[str, Any], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh of a config section, whose other keys (`max_replicated`) are not read here."""
    return make_mesh(**{axis: section[axis] for axis in AXES}, devices=devices)


def _arrange(sizes: Mapping[str, int], devices: Sequence[jax.Device]) -> np.ndarray:
    """The devices as an array of these sizes. Where an axis is no whole number of the network's own
    dimensions, these are split."""
    counts = collections.Counter(getattr(device, "slice_index", 0) for device in devices)
    if len(counts) == 1:
        shape = tuple(sizes.values())
        return mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    if len(set(counts.values())) > 1:
        raise UserError(f"slices of {sorted(counts.values())} devices: they must be of one size")
    outer = slices_by_axis(sizes, len(counts))
    inner = [size // outer[axis] for axis, size in sizes.items()]
    return mesh_utils.create_hybrid_device_mesh(
        inner, tuple(outer.values()), devices, allow_split_physical_axes=True
    )


def slices_by_axis(sizes: Mapping[str, int], slices: int) -> dict[str, int]:
    """How many slices lie along each axis of the mesh; their product is `slices`.

    Between slices the network is slow: it is to carry the gradients, once a step. So replica takes
    as many slices as it can, then data, and fsdp, whose parameters are gathered in every layer,
    what is left; with a warning. Raises UserError where slices would split tensor.
    """
    found, left = {}, slices
    for axis, size in sizes.items():
        found[axis] = 1 if axis == "tensor" else math.gcd(size, left)
        left //= found[axis]
    if left > 1:
        raise UserError(
            f"mesh {describe(sizes)} does not fit {slices} slices; set mesh.replica={slices}"
        )
    if found["fsdp"] > 1:
        logger.warning(
            "mesh %s gathers parameters between slices, which is slow; mesh.replica=%d keeps them "
            "inside",
            describe(sizes),
            slices,
        )
    return found


def _check_hosts(mesh: Mesh) -> None:
    """Raises UserError where the rows of a batch would be read by several hosts."""
    groups = mesh.devices.reshape(-1, mesh.shape["tensor"])
    if any(len({device.process_index for device in group}) > 1 for group in groups):
        raise UserError(
            f"mesh {describe(mesh.shape)}: devices along tensor share the rows of a batch and must "
            "belong to one host; choose a smaller mesh.tensor, and a larger mesh.fsdp"
        )


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
