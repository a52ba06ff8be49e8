"""What TFDS needs to read the shards: `tfds.builder_from_directory(...)`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

_DESCRIPTION = """
Images with captions, and with places, times, tags and labelled boxes where the source has them, in
shuffled order. The manifest beside the shards says where they come from and what was left out.
"""


class ImageText(tfds.core.GeneratorBasedBuilder):
    """Describes shards that were written without it."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, name: str, data_dir: str, images: bool):
        """name: of the data set · images: whether its records have one."""
        self._images = images
        super().__init__(
            config=tfds.core.BuilderConfig(name=name, description="Built from a download."),
            data_dir=data_dir,
        )

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features
        text, bits = features.Text(), features.Encoding.BYTES
        image = features.Image(shape=(None, None, 3)) if self._images else text
        number = features.Tensor(shape=(1,), dtype=np.float64, encoding=bits)
        return self.dataset_info_from_configs(
            description=_DESCRIPTION,
            features=features.FeaturesDict(
                {
                    **dict.fromkeys(("id", "time", "tags"), text),
                    "image": image,
                    **dict.fromkeys(("captions", "phrases"), features.Sequence(text)),
                    **dict.fromkeys(("lon", "lat", "gsd"), number),
                    "box": features.Tensor(shape=(4,), dtype=np.float64, encoding=bits),
                    "boxes": features.Tensor(shape=(None, 4), dtype=np.float32),
                    **dict.fromkeys(("label", "width", "height"), np.int64),
                }
            ),
        )

    def _split_generators(self, dl_manager: Any) -> Mapping[str, Any]:
        raise NotImplementedError("the shards are written by `build`")

    def _generate_examples(self) -> Any:
        raise NotImplementedError("the shards are written by `build`")


def filename(split: str, number: int, count: int) -> str:
    """Name of a shard."""
    return f"{ImageText.name}-{split}.array_record-{number:05d}-of-{count:05d}"


def write(directory: str, *, name: str, data_dir: str, images: bool, shards: Mapping) -> None:
    """Writes dataset_info.json and features.json.

    shards: by split, facts of each shard: its "records" and "content_bytes".
    """
    logging.set_verbosity(logging.ERROR)  # it would warn that the configuration is new
    builder = ImageText(name=name, data_dir=data_dir, images=images)
    template = tfds.core.ShardedFileTemplate(
        dataset_name=ImageText.name,
        data_dir=directory,
        filetype_suffix="array_record",
        template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    )
    builder.info.set_file_format("array_record", override=True)
    builder.info.set_splits(
        tfds.core.SplitDict(
            [
                tfds.core.SplitInfo(
                    name=split,
                    shard_lengths=[shard["records"] for shard in facts],
                    num_bytes=sum(shard["content_bytes"] for shard in facts),
                    filename_template=template,
                )
                for split, facts in shards.items()
            ]
        )
    )
    builder.info.write_to_directory(directory)
