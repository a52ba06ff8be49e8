import jax
import jax.numpy as jnp
import pytest

from rsvl_jax.errors import UserError
from rsvl_jax.parallel.mesh import make_mesh
from rsvl_jax.parallel.sharding import tree_shardings
from rsvl_jax.parallel.table import check_replicated, fraction, placements, table

AXES = {"block": {"kernel": ("embed", "mlp"), "bias": ("mlp",)}, "odd": ("embed",), "scale": ()}
SHAPES = {"block": {"kernel": (16, 8), "bias": (8,)}, "odd": (6,), "scale": ()}


def params(mesh):
    shapes = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
        SHAPES,
        is_leaf=lambda leaf: isinstance(leaf, tuple),
    )
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        tree_shardings(AXES, shapes, mesh),
    )


def test_rows_and_totals():
    mesh = make_mesh(data=1, fsdp=4, tensor=2)
    lines = table(params(mesh), AXES).splitlines()
    rows = {line.split()[0]: line for line in lines[1:-1]}
    assert list(rows) == ["block/bias", "block/kernel", "odd", "scale"]
    assert rows["block/kernel"].split()[1:3] == ["16x8", "float32"]
    assert "(embed, mlp)" in rows["block/kernel"] and "(fsdp, tensor)" in rows["block/kernel"]
    assert rows["block/kernel"].endswith(" 64")
    assert "(-)" in rows["odd"] and rows["odd"].endswith(" 24")
    assert rows["scale"].endswith(" 4")
    # 512 and 32 bytes are split, 24 and 4 are not.
    assert lines[-1] == "143 parameters, 108 bytes a device, 4.9% replicated"


def test_an_array_on_a_mesh_may_leave_out_dimensions_of_its_spec():
    mesh = make_mesh(data=2, fsdp=4)
    array = jax.device_put(
        jnp.zeros((4, 3)), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("fsdp"))
    )
    (found,) = placements({"w": array}, {"w": ("embed", None)})
    assert found.split == ("fsdp", None) and (found.bytes, found.local) == (48, 12)


def test_a_limit_names_the_largest_that_are_whole():
    mesh = make_mesh(data=1, fsdp=8)
    found = placements(params(mesh), AXES)
    # With tensor 1 the bias is whole, too.
    assert fraction(found) == pytest.approx((32 + 24 + 4) / 572)
    check_replicated(params(mesh), AXES, mesh, 0.2)
    with pytest.raises(UserError) as error:
        check_replicated(params(mesh), AXES, mesh, 0.1)
    text = str(error.value)
    assert "10.5% of the parameters" in text and "mesh.max_replicated=0.1" in text
    assert text.index("block/bias (8,)") < text.index("odd (6,)") < text.index("scale ()")
    assert "kernel" not in text and "\n" not in text


def test_data_parallelism_replicates_on_purpose():
    mesh = make_mesh()
    assert fraction(placements(params(mesh), AXES)) == 1
    check_replicated(params(mesh), AXES, mesh, 0.0)
