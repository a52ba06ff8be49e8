"""Data sets as TFDS prepares them: written by TFDS itself, read without it."""

import io
import json
import shutil
import struct

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_data_source import ArrayRecordDataSource
from made_sets import encoded

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation_sets import known
from rsvl_jax.evaluation_sets.opening import Options, open_collection

CLASSES = known.find("eurosat").classes
FILES = [f"{name}_{number}.jpg" for name in CLASSES for number in (1, 2)]


class Eurosat(tfds.core.GeneratorBasedBuilder):
    """Features as in tfds.datasets.eurosat; classes in another order, which must not matter."""

    VERSION = tfds.core.Version("2.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in ("rgb", "all", "several")]

    def _info(self):
        label = tfds.features.ClassLabel(names=list(reversed(CLASSES)))
        image = {
            "all": {"sentinel2": tfds.features.Tensor(shape=[4, 4, 13], dtype=np.float32)},
        }.get(self.builder_config.name, {"image": tfds.features.Image(shape=[8, 8, 3])})
        labels = {"several": {"labels": tfds.features.Sequence(label)}}
        features = image | labels.get(self.builder_config.name, {"label": label})
        text = {"filename": tfds.features.Text()}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features | text)
        )

    def _split_generators(self, dl_manager):
        if self.builder_config.name == "several":
            return {"train": self._generate_examples(), "validation": self._generate_examples()}
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number, file in enumerate(FILES):
            name = file.split("_")[0]
            content = {"image": io.BytesIO(encoded(number)), "label": name}
            if self.builder_config.name == "all":
                content["sentinel2"] = np.full((4, 4, 13), 100 * np.arange(13) + 1500, np.float32)
                del content["image"]
            if self.builder_config.name == "several":
                content["labels"] = [content.pop("label")] * (number % 2) + ["River"]
            yield file, content | {"filename": file}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("tfds")
    for config in ("rgb", "all", "several"):
        builder = Eurosat(data_dir=str(root), config=config)
        builder.download_and_prepare(file_format="array_record")
    return root / "eurosat"


def as_tfrecord(folder):
    """The same records in TFRecord files (their checks are left empty: nobody reads them)."""
    info = json.loads((folder / "dataset_info.json").read_text())
    info["fileFormat"] = "tfrecord"
    (folder / "dataset_info.json").write_text(json.dumps(info))
    for path in folder.glob("*.array_record-*"):
        records = ArrayRecordDataSource(str(path))
        with open(str(path).replace("array_record", "tfrecord"), "wb") as file:
            for row in range(len(records)):
                file.write(
                    struct.pack("<Q", len(records[row])) + bytes(4) + records[row] + bytes(4)
                )
        path.unlink()
    return folder


def refused(what, *arguments, **options):
    with pytest.raises(UserError, match=what) as error:
        found = open_collection(*arguments, Options(**options))
        for row in range(len(found)):
            found.images[row]
    assert "\n" not in str(error.value)


@pytest.fixture
def copied(prepared, tmp_path):
    def copy(config):
        return shutil.copytree(prepared / config / "2.0.0", tmp_path / config)

    return copy


@pytest.mark.parametrize("change", [lambda folder: folder, as_tfrecord])
def test_a_split_by_a_published_list(copied, change):
    folder = change(copied("rgb"))
    (folder / "eurosat-test.txt").write_text("River_2.jpg\nAnnualCrop_1.jpg\n")
    found = open_collection("eurosat", str(folder), "test")
    assert found.ids == ("train/River_2.jpg", "train/AnnualCrop_1.jpg")
    assert found.labels.tolist() == [8, 0] and found.classes == CLASSES
    assert (found.images[0] == [FILES.index("River_2.jpg"), 0, 0]).all()
    assert found.protocol["split_rule"] == "torchgeo"
    assert found.protocol["split_list"].endswith("not the published 7ae5ab94")
    everything = open_collection("eurosat", str(folder), "all")
    assert np.bincount(everything.labels).tolist() == [2] * 10
    refused("no list of the train split", "eurosat", str(folder), "train")


def test_thirteen_bands(copied):
    found = open_collection("eurosat", str(copied("all")), "all")
    assert found.images[0].shape == (4, 4, 3)
    # B04 is the fourth band, 1,800: 0.18 of a reflectance of 0.3 that is shown white.
    assert found.images[0][0, 0].tolist() == [153, 144, 136]
    assert found.band_names[-1] == "B8A"
    assert found.bands[5][1, 2].tolist() == [100.0 * band + 1500 for band in range(13)]


def test_several_labels_and_own_splits(copied):
    folder = copied("several")
    found = open_collection("eurosat", str(folder), "val")
    assert found.multilabel and found.labels.shape == (20, 10)
    row = found.ids.index("val/Forest_2.jpg")
    assert [CLASSES[place] for place in np.flatnonzero(found.labels[row])] == ["Forest", "River"]
    refused("no test split, but train, val", "eurosat", str(folder), "test")


def test_the_only_prepared_folder_below(prepared):
    assert len(open_collection("eurosat", str(prepared / "rgb"), "all")) == 20
    refused("several prepared data sets.*all/2.0.0, rgb/2.0.0", "eurosat", str(prepared), "all")


def test_what_is_broken(copied):
    folder = copied("rgb")
    (shard,) = folder.glob("*.array_record-*")
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    refused("is no whole ArrayRecord file|is damaged|records of train", "e", str(folder), "all")
    shard.write_bytes(whole)
    path = next(as_tfrecord(folder).glob("*.tfrecord-*"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    refused("is cut off at byte", "e", str(folder), "all")
    path.write_bytes(whole[: 16 + struct.unpack("<Q", whole[:8])[0]])
    refused("1 records of train: 20 wanted", "e", str(folder), "all")
    path.unlink()
    refused("0 shards of train: 1 wanted", "e", str(folder), "all")
    (folder / "label.labels.txt").unlink()
    refused("the names of the classes", "e", str(folder), "all")
    (folder / "features.json").write_text("{}")
    refused("0 labels and the image ''", "e", str(folder), "all")
    (folder / "dataset_info.json").write_text(encoded().hex()[:9])
    (folder / "features.json").unlink()
    refused("features.json' cannot be read", "e", str(folder), "all")
