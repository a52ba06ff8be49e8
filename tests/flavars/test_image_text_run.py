"""A download in SkyScript's published layout becomes a data set, and the recipe trains on it."""

import json

import jax
import numpy as np
import pytest
import tiny
from command_runs import Command, last_step
from made_downloads import SkyScript

from flavars_jax import inputs
from flavars_jax.settings import from_config
from rsvl_jax import datasets
from rsvl_jax.datasets.__main__ import run
from rsvl_jax.errors import UserError

STEPS = 4
TOWER = {"width": 32, "depth": 1, "heads": 2, "mlp_dim": 32}
# What `:base` is on a pod, at sizes that a test can pay for.
REDUCED = {
    "data.name": "image_text/skyscript",
    "data.batch_size": 16,
    "data.workers": 0,
    "training.steps": STEPS,
    "optimizer.warmup_steps": 2,
    "checkpoint.every_steps": STEPS,
    "metrics.every_steps": 1,
    "evaluation.every_steps": 2,
    "evaluation.batch_size": 8,
    "model.image.size": 32,
    "model.text.length": 16,
    "model.location.width": 16,
    "model.location.degree": 3,
    "model.embed_dim": 16,
    "model.dtype": "float32",
    "objective.codebook_size": 32,
    **{f"model.{part}.{k}": v for part in ("image", "text", "fusion") for k, v in TOWER.items()},
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """SkyScript with places, and again with places for two rows of three, and with none."""
    folder = tmp_path_factory.mktemp("sky")
    sky = SkyScript(folder / "sky", rows=48, held=8)
    sky.write()
    build(folder, "skyscript")
    for path in list(sky.metas)[::3]:
        del sky.metas[path]
    sky.write()
    build(folder, "some", "--meta=optional")
    build(folder, "none", "--meta=none")
    return str(folder / "data")


def build(folder, name, *more):
    words = ["build", "skyscript", f"--source={folder / 'sky'}", f"--data_dir={folder / 'data'}"]
    run([*words, f"--name={name}", "--workers=1", "--vocabulary=400", *more])


def test_the_recipe_of_the_paper_trains_on_it_with_location(data_dir, tmp_path):
    """Also where some rows have no place."""
    settings = {**REDUCED, "data.dir": data_dir, "data.name": "image_text/some"}
    cache = str(tmp_path / "compiled")
    command = Command("flavars_jax.main", "configs/flavars.py", settings, cache)
    # The terms with a place and with words; the others see no more of the data than these.
    status, output = command.finish(
        tmp_path / "run",
        ":base,satclip",
        objective__weights__image_text=1.0,
        objective__weights__text_location=1.0,
    )
    assert status == 0, output
    assert last_step(tmp_path / "run") == STEPS
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    logged = [json.loads(line) for line in lines]
    terms = {key for line in logged for key in line if key.startswith("train/loss/")}
    assert terms >= {"train/loss/image_location", "train/loss/image_text"}
    assert any("eval/retrieval/image_location/mean_recall" in line for line in logged)
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert {card["task"].split("/")[0] for card in scores["cards"]} == {"retrieval"}
    assert all(card["value"] is not None for card in scores["cards"])
    assert "Where the tiles lie" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.slow
def test_all_of_its_terms_train_on_it(data_dir, tmp_path):
    settings = {**REDUCED, "data.dir": data_dir}
    cache = str(tmp_path / "compiled")
    command = Command("flavars_jax.main", "configs/flavars.py", settings, cache)
    status, output = command.finish(tmp_path / "run", ":base")
    assert status == 0, output
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    logged = [json.loads(line) for line in lines]
    terms = {key.split("/")[-1] for line in logged for key in line if "train/loss/" in key}
    assert terms >= {"mim", "mlm", "mmm_image", "mmm_text", "itm", "image_text", "image_location"}


def opened(data_dir, name, preset=""):
    config = tiny.config(preset or "flavars", data__name=f"image_text/{name}", data__dir=data_dir)
    data = inputs.Inputs.open(config)
    part = inputs.transform(config, from_config(config), data.tokenizer, data.train, data.manifest)
    return data, part


def test_a_location_term_without_any_place_gets_one_line(data_dir):
    with pytest.raises(
        UserError, match="image_text/none' has no coordinates.*image_location.*flava"
    ):
        opened(data_dir, "none")
    data, part = opened(data_dir, "none", "flava")
    assert part.location is None
    assert "lon" not in part(data.train[0], np.random.default_rng(0))


def test_batches_have_a_mask_only_where_a_place_may_be_missing(data_dir):
    assert not opened(data_dir, "skyscript")[1].location.optional
    data, part = opened(data_dir, "some")
    masks = [part(r, np.random.default_rng(0))["location_mask"] for r in data.train]
    assert (
        0 < sum(masks) == datasets.manifest("image_text/some", data_dir)["has"]["train"]["located"]
    )


def test_rows_without_a_place_are_left_out_of_its_contrasts():
    model = tiny.objective("satclip")
    variables = tiny.drawn(model)
    whole = tiny.sample(8)
    mask = np.array([True, False, True, True, False, True, True, True])
    whole["lon"][~mask] = whole["lat"][~mask] = 0

    def term(samples):
        found = model.terms(
            variables["params"], variables["frozen"], {"paired": samples}, jax.random.key(0)
        )
        return np.array(found["image_location"])

    got = term({**whole, "location_mask": mask})
    np.testing.assert_allclose(got, term({k: v[mask] for k, v in whole.items()}), rtol=1e-5)
    assert got[1] == 6
