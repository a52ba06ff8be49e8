"""The TFDS builder of `ground_satellite_pairs`: it writes the examples it is given."""

import io
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

_DESCRIPTION = """
Satellite tiles on a local metric grid, each with the geotagged ground photos taken on it and the
pixel at which each was taken. Splits are spatial blocks that share no tile, photo or ground.
"""


class GroundSatellitePairs(tfds.core.GeneratorBasedBuilder):
    """See `_DESCRIPTION`; `ground_satellite_pairs.parse` says what a record holds."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, examples: Mapping[str, Any], name: str, data_dir: str):
        """examples: by split, (key, record) pairs, or a Beam PTransform that gives them."""
        self._examples = examples
        super().__init__(
            config=tfds.core.BuilderConfig(name=name, description="Collected pairs."),
            data_dir=data_dir,
        )

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features
        text, bits = features.Text(), features.Encoding.BYTES
        doubles = features.Tensor(shape=(None,), dtype=np.float64, encoding=bits)
        return self.dataset_info_from_configs(
            description=_DESCRIPTION,
            features=features.FeaturesDict(
                {
                    **dict.fromkeys(("id", "date", "sensor", "tower"), text),
                    "image": features.Image(shape=(None, None, 3), encoding_format="png"),
                    "gsd": np.float32,
                    # float32 would put a place up to a metre off
                    **dict.fromkeys(
                        ("lon", "lat"),
                        features.Tensor(shape=(1,), dtype=np.float64, encoding=bits),
                    ),
                    "footprint": features.Tensor(shape=(4,), dtype=np.float32),
                    **dict.fromkeys(("photo_ids", "photo_dates"), features.Sequence(text)),
                    "photo_xy": features.Tensor(shape=(None, 2), dtype=np.float32),
                    **dict.fromkeys(("photo_lon", "photo_lat"), doubles),
                    "photos": features.Sequence(
                        features.Image(shape=(None, None, 3), encoding_format="jpeg")
                    ),
                    "embeddings": features.Tensor(
                        shape=(None, None), dtype=np.float16, encoding=bits
                    ),
                }
            ),
        )

    def _split_generators(self, dl_manager) -> Mapping[str, Any]:
        del dl_manager
        return self._examples

    def _generate_examples(self) -> Iterable:
        raise NotImplementedError("the examples are given to the builder")

    def _example_writer(self) -> tfds.core.ExampleWriter:
        return _SameBytes(self.info.file_format)


def example(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record, as `parse` gives it, in the form that TFDS encodes."""
    return {
        **record,
        "lon": np.array([record["lon"]], np.float64),
        "lat": np.array([record["lat"]], np.float64),
        "image": io.BytesIO(record["image"]),
        "photos": [io.BytesIO(photo) for photo in record["photos"]],
    }


class _SameBytes(tfds.core.ExampleWriter):
    """Writes the features of a record in the order of their names.

    Protocol buffers order them anew in every process, so equal records would differ in bytes.
    """

    def write(self, path, examples):
        return super().write(path, ((key, _ordered(data)) for key, data in examples))


def _ordered(data: bytes) -> bytes:
    return tf_example_pb2.Example.FromString(data).SerializeToString(deterministic=True)
