"""What a record of an image-text data set holds, and its bytes."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from tensorflow_datasets.proto import tf_example_pb2

from rsvl_jax.datasets.image_text import images, places, words
from rsvl_jax.datasets.image_text.options import Options
from rsvl_jax.datasets.image_text.reader import Box, Drop, Reader, Row
from rsvl_jax.datasets.source import Source, features, texts

_TEXT = ("id", "time", "tags")
_TEXTS = ("captions", "phrases")
_INTEGERS = ("label", "width", "height")
_DOUBLES = ("lon", "lat", "gsd")
_DEGREE = 111_195.0  # metres of latitude, on a sphere of the mean radius


def make(
    row: Row, reader: Reader, options: Options, changes: Counter[str], *, decode: bool = True
) -> tuple[dict[str, Any], int]:
    """The record of a row, as `parse` gives it, and the perceptual hash of its image.

    decode: see `images.check`. What was done to the row is counted in `changes`. Raises Drop for a
    row that is not to be stored.
    """
    mine = Counter(row.notes)  # counts for nothing if the row is dropped
    captions: list[str] = []
    if row.captions or "captions" in reader.parts:
        captions = words.clean(row.captions, options.max_caption, mine)
    lon, lat, box = places.place(row)
    image = images.Checked(b"", 0, 0, "", 1.0, 0)
    if "image" in reader.parts:
        if not row.image:
            raise Drop("image is empty")
        image = images.check(row.image, options, decode=decode)
    if image.change:
        mine[image.change] += 1
    record = {
        "id": row.key,
        "image": image.data,
        "captions": captions,
        "lon": lon,
        "lat": lat,
        "box": np.array(box, np.float64),
        "time": row.time,
        "gsd": _gsd(row, box, image),
        "tags": json.dumps(row.tags, sort_keys=True, ensure_ascii=False) if row.tags else "",
        "label": row.label,
        "width": image.width,
        "height": image.height,
        **_regions(row, image, mine),
    }
    changes.update(mine)
    return record, image.looks


def _gsd(row: Row, box: Box, image: images.Checked) -> float:
    """Metres a pixel of the stored image, NaN where nothing says it."""
    if row.gsd is not None:
        return float(row.gsd) / image.scale
    return (box[3] - box[1]) * _DEGREE / image.height if image.height else float("nan")


def _regions(row: Row, image: images.Checked, changes: Counter[str]) -> dict[str, Any]:
    """Phrases with boxes that have an area inside the image, in its own pixels."""
    if not row.phrases and not row.boxes:
        return {"phrases": [], "boxes": np.zeros((0, 4), np.float32)}
    if len(row.phrases) != len(row.boxes):
        raise Drop("phrases and boxes differ in number", f"{len(row.phrases)}, {len(row.boxes)}")
    boxes = np.array(row.boxes, np.float32).reshape(-1, 4) * np.float32(image.scale)
    boxes = np.clip(boxes, 0, np.array([image.width, image.height] * 2, np.float32))
    kept = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(1)).tolist()
    changes["left out: box outside of its image"] += len(boxes) - len(kept)
    return {"phrases": [str(row.phrases[i]) for i in kept], "boxes": boxes[kept]}


def encode(record: Mapping[str, Any]) -> bytes:
    """A record's tf.train.Example; equal records have equal bytes. UnicodeError for bad text."""
    example = tf_example_pb2.Example()
    feature = example.features.feature
    for name in _TEXT:
        feature[name].bytes_list.value.append(record[name].encode())
    for name in _TEXTS:
        feature[name].bytes_list.value.extend(text.encode() for text in record[name])
    feature["image"].bytes_list.value.append(record["image"])
    for name in _INTEGERS:
        feature[name].int64_list.value.append(record[name])
    for name in _DOUBLES:
        feature[name].bytes_list.value.append(np.float64(record[name]).tobytes())
    feature["box"].bytes_list.value.append(np.asarray(record["box"], "<f8").tobytes())
    feature["boxes"].float_list.value.extend(record["boxes"].ravel().tolist())
    return example.SerializeToString(deterministic=True)


def parse(data: bytes) -> dict[str, Any]:
    """A record from the bytes of its tf.train.Example; ValueError if they are none.

    Keys: id str, the row's key in its source · image JPEG or PNG bytes, 8 bits, RGB or grey; b""
    where the source has none · width, height int · captions list[str], all different · lon, lat
    float, degrees, of the centre, NaN where the source says none · box float64 [4]: W, S, E, N
    degrees, E beyond 180 across the date line, or NaN · time str, ISO or "" · gsd float, metres a
    pixel, or NaN · tags str, JSON or "" · phrases list[str] and boxes float32 [M, 4], pixels xmin,
    ymin, xmax, ymax · label int, index into manifest["classes"], -1 none.
    """
    feature = features(data)
    record = texts(feature, _TEXT, _TEXTS)
    record |= {k: feature[k].int64_list.value[0] for k in _INTEGERS}
    record |= {k: float(_doubles(feature[k])[0]) for k in _DOUBLES}
    boxes = np.array(feature["boxes"].float_list.value, np.float32)
    return record | {
        "image": feature["image"].bytes_list.value[0],
        "box": _doubles(feature["box"]).copy(),
        "boxes": boxes.reshape(-1, 4),
    }


class ImageText(Source):
    """The records of one split: `len(source)`, `source[i]`, see `parse`."""

    parse = staticmethod(parse)


def _doubles(feature: Any) -> np.ndarray:
    return np.frombuffer(feature.bytes_list.value[0], "<f8")
