"""What compiled contrasts send and keep: read in their programs, on the CPU and for a TPU slice."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from rsvl_jax.losses import contrastive, multi_positive, relation
from rsvl_jax.losses.distributed import Spread

ROOT = Path(__file__).parents[2]
LOCAL, P, E = 7, 2, 48  # sizes that tell which is which
SENT = r"= \(?(\w+)\[([\d,]*)\].* (all-gather|all-reduce|all-to-all|reduce-scatter)(?:-start)?\("


def near(a, b):
    return jnp.abs(a[:, None] - b[None, :]) < 0.1


def plain(x, by):
    return contrastive.info_nce(
        a=x["a"],
        b=x["b"],
        logit_scale=x["scale"],
        positives=relation.same_id(x["ids"]),
        spread=by,
    )[0]


def many(x, by):
    return multi_positive.info_nce(
        anchors=x["a"],
        photos=x["photos"],
        mask=x["mask"],
        logit_scale=x["scale"],
        photo_ids=x["photo_ids"],
        ignore=relation.Relation(x["ids"], x["ids"], near),
        symmetric=True,
        spread=by,
    )[0]


def program(loss, implementation, devices, trained=None):
    """Value and gradients, compiled, with LOCAL rows on each of the devices."""
    trained = trained or ("a", "b" if loss is plain else "photos", "scale")
    mesh = jax.make_mesh(
        (devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )
    rows = LOCAL * devices

    def array(*shape, dtype=jnp.float32):
        spec = PartitionSpec("data") if shape else PartitionSpec()
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))

    arrays = {
        "a": array(rows, E),
        "b": array(rows, E),
        "photos": array(rows, P, E),
        "mask": array(rows, P, dtype=jnp.bool_),
        "photo_ids": array(rows, P, dtype=jnp.int32),
        "ids": array(rows, dtype=jnp.int32),
        "scale": array(),
    }
    varied = {name: arrays.pop(name) for name in trained}
    by = Spread(implementation, mesh, ("data",))
    return (
        jax.jit(jax.value_and_grad(lambda varied, fixed: loss(varied | fixed, by)))
        .lower(varied, arrays)
        .compile()
    )


def dimensions(text):
    """Of every array that a program names, vectors left out."""
    shapes = re.findall(r"\b(?:f32|s32|u32|pred)\[(\d+(?:,\d+)+)\]", text)
    return {int(size) for shape in shapes for size in shape.split(",")}


@pytest.mark.parametrize("loss", [plain, many])
def test_a_ring_sends_blocks_and_scalars_only(loss):
    text = program(loss, "ring", 8).as_text()
    assert " collective-permute" in text
    for _, shape, kind in re.findall(SENT, text):
        assert (kind, shape) == ("all-reduce", "")
    # Neither a side of the batch as a whole nor a row of the whole matrix is anywhere.
    whole = {8 * LOCAL, 8 * LOCAL * P}
    assert not dimensions(text) & whole
    assert dimensions(program(loss, "gather", 8).as_text()) & whole


@pytest.mark.parametrize("loss", [plain, many])
def test_a_ring_needs_the_same_memory_on_any_number_of_devices(loss):
    small, large = (
        program(loss, "ring", devices).memory_analysis().temp_size_in_bytes for devices in (2, 8)
    )
    assert large <= 1.05 * small


def test_what_needs_no_gradient_brings_none_home():
    sent = [
        program(many, "ring", 8, trained).as_text().count(" collective-permute(")
        for trained in (("a", "photos"), ("a",))
    ]
    assert sent[1] == sent[0] - 1  # the gradient of the photos, as large as they


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu")
def test_a_ring_of_tpus_takes_no_more_than_four_mebibytes():
    command = [sys.executable, "-m", "benchmarks.contrastive", "--implementations=ring"]
    command += ["--topologies=v5e:8x8", "--losses=info_nce"]
    found = subprocess.run(
        command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True
    )
    row = [cell.strip() for cell in found.stdout.strip().splitlines()[-1].strip("|").split("|")]
    assert row[:4] == ["info_nce", "ring", "v5e:8x8", "32,768"]
    # Zero where the compiler finds room for all of it in the vector memory of the chip.
    assert float(row[4]) <= 4
    assert "all-gather" not in row[6]
