"""What a record of `ground_satellite_pairs` holds, and how it is read back."""

from typing import Any

import numpy as np

from rsvl_jax.datasets.source import Source, features, texts

_TEXT = ("id", "date", "sensor", "tower")
_TEXTS = ("photo_ids", "photo_dates")
_DOUBLES = ("photo_lon", "photo_lat")


def parse(data: bytes) -> dict[str, Any]:
    """A record from the bytes of its tf.train.Example; ValueError if they are none.

    Keys, P being the number of photos of the tile:
      id str · image PNG or JPEG bytes, RGB · gsd float, metres a pixel · lon, lat float, degrees,
      of the centre · footprint float32 [4]: W, S, E, N degrees, E beyond 180 across the
      antimeridian · date str, when the image was taken, ISO or "" · sensor str or "" ·
      photo_ids list[str] · photo_xy float32 [P, 2], pixels right and down from the left and top
      edge of the tile · photo_lon, photo_lat float64 [P], degrees · photo_dates list[str], ISO or
      "" · photos list[bytes], P encoded images or none · embeddings float16 [P, E] or [0, 0] ·
      tower str, the fingerprint of what made the embeddings, or "".
    """
    feature = features(data)
    record = texts(feature, _TEXT, _TEXTS)
    record |= {k: _array(feature[k], np.float64) for k in (*_DOUBLES, "lon", "lat")}
    record |= {"lon": float(record["lon"][0]), "lat": float(record["lat"][0])}
    shape = feature["embeddings/shape"].int64_list.value
    return record | {
        "image": feature["image"].bytes_list.value[0],
        "gsd": feature["gsd"].float_list.value[0],
        "footprint": np.array(feature["footprint"].float_list.value, np.float32),
        "photo_xy": np.array(feature["photo_xy"].float_list.value, np.float32).reshape(-1, 2),
        "photos": list(feature["photos"].bytes_list.value),
        "embeddings": _array(feature["embeddings/value"], np.float16).reshape(shape),
    }


class Pairs(Source):
    """The tiles of one split: `len(source)`, `source[i]`, see `parse`."""

    parse = staticmethod(parse)
    mend = "collect the pairs again"


def _array(feature, kind: type) -> np.ndarray:
    return np.frombuffer(feature.bytes_list.value[0], kind).copy()
