"""Collectives read from programs: those of this backend, and of texts as TPUs have them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from rsvl_jax.parallel.collectives import by_kind, collectives
from rsvl_jax.parallel.mesh import make_mesh

MESH = make_mesh()
ROWS = NamedSharding(MESH, PartitionSpec("data"))
WHOLE = NamedSharding(MESH, PartitionSpec())


def program(function, *shapes, out=None):
    arguments = [jax.ShapeDtypeStruct(s, jnp.float32, sharding=ROWS) for s in shapes]
    return jax.jit(function, out_shardings=out).lower(*arguments).compile().as_text()


def test_a_sum_over_devices_and_a_gather():
    (found,) = collectives(program(lambda x: x.sum(0), (16, 4), out=WHOLE))
    assert (found.kind, found.shapes, found.bytes, found.times) == ("all-reduce", ((4,),), 16, 1)
    (found,) = collectives(program(lambda x: x + 1, (16, 4), out=WHOLE))
    assert (found.kind, found.shapes, found.bytes) == ("all-gather", ((16, 4),), 256)


def test_no_collectives_where_nothing_is_sent():
    assert collectives(program(lambda x: 2 * x, (16, 4), out=ROWS)) == []


def test_loops_count_as_often_as_they_run():
    ring = [(i, (i + 1) % 8) for i in range(8)]

    @functools.partial(
        jax.shard_map,
        mesh=MESH,
        in_specs=PartitionSpec("data"),
        out_specs=PartitionSpec("data"),
    )
    def passed(x):
        def hop(x, _):
            inner = jax.lax.scan(
                lambda y, _: (jax.lax.ppermute(y * 2, "data", ring), None), x, None, length=3
            )[0]
            return jnp.sin(inner), None

        return jax.lax.scan(hop, x, None, length=5)[0]

    found = by_kind(collectives(program(passed, (16, 4), out=ROWS)))
    assert found == {"collective-permute": {"count": 15, "bytes": 15 * 2 * 4 * 4}}


LOOP = """HloModule step

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%a, %b)
}

%part.1 (p: f32[2,4]) -> f32[16,4] {
  %p = f32[2,4]{1,0:T(8,128)} parameter(0)
  ROOT %all-gather.1 = f32[16,4]{1,0:T(8,128)S(1)} all-gather(%p), channel_id=7, dimensions={0}, \
backend_config={"async_collective_fusion_config":{"flag_start":"2"}}
}

%part.2 (p.2: f32[2,4]) -> f32[16,4] {
  %p.2 = f32[2,4]{1,0:T(8,128)} parameter(0)
  ROOT %all-gather.2 = f32[16,4]{1,0:T(8,128)S(1)} all-gather(%p.2), channel_id=7, dimensions={0}, \
backend_config={"async_collective_fusion_config":{"flag_start":"3"}}
}

%condition (c: (s32[], f32[2,4])) -> pred[] {
  %limit = s32[]{:T(128)} constant(12)
  %c = (s32[]{:T(128)}, f32[2,4]{1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%c), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %limit), direction=LT
}

%body (s: (s32[], f32[2,4])) -> (s32[], f32[2,4]) {
  %s = (s32[]{:T(128)}, f32[2,4]{1,0:T(8,128)}) parameter(0)
  %x = f32[2,4]{1,0:T(8,128)} get-tuple-element(%s), index=1
  %y = bf16[2,4]{1,0:T(8,128)(2,1)} convert(%x)
  %all-reduce.1 = (f32[2,4]{1,0:T(8,128)}, bf16[2,4]{1,0:T(8,128)(2,1)}) all-reduce(%x, %y), \
channel_id=3, to_apply=%add, metadata={op_name="jit(step)/mlp"}
  %part = f32[16,4]{1,0} fusion(%x), kind=kCustom, calls=%part.2
  ROOT %t = (s32[], f32[2,4]) tuple(%i.2, %x)
}

ENTRY %main (q: f32[2,4]) -> f32[2,4] {
  %q = f32[2,4]{1,0:T(8,128)} parameter(0)
  %begun = f32[16,4]{1,0} fusion(%q), kind=kCustom, calls=%part.1
  %w = (s32[], f32[2,4]) while(%t.0), condition=%condition, body=%body
  %start = (f32[2,4]{1,0}, f32[16,4]{1,0}) all-gather-start(%q), channel_id=4, dimensions={0}
  %done = f32[16,4]{1,0} all-gather-done(%start)
  ROOT %out = f32[2,4]{1,0} get-tuple-element(%w), index=1
}
"""


def test_a_program_of_a_tpu():
    found = {(each.kind, each.times): each for each in collectives(LOOP)}
    assert len(found) == len(collectives(LOOP)) - 1  # two gathers run once
    reduced = found["all-reduce", 12]
    assert reduced.shapes == ((2, 4), (2, 4)) and reduced.bytes == 8 * 4 + 8 * 2
    assert reduced.source == "jit(step)/mlp"
    # The parts of one gather, begun before the loop, are one; the other is whole.
    gathers = [each for each in collectives(LOOP) if each.kind == "all-gather"]
    assert [each.bytes for each in gathers] == [256, 256]
    assert sorted(each.chain for each in gathers) == ["", "channel_id=7"]
    assert all(each.shapes == ((16, 4),) for each in gathers)


@pytest.mark.parametrize(("dtype", "size"), [("pred", 8), ("s8", 8), ("f8e4m3fn", 8), ("f64", 64)])
def test_bytes_by_dtype(dtype, size):
    text = f"ENTRY %m (p: x) -> y {{\n  %r = {dtype}[2,4]{{1,0}} all-reduce(%p), to_apply=%a\n}}\n"
    assert [each.bytes for each in collectives(text)] == [size]


def test_by_kind_is_sorted_and_sums():
    text = program(lambda x, y: (x.sum(0), y.sum()), (16, 4), (8, 2), out=WHOLE)
    found = by_kind(collectives(text))
    assert list(found) == ["all-reduce"] and found["all-reduce"]["bytes"] == 16 + 4
    assert np.all([row["count"] > 0 for row in found.values()])
