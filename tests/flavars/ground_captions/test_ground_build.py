"""Answers become a data set with phrases and boxes, which FLAVARS reads."""

import io
import shutil

import jax
import numpy as np
import pytest
from chat_server import CAPTION, TAGS, answer, completion, serve, thing
from PIL import Image
from test_ground_captions import World

from configs import flavars
from flavars_jax.ground_captions.__main__ import run
from flavars_jax.ground_captions.records import Records
from flavars_jax.inputs import Inputs
from flavars_jax.settings import from_config
from rsvl_jax import datasets
from rsvl_jax.datasets.__main__ import run as build
from rsvl_jax.errors import UserError
from rsvl_jax.parallel.mesh import make_mesh


def test_a_table_becomes_a_data_set_with_boxes(tmp_path):
    world = World(tmp_path, 30)
    rows = [world.row(f"r{n}") | {"lon": float(n), "lat": -n, "split": "val"} for n in range(30)]
    world.write(rows[:-2] + [row | {"split": "train"} for row in rows[-2:]])
    with serve() as chat:
        world.ask(chat)
    with (world.output / "journal.jsonl").open("a") as file:
        file.write('{"id": "torn')
    (tmp_path / "r3.png").unlink()
    flags = [f"--source={world.output}", f"--data_dir={tmp_path}", "--name=g", "--workers=1"]
    build(["build", "grounded", *flags, "--with_original"])
    manifest = datasets.manifest("image_text/g", str(tmp_path))
    assert manifest["splits"] == {"train": 2, "validation": 27, "test": 0}
    assert manifest["dropped"] == {"image is missing": 1}
    source = datasets.load("image_text/g", str(tmp_path), "validation")
    record = next(r for r in source if r["lon"] == 5)
    assert record["captions"] == [CAPTION, "Row r5."]
    assert record["phrases"] == ["house", "a lake"]
    np.testing.assert_array_equal(record["boxes"], [[4, 8, 16, 24], [0, 0, 32, 32]])
    again = {row.lon: row for row in Records("image_text/g", str(tmp_path), "validation")}
    assert again[5.0].tags == TAGS and again[5.0].caption == CAPTION


def test_images_that_moved_are_found(tmp_path):
    (tmp_path / "old").mkdir()
    world = World(tmp_path / "old", 20)
    with serve() as chat:
        world.ask(chat)
    shutil.move(tmp_path / "old", tmp_path / "new")
    flags = [f"--source={tmp_path}/new/out", f"--data_dir={tmp_path}", "--name=g", "--workers=1"]
    build(["build", "grounded", *flags, f"--images={tmp_path}/new"])
    splits = datasets.manifest("image_text/g", str(tmp_path))["splits"]
    assert sum(splits.values()) == 20
    with pytest.raises(UserError, match="holds no readable source.json"):
        build(["build", "grounded", f"--source={tmp_path}", *flags[1:]])


def test_a_data_set_is_grounded_and_trained_on(tmp_path, mini_earth_tiles):
    data = [f"--data_dir={mini_earth_tiles}", "--name=earth_tiles/mini"]

    def reply(number, request):
        tags = request["messages"][-1]["content"][0]["text"].split("one a line:\n")[1]
        return completion(answer(objects=[thing("house", tags.split("\n")[0])]))

    with serve(reply) as chat:
        flags = [f"--output={tmp_path}/out", f"--url={chat.url}", "--model=m", "--limit=24"]
        run([*data, *flags])
    flags = [f"--source={tmp_path}/out", f"--data_dir={tmp_path}", "--name=g", "--workers=1"]
    build(["build", "grounded", *flags, "--vocabulary=300"])
    source = datasets.load("image_text/g", str(tmp_path), "train")
    assert len(source) == 24
    assert Image.open(io.BytesIO(source[0]["image"])).size == (64, 64)
    config = flavars.get_config("clip")
    config.data.update(name="image_text/g", dir=str(tmp_path), batch_size=8)
    config.objective.weights.phrase_region = 1.0
    inputs, settings = Inputs.open(config), from_config(config)
    batches = inputs.batches(config, settings, make_mesh(devices=jax.devices()[:1]), 0)
    sample = jax.device_get(next(batches))["paired"]
    batches.close()
    assert sample["region_mask"].sum() == 8
