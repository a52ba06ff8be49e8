"""Name maps: which of their arrays is which of ours, and how one becomes the other, both ways.

A family's map is a list of entries, made with the functions below:

    [
        *linear("image/patch_embed", "vision.proj"),
        *norm("image/stack/layers/mlp_norm", "vision.layers.{i}.norm2"),
        *qkv("image/stack/layers/attention", *(f"vision.layers.{{i}}.{n}_proj" for n in "qkv")),
    ]

Our paths are those of the parameter tree with "/" between; "{i}" in a name of theirs stands for the
layer, which is the first dimension of our array. Arrays are converted one layer at a time, on the
host, and never computed with: a round trip gives the same bits.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rsvl_jax.errors import UserError

Arrays = Mapping[str, np.ndarray]
Shape = tuple[int, ...]
LAYER = "{i}"


@dataclass(frozen=True)
class Entry:
    """One array of ours.

    Attributes:
      ours: path of our array.
      theirs: names of those that it is made of.
      read: (theirs, shape of ours without the layers) -> ours.
      write: (ours) -> theirs.
      optional: whether theirs may be missing; ours is then left out.
    """

    ours: str
    theirs: tuple[str, ...]
    read: Callable[[Sequence[np.ndarray], Shape], np.ndarray]
    write: Callable[[np.ndarray], Sequence[np.ndarray]]
    optional: bool = False

    @property
    def layered(self) -> bool:
        """Whether our array has a first dimension of layers."""
        return LAYER in self.theirs[0]

    def names(self, shape: Shape) -> Iterator[tuple[str, ...]]:
        """Their names, for each layer in turn; shape: of our array."""
        for layer in range(shape[0] if self.layered else 1):
            yield tuple(name.replace(LAYER, str(layer)) for name in self.theirs)


Entries = list[Entry]


def array(ours: str, theirs: str) -> Entries:
    """An array of the same order of dimensions; theirs may have more of size 1."""

    def read(given: Sequence[np.ndarray], shape: Shape) -> np.ndarray:
        fits = [n for n in given[0].shape if n != 1] == [n for n in shape if n != 1]
        return given[0].reshape(shape) if fits else given[0]

    return [Entry(ours, (theirs,), read, lambda value: [value])]


def with_shape(entries: Entries, shape_of: Callable[[Shape], Shape]) -> Entries:
    """The entries, with arrays written in another shape: `shape_of` makes [1, 1, D] of [D]."""

    def changed(entry: Entry) -> Entry:
        def write(value: np.ndarray) -> Sequence[np.ndarray]:
            return [each.reshape(shape_of(each.shape)) for each in entry.write(value)]

        return replace(entry, write=write)

    return [changed(entry) for entry in entries]


def transposed(ours: str, theirs: str) -> Entries:
    """A matrix [in, out] of ours that is [out, in] there."""
    return [Entry(ours, (theirs,), lambda given, _: given[0].T, lambda value: [value.T])]


def linear(ours: str, theirs: str, *, bias: bool = True) -> Entries:
    """A torch Linear: weight [out, in], bias."""
    kernel = transposed(f"{ours}/kernel", f"{theirs}.weight")
    return kernel + (array(f"{ours}/bias", f"{theirs}.bias") if bias else [])


def norm(ours: str, theirs: str) -> Entries:
    """A torch LayerNorm: weight, bias."""
    return array(f"{ours}/scale", f"{theirs}.weight") + array(f"{ours}/bias", f"{theirs}.bias")


def patches(ours: str, theirs: str, *, bias: bool = True) -> Entries:
    """A torch Conv2d whose stride is its size, [D, C, p, p]; ours is a matrix [p*p*C, D]."""

    def read(given: Sequence[np.ndarray], shape: Shape) -> np.ndarray:
        if given[0].ndim != 4:
            return given[0]
        return given[0].transpose(2, 3, 1, 0).reshape(-1, given[0].shape[0])

    def write(value: np.ndarray) -> Sequence[np.ndarray]:
        side = round((value.shape[0] / 3) ** 0.5)
        return [value.reshape(side, side, 3, -1).transpose(3, 2, 0, 1)]

    kernel = Entry(f"{ours}/kernel", (f"{theirs}.weight",), read, write)
    return [kernel] + (array(f"{ours}/bias", f"{theirs}.bias") if bias else [])


def qkv(ours: str, query: str, key: str, value: str, *, bias: bool = True) -> Entries:
    """Three torch Linears; ours are [D, heads, 3, d] and [heads, 3, d]."""
    weights = tuple(f"{name}.weight" for name in (query, key, value))
    entries = [Entry(f"{ours}/qkv", weights, _merge_weights, _split_weights)]
    if bias:
        biases = tuple(f"{name}.bias" for name in (query, key, value))
        entries.append(Entry(f"{ours}/qkv_bias", biases, _merge_biases, _split_biases))
    return entries


def fused_qkv(ours: str, weight: str, bias: str | None) -> Entries:
    """One matrix [3*D, D] of queries, keys and values below each other, as torch's in_proj."""

    def thirds(merge: Callable) -> Callable[[Sequence[np.ndarray], Shape], np.ndarray]:
        def read(given: Sequence[np.ndarray], shape: Shape) -> np.ndarray:
            return given[0] if len(given[0]) % 3 else merge(np.split(given[0], 3), shape)

        return read

    def joined(split: Callable) -> Callable[[np.ndarray], Sequence[np.ndarray]]:
        return lambda value: [np.concatenate(split(value))]

    entries = [Entry(f"{ours}/qkv", (weight,), thirds(_merge_weights), joined(_split_weights))]
    if bias:
        entries.append(
            Entry(f"{ours}/qkv_bias", (bias,), thirds(_merge_biases), joined(_split_biases))
        )
    return entries


def _merge_weights(given: Sequence[np.ndarray], shape: Shape) -> np.ndarray:
    width, heads, _, size = shape
    if any(each.shape != (heads * size, width) for each in given):
        return given[0]  # A wrong shape, to be told as it is.
    parts = [each.T.reshape(width, heads, size) for each in given]
    return np.stack(parts, axis=2)


def _split_weights(value: np.ndarray) -> Sequence[np.ndarray]:
    return [value[:, :, part].reshape(value.shape[0], -1).T for part in range(3)]


def _merge_biases(given: Sequence[np.ndarray], shape: Shape) -> np.ndarray:
    heads, _, size = shape
    if any(each.shape != (heads * size,) for each in given):
        return given[0]
    return np.stack([each.reshape(heads, size) for each in given], axis=1)


def _split_biases(value: np.ndarray) -> Sequence[np.ndarray]:
    return [value[:, part].reshape(-1) for part in range(3)]


def optional(entries: Entries) -> Entries:
    """The entries, which theirs may lack."""
    return [replace(entry, optional=True) for entry in entries]


def moved(entries: Entries, *, ours: str = "", theirs: str = "") -> Entries:
    """The entries with a prefix on our paths, and one on their names."""
    return [
        replace(
            entry,
            ours=f"{ours}/{entry.ours}" if ours else entry.ours,
            theirs=tuple(theirs + name for name in entry.theirs),
        )
        for entry in entries
    ]


@dataclass(frozen=True)
class Loaded:
    """What a map made of a checkpoint. arrays: ours by path; missing: paths of ours whose arrays
    are not there; unused: names of theirs that nothing reads; mismatched: (path, our shape, shape
    of what is there)."""

    arrays: dict[str, np.ndarray]
    missing: list[str]
    unused: list[str]
    mismatched: list[tuple[str, Shape, Shape]]


def load(entries: Iterable[Entry], source: Arrays, shapes: Mapping[str, Shape]) -> Loaded:
    """Ours from theirs. source may read arrays lazily; shapes: of our arrays, by path.

    Nothing is cast, and a wrong shape is told, not mended.
    """
    arrays, missing, mismatched = {}, [], []
    used: set[str] = set()
    for entry in entries:
        if entry.ours not in shapes:
            continue
        shape = tuple(shapes[entry.ours])
        rows = list(entry.names(shape))
        used.update(name for row in rows for name in row)
        if any(name not in source for row in rows for name in row):
            missing.append(entry.ours)
            continue
        value = _read(entry, rows, source, shape)
        if value.shape == shape:
            arrays[entry.ours] = value
        else:
            mismatched.append((entry.ours, shape, value.shape))
    missing += [path for path in shapes if path not in {e.ours for e in entries}]
    return Loaded(arrays, missing, [name for name in source if name not in used], mismatched)


def _read(entry: Entry, rows: list[tuple[str, ...]], source: Arrays, shape: Shape) -> np.ndarray:
    if not entry.layered:
        return entry.read([source[name] for name in rows[0]], shape)
    layers = [entry.read([source[name] for name in row], shape[1:]) for row in rows]
    if len({layer.shape for layer in layers}) > 1:
        return layers[0]
    return np.stack(layers)


def dump(entries: Iterable[Entry], arrays: Arrays) -> dict[str, np.ndarray]:
    """Theirs from ours, contiguous. Raises UserError where ours lack one that is not optional."""
    found: dict[str, np.ndarray] = {}
    for entry in entries:
        if entry.ours not in arrays:
            if entry.optional:
                continue
            raise UserError(f"the model has no {entry.ours}, which this format needs")
        value = arrays[entry.ours]
        layers = value if entry.layered else [value]
        for row, layer in zip(entry.names(value.shape), layers, strict=True):
            written = [np.asarray(each, order="C") for each in entry.write(np.asarray(layer))]
            found.update(zip(row, written, strict=True))
    return found


def layers(source: Iterable[str], pattern: str) -> int:
    """How many layers a checkpoint has: one more than the highest {i} of a name like `pattern`."""
    matcher = re.compile(re.escape(pattern).replace(re.escape(LAYER), r"(\d+)"))
    found = [int(match[1]) for name in source if (match := matcher.fullmatch(name))]
    return max(found, default=-1) + 1


def prefix(source: Iterable[str], ending: str) -> str | None:
    """What stands before `ending` in the shortest name that ends with it; None where none does."""
    found = [name for name in source if name == ending or name.endswith(f".{ending}")]
    return min(found, key=len).removesuffix(ending) if found else None
