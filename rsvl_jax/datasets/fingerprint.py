"""One hash over the content of all records, the same wherever the same tiles were built."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from rsvl_jax.data.transforms import decode
from rsvl_jax.errors import UserError


class Fingerprint:
    """SHA-256 over records in order.

    Images count by their pixels, not their bytes: another PNG encoder gives the same fingerprint.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, split: str, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """Takes in a record and hands it back; UserError if its image or mask cannot be decoded."""
        plain = {k: v for k, v in record.items() if isinstance(v, str | int | float | list)}
        text = json.dumps([split, plain], sort_keys=True, ensure_ascii=True)
        self._hash.update(text.encode())
        for name in sorted(record):
            if isinstance(record[name], np.ndarray):
                self._hash.update(np.ascontiguousarray(record[name], "<f4").tobytes())
        self._hash.update(decode(record["image"]).tobytes())
        self._hash.update(decode_mask(record["mask"]).tobytes())
        return record

    def hexdigest(self) -> str:
        """The fingerprint so far, 64 hexadecimal digits."""
        return self._hash.hexdigest()


def decode_mask(data: bytes) -> np.ndarray:
    """IGBP classes uint8 [H, W] from the bytes of a PNG; UserError if they are none."""
    encoded = np.frombuffer(data, np.uint8)
    mask = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED) if len(data) else None
    if mask is None or mask.ndim != 2:
        raise UserError(f"{len(data)} bytes are not a readable land-cover mask")
    return mask
