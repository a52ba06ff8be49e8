"""Runs encoders over whole splits: images on the mesh, texts and places in batches of one shape."""

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from rsvl_jax.errors import UserError
from rsvl_jax.parallel.mesh import batch_shards
from rsvl_jax.parallel.sharding import batch_sharding, replicated

Outputs = Mapping[str, jax.Array]
Features = Mapping[str, np.ndarray]
# (what features are of, as JSON has it; how they are made) -> the features, made or kept before.
Keep = Callable[[object, Callable[[], Features]], Features]


class Rows(Protocol):
    """Anything with a length and items: a list, an array, a source that decodes on access."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> Any: ...


_THREADS = 4


@dataclass(frozen=True)
class Encoders:
    """The encoders of one model.

    Each should be jitted with its parameters as an argument and then bound to them, such as
    `functools.partial(jitted, params)`: nothing is compiled again when the parameters change.

    Attributes:
      images: uint8 [B,H,W,3] -> {"cls" [B,D], "mean" [B,D], "patches" [B,N,D], and, where the
        model has them, "text_space" [B,E], "text_patches" [B,N,E] in the same space, and
        "location_space" [B,E]}.
      texts: list of strings -> [n,E] in the space of "text_space"; None where there is none.
      locations: (lon=, lat=) in degrees [n] -> [n,E] in the space of "location_space"; or None.
      image_size: side of the square images that `images` takes; None: any, one size a call.
      protocol: what the encoders do to their input, for the cards: resize, crop, normalisation,
        text length.
    """

    images: Callable[[jax.Array], Outputs]
    texts: Callable[[list[str]], jax.Array] | None = None
    locations: Callable[..., jax.Array] | None = None
    image_size: int | None = None
    protocol: Mapping[str, str] = field(default_factory=dict)


def extract(
    encode: Callable[[jax.Array], Outputs],
    images: Rows,
    *,
    batch_size: int,
    mesh: Mesh,
    limits: Mapping[str, int] | None = None,
    label: str = "",
) -> dict[str, np.ndarray]:
    """Features of all images, in order: name -> float32 [n, ...], the same on every process.

    Batches are sharded over the mesh's batch axes; `batch_size` is global and rounded up to a
    multiple of the devices; the last batch is padded with zeros, and what they encode to is
    dropped. Each process reads only its own rows.

    Args:
      encode: see `Encoders.images`.
      images: sequence whose items are uint8 [H,W,3]: an array, or one that decodes on access.
      limits: name -> number of leading rows to keep, 0 leaves it out; features without a limit
        are kept whole. Patch tokens of a large split would not fit into memory.
      label: what the progress bar calls it.

    Raises UserError for no images, and for features that are not finite.
    """
    if not len(images):
        raise UserError("no images to encode: the split is empty")
    shards = batch_shards(mesh)
    batch_size = -(-batch_size // shards) * shards
    starts = range(0, len(images), batch_size)
    kept: dict[str, list[np.ndarray]] = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in _progress(starts, label):
            outputs = encode(_global_batch(images, start, batch_size, mesh, pool))
            stops = {name: (limits or {}).get(name, len(images)) - start for name in outputs}
            wanted = {name: value for name, value in outputs.items() if stops[name] > 0}
            for name, value in to_host(wanted, mesh).items():
                rows = min(stops[name], len(images) - start)
                kept.setdefault(name, []).append(value[:rows].astype(np.float32))
    found = {name: np.concatenate(parts) for name, parts in kept.items()}
    _check_finite(found)
    return found


def _global_batch(
    images: Rows, start: int, batch_size: int, mesh: Mesh, pool: ThreadPoolExecutor
) -> jax.Array:
    """Rows [start, start + batch_size) as one array over the mesh, zeros past the end."""
    own = batch_size // jax.process_count()
    first = start + own * jax.process_index()
    rows = range(first, min(first + own, len(images)))
    # Row 0 gives the shape, also to a process whose rows are all padding.
    shape = np.shape(images[rows[0] if rows else 0])
    local = np.zeros((own, *shape), np.uint8)
    for slot, image in enumerate(pool.map(images.__getitem__, rows)):
        local[slot] = image
    return jax.make_array_from_process_local_data(batch_sharding(mesh), local)


def in_batches(
    encode: Callable[..., jax.Array], columns: Sequence[Rows], *, batch_size: int, mesh: Mesh
) -> np.ndarray:
    """encode(*columns) in batches of exactly `batch_size`, the last one padded by repetition.

    columns: equally long sequences (a list of texts; or longitudes and latitudes). Returns
    float32 [n,E]. One shape means one compilation. Raises UserError for values not finite.
    """
    n = len(columns[0])
    parts = []
    for start in range(0, n, batch_size):
        rows = np.arange(start, start + batch_size).clip(max=n - 1)
        batch = [[column[row] for row in rows] for column in columns]
        parts.append(to_host({"value": encode(*batch)}, mesh)["value"].astype(np.float32))
    found = np.concatenate(parts)[:n]
    _check_finite({"embedding": found})
    return found


def encode_texts(
    encode: Callable[[list[str]], jax.Array], texts: Sequence[str], *, batch_size: int, mesh: Mesh
) -> np.ndarray:
    """Embeddings of texts, float32 [n,E]; equal texts are encoded once."""
    unique = list(dict.fromkeys(texts))
    place = {text: row for row, text in enumerate(unique)}
    found = in_batches(encode, [unique], batch_size=batch_size, mesh=mesh)
    return found[[place[text] for text in texts]]


def encode_locations(
    encode: Callable[..., jax.Array],
    *,
    lon: np.ndarray,
    lat: np.ndarray,
    batch_size: int,
    mesh: Mesh,
) -> np.ndarray:
    """Embeddings of places given in degrees [n], float32 [n,E]."""

    def at(east: list[float], north: list[float]) -> jax.Array:
        return encode(lon=np.asarray(east, np.float32), lat=np.asarray(north, np.float32))

    return in_batches(at, [lon, lat], batch_size=batch_size, mesh=mesh)


def to_host(outputs: Outputs, mesh: Mesh) -> dict[str, np.ndarray]:
    """Global arrays as NumPy arrays, whole on every process."""
    return {name: np.asarray(_reachable(value, mesh)) for name, value in outputs.items()}


def _reachable(value: jax.Array, mesh: Mesh) -> jax.Array:
    """The array itself, or a copy on every device where other processes hold parts of it."""
    return value if getattr(value, "is_fully_addressable", True) else _replicate(mesh)(value)


@lru_cache
def _replicate(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(lambda x: x, out_shardings=replicated(mesh))


def _check_finite(found: Mapping[str, np.ndarray]) -> None:
    for name, value in found.items():
        if not np.isfinite(value).all():
            raise UserError(
                f"the encoder's {name!r} holds NaN or infinite values: its weights have diverged "
                "or are damaged; evaluate an earlier checkpoint"
            )


def _progress(steps: Sequence[int], label: str):
    silent = not label or jax.process_index() != 0 or not sys.stderr.isatty()
    return tqdm(steps, desc=label, unit="batch", leave=False, disable=silent)
