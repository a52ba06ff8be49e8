import jax
import pytest
from jax.sharding import AxisType

from rsvl_jax.errors import UserError
from rsvl_jax.parallel.mesh import AXES, batch_shards, check_batch, make_mesh


def test_minus_one_takes_the_devices_that_are_left():
    mesh = make_mesh(replica=2, data=-1, fsdp=2)
    assert dict(mesh.shape) == {"replica": 2, "data": 2, "fsdp": 2, "tensor": 1}
    assert mesh.axis_names == AXES
    assert set(mesh.axis_types) == {AxisType.Auto}


def test_one_device():
    mesh = make_mesh(devices=jax.devices()[:1])
    assert mesh.size == 1


def test_all_sizes_given():
    assert make_mesh(data=1, fsdp=4, tensor=2).size == 8


@pytest.mark.parametrize(
    ("sizes", "quoted"),
    [
        ({"fsdp": 3}, ["fsdp 3", "8 devices"]),
        ({"data": 2, "fsdp": 2}, ["data 2", "4 does not fit 8"]),
        ({"data": -1, "fsdp": -1}, ["data and fsdp"]),
        ({"data": 0}, ["data 0", "positive"]),
        ({"data": 1, "fsdp": 16}, ["16 does not fit 8"]),
    ],
)
def test_sizes_that_do_not_fit_are_quoted(sizes, quoted):
    with pytest.raises(UserError) as error:
        make_mesh(**sizes)
    assert all(text in str(error.value) for text in quoted), error.value
    assert "\n" not in str(error.value)


def test_tensor_devices_share_a_batch():
    assert batch_shards(make_mesh(data=1, fsdp=4, tensor=2)) == 4


def test_batch_must_divide():
    mesh = make_mesh(data=2, fsdp=4)
    check_batch(32, mesh)
    with pytest.raises(UserError, match=r"batch size 30 .* 8 devices .* multiple of 8, such as 32"):
        check_batch(30, mesh)
    with pytest.raises(UserError, match="batch size 0"):
        check_batch(0, mesh)
