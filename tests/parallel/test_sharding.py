import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from rsvl_jax.parallel.mesh import make_mesh
from rsvl_jax.parallel.sharding import (
    DEFAULT_RULES,
    LogicalRules,
    batch_sharding,
    bytes_per_device,
    replicated,
    tree_shardings,
)


def shape(*dims):
    return jax.ShapeDtypeStruct(dims, jnp.float32)


def test_specs_of_a_transformer_block():
    assert DEFAULT_RULES.spec(("embed", "mlp")) == PartitionSpec("fsdp", "tensor")
    assert DEFAULT_RULES.spec(("layers", "mlp", "embed")) == PartitionSpec(None, "tensor", "fsdp")
    assert DEFAULT_RULES.spec((None,)) == PartitionSpec(None)
    assert DEFAULT_RULES.spec(()) == PartitionSpec()


def test_unknown_name_is_an_error_that_names_the_parameter():
    with pytest.raises(ValueError, match=r"block/kernel.*'embd'"):
        tree_shardings(
            {"block": {"kernel": ("embd", "mlp")}}, {"block": {"kernel": shape(8, 8)}}, make_mesh()
        )


def test_duplicate_rule_is_an_error():
    with pytest.raises(ValueError, match="embed"):
        LogicalRules((("embed", "fsdp"), ("embed", "tensor")))


def test_unknown_mesh_axis_is_an_error():
    with pytest.raises(ValueError, match="model"):
        LogicalRules((("embed", "model"),))


@pytest.mark.parametrize("axes", [("mlp", "heads"), ("embed", "embed")])
def test_two_dimensions_on_one_mesh_axis_are_an_error(axes):
    with pytest.raises(ValueError, match="two dimensions"):
        DEFAULT_RULES.spec(axes)


def test_axes_must_fit_the_rank():
    with pytest.raises(ValueError, match=r"w: .*\('embed',\).*\(8, 8\)"):
        tree_shardings({"w": ("embed",)}, {"w": shape(8, 8)}, make_mesh())


def test_rules_are_frozen():
    with pytest.raises(AttributeError):
        DEFAULT_RULES.rules = ()


def test_indivisible_dimensions_are_replicated_and_listed(caplog):
    mesh = make_mesh(data=1, fsdp=4, tensor=2)
    shapes = {"good": shape(16, 8), "odd": shape(16, 3)}
    axes = {"good": ("embed", "mlp"), "odd": ("embed", "heads")}
    with caplog.at_level("WARNING"):
        shardings = tree_shardings(axes, shapes, mesh)
    assert shardings["good"].spec == PartitionSpec("fsdp", "tensor")
    assert shardings["odd"].spec == PartitionSpec("fsdp", None)
    assert "odd heads 3 over tensor 2" in caplog.text
    assert "good" not in caplog.text


def test_other_structure_is_an_error():
    with pytest.raises(ValueError):
        tree_shardings({"a": ("embed",)}, {"a": shape(8), "b": shape(8)}, make_mesh())


def test_bytes_per_device():
    mesh = make_mesh(data=1, fsdp=4, tensor=2)
    shapes = {"w": shape(16, 8), "scale": shape()}
    shardings = tree_shardings({"w": ("embed", "mlp"), "scale": ()}, shapes, mesh)
    assert bytes_per_device(shapes, shardings) == 16 * 8 * 4 // 8 + 4


def test_batches_are_split_over_all_but_tensor():
    mesh = make_mesh(replica=1, data=2, fsdp=2, tensor=2)
    array = jax.device_put(np.arange(8.0).reshape(8, 1), batch_sharding(mesh))
    assert {shard.data.shape for shard in array.addressable_shards} == {(2, 1)}
    whole = jax.device_put(np.arange(8.0), replicated(mesh))
    assert whole.is_fully_replicated
