"""PyTorch's files written by hand, opcode by opcode: what PyTorch writes, and what it never would.

`pickle` wants to import what it writes the name of; here neither PyTorch nor a trainer is needed.
"""

import io
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

TYPES = {
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "float64": "DoubleStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
}
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def text(value: str) -> bytes:
    """A string."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    """An integer of any size."""
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    content = value.to_bytes(16, "little", signed=True)
    return b"\x8a" + bytes([len(content)]) + content


def name(full: str) -> bytes:
    """The name of something to import, "module.name"."""
    module, _, last = full.rpartition(".")
    return b"c" + module.encode() + b"\n" + last.encode() + b"\n"


def group(*items: bytes) -> bytes:
    """A tuple."""
    return b"(" + b"".join(items) + b"t"


def call(function: str, *items: bytes) -> bytes:
    """What `function` returns."""
    return name(function) + group(*items) + b"R"


def state(target: bytes, content: bytes) -> bytes:
    """An object with its state set."""
    return target + content + b"b"


def table(items: Mapping[str, bytes]) -> bytes:
    """A dict."""
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def tensor(key: str, value: np.ndarray, **changes: object) -> bytes:
    """A tensor of the storage `key`, with the strides of `value`; changes: shape, count, ..."""
    shape = changes.get("shape", value.shape)
    strides = changes.get("strides", [step // value.itemsize for step in value.strides])
    kind = changes.get("kind", f"torch.{TYPES[value.dtype.name]}")
    count = changes.get("count", value.size)
    reference = group(text("storage"), name(kind), text(key), text("cpu"), number(count)) + b"Q"
    return call(
        "torch._utils._rebuild_tensor_v2",
        reference,
        number(changes.get("offset", 0)),
        group(*map(number, shape)),
        group(*map(number, strides)),
        b"\x89",
        call("collections.OrderedDict"),
    )


def tensors(values: Mapping[str, np.ndarray], **changes: object) -> dict[str, bytes]:
    """A tensor each, its storage called as it is."""
    return {key: tensor(key, value, **changes) for key, value in values.items()}


def content(value: np.ndarray) -> bytes:
    """The numbers of a storage, in the order of memory."""
    return value.tobytes("A")


def zip_file(
    path: Path, objects: bytes, values: Mapping[str, np.ndarray], extra: Mapping[str, bytes] = {}
) -> Path:
    """PyTorch's format since 1.6."""
    members = {"data.pkl": b"\x80\x02" + objects + b".", "byteorder": b"little", "version": b"3\n"}
    members |= {f"data/{key}": content(value) for key, value in values.items()}
    with zipfile.ZipFile(path, "w") as file:
        for member, data in {**members, **extra}.items():
            file.writestr(f"archive/{member}", data)
    return path


def state_dict(path: Path, values: Mapping[str, np.ndarray]) -> Path:
    """A file with nothing but tensors."""
    return zip_file(path, table(tensors(values)), values)


def legacy_file(path: Path, objects: bytes, values: Mapping[str, np.ndarray]) -> Path:
    """PyTorch's format before 1.6."""
    system = b"}(" + text("little_endian") + b"\x88u"
    keys = b"](" + b"".join(map(text, values)) + b"e"
    file = io.BytesIO()
    for part in (number(MAGIC), number(PROTOCOL), system, objects, keys):
        file.write(b"\x80\x02" + part + b".")
    for value in values.values():
        file.write(struct.pack("<q", value.size) + content(value))
    path.write_bytes(file.getvalue())
    return path
