"""Meshes over several slices, on described devices."""

from dataclasses import dataclass

import pytest

from rsvl_jax.errors import UserError
from rsvl_jax.parallel.mesh import make_mesh, mesh_from, slices_by_axis


@dataclass(frozen=True)
class Device:
    id: int
    slice_index: int
    process_index: int
    platform: str = "cpu"
    device_kind: str = "cpu"


def devices(slices, each, hosts=1):
    """Devices of a platform without a known network, in a shuffled order of slices."""
    return [
        Device(number * slices + index, index, index * hosts + number * hosts // each)
        for number in range(each)
        for index in range(slices)
    ]


def slices_of(mesh):
    """Slice of each device, in the order of the mesh."""
    return [device.slice_index for device in mesh.devices.flat]


@pytest.mark.parametrize(
    ("sizes", "slices", "along"),
    [
        ({"replica": 2, "data": 1, "fsdp": 4, "tensor": 1}, 2, (2, 1, 1, 1)),
        ({"replica": 4, "data": 1, "fsdp": 2, "tensor": 1}, 2, (2, 1, 1, 1)),
        ({"replica": 1, "data": 8, "fsdp": 1, "tensor": 1}, 2, (1, 2, 1, 1)),
        ({"replica": 2, "data": 2, "fsdp": 2, "tensor": 1}, 4, (2, 2, 1, 1)),
        ({"replica": 1, "data": 2, "fsdp": 4, "tensor": 1}, 4, (1, 2, 2, 1)),
    ],
)
def test_the_outermost_axes_lie_between_slices(sizes, slices, along):
    assert tuple(slices_by_axis(sizes, slices).values()) == along


def test_a_replica_is_a_slice():
    mesh = make_mesh(replica=2, data=1, fsdp=2, tensor=2, devices=devices(2, 4))
    assert dict(mesh.shape) == {"replica": 2, "data": 1, "fsdp": 2, "tensor": 2}
    assert slices_of(mesh) == [0] * 4 + [1] * 4


def test_plain_data_parallelism_takes_slices_in_turn():
    assert slices_of(make_mesh(devices=devices(3, 2))) == [0, 0, 1, 1, 2, 2]


def test_parameters_split_between_slices_are_warned_of(caplog):
    with caplog.at_level("WARNING"):
        mesh = make_mesh(data=1, fsdp=8, devices=devices(2, 4))
    assert slices_of(mesh) == [0] * 4 + [1] * 4
    assert "mesh.replica=2" in caplog.text


def test_tensor_is_never_split_between_slices():
    with pytest.raises(UserError, match=r"tensor 4 does not fit 2 slices; set mesh.replica=2"):
        make_mesh(data=1, tensor=4, devices=devices(2, 2))


def test_slices_must_be_of_one_size():
    with pytest.raises(UserError, match=r"slices of \[2, 3\] devices"):
        make_mesh(devices=devices(2, 3)[:-1])


def test_rows_of_a_batch_belong_to_one_host():
    make_mesh(data=2, tensor=2, devices=devices(1, 4, hosts=2))
    with pytest.raises(UserError, match="tensor share the rows of a batch"):
        make_mesh(data=1, tensor=4, devices=devices(1, 4, hosts=2))


def test_a_config_section_may_say_more_than_sizes():
    section = {"replica": 1, "data": 2, "fsdp": 4, "tensor": 1, "max_replicated": 0.1}
    assert dict(mesh_from(section).shape) == {"replica": 1, "data": 2, "fsdp": 4, "tensor": 1}
