"""Random access to the records of one split."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, SupportsIndex

import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource
from tensorflow_datasets.proto import tf_example_pb2

from rsvl_jax.errors import UserError

_TEXT = ("id", "climate", "country", "continent", "city")
_TEXTS = ("captions", "phrases")
_BYTES = ("image", "mask")
_INTEGERS = ("label", "dominant", "block", "row", "col")
_FLOATS = ("lon", "lat")
_ARRAYS = ("bbox", "landcover")


def features(data: bytes) -> Any:
    """The features by name of a tf.train.Example in bytes; ValueError if they are none."""
    try:
        return tf_example_pb2.Example.FromString(data).features.feature
    except Exception as error:  # protobuf's DecodeError moves between its versions
        raise ValueError("not a tf.train.Example") from error


def texts(feature: Any, one: Sequence[str], many: Sequence[str]) -> dict[str, Any]:
    """Features as text: a str for each name of `one`, a list of them for each of `many`."""
    record: dict[str, Any] = {name: feature[name].bytes_list.value[0].decode() for name in one}
    return record | {name: [v.decode() for v in feature[name].bytes_list.value] for name in many}


def parse(data: bytes) -> dict[str, Any]:
    """A record from the bytes of its tf.train.Example; ValueError if they are none.

    Written out because it is several times as fast as TFDS's general parser, and text comes as str.
    """
    feature = features(data)
    record = texts(feature, _TEXT, _TEXTS)
    record |= {k: feature[k].bytes_list.value[0] for k in _BYTES}
    record |= {k: feature[k].int64_list.value[0] for k in _INTEGERS}
    record |= {k: feature[k].float_list.value[0] for k in _FLOATS}
    record |= {k: np.array(feature[k].float_list.value, np.float32) for k in _ARRAYS}
    boxes = np.array(feature["boxes"].float_list.value, np.float32)
    return record | {"boxes": boxes.reshape(-1, 4)}


class Source(Sequence):
    """The records of one split: `len(source)`, `source[i]`.

    Files are opened at the first access in each process, so it can be sent to worker processes.
    A record that cannot be read raises UserError, with `mend`. Other layouts override `parse`.
    """

    parse: Callable[[bytes], dict[str, Any]] = staticmethod(parse)
    mend = "delete the data set's directory and build it again"

    def __init__(self, paths: Sequence[str], count: int):
        """paths: the shards in order · count: records in all of them."""
        self._paths = list(paths)
        self._count = count
        self._lock = threading.Lock()
        self._reader: ArrayRecordDataSource | None = None

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, key: SupportsIndex) -> dict[str, Any]:  # type: ignore[override]
        index = key.__index__()
        index += self._count if index < 0 else 0
        if not 0 <= index < self._count:
            raise IndexError(f"record {key} of {self._count}")
        try:
            return type(self).parse(self._open()[index])
        except (RuntimeError, ValueError, KeyError, IndexError, OSError) as error:
            raise UserError(
                f"record {index} of {self._paths[0]!r} cannot be read ({_line(error)}): {self.mend}"
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        return {"paths": self._paths, "count": self._count}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _open(self) -> ArrayRecordDataSource:
        if self._reader is None:
            with self._lock:
                if self._reader is None:
                    self._reader = ArrayRecordDataSource(self._paths)
        return self._reader


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
