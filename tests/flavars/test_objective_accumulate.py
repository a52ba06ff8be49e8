"""A batch of 64 in 8 micro-batches is the batch of 64: loss, terms and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from training import in_parts

from rsvl_jax.errors import UserError
from rsvl_jax.training import accumulate

ROWS, COUNT = 64, 8


def batch():
    """Captions that recur in other micro-batches, and one of them without a matching pair."""
    s = tiny.sample(ROWS)
    s["text_id"][: ROWS // 2] = s["text_id"][ROWS // 2 :]
    s["itm_label"][3::COUNT] = 0
    return {"paired": s}


@functools.cache
def case(name):
    """(objective, variables moved from their start)."""
    if name in tiny.PRESETS:
        model, variables = tiny.prepared(name)
    else:
        model = tiny.objective("flavars", **CHANGES[name])
        variables = tiny.drawn(model)
    return model, variables | {"params": tiny.moved(variables["params"])}


CHANGES = {
    "every term": {
        "objective__weights__text_location": 1.0,
        "objective__weights__phrase_region": 1.0,
    },
    "mae, sigmoid": {
        "objective__mim_design": "mae",
        "objective__contrast": "sigmoid",
        "model__image__positions": "sincos",
        "objective__image_pooling": "cls",
    },
}


@functools.cache
def compiled(name, count, devices=1):
    """(program, arguments) for `batch`."""
    model, variables = case(name)
    return in_parts.compiled(model, count, variables, batch(), devices=devices, options=tiny.QUICK)


@functools.cache
def gradients(name, count, devices=1):
    program, arguments = compiled(name, count, devices)
    return jax.device_get(program(*arguments))


@pytest.mark.parametrize("name", ["every term", "flava", "clip", "mae", "satclip"])
def test_micro_batches_give_the_loss_terms_and_gradients_of_the_batch(name):
    in_parts.assert_equal(gradients(name, COUNT), gradients(name, 1))


@pytest.mark.parametrize("name", ["every term", "mae", "satclip"])
def test_eight_devices_in_micro_batches_give_those_of_one_device_at_once(name):
    in_parts.assert_equal(gradients(name, COUNT, 8), gradients(name, 1))


def test_other_designs_in_micro_batches():
    name = "mae, sigmoid"
    in_parts.assert_equal(gradients(name, 4), gradients(name, 1))


def test_a_batch_without_a_matching_pair_counts_all_rows_in_every_part():
    results = []
    for count in (COUNT, 1):
        program, (state, samples) = compiled("flava", count)
        samples["paired"] = samples["paired"] | {"itm_label": jnp.zeros(ROWS, jnp.int32)}
        results.append(jax.device_get(program(state, samples)))
    in_parts.assert_equal(*results)
    assert results[0][0][0] != gradients("flava", 1)[0][0]


def test_streams_of_their_own_are_cut_each():
    fused = {f"objective__weights__{name}": 0.0 for name in ("mmm_image", "mmm_text", "itm")}
    model = tiny.objective("flava", **fused)
    variables = tiny.drawn(model)
    run = functools.partial(in_parts.run, options=tiny.QUICK)
    streams = {"paired": 32, "image": 64, "text": 16}
    samples = {name: tiny.sample(rows, seed=rows) for name, rows in streams.items()}
    in_parts.assert_equal(run(model, 4, variables, samples), run(model, 1, variables, samples))
    samples["text"] = tiny.sample(18)
    with pytest.raises(UserError, match="text/.* of 18 rows .*micro_batches=4"):
        run(model, 4, variables, samples)


def test_temporaries_fall():
    less, more = (
        compiled("flava", count)[0].memory_analysis().temp_size_in_bytes for count in (COUNT, 1)
    )
    assert less < more / 4


def test_hard_negatives_are_refused_in_parts():
    model = tiny.objective("flavars", objective__itm_negatives="hard")
    accumulate.check(model, 1)
    with pytest.raises(UserError, match="micro_batches=8: objective.itm_negatives='hard' needs"):
        accumulate.check(model, 8)


def test_dropout_draws_alike_in_both_passes():
    """The embeddings of the first pass are those that the second one pulls gradients through."""
    model = tiny.objective("flavars", model__dropout=0.3, model__location__dropout=0.3)
    variables = jax.device_put(tiny.drawn(model))
    samples = jax.device_put(model.prepare({"paired": tiny.sample(8)}))

    @functools.partial(jax.jit, compiler_options=tiny.QUICK)
    def both(key):
        arguments = variables["params"], variables["frozen"], samples, key
        return model.embed(*arguments), model.encode(*arguments)[0]

    (first, second), (other, _) = both(jax.random.key(0)), both(jax.random.key(1))
    for one, two, three in zip(*map(jax.tree.leaves, (first, second, other)), strict=True):
        np.testing.assert_array_equal(one, two)
        assert np.abs(one - three).max() > 1e-3
