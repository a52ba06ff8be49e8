"""Images without captions and texts without images: alone, and as streams beside pairs."""

import cv2
import jax
import numpy as np
import pytest
from tiny import config as tiny_config

from flavars_jax.inputs import Inputs
from flavars_jax.objective import FlavarsObjective
from flavars_jax.settings import from_config
from rsvl_jax.datasets.__main__ import run
from rsvl_jax.errors import UserError
from rsvl_jax.parallel.mesh import make_mesh

GREY = 200


@pytest.fixture(scope="module")
def data_dir(mini_earth_tiles, tmp_path_factory):
    """earth_tiles/mini, and image_text/images and image_text/texts beside it."""
    source = tmp_path_factory.mktemp("source")
    (source / "images").mkdir()
    for number in range(24):
        flat = np.full((20, 20, 3), GREY, np.uint8)
        flat[number // 5, number % 5] = 0
        cv2.imwrite(str(source / f"images/{number}.png"), flat)
        place = f'{{"lon": {number}, "lat": {-number}}}'
        (source / f"images/{number}.json").write_text(place)
    (source / "words.txt").write_text("".join(f"only a text, number {n}\n" for n in range(30)))
    for layout, path in (("images", "images"), ("texts", "words.txt")):
        where = [f"--source={source / path}", f"--name={layout}", f"--data_dir={mini_earth_tiles}"]
        run(["build", layout, *where, "--workers=1", "--vocabulary=300", "--test=0"])
    return mini_earth_tiles


def opened(data_dir, name, preset, **streams):
    config = tiny_config(preset)
    config.data.update(name=name, dir=data_dir, batch_size=8)
    config.data.streams.update(streams)
    config.data.unimodal.update(image="image_text/images", text="image_text/texts")
    return config, Inputs.open(config)


def first_batch(config, inputs):
    batches = inputs.batches(config, from_config(config), make_mesh(devices=jax.devices()[:1]), 0)
    try:
        return next(batches)
    finally:
        batches.close()


def terms(config, inputs, batch):
    objective = FlavarsObjective(config, codebook=inputs.codebook(from_config(config)))
    start, key = jax.eval_shape(objective.init, jax.random.key(0)), jax.random.key(1)
    return set(jax.eval_shape(objective.terms, start["params"], start["frozen"], batch, key))


def test_streams_come_from_sets_of_their_own(data_dir):
    share = {"paired": 1.0, "image": 0.5, "text": 0.5}
    config, inputs = opened(data_dir, "earth_tiles/mini", "flavars", **share)
    batch = first_batch(config, inputs)
    assert {name: len(next(iter(sample.values()))) for name, sample in batch.items()} == {
        "paired": 4,
        "image": 2,
        "text": 2,
    }
    assert np.median(batch["image"]["image"]) == GREY  # no tile of the Earth is so
    assert np.median(batch["paired"]["image"]) != GREY
    known = {
        tuple(inputs.tokenizer.encode(f"only a text, number {n}", config.model.text.length)[0])
        for n in range(30)
    }
    assert {tuple(row) for row in np.asarray(batch["text"]["text"]).tolist()} <= known
    told = inputs.manifest["unimodal"]
    assert {key: value["name"] for key, value in told.items()} == {
        "image": "image_text/images",
        "text": "image_text/texts",
    }
    assert terms(config, inputs, batch) == from_config(config).on


@pytest.mark.parametrize("preset", ["satclip", "mae"])
def test_images_alone_train_what_needs_no_text(data_dir, preset):
    config, inputs = opened(data_dir, "image_text/images", preset)
    assert inputs.tokenizer is None
    batch = first_batch(config, inputs)
    assert "text" not in batch["paired"] and batch["paired"]["lon"].shape == (8,)
    assert terms(config, inputs, batch) == from_config(config).on


def test_terms_that_need_captions_are_named(data_dir):
    config, inputs = opened(data_dir, "image_text/images", "clip")
    with pytest.raises(
        UserError, match="has no captions, which the terms image_text need: .*satcl"
    ):
        first_batch(config, inputs)
