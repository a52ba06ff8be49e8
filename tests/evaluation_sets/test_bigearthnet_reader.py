"""BigEarthNet v1 in small: a folder a patch, twelve files of one band, labels in JSON."""

import json

import numpy as np
import pytest

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation_sets import known
from rsvl_jax.evaluation_sets.opening import Options, open_collection

PATCH = "S2A_MSIL2A_20170613T101031_{}_{}"
SIDES = {"B01": 2, "B09": 2} | dict.fromkeys(("B05", "B06", "B07", "B8A", "B11", "B12"), 6)
ALL = known.find("bigearthnet43")


def band(path, side, value, count=1):
    import rasterio

    profile = {"driver": "GTiff", "width": side, "height": side, "count": count, "dtype": "uint16"}
    with rasterio.open(path, "w", **profile) as file:
        file.write(np.full((count, side, side), value, np.uint16))


def patch(root, name, labels):
    folder = root / "BigEarthNet-v1.0" / name
    folder.mkdir(parents=True)
    for number, of in enumerate(ALL.bands):
        band(folder / f"{name}_{of}.tif", SIDES.get(of, 12), 300 * (number + 1))
    (folder / f"{name}_labels_metadata.json").write_text(json.dumps({"labels": labels}))
    return folder


@pytest.fixture
def root(tmp_path):
    patch(tmp_path, PATCH.format(0, 45), ["Continuous urban fabric", "Pastures", "Airports"])
    patch(tmp_path, PATCH.format(0, 46), ["Airports"])
    patch(tmp_path, "S2B_MSIL2A_20180506T105029_5_6", ["Sea and ocean", "Estuaries"])
    lines = [f"{PATCH.format(0, 45)},S1A_x", f"{PATCH.format(0, 46)},S1A_y"]
    (tmp_path / "bigearthnet-test.csv").write_text("\n".join(lines))
    return tmp_path


def names(found):
    return [[found.classes[place] for place in np.flatnonzero(row)] for row in found.labels]


def test_nineteen_and_forty_three_classes(root):
    found = open_collection("bigearthnet19", str(root), "all")
    assert names(found) == [["Urban fabric", "Pastures"], ["Marine waters"]]
    assert found.dropped == {"patches of none of the 19 classes": 1}
    assert found.blocks.tolist() == [0, 1]
    every = open_collection("bigearthnet43", str(root), "all")
    assert names(every) == [
        ["Continuous urban fabric", "Airports", "Pastures"],
        ["Airports"],
        ["Estuaries", "Sea and ocean"],
    ]
    assert every.dropped == {} and every.blocks.tolist() == [0, 0, 1]


def test_the_conversion_is_the_published_one():
    """label_indices.json: 32 of the 43 labels go into 19 classes."""
    classes, aliases = known.find("bigearthnet19").classes, known.find("bigearthnet19").aliases
    into = [aliases.get(label, label) for label in ALL.classes]
    places = [classes.index(name) if name in classes else -1 for name in into]
    assert places == (
        [0, 0, 1] + [-1] * 8 + [2, 2, 2, 3, 3, 3, 4, 3, 5, 6, 7, 8, 9, 10, 11, 12, 12, 13, 14]
        + [-1, 11, -1, 15, 15, 16, 16, -1, 17, 17, 18, 18, 18]
    )  # fmt: skip


def test_a_published_list_and_bands(root):
    found = open_collection("bigearthnet43", str(root), "test")
    assert found.ids == (PATCH.format(0, 45), PATCH.format(0, 46))
    # B04, B03, B02 are 1,200, 900 and 600; white is 3,000.
    assert found.images[0].shape == (12, 12, 3) and found.images[0].dtype == np.uint8
    assert found.images[0][3, 4].tolist() == [102, 76, 51]
    assert found.bands[1].shape == (12, 12, 12) and found.bands[1].dtype == np.float32
    assert found.bands[1][0, 0].tolist() == [300.0 * number for number in range(1, 13)]
    assert found.band_names[8] == "B8A"


def refused(what, root, split="all", **options):
    with pytest.raises(UserError, match=what) as error:
        found = open_collection("bigearthnet19", str(root), split, Options(**options))
        for row in range(len(found)):
            found.images[row]
    assert "\n" not in str(error.value)


def test_what_is_broken(root):
    refused("no list of the val split.*git.tu-berlin.de", root, "val")
    refused("split rule 'remoteclip': bigearthnet19 has all, torchgeo", root, rule="remoteclip")
    folder = root / "BigEarthNet-v1.0" / PATCH.format(0, 45)
    band(folder / f"{folder.name}_B04.tif", 12, 5, count=2)
    refused("_B04.tif' has 2 bands: one is wanted", root)
    (folder / f"{folder.name}_B04.tif").write_bytes(b"II*\0")
    refused("_B04.tif' cannot be decoded", root)
    (folder / f"{folder.name}_B04.tif").unlink()
    refused("_B04.tif' is not there", root)
    labels = folder / f"{folder.name}_labels_metadata.json"
    labels.write_text(json.dumps({"labels": ["Volcano"]}))
    refused("'Volcano' is none of the 43 labels", root)
    labels.write_text("{")
    refused("is no JSON with 'labels'", root)
    labels.unlink()
    refused("has no labels", root)
    (root / "empty").mkdir()
    refused("no folders of patches", root / "empty")


NEW = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_{}_{}"


def table(path, rows):
    import pyarrow
    import pyarrow.parquet

    columns = ("patch_id", "labels", "split", "country")
    found = {name: [row[place] for row in rows] for place, name in enumerate(columns)}
    pyarrow.parquet.write_table(pyarrow.table(found), path)


@pytest.fixture
def new(tmp_path):
    rows = [
        (NEW.format(51, 83), ["Pastures", "Marine waters"], "validation", "Austria"),
        (NEW.format(26, 57), ["Urban fabric"], "validation", "Austria"),
        (NEW.format(1, 2), ["Pastures"], "validation", "Finland"),
        (NEW.format(3, 4), ["Pastures"], "train", "Finland"),
    ]
    table(tmp_path / "metadata.parquet", rows)
    for name in (rows[0][0], rows[1][0]):
        folder = tmp_path / "BigEarthNet-S2" / name.rsplit("_", 2)[0] / name
        folder.mkdir(parents=True)
        for number, of in enumerate(ALL.bands):
            band(folder / f"{name}_{of}.tif", SIDES.get(of, 12), 300 * (number + 1))
    return tmp_path


def test_the_second_version_has_its_splits_in_its_table(new):
    found = open_collection("bigearthnet_v2", str(new), "val")
    assert [name.split("/")[1] for name in found.ids] == [NEW.format(26, 57), NEW.format(51, 83)]
    assert names(found) == [["Urban fabric"], ["Pastures", "Marine waters"]]
    assert found.dropped == {"patches of the table that are not there": 1}
    assert found.images[1][3, 4].tolist() == [102, 76, 51] and found.bands[0].shape == (12, 12, 12)
    assert len(open_collection("bigearthnet_v2", str(new), "all")) == 2


def test_what_is_broken_in_the_second_version(new):
    def fails(what, split="val", **options):
        with pytest.raises(UserError, match=what) as error:
            open_collection("bigearthnet_v2", str(new), split, Options(**options))
        assert "\n" not in str(error.value)

    fails("none of the 1 patches of the train split", "train")
    fails("split rule 'remoteclip': bigearthnet_v2 has its own", rule="remoteclip")
    patch_id = NEW.format(26, 57)
    table(new / "metadata.parquet", [(patch_id, ["Volcano"], "validation", "Iceland")])
    fails("'Volcano' is none of the 19 labels")
    table(new / "metadata.parquet", [(patch_id, [], "validation", "Iceland")] * 2)
    fails("there twice")
    (new / "metadata.parquet").write_bytes(b"PAR1")
    fails("is no Parquet with patch_id, labels, split")
    (new / "metadata.parquet").unlink()
    fails("no .*metadata.parquet.*published")
