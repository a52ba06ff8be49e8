"""Pickles of tensors, read without running anything that is in them.

What a pickle asks to import is never imported. Known names of PyTorch and of plain containers stand
for functions of this file; the payloads of trainers (hyperparameters, callbacks) become inert
placeholders; every other name is refused, and told.
"""

import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NoReturn

import ml_dtypes
import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.weights.sources.lazy import Shape

DTYPES: dict[str, np.dtype] = {
    "Float": np.dtype("<f4"),
    "Double": np.dtype("<f8"),
    "Half": np.dtype("<f2"),
    "BFloat16": np.dtype(ml_dtypes.bfloat16),
    "Long": np.dtype("<i8"),
    "Int": np.dtype("<i4"),
    "Short": np.dtype("<i2"),
    "Char": np.dtype("i1"),
    "Byte": np.dtype("u1"),
    "Bool": np.dtype("?"),
    "ComplexFloat": np.dtype("<c8"),
    "ComplexDouble": np.dtype("<c16"),
}
_Reader: Any = pickle._Unpickler  # the one in Python
SCRIPT = "__torch__."  # the classes of a TorchScript archive

# Names of types that stand as values, and are not called.
_TYPES = frozenset(
    [f"torch.{dtype}Storage" for dtype in DTYPES]
    + [f"torch.{name}" for name in ("float32", "float64", "float16", "bfloat16", "int64", "int32")]
    + [f"torch.{name}" for name in ("int16", "int8", "uint8", "bool", "Tensor")]
    + [f"builtins.{name}" for name in ("int", "float", "bool", "str", "complex", "object")]
    + ["torch.nn.parameter.Parameter"]
)
# What trainers put beside weights: skipped, not made.
_PAYLOADS = (
    "argparse.Namespace",
    "collections.Counter",
    "collections.defaultdict",
    "datetime.",
    "easydict.",
    "lightning.",
    "lightning_fabric.",
    "lightning_utilities.",
    "ml_collections.",
    "numpy.core.multiarray.",
    "numpy._core.multiarray.",
    "numpy.dtype",
    "numpy.ndarray",
    "omegaconf.",
    "pathlib.",
    "pytorch_lightning.",
    "torch.device",
    "torchmetrics.",
    "types.SimpleNamespace",
    "typing.",
    "yacs.config.",
    "_codecs.encode",
)


@dataclass(frozen=True)
class Global:
    """A name that the pickle asked for: "module.name". Nothing was imported."""

    name: str


@dataclass(frozen=True)
class Storage:
    """A run of numbers that tensors look into. key: where the archive has it."""

    key: str
    dtype: np.dtype
    count: int


@dataclass(frozen=True)
class TorchTensor:
    """A tensor: strides and offset count numbers of the storage."""

    storage: Storage
    offset: int
    shape: Shape
    strides: Shape


@dataclass
class Script:
    """A module of a TorchScript archive: its attributes, and none of its code."""

    attributes: dict[str, Any] = field(default_factory=dict)


class Inert:
    """Stands for a payload of a trainer; takes whatever the pickle puts into it and forgets it."""

    def __init__(self, name: str):
        self.name = name

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """Forgets."""

    def extend(self, values: Any) -> None:
        """Forgets."""

    def add(self, value: Any) -> None:
        """Forgets."""


def _is_payload(name: str) -> bool:
    return any(name.startswith(known) if known[-1] == "." else name == known for known in _PAYLOADS)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> TorchTensor:
    """torch._utils._rebuild_tensor_v2; what is wrong with it is raised as ValueError."""
    if not isinstance(storage, Storage):
        raise ValueError("a tensor without storage")
    shape, strides = tuple(shape), tuple(strides)
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError(f"a tensor of shape {shape}, strides {strides}, offset {offset}")
    count = 1
    for size in shape:
        count *= size
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if count and (count > storage.count or last >= storage.count):
        raise ValueError(
            f"a tensor {list(shape)} at {offset} in a storage of {storage.count} numbers"
        )
    return TorchTensor(storage, offset, shape, strides)


def _typed(*_: Any) -> NoReturn:
    raise ValueError("a tensor of a type that NumPy lacks")


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _subclass(make: Any, _: Any, args: Any, __: Any) -> Any:
    return _call(make, args)


def _pairs(items: Any = ()) -> dict:
    return dict(items)


# What a pickle may call, by the name that it calls it.
_CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _subclass,
    "torch.Size": tuple,
    "torch.jit._pickle.build_intlist": list,
    "torch.jit._pickle.build_doublelist": list,
    "torch.jit._pickle.build_boollist": list,
    "torch.jit._pickle.build_tensorlist": list,
    "torch.jit._pickle.restore_type_tag": _parameter,
    "collections.OrderedDict": _pairs,
    "builtins.dict": _pairs,
    "builtins.list": list,
    "builtins.tuple": tuple,
    "builtins.set": set,
    "builtins.frozenset": frozenset,
}


def _call(function: Any, args: Any) -> Any:
    """What the pickle calls: one of ours, or a placeholder."""
    if not isinstance(function, Global) or not isinstance(args, tuple):
        raise ValueError("a call of something that is not a known name")
    if function.name in _CALLS:
        return _CALLS[function.name](*args)
    if function.name.startswith(SCRIPT):
        return Script()
    if _is_payload(function.name):
        return Inert(function.name)
    raise ValueError(f"a call of {function.name}")


class Unpickler(_Reader):
    """Reads one pickle of tensors and plain containers.

    The interpreter's reader in Python: that in C reserves as much memory as a pickle claims to need
    for its memo, and makes objects itself. Every opcode that would is replaced here.
    """

    dispatch: dict[int, Any] = dict(_Reader.dispatch)

    def __init__(self, file: BinaryIO, where: str):
        """where: names the file in errors."""
        super().__init__(file, encoding="utf-8", errors="replace")
        self.where = where
        self.skipped: set[str] = set()

    def load(self) -> Any:
        """The object. Raises UserError for a pickle that is damaged or asks for more."""
        try:
            return super().load()
        except UserError:
            raise
        except Exception as error:  # a damaged pickle fails in every way there is
            text = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(f"{self.where} is not a readable checkpoint: {text}") from error

    def find_class(self, module: str, name: str) -> Global:
        """The name itself, if it is a known one. Raises UserError where it is not."""
        full = f"{_modern(module)}.{name}"
        if _is_payload(full):
            self.skipped.add(full)
        elif full not in _CALLS and full not in _TYPES and not full.startswith(SCRIPT):
            raise UserError(
                f"{self.where} asks for {full!r}, which is neither a tensor nor a plain "
                "container: refused, nothing was run; save the state dict alone, or as safetensors"
            )
        return Global(full)

    def persistent_load(self, given: Any) -> Storage:
        """A storage: ("storage", type, key, device, count, ...)."""
        kind, of, key, _, count = given[:5]
        if kind != "storage" or type(key) is not str or type(count) is not int or count < 0:
            raise ValueError(f"a reference of kind {kind!r}")
        name = of.name.removeprefix("torch.").removesuffix("Storage")
        if name not in DTYPES:
            raise ValueError(f"a storage of type {of.name}")
        return Storage(key, DTYPES[name], count)

    def get_extension(self, code: int) -> NoReturn:
        """Refuses."""
        raise ValueError("an extension code")

    def _reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = _call(self.stack[-1], args)

    def _newobj_ex(self) -> None:
        self.stack.pop()
        self._reduce()

    def _inst(self) -> None:
        module = self.readline()[:-1].decode("ascii")
        name = self.readline()[:-1].decode("ascii")
        self.append(_call(self.find_class(module, name), tuple(self.pop_mark())))

    def _obj(self) -> None:
        function, *args = self.pop_mark()
        self.append(_call(function, tuple(args)))

    def _build(self) -> None:
        """Gives an object its state: kept for TorchScript's modules, forgotten for all others."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Script):
            if not isinstance(state, dict):
                raise ValueError("a module whose state is not a dict")
            target.attributes = state
        elif not isinstance(target, Inert | dict | TorchTensor):
            raise ValueError(f"state for a {type(target).__name__}")

    def _refused(self) -> NoReturn:
        raise ValueError("an opcode that no checkpoint needs")

    dispatch[pickle.REDUCE[0]] = _reduce
    dispatch[pickle.NEWOBJ[0]] = _reduce
    dispatch[pickle.NEWOBJ_EX[0]] = _newobj_ex
    dispatch[pickle.INST[0]] = _inst
    dispatch[pickle.OBJ[0]] = _obj
    dispatch[pickle.BUILD[0]] = _build
    for _opcode in (pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER):
        dispatch[_opcode[0]] = _refused


def _modern(module: str) -> str:
    """Python 2 called one module otherwise."""
    return {"__builtin__": "builtins"}.get(module, module)
