"""UPerNet on a tiny run and a tiny SpaceNet 1: it learns, on any mesh, and says how."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_runs

from flavars_jax.objective import FlavarsObjective
from rsvl_jax.errors import UserError
from rsvl_jax.evaluate.__main__ import run as command
from rsvl_jax.evaluation import card, placing
from rsvl_jax.evaluation import segmentation_upernet as tuning
from rsvl_jax.evaluation.segmentation_upernet import UpernetTraining
from rsvl_jax.evaluation_sets.opening import open_collection
from rsvl_jax.inference.backbone import backbone
from rsvl_jax.inference.opening import load
from rsvl_jax.parallel.mesh import make_mesh

sys.path.append(str(Path(__file__).parents[1] / "evaluation_sets"))
import made_spacenet1 as made  # noqa: E402

TINY = {"width": 32, "batch": 6, "learning_rate": 4e-3, "window": 24}
ONE = make_mesh(devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight tiles with a bright building each; the last three are the test."""
    root = tmp_path_factory.mktemp("sets") / "spacenet1"
    rng = np.random.default_rng(0)
    for number in range(8):
        top, left = rng.integers(4, 18, 2)
        corners = [(left, top), (left + 16, top), (left + 16, top + 14), (left, top + 14)]
        path = made.pair(root, number, [made.polygon(corners)])
        pixels = rng.integers(1, 60, (40 + number % 2, 44, 3)).astype(np.uint8)
        pixels[top : top + 14, left : left + 16] += 180
        pixels[-3:] = 0
        made.tile(path, pixels)
    names = [f"3band_AOI_1_RIO_img{number}.tif" for number in range(8)]
    (root / "spacenet1-train.txt").write_text("\n".join(names[:5]))
    (root / "spacenet1-test.txt").write_text("\n".join(names[5:]))
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A FLAVARS run whose image tower has four blocks."""
    folder = tmp_path_factory.mktemp("run")
    words = tiny_runs.tokenizer(folder)
    config = tiny_runs.flavars_config(words.vocab_size)
    config.model.image.depth = 4
    codebook = np.random.default_rng(0).random((24, tiny_runs.PATCH**2 * 3), np.float32)
    tiny_runs.save(folder, config, FlavarsObjective(config, codebook=codebook), words.model)
    return str(folder)


@pytest.fixture(scope="module")
def vit(run):
    return backbone(load(run))


def tuned(vit, data, mesh=ONE, seed=0, **options):
    train = open_collection("spacenet1", str(data), "train")
    how = UpernetTraining(**TINY | options)
    return tuning.fine_tune(vit, train, how, seed=seed, mesh=mesh)


def far(new, old):
    """The largest change of each array."""
    change = jax.tree.map(lambda a, b: np.abs(np.asarray(a) - np.asarray(b)).max(), new, old)
    return {jax.tree_util.keystr(path): value for path, value in jax.tree.leaves_with_path(change)}


def test_the_loss_falls_and_the_encoder_moves_unless_it_is_frozen(vit, data):
    free, fixed = (tuned(vit, data, steps=20, frozen=frozen) for frozen in (False, True))
    for found in (free, fixed):
        assert found.losses.shape == (20,) and np.isfinite(found.losses).all()
        assert found.losses[-4:].mean() < 0.75 * found.losses[:3].mean()
    assert not any(far(fixed.params["encoder"], vit.params).values())
    moved = far(free.params["encoder"], vit.params)
    assert all(value > 0 for name, value in moved.items() if "stack" in name)
    # Nothing sees the last norm and the mask token.
    assert {name.split("'")[1] for name, value in moved.items() if not value} == {
        "norm",
        "mask_token",
    }


def test_a_step_on_eight_devices_is_that_of_one(vit, data):
    """Adam's first step is a sign, of which rounding decides some: see the share of others."""
    one, eight = (
        tuned(vit, data, mesh, steps=1, learning_rate=1e-4) for mesh in (ONE, make_mesh())
    )
    assert one.losses[0] == pytest.approx(eight.losses[0], abs=1e-5)
    pairs = zip(*map(jax.tree.leaves, (one.params, eight.params)), strict=True)
    change = np.concatenate([np.abs(np.asarray(a) - np.asarray(b)).ravel() for a, b in pairs])
    assert (change > 1e-6).mean() < 0.01 and change.max() < 2.1e-4
    train = open_collection("spacenet1", str(data), "train")
    images = np.stack([train.images[0][:24, :24]] * 8)
    logits = [
        np.asarray(found.logits(placing.put(images, mesh, split=True)))
        for found, mesh in ((one, ONE), (eight, make_mesh()))
    ]
    np.testing.assert_allclose(*logits, atol=1e-4)


def test_rates_fall_by_layer(vit):
    scales = tuning.layer_scales(vit.params, 4, 0.5)
    blocks = scales["stack"]["layers"]["attention"]["qkv"]
    assert blocks.ravel().tolist() == [0.5**4, 0.5**3, 0.5**2, 0.5]
    assert blocks.ndim == vit.params["stack"]["layers"]["attention"]["qkv"].ndim
    assert scales["patch_embed"]["kernel"] == scales["class_token"] == 0.5**5


def test_options_that_do_not_fit(vit):
    how = UpernetTraining().settled(vit.cfg)
    assert (how.window, how.stride, how.depths) == (16, 11, (1, 2, 3, 4))
    assert (how.warmup, how.layer_decay) == (500, 0.65)
    for wrong, what in (
        ({"window": 20}, "window=20 is no multiple of the patch, 8 pixels"),
        ({"steps": 0}, "steps=0 of UPerNet: give a number from 1"),
        ({"dropout": 1.5}, "dropout=1.5 of UPerNet is out of range"),
        ({"learning_rate": "1e-4"}, "learning_rate='1e-4' of UPerNet is out of range"),
        ({"frozen": "yes"}, "frozen='yes' of UPerNet: give true or false"),
        ({"depths": [1, 2]}, r"depths=\[1, 2\] of UPerNet: give 4 numbers"),
        ({"depths": 4}, "depths=4 of UPerNet: give 4 numbers"),
        ({"prediction": "crop"}, "prediction 'crop': use slide or whole"),
    ):
        with pytest.raises(UserError, match=what):
            UpernetTraining(**wrong).settled(vit.cfg)


SUITE = """
title = "Buildings"
[[tasks]]
kind = "upernet"
set = "spacenet1"
width = 32
steps = 50
batch = 6
learning_rate = 4e-3
window = 24
"""


def test_cards_say_all_of_it(run, data, tmp_path):
    (tmp_path / "mine.toml").write_text(SUITE)
    words = [f"--workdir={run}", f"--suite={tmp_path / 'mine.toml'}", f"--data={data.parent}"]
    command(words)
    cards = {each.key: each for each in card.read(f"{run}/evaluations/mine/scores.json")}
    found = cards["spacenet1/segmentation/upernet/mean_iou"]
    assert found.n == 3 and found.interval is not None
    assert set(found.per_class) == {"background", "building"}
    # Background everywhere would be 43 %: buildings are 14 % of the pixels.
    assert found.value > 60
    says = found.protocol
    assert says["window"] == 24 and says["depths"] == [1, 2, 3, 4] and says["warmup"] == 2
    assert says["auxiliary_weight"] == 0.4 and says["train_images"] == 5
    assert says["split_rule"] == "torchgeo" and says["ignored"]
