"""Builds of image-text pairs: same bytes however they are made, and nothing half made is found."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from made_downloads import SkyScript, picture
from made_rows import Rows, Tape, command, files, row, small

from rsvl_jax import datasets
from rsvl_jax.datasets import registry, store
from rsvl_jax.datasets.__main__ import run
from rsvl_jax.datasets.image_text import staging
from rsvl_jax.datasets.image_text.build import build
from rsvl_jax.datasets.image_text.options import Options
from rsvl_jax.datasets.image_text.reader import Drop
from rsvl_jax.errors import UserError
from rsvl_jax.runtime import exit_status

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def download(tmp_path_factory):
    return SkyScript(tmp_path_factory.mktemp("download") / "sky", rows=60, held=6).write()


@pytest.fixture(scope="module")
def whole(download, tmp_path_factory):
    """The data directory of a build that was never stopped."""
    data_dir = tmp_path_factory.mktemp("whole")
    run(command(download, data_dir))
    return data_dir


def test_what_is_built_is_read_back_by_us_and_by_tfds(whole):
    import tensorflow_datasets as tfds

    manifest = datasets.manifest("image_text/skyscript", str(whole))
    assert manifest["splits"] == {"train": 48, "validation": 6, "test": 6}
    assert manifest["dropped"] == manifest["changed"] == {}
    directory = registry.image_text("skyscript").directory(str(whole))
    others = tfds.builder_from_directory(directory).as_data_source()
    for split, count in manifest["splits"].items():
        ours = datasets.load("image_text/skyscript", str(whole), split)
        assert len(ours) == len(others[split]) == count
        for mine, theirs in zip(ours, others[split], strict=True):
            assert mine["captions"] == [text.decode() for text in theirs["captions"]]
            assert mine["id"] == theirs["id"].decode()
            assert (mine["lon"], mine["lat"]) == (theirs["lon"][0], theirs["lat"][0])
            np.testing.assert_array_equal(mine["box"], theirs["box"])
            assert theirs["image"].shape == (mine["height"], mine["width"], 3)


def test_files_are_those_of_the_provenance_and_shards_are_of_the_size_asked(whole):
    directory = Path(registry.image_text("skyscript").directory(str(whole)))
    listed = datasets.store.provenance("image_text/skyscript", str(whole))["files"]
    there = {path.name for path in directory.iterdir()}
    assert there == {*listed, "manifest.json", "provenance.json"}
    for name, facts in listed.items():
        assert hashlib.sha256((directory / name).read_bytes()).hexdigest() == facts["sha256"]
    shards = [name for name in listed if "-train.array_record" in name]
    assert len(shards) > 3


def test_records_are_stored_in_another_order_than_in_the_source(whole):
    ids = [r["id"] for r in datasets.load("image_text/skyscript", str(whole), "train")]
    numbers = [int(name.split("/a")[1].split("_")[0]) for name in ids]
    assert sorted(numbers) == list(range(48))
    moves = np.abs(np.diff(numbers))
    assert np.mean(moves == 1) < 0.2


def test_images_are_stored_byte_for_byte(whole):
    for record in datasets.load("image_text/skyscript", str(whole), "test"):
        number = int(record["id"].split("/a")[1].split("_")[0])
        assert record["image"] == picture(number)


def test_more_workers_and_zips_or_folders_give_the_same_records(download, whole, tmp_path):
    run([*command(download, tmp_path), "--workers=3"])
    assert files(tmp_path) == files(whole)
    unpacked = SkyScript(tmp_path / "unpacked", rows=60, held=6).unpack()
    run(command(unpacked, tmp_path, "--name=unpacked"))
    first, second = (
        datasets.manifest(f"image_text/{name}", str(tmp_path)) for name in ("skyscript", "unpacked")
    )
    assert first["fingerprint"] == second["fingerprint"]


def test_beam_gives_the_same(download, whole, tmp_path):
    pytest.importorskip("apache_beam")
    options = ["--runner=beam", "--beam_options=--runner=DirectRunner"]
    options += ["--beam_options=--direct_num_workers=2"]
    run(
        command(
            download, tmp_path, *options, "--beam_options=--direct_running_mode=multi_threading"
        )
    )
    assert files(tmp_path) == files(whole)


def test_beam_that_is_not_installed_gets_one_line(download, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert exit_status(lambda: run(command(download, tmp_path, "--runner=beam"))) == 2
    assert "--runner=beam needs apache-beam" in capsys.readouterr().err


def test_a_source_that_is_slow_in_another_order_gives_the_same_shards(tmp_path):
    rows = [row(i) for i in range(20)]
    rows[3:3] = [Drop("image is missing"), row(100, captions=[])]
    made = [kind(rows) for kind in (Rows, Tape)]
    for reader in made:
        build(reader, name=reader.__class__.__name__, data_dir=str(tmp_path), options=small())
    first, second = (datasets.manifest(f"image_text/{n}", str(tmp_path)) for n in ("Rows", "Tape"))
    assert first["fingerprint"] == second["fingerprint"]
    assert first["dropped"] == {"caption is missing": 1, "image is missing": 1}


def test_a_stopped_build_is_not_gone_on_with_other_options(download, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(staging.os, "replace", full)
        assert exit_status(lambda: run(command(download, tmp_path))) == 2
    assert "No space left on device" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr("rsvl_jax.datasets.image_text.shards.ArrayRecordWriter", full)
        assert exit_status(lambda: run(command(download, tmp_path))) == 2
    assert not (tmp_path / "image_text").exists()
    capsys.readouterr()
    assert exit_status(lambda: run(command(download, tmp_path, "--seed=1"))) == 2
    told = capsys.readouterr().err
    assert "seed=0 (now 1)" in told and "--restart" in told and told.count("\n") == 1
    assert exit_status(lambda: run(command(download, tmp_path, "--seed=1", "--restart"))) == 0


def test_the_same_again_is_nothing_to_do_and_another_is_refused(download, whole, capsys):
    before = files(whole)
    assert exit_status(lambda: run(command(download, whole))) == 0
    assert exit_status(lambda: run(command(download, whole, "--min_side=8"))) == 2
    assert "delete it, or choose another --name" in capsys.readouterr().err
    assert files(whole) == before


def test_two_builds_at_once_are_refused(download, tmp_path, capsys):
    entry = registry.image_text("skyscript")
    with store.lock(store.hidden(entry, str(tmp_path), "lock")):
        assert exit_status(lambda: run(command(download, tmp_path))) == 2
    assert "another process is building this data set" in capsys.readouterr().err


def test_what_is_dropped_is_counted_and_listed(tmp_path):
    rows = [
        *(row(i) for i in range(6)),
        row(6, captions=["\0", " "]),
        row(7, image=b"<!DOCTYPE html><html>"),
        row(8, lon=10.0, lat=100.0),
        row(3, captions=["of the same name"]),
        row(9, split="holiday"),
        Drop("image is missing", "9.jpg"),
        row(10, captions=["a \0 b"], notes=["metadata is missing"]),
        row(11, captions=["\udcff"]),
        row(12, key="\udcff"),
    ]
    directory = build(Rows(rows), name="x", data_dir=str(tmp_path), options=small())
    manifest = datasets.manifest("image_text/x", str(tmp_path))
    assert manifest["dropped"] == {
        "caption is empty": 1,
        "caption is not in the encoding": 1,
        "coordinates are out of range": 1,
        "duplicate key": 1,
        "image is missing": 1,
        "name or tags are not in the encoding": 1,
        "not an image": 1,
        "split is unknown": 1,
    }
    assert manifest["changed"] == {
        "control characters taken out of a caption": 1,
        "metadata is missing": 1,
    }
    listed = (Path(directory) / "dropped.csv").read_text().splitlines()
    assert listed[0] == "row,key,reason,detail"
    assert len(listed) == 1 + sum(manifest["dropped"].values())
    assert "9,,duplicate key,of row 3" in listed
    assert any("are lon and lat swapped?" in line for line in listed)


def test_repeats_are_dropped_where_asked_and_held_out_ones_stay(tmp_path):
    again = io.BytesIO()
    from PIL import Image

    Image.open(io.BytesIO(picture(0))).resize((96, 80)).save(again, "JPEG", quality=60)
    rows = [
        *(row(i, split="train") for i in range(8)),
        row(20, image=again.getvalue(), split="test"),  # looks like the first
        row(21, captions=["thing 1"], split="train"),
        row(22, split="validation"),
    ]

    def kept(name, **options):
        build(Rows(rows), name=name, data_dir=str(tmp_path), options=small(**options))
        manifest = datasets.manifest(f"image_text/{name}", str(tmp_path))
        train = datasets.load(f"image_text/{name}", str(tmp_path), "train")
        return {record["id"] for record in train}, manifest

    ids, manifest = kept("all")
    assert len(ids) == 9 and not manifest["dropped"]
    ids, manifest = kept("images", dedupe=("image",))
    assert manifest["dropped"] == {"duplicate image": 1}
    assert "0.jpg" not in ids and manifest["splits"]["test"] == 1
    ids, manifest = kept("captions", dedupe=("caption",))
    assert manifest["dropped"] == {"duplicate caption": 1}
    assert "21.jpg" not in ids


def test_whole_places_are_held_out_where_the_source_names_no_split(tmp_path):
    rows = [row(i, lon=(i // 3) * 2.0 + 0.1 * (i % 3), lat=40.5) for i in range(90)]
    options = small(validation=0.1, test=0.2)
    build(Rows(rows), name="x", data_dir=str(tmp_path), options=options)
    manifest = datasets.manifest("image_text/x", str(tmp_path))
    assert manifest["held_out"] == "cells of one degree"
    assert manifest["splits"] == {"train": 63, "validation": 9, "test": 18}
    cells = {
        split: {int(r["lon"]) for r in datasets.load("image_text/x", str(tmp_path), split)}
        for split in manifest["splits"]
    }
    assert not cells["train"] & cells["test"] and not cells["train"] & cells["validation"]


def test_few_rows_are_still_held_out_and_trained_on(tmp_path):
    build(Rows([row(i) for i in range(3)]), name="x", data_dir=str(tmp_path), options=small())
    splits = datasets.manifest("image_text/x", str(tmp_path))["splits"]
    assert splits == {"train": 1, "validation": 1, "test": 1}


def test_a_source_of_which_nothing_is_left_says_why(tmp_path):
    rows = [row(i, image=b"<html>") for i in range(3)]
    with pytest.raises(UserError, match="no row is left to train on: not an image 3"):
        build(Rows(rows), name="x", data_dir=str(tmp_path), options=small())
    assert not (tmp_path / "image_text").exists()


def test_a_source_that_changes_while_it_is_read_is_refused(tmp_path):
    class Restless(Rows):
        reads = 0

        def read(self, index):
            Restless.reads += 1
            return row(index + 1000 * (Restless.reads > 10))

    with pytest.raises(UserError, match="row . of the source is not what it was"):
        build(Restless([0] * 10), name="x", data_dir=str(tmp_path), options=small())


def test_smaller_images_on_request_take_their_boxes_and_gsd_along(tmp_path):
    given = row(0, phrases=["a", "out"], boxes=[(8, 8, 24, 40), (90, 90, 99, 99)], gsd=0.5)
    rows = [given, row(1), row(2)]
    options = small(max_side=24, test=0, validation=0)
    build(Rows(rows), name="x", data_dir=str(tmp_path), options=options)
    records = {r["id"]: r for r in datasets.load("image_text/x", str(tmp_path), "train")}
    record = records["0.jpg"]
    assert (record["width"], record["height"]) == (24, 20)
    assert record["phrases"] == ["a"]
    np.testing.assert_allclose(record["boxes"], [[4, 4, 12, 20]])
    assert record["gsd"] == 1.0
    changed = datasets.manifest("image_text/x", str(tmp_path))["changed"]
    assert changed == {"image encoded anew, as asked": 3, "left out: box outside of its image": 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dedupe": ("looks",)}, "--dedupe=looks: choose from image, caption"),
        ({"validation": 0.6, "test": 0.5}, "leave nothing to train on"),
        ({"validation": float("nan")}, "leave nothing to train on"),
        ({"quality": 0}, "--quality=0 is not between 1 and 100"),
        ({"seed": -1}, "--seed=-1"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        Options(**options)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden"])
def test_names_that_are_no_file_names_are_refused(name):
    with pytest.raises(UserError, match="data set name"):
        registry.image_text(name)


def test_data_sets_that_were_never_built_say_how(tmp_path):
    for act in (datasets.ensure, datasets.manifest):
        with pytest.raises(UserError, match="datasets build LAYOUT --source=..."):
            act("image_text/sky", str(tmp_path))


def test_list_shows_what_is_there(whole, capsys):
    run(["list", f"--data_dir={whole}"])
    assert "image_text/skyscript 1.0.0: train 48" in capsys.readouterr().out
