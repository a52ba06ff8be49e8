"""MLRSNet's tables of several labels an image, in small."""

import csv

import numpy as np
import pytest
from made_sets import image

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation_sets import known
from rsvl_jax.evaluation_sets.opening import Options, open_collection

CLASSES = known.find("mlrsnet60").classes
ROWS = {
    "airplane_00001.jpg": ("airplane", "runway"),
    "airplane_00002.jpg": ("airplane",),
    "beach_00001.jpg": ("sea", "sand"),
}


def write(root, rows=ROWS, columns=CLASSES, value="1"):
    tables = {}
    for name, labels in rows.items():
        tables.setdefault(name.split("_")[0], []).append((name, labels))
    for scene, own in tables.items():
        (root / "Labels").mkdir(exist_ok=True)
        with open(root / "Labels" / f"{scene}.csv", "w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["image", *columns])
            for name, labels in own:
                table.writerow([name, *(value if c in labels else "0" for c in columns)])
                if not (root / "Images").exists() or value == "1":
                    image(root / "Images" / scene / name)
    return root


def refused(what, *arguments, **options):
    with pytest.raises(UserError, match=what) as error:
        open_collection(*arguments, Options(**options))
    assert "\n" not in str(error.value)


def test_several_labels(tmp_path):
    # Columns come as they like, and labels in the order of the classes.
    root = write(tmp_path, columns=tuple(reversed(CLASSES)))
    image(root / "Images" / "beach" / "beach_00009.jpg")
    found = open_collection("mlrsnet60", str(root), "all")
    assert found.multilabel and found.classes == CLASSES
    read = [{CLASSES[place] for place in np.flatnonzero(row)} for row in found.labels]
    assert read == [set(labels) for labels in ROWS.values()]
    assert found.ids[0] == "Images/airplane/airplane_00001.jpg"
    assert found.dropped == {"images without a row in the tables": 1}
    assert found.images[2].shape == (8, 8, 3)
    (root / "mlrsnet-test.txt").write_text("beach/beach_00001.jpg\n")
    test = open_collection("mlrsnet60", str(root), "test")
    assert test.ids == ("Images/beach/beach_00001.jpg",)
    assert test.protocol["split_rule"] == "flavars"
    refused("no image is in the test split by", "mlrsnet60", str(root), "test", rule="own")
    refused("no list of the train split.*isaaccorley/FLAVARS", "mlrsnet60", str(root), "train")


def test_scenes_by_the_folders_of_the_release(tmp_path):
    """Two of MLRSNet's folders are not called as their classes are."""
    for name in ("harbor&port", "swimmimg_pool", "bareland"):
        image(tmp_path / "Images" / name / f"{name}_00001.jpg")
    (tmp_path / "Labels").mkdir()
    found = open_collection("mlrsnet", str(tmp_path), "all")
    scenes = [found.classes[label] for label in found.labels]
    assert scenes == ["bare land", "harbor and port", "swimming pool"]


def test_what_is_broken(tmp_path):
    root = str(write(tmp_path))
    write(tmp_path, value="yes")
    refused("'airplane' of 'airplane_00001.jpg' is 'yes': 0 or 1", "mlrsnet60", root, "all")
    write(tmp_path)
    table = tmp_path / "Labels" / "beach.csv"
    text = table.read_text()
    table.write_text(text + text.splitlines()[1] + "\n")
    refused("has 'beach_00001.jpg' once more", "mlrsnet60", root, "all")
    table.write_text(text.replace("beach_00001", "beach_00005"))
    refused("'beach_00005.jpg', which is not there", "mlrsnet60", root, "all")
    table.write_text(text.replace("image,", "file,", 1))
    refused("beach.csv' has not the columns 'image'", "mlrsnet60", root, "all")
    write(tmp_path, columns=CLASSES[1:])
    refused("has no column 'airplane'", "mlrsnet60", root, "all")
    write(tmp_path, columns=(*CLASSES, "volcano"))
    refused("the column 'volcano' is no class", "mlrsnet60", root, "all")
    for path in (tmp_path / "Labels").iterdir():
        path.unlink()
    refused("no .csv with a column 'image'", "mlrsnet60", root, "all")


def test_tables_of_ones_own(tmp_path):
    root = write(tmp_path, {"a_1.jpg": ("wet",), "a_2.jpg": ()}, columns=("dry", "wet"))
    found = open_collection("mine", str(root), "all", Options(layout="label_csv"))
    assert found.classes == ("dry", "wet") and found.labels.tolist() == [[0, 1], [0, 0]]
