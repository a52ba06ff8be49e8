import os
import subprocess
import sys

import pytest
from fake_programs import ROOT

from launch import flags


def test_every_flag_has_a_reason_a_source_and_known_chips():
    chips = [chip for chip in flags.CHIPS if chip != "none"]
    found = {str(flag): flag for chip in chips for flag in flags.load(chip)}
    assert len(found) >= 10
    for flag in found.values():
        assert len(flag.reason) > 20 and len(flag.source) > 10, flag
        assert flag.chips and set(flag.chips) <= set(chips), flag
        assert flag.variable in ("LIBTPU_INIT_ARGS", "XLA_FLAGS", flag.name), flag


def test_each_kind_of_chip_sets_its_own_variables():
    assert set(flags.environment("v5e", {})) == {"LIBTPU_INIT_ARGS"}
    assert set(flags.environment("h200", {})) == {"XLA_FLAGS", "XLA_PYTHON_CLIENT_MEM_FRACTION"}
    assert flags.environment("none", {"XLA_FLAGS": "--a=1"}) == {}


def test_what_the_user_has_set_wins_and_stays():
    own = "--xla_gpu_enable_latency_hiding_scheduler=false --xla_mine=3"
    present = {"XLA_FLAGS": own, "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.5"}
    result = flags.environment("h100", present)
    assert result == present
    name = "--xla_tpu_scoped_vmem_limit_kib"
    result = flags.environment("v6e", {"LIBTPU_INIT_ARGS": f"{name}=65536"})["LIBTPU_INIT_ARGS"]
    assert result.startswith(f"{name}=65536 ") and result.count(name) == 1


def test_a_flag_whose_name_begins_like_another_is_not_taken_for_it():
    longer = "--xla_tpu_enable_async_collective_fusion_fuse_all_gather=false"
    result = flags.environment("v5e", {"LIBTPU_INIT_ARGS": longer})["LIBTPU_INIT_ARGS"]
    assert "--xla_tpu_enable_async_collective_fusion=true" in result.split()
    assert result.count("fuse_all_gather") == 1


def test_the_users_own_flags_go_along_to_other_machines():
    passed = flags.passed_on("v5e", {"XLA_FLAGS": "--xla_dump_to=/tmp/x", "HOME": "/root"})
    assert passed["XLA_FLAGS"] == "--xla_dump_to=/tmp/x"
    assert set(passed) == {"XLA_FLAGS", "LIBTPU_INIT_ARGS"}


def test_jaxlib_knows_every_gpu_flag():
    # An unknown flag in XLA_FLAGS ends the process. Every build of jaxlib knows those for GPUs.
    both = [flags.environment(chip, {}).get("XLA_FLAGS", "") for chip in ("a100", "h100", "h200")]
    settings = {**os.environ, "XLA_FLAGS": " ".join(both), "JAX_PLATFORMS": "cpu"}
    code = "import jax; jax.numpy.zeros(1)"
    result = subprocess.run([sys.executable, "-c", code], env=settings, capture_output=True)
    assert result.returncode == 0, result.stderr.decode()[-500:]


COMPILE = """
import os, sys
import jax, jax.numpy as jnp, numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
topology = topologies.get_topology_desc(topology_name=sys.argv[1], platform="tpu")
mesh = Mesh(np.array(topology.devices), ("data",))
split, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
gradient = jax.grad(lambda w, x: ((x @ w) ** 2).mean())
step = jax.jit(gradient, in_shardings=(split, split), out_shardings=split)
x = jax.ShapeDtypeStruct((1024, 256), jnp.bfloat16)
w = jax.ShapeDtypeStruct((256, 256), jnp.bfloat16)
print(step.lower(w, x).compile().as_text().count("all-gather"))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chip", "topology"),
    [("v4", "v4:2x2x1"), ("v5e", "v5e:2x2"), ("v5p", "v5p:2x2x1"), ("v6e", "v6e:2x2")],
)
def test_libtpu_compiles_with_the_flags_of_each_chip(chip, topology):
    pytest.importorskip("libtpu")
    alone = {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1", "JAX_PLATFORMS": "cpu"}
    settings = {**os.environ, **alone, **flags.environment(chip, os.environ)}
    result = subprocess.run(
        [sys.executable, "-c", COMPILE, topology], env=settings, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-500:]


def test_the_page_has_the_table():
    page = (ROOT / "docs" / "pods.md").read_text()
    for line in flags.table_by_chip().splitlines():
        assert line in page
