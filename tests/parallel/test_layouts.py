"""Every layout of the devices trains alike, and sends what it must and no more."""

import layouts
import numpy as np
import pytest

from rsvl_jax.parallel.collectives import collectives

# What each layout relates its rows by; "ring" shows that nothing is gathered for it.
CONTRAST = {name: "ring" if name == "data 8" else "dense" for name in layouts.LAYOUTS}
# The larger method takes long to compile: two of its layouts are proven outside the suite.
LONG = {("flavars", "fsdp 8"), ("flavars", "replica 2 x data 2 x fsdp 2")}
CASES = [
    pytest.param(
        method,
        layout,
        marks=[pytest.mark.slow] if (method, layout) in LONG else [],
        id=f"{method}, {layout}",
    )
    for method in layouts.METHODS
    for layout in layouts.LAYOUTS
    if layout != layouts.ONE
]
# An embedding is looked up by all devices in their part of the table's width, and sent to where its
# row is: less than the table, and its gradient needs no sum.
LOOKUPS = ("/gather", "/scatter-add")


def sent(method, layout, contrast=None):
    return collectives(layouts.run(method, layout, contrast or CONTRAST[layout])[2])


def gathered(found):
    """The shapes of all-gathers, those of numbers of a row (ids, weights, sums) left out."""
    return {
        shape
        for each in found
        if each.kind == "all-gather"
        for shape in each.shapes
        if len(shape) > 1
    }


@pytest.mark.parametrize(("method", "layout"), CASES)
def test_losses_parameters_moments_and_average_are_those_of_one_device(method, layout):
    wanted, alone, _ = layouts.run(method, layouts.ONE)
    found, state, _ = layouts.run(method, layout, CONTRAST[layout])
    assert len(found) == layouts.STEPS
    for one, other in zip(wanted, found, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            np.testing.assert_allclose(other[name], value, rtol=2e-5, err_msg=name)
    wanted, found = layouts.gathered(alone), layouts.gathered(state)
    assert {name.split("/")[0] for name in wanted} >= {"params", "opt_state", "ema"}
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("method", layouts.METHODS)
def test_five_steps_move_far_more_than_rounding(method):
    """What the comparison above tells apart."""
    state = layouts.run(method, layouts.ONE)[1]
    trained = layouts.gathered(state.params)
    average = layouts.gathered(state.ema)
    moved = [np.abs(trained[name] - average[name]).max() > 1e-3 for name in trained]
    assert np.mean(moved) > 0.7


@pytest.mark.parametrize("method", layouts.METHODS)
def test_a_ring_in_data_parallelism_gathers_no_logits_embeddings_or_parameters(method):
    found = sent(method, "data 8")
    assert any(each.kind == "collective-permute" for each in found)
    assert gathered(found) == set()


def test_a_dense_contrast_gathers_embeddings_which_the_test_above_would_see():
    assert gathered(sent("graft", "data 8", "dense"))


@pytest.mark.parametrize(("method", "layout"), CASES)
def test_no_activation_is_sent_around(method, layout):
    sources = [each.source for each in sent(method, layout) if each.kind == "all-to-all"]
    assert all(source.endswith(LOOKUPS) for source in sources), sources
    assert method == "flavars" or not sources
