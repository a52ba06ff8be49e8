"""64 tiles in 8 micro-batches are the 64 tiles at once: loss, terms and gradients."""

import functools

import graft_tiny as tiny
import numpy as np
import pytest
from training import in_parts

from graft_jax.objective import GraftObjective
from rsvl_jax.objectives.image_text import ImageTextObjective

COUNT = 8


@functools.cache
def tiles():
    """Eight batches of 8: the same tiles, overlaps and some of the photos in all of them."""
    rng = np.random.default_rng(0)
    parts = [tiny.sample(seed) for seed in range(8)]
    s = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    fresh = rng.random(s["photo_id"].shape) < 0.7
    s["photo_id"] = np.where(
        fresh, 1000 + np.arange(fresh.size).reshape(fresh.shape), s["photo_id"]
    )
    s["photo_id"] = s["photo_id"].astype(np.int32)
    # Half of them elsewhere, so that there are negatives too.
    s["tile_id"] = np.arange(64, dtype=np.int32) // 2
    s["footprint"] += np.float32([3, 0, 3, 0]) * (np.arange(64) // 16)[:, None]
    return s


@functools.cache
def case(level, contrast, symmetric=False):
    changes = {
        "objective__level": level,
        "objective__contrast": contrast,
        "objective__symmetric": symmetric,
        "objective__learn_temperature": True,
    }
    return tiny.prepared(**changes)


@functools.cache
def gradients(level, contrast, count, devices=1, symmetric=False):
    model, params = case(level, contrast, symmetric)
    variables = {"params": params, "frozen": {}}
    return in_parts.run(
        model, count, variables, {"pairs": tiles()}, devices=devices, options=tiny.QUICK
    )


@pytest.mark.parametrize("contrast", ["softmax", "sigmoid"])
@pytest.mark.parametrize("level", ["image", "pixel", "both"])
def test_micro_batches_give_the_loss_terms_and_gradients_of_the_batch(level, contrast):
    found, wanted = (gradients(level, contrast, count) for count in (COUNT, 1))
    in_parts.assert_equal(found, wanted)
    # Nearly all tiles have a photo, and cold logits are far from uniform.
    assert all(mean > 1e-3 for mean in found[0][1].values())


@pytest.mark.parametrize("contrast", ["softmax", "sigmoid"])
def test_eight_devices_in_micro_batches_give_those_of_one_device_at_once(contrast):
    in_parts.assert_equal(gradients("both", contrast, COUNT, 8), gradients("both", contrast, 1))


def test_both_directions_in_micro_batches():
    found, wanted = (gradients("both", "softmax", n, symmetric=True) for n in (COUNT, 1))
    in_parts.assert_equal(found, wanted)


def test_the_ground_tower_runs_in_micro_batches_too():
    model = GraftObjective(tiny.config(), ground=tiny.ground())
    variables = tiny.init(model) | {"params": tiny.prepared()[1]}
    shown = {key: value for key, value in tiles().items() if key != "photos"}
    rng = np.random.default_rng(4)
    shape = (64, tiny.P, tiny.SIZE, tiny.SIZE, 3)
    shown["photo_image"] = rng.integers(0, 256, shape).astype(np.uint8)
    run = functools.partial(in_parts.run, options=tiny.QUICK)
    found, wanted = (run(model, n, variables, {"pairs": shown}) for n in (COUNT, 1))
    in_parts.assert_equal(found, wanted)


def test_the_teacher_in_micro_batches():
    model, params = tiny.teacher()
    assert isinstance(model, ImageTextObjective)
    rng = np.random.default_rng(5)
    mask = np.arange(7) < rng.integers(3, 8, 64)[:, None]
    pairs = {
        "image": rng.integers(0, 256, (64, tiny.SIZE, tiny.SIZE, 3)).astype(np.uint8),
        "text": np.where(mask, rng.integers(5, 30, mask.shape), 0).astype(np.int32),
        "text_mask": mask,
        "text_id": rng.integers(0, 40, 64).astype(np.int32),
    }
    run = functools.partial(in_parts.run, options=tiny.QUICK)
    variables = {"params": params, "frozen": {}}
    wanted = run(model, 1, variables, {"paired": pairs})
    in_parts.assert_equal(run(model, COUNT, variables, {"paired": pairs}), wanted)
    in_parts.assert_equal(run(model, COUNT, variables, {"paired": pairs}, devices=8), wanted)


def test_temporaries_fall():
    model, params = case("both", "softmax")
    variables = {"params": params, "frozen": {}}
    less, more = (
        in_parts.compiled(model, n, variables, {"pairs": tiles()}, options=tiny.QUICK)[0]
        .memory_analysis()
        .temp_size_in_bytes
        for n in (COUNT, 1)
    )
    assert less < more / 2
