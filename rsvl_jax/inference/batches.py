"""Rows of any number through a compiled function: batches of few shapes over all local devices."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import jax
import numpy as np

from rsvl_jax.parallel.mesh import batch_shards, make_mesh
from rsvl_jax.parallel.sharding import batch_sharding, replicated

_THREADS = 4
Row = tuple[Any, ...]


class Runner:
    """Arrays of a model, a copy on every local device, and how rows pass through."""

    def __init__(self, arrays: dict[str, np.ndarray], batch_size: int):
        """batch_size: of all devices together, rounded up to a multiple of them."""
        mesh = make_mesh(devices=jax.local_devices())
        self._shards = batch_shards(mesh)
        self.batch_size = self._rounded(batch_size)
        self._rows = batch_sharding(mesh)
        self._arrays = jax.device_put(arrays, replicated(mesh))

    @property
    def arrays(self) -> dict[str, jax.Array]:
        """The model's, a copy on every local device."""
        return self._arrays

    def _rounded(self, size: int) -> int:
        return -(-size // self._shards) * self._shards

    def __call__(
        self,
        function: Callable[..., jax.Array],
        items: Iterable[Any],
        prepare: Callable[[Any], Row],
    ) -> Iterator[np.ndarray]:
        """function(arrays, *columns) of all items, in order, a batch of float32 rows at a time.

        The next batch is prepared while the devices are at work; no more than two are in memory.
        Batches are padded: all have the whole size, or that of the next power of two where there
        are fewer items.
        """
        waiting: tuple[jax.Array, int] | None = None
        with ThreadPoolExecutor(_THREADS) as pool:
            for chunk, size in self._chunks(items):
                rows = list(pool.map(prepare, chunk))
                columns = [self._padded(column, size) for column in zip(*rows, strict=True)]
                running = function(self._arrays, *jax.device_put(columns, self._rows))
                if waiting is not None:
                    yield _fetched(*waiting)
                waiting = running, len(chunk)
        if waiting is not None:
            yield _fetched(*waiting)

    def _chunks(self, items: Iterable[Any]) -> Iterator[tuple[list[Any], int]]:
        iterator, first = iter(items), True
        while chunk := list(islice(iterator, self.batch_size)):
            small = first and len(chunk) < self.batch_size
            power = self._rounded(1 << (len(chunk) - 1).bit_length())
            yield chunk, min(power, self.batch_size) if small else self.batch_size
            first = False

    @staticmethod
    def _padded(column: Sequence[np.ndarray], size: int) -> np.ndarray:
        padded = np.zeros((size, *np.shape(column[0])), np.asarray(column[0]).dtype)
        padded[: len(column)] = column
        return padded

    def shapes(self, function: Callable[..., Any], row: Row) -> Any:
        """What the function gives for one row, as `jax.ShapeDtypeStruct`s; nothing is computed."""
        columns = [np.zeros((1, *np.shape(value)), np.asarray(value).dtype) for value in row]
        return jax.eval_shape(function, self._arrays, *columns)


def _fetched(value: jax.Array, count: int) -> np.ndarray:
    return np.asarray(value)[:count]
