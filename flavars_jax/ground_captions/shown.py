"""What a figure shows: of a folder of answers, or a record of a built data set."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flavars_jax.ground_captions.journal import SOURCE, read
from rsvl_jax import datasets
from rsvl_jax.data.transforms import decode
from rsvl_jax.errors import UserError


@dataclass(frozen=True)
class Shown:
    """image uint8 [H, W, 3]; boxes float [M, 4], xmin, ymin, xmax, ymax in its pixels."""

    id: str
    image: np.ndarray
    caption: str
    phrases: Sequence[str]
    boxes: np.ndarray


def of_answers(folder: str, id: str) -> Shown:
    """The answer called `id`, or "" the one with most boxes. UserError where there is none."""
    path = os.path.join(folder, "journal.jsonl")
    if not os.path.isfile(path):
        raise UserError(f"--answers={folder!r} holds no journal.jsonl: give an --output of before")
    line = _chosen(read(path), id, lambda line: len(line["boxes"]), f"--answers={folder!r}")
    image = decode(_image(folder, line["image"]))
    return Shown(line["id"], image, line["caption"], line["phrases"], _array(line["boxes"]))


def of_records(name: str, data_dir: str, split: str, id: str) -> Shown:
    """The record called `id`, or "" the one with most of its phrases in one caption."""
    source = datasets.load(name, data_dir, split)
    if not len(source) or not {"captions", "phrases", "boxes"} <= source[0].keys():
        raise UserError(f"--name={name!r}: its records have no phrases with boxes")
    records = (source[index] for index in range(len(source)))
    record = _chosen(records, id, _worth, f"--name={name!r}")
    caption = max(record["captions"], key=_said(record))
    image, boxes = decode(record["image"]), _array(record["boxes"])
    return Shown(record["id"], image, caption, record["phrases"], boxes)


def _worth(record: Mapping[str, Any]) -> float:
    """More for phrases in one caption than it loses for those that are in none."""
    return max(map(_said(record), record["captions"])) - 0.3 * len(record["phrases"])


def _said(record: Mapping[str, Any]) -> Any:
    """Caption -> number of different phrases of the record in it."""
    return lambda caption: sum(p.lower() in caption.lower() for p in set(record["phrases"]))


def _chosen(items: Iterator[Any], id: str, worth: Any, where: str) -> Any:
    if id:
        found = next((item for item in items if item["id"] == id), None)
    else:
        found = max(items, key=worth, default=None)
    if found is None:
        raise UserError(f"{where} has no {id!r}" if id else f"{where} is empty")
    return found


def _image(folder: str, where: Mapping[str, Any]) -> bytes:
    if "path" in where:
        try:
            with open(where["path"], "rb") as file:
                return file.read()
        except OSError as error:
            raise UserError(f"image {where['path']!r} cannot be read: {error.strerror}") from error
    with open(os.path.join(folder, SOURCE), encoding="utf-8") as file:
        rows = json.load(file)["rows"]
    return datasets.load(rows["name"], rows["data_dir"], where["split"])[where["index"]]["image"]


def _array(boxes: Any) -> np.ndarray:
    return np.asarray(boxes, np.float32).reshape(-1, 4)
