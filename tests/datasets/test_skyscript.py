"""SkyScript in its published layout, and every way in which it can be broken."""

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
from made_downloads import SkyScript, metadata, picture

from rsvl_jax import datasets
from rsvl_jax.datasets.__main__ import run
from rsvl_jax.datasets.image_text.reader import Drop
from rsvl_jax.datasets.image_text.readers import plain_pickles, zips
from rsvl_jax.errors import UserError
from rsvl_jax.runtime import exit_status

TRAIN = "train_top30pct_filtered_by_CLIP_openai"


@pytest.fixture
def sky(tmp_path):
    return SkyScript(tmp_path / "sky", rows=16, held=3)


def build(sky, *more, status=0):
    words = ["build", "skyscript", f"--source={sky.root}", f"--data_dir={sky.root.parent / 'data'}"]
    found = exit_status(lambda: run([*words, "--workers=1", "--vocabulary=300", *more]))
    assert found == status
    if status == 0:
        return datasets.manifest("image_text/skyscript", str(sky.root.parent / "data"))
    return None


def records(sky, split="train"):
    loaded = datasets.load("image_text/skyscript", str(sky.root.parent / "data"), split)
    return {record["id"]: record for record in loaded}


def test_pairs_come_with_both_captions_place_time_and_tags(sky):
    sky.write()
    manifest = build(sky)
    assert manifest["splits"] == {"train": 10, "validation": 3, "test": 3}
    assert manifest["has"]["train"] == {
        "located": 10,
        "captioned": 10,
        "with_boxes": 0,
        "labelled": 0,
    }
    path, title, many = sky.tables[TRAIN][5]
    record, meta = records(sky)[path], metadata(5)
    assert record["captions"] == [many, title]
    np.testing.assert_allclose(record["box"], meta["box"])
    assert record["lon"] == pytest.approx(meta["box"][0] + 0.002)
    assert record["time"] == "2019-07-06T10:30"
    assert '"building": "river"' in record["tags"] and '"highway"' in record["tags"]
    assert record["gsd"] == pytest.approx(0.003 * 111_195 / 40)


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (["--subset=unfiltered"], "train_unfiltered_5M"),
        (["--subset=top50pct"], "train_top50pct_filtered_by_CLIP_openai"),
        (["--filter=laion_RS"], "train_top30pct_filtered_by_CLIP_laion_RS"),
        (
            ["--filter=laion_RS", "--polished"],
            "train_top30pct_filtered_by_CLIP_laion_RS_language_polished",
        ),
        (["--subset=unfiltered", "--polished"], "train_unfiltered_5M_language_polished"),
    ],
)
def test_every_family_of_csvs_is_known_by_name(sky, flags, name):
    sky.tables = {name: sky.tables[TRAIN]}
    sky.write()
    manifest = build(sky, *flags, "--test=0.1", "--validation=0.1")
    assert manifest["source"]["csv"] == {"train": f"SkyScript_{name}.csv"}
    assert sum(manifest["splits"].values()) == 10 and manifest["splits"]["test"] == 1


def test_polished_csvs_have_other_columns(sky):
    sky.tables = {}
    sky.write()
    name = "SkyScript_train_top30pct_filtered_by_CLIP_laion_RS_language_polished.csv"
    os.mkdir(sky.root / "dataframe")
    lines = [f'{path},raw {i},"It shows: thing, {i}"' for i, path in enumerate(sky.images)]
    (sky.root / "dataframe" / name).write_text("filepath,title_raw,title\n" + "\n".join(lines))
    build(sky, "--filter=laion_RS", "--polished")
    number = int(next(iter(records(sky))).split("/a")[1].split("_")[0])
    record = next(iter(records(sky).values()))
    assert record["captions"] == [f"It shows: thing, {number}", f"raw {number}"]


def test_rows_whose_image_or_metadata_is_missing_are_counted(sky):
    first, second, *_ = (path for path, _, _ in sky.tables[TRAIN])
    del sky.metas[first]
    sky.images.pop(second)
    sky.write()
    manifest = build(sky)
    assert manifest["dropped"] == {"image is missing": 1, "metadata is missing": 1}
    assert manifest["splits"]["train"] == 8


def test_pairs_without_metadata_stay_without_a_place_where_asked(sky):
    first = sky.tables[TRAIN][0][0]
    del sky.metas[first]
    sky.write()
    manifest = build(sky, "--meta=optional")
    assert manifest["changed"] == {"metadata is missing": 1}
    assert manifest["has"]["train"]["located"] == 9
    assert np.isnan(records(sky)[first]["lon"]) and np.isnan(records(sky)[first]["box"]).all()


def test_without_metadata_files_it_says_what_to_do(sky, capsys):
    sky.write()
    for path in sky.root.glob("meta*.zip"):
        path.unlink()
    build(sky, status=2)
    assert "--meta=none" in capsys.readouterr().err
    assert build(sky, "--meta=none")["has"]["train"]["located"] == 0


def test_a_missing_zip_drops_its_rows_and_a_truncated_one_is_refused(sky, capsys):
    sky.write()
    (sky.root / "images3.zip").rename(sky.root / "elsewhere")
    assert build(sky)["dropped"] == {"image is missing": 8}
    data = (sky.root / "elsewhere").read_bytes()
    (sky.root / "images3.zip").write_bytes(data[: len(data) // 2])
    build(sky, "--name=again", status=2)
    told = capsys.readouterr().err
    assert "images3.zip' is not a whole zip file (it has no central directory)" in told
    assert not (sky.root.parent / "data" / "image_text" / "again").exists()


def test_files_are_found_by_name_in_whatever_zip_they_are(sky):
    sky.write()
    os.rename(sky.root / "images2.zip", sky.root / "swap")
    os.rename(sky.root / "images3.zip", sky.root / "images2.zip")
    os.rename(sky.root / "swap", sky.root / "images3.zip")
    assert build(sky)["dropped"] == {}


def test_damaged_members_are_counted(sky):
    sky.write(zipfile.ZIP_STORED)
    path = sky.root / "images2.zip"
    data = bytearray(path.read_bytes())
    image = next(iter(sky.images.values()))
    at = bytes(data).index(image)
    data[at + len(image) // 2] ^= 0xFF
    path.write_bytes(data)
    assert build(sky)["dropped"] == {"image cannot be read": 1}


class Attack:
    def __reduce__(self):
        return os.system, ("touch /tmp/never",)


def test_pickles_that_try_to_run_code_are_refused_and_named(sky):
    first, second, third, *_ = (path for path, _, _ in sky.tables[TRAIN])
    sky.metas[first] = pickle.dumps({"box": Attack()})
    sky.metas[second] = b"\x80\x04garbage"
    sky.metas[third] = pickle.dumps({"box": (1, 2)})
    sky.write()
    manifest = build(sky)
    assert manifest["dropped"] == {
        "metadata cannot be read": 1,
        "metadata is not SkyScript's": 1,
        "metadata is refused": 1,
    }
    listed = (sky.root.parent / "data/image_text/skyscript/1.0.0/dropped.csv").read_text()
    assert "asks for posix.system" in listed


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickles_of_every_protocol_are_read(protocol):
    value = {"a": (1, 2.5, None, True), "b": [{"c": "é"}], "e": 2**70}
    assert plain_pickles.loads(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps(np.float64(1.5)),
        pickle.dumps(Attack(), 0),
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"\x80\x02\x82\x01.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
        b"Pname\n.",
        b"r\xff\xff\xff\x7f.",
        b"",
    ],
)
def test_pickles_of_anything_else_are_refused(data):
    with pytest.raises(Drop):
        plain_pickles.loads(data)


def test_repeated_paths_are_counted_and_held_out_ones_stay_held_out(sky):
    path = sky.tables["test_30K_filtered_by_CLIP_openai"][0][0]
    sky.tables[TRAIN] += [(path, "x", "y"), sky.tables[TRAIN][0]]
    sky.write()
    manifest = build(sky)
    assert manifest["dropped"] == {"duplicate key": 2}
    assert manifest["splits"] == {"train": 10, "validation": 3, "test": 3}
    assert path in records(sky, "test")


def test_rows_that_are_cut_short_are_counted(sky):
    sky.write()
    with open(sky.root / f"SkyScript_{TRAIN}.csv", "ab") as file:
        file.write(b'images2/a0_US_19.jpg\n\n"open, never closed\n')
    assert build(sky)["dropped"] == {"row has another number of fields than the header": 2}


def test_other_folders_get_one_line(sky, tmp_path, capsys):
    build(sky, status=2)
    assert "is no folder" in capsys.readouterr().err
    sky.root.mkdir()
    build(sky, status=2)
    assert f"no SkyScript_{TRAIN}.csv" in capsys.readouterr().err
    sky.write_tables()
    build(sky, status=2)
    assert "no images2.zip" in capsys.readouterr().err
    build(sky, "--polished", status=2)
    assert "--filter=laion_RS" in capsys.readouterr().err


def test_zips_agree_with_pythons_own(tmp_path):
    path = tmp_path / "images2.zip"
    contents = {f"images2/{i}.jpg": picture(i) for i in range(5)}
    with zipfile.ZipFile(path, "w") as archive:
        archive.comment = b"PK\x05 a comment"
        archive.mkdir("images2")
        for number, (name, data) in enumerate(contents.items()):
            method = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)[number % 3]
            archive.writestr(name, data, method)
    found = zips.Zips([str(path)])
    found.prepare(str(tmp_path / "index"))
    found.open(str(tmp_path / "index"))
    for number, (name, data) in enumerate(contents.items()):
        if number % 3 == 2:
            with pytest.raises(Drop):
                found.read(f"{number}.jpg", "image")
        else:
            assert found.read(os.path.basename(name), "image") == data
    assert found.read("6.jpg", "image") is None


def test_zips_of_more_than_four_gigabytes_are_read(tmp_path, monkeypatch):
    """Their Zip64 fields, in a small file: everything counts as too large for the old fields."""
    path = tmp_path / "images2.zip"
    for name in ("ZIP64_LIMIT", "ZIP_FILECOUNT_LIMIT"):
        monkeypatch.setattr(zipfile, name, 1)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(3):
            archive.writestr(f"images2/{number}.jpg", picture(number))
    path.write_bytes(buffer.getvalue())
    found = zips.Zips([str(path)])
    found.prepare(str(tmp_path / "index"))
    found.open(str(tmp_path / "index"))
    assert found.read("2.jpg", "image") == picture(2)


@pytest.mark.parametrize("cut", [0, 10, 30])
def test_broken_directories_are_refused(tmp_path, cut):
    path = tmp_path / "meta2.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("meta2/1.pickle", b"x")
    data = path.read_bytes()
    at = data.index(b"PK\x01\x02")
    path.write_bytes(data[:at] + bytes(cut) + data[at + cut :] if cut else data[: at + 4])
    if cut == 30:
        path.write_bytes(data[:at] + data[at + cut :])
    with pytest.raises(UserError, match="not a whole zip file"):
        zips.Zips([str(path)]).prepare(str(tmp_path / "index"))
