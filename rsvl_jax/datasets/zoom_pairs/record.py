"""What a record of `zoom_pairs` holds: a record of `ground_satellite_pairs`, and some truth."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rsvl_jax.data.transforms import decode
from rsvl_jax.datasets.ground_satellite_pairs import record as pairs
from rsvl_jax.datasets.source import Source, features

_INTEGERS = ("label", "block", "row", "col")


def parse(data: bytes) -> dict[str, Any]:
    """A record from the bytes of its tf.train.Example; ValueError if they are none.

    Keys: those of `ground_satellite_pairs.parse`, its photos being the P fine views, PNG 32 x 32;
      photo_captions list[list[str]], of each view, for the teacher alone · photo_labels int64 [P],
      land cover of each view's own window · label int, of the tile's whole window, both indices
      into manifest["classes"], -1 ambiguous · mask PNG bytes, uint8 [32, 32], index into
      manifest["pixel_classes"] of the most frequent cover under each pixel of the tile · block int,
      split block · row, col int, top left corner in the mosaic, where the tile has 128 pixels.
    """
    record = pairs.parse(data)
    feature = features(data)
    record |= {name: feature[name].int64_list.value[0] for name in _INTEGERS}
    captions = [text.decode() for text in feature["photo_captions"].bytes_list.value]
    ends = np.cumsum(feature["photo_caption_counts"].int64_list.value).tolist()
    return record | {
        "mask": feature["mask"].bytes_list.value[0],
        "photo_labels": np.array(feature["photo_labels"].int64_list.value, np.int64),
        "photo_captions": [
            captions[start:end] for start, end in zip([0, *ends], ends, strict=False)
        ],
    }


class ZoomPairs(Source):
    """The tiles of one split: `len(source)`, `source[i]`, see `parse`."""

    parse = staticmethod(parse)


def content(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record for `Fingerprint.add`: views count by their pixels, places by all their digits."""
    exact = {name: record[name].tolist() for name in ("photo_lon", "photo_lat", "photo_labels")}
    pixels = np.stack([decode(view) for view in record["photos"]])
    return {**record, **exact, "photos": [], "views": pixels.astype(np.float32)}
