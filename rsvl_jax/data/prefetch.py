"""Host batches to global arrays on the devices, two ahead, in a background thread."""

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax

Tree = Any
_POLL = 0.1  # seconds between looks at whether the consumer has gone


class DevicePrefetch(Iterator[Tree]):
    """Iterator over trees of global arrays. `wait_seconds`: how long `next` has waited so far."""

    def __init__(self, batches: Iterator[Tree], sharding: jax.sharding.Sharding, depth: int):
        self.wait_seconds = 0.0
        self._batches, self._sharding = batches, sharding
        self._ready: queue.Queue[tuple[Tree, BaseException | None]] = queue.Queue(depth)
        self._closed = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="device-prefetch", daemon=True)
        self._thread.start()

    @property
    def skipped(self) -> list[str]:
        """Ids of the records that were replaced because their image could not be decoded."""
        return getattr(self._batches, "skipped", [])

    def __next__(self) -> Tree:
        if self._closed.is_set():
            raise StopIteration
        if self._failure is None:
            start = time.perf_counter()
            batch, self._failure = self._ready.get()
            self.wait_seconds += time.perf_counter() - start
        if self._failure is not None:
            raise self._failure
        return batch

    def close(self) -> None:
        """Stops the thread and the batches' own workers; later calls of `next` end."""
        self._closed.set()
        self._thread.join()
        if hasattr(self._batches, "close"):
            self._batches.close()

    def _run(self) -> None:
        failure: BaseException
        try:
            for batch in self._batches:
                if not self._put(jax.tree.map(self._place, batch), None):
                    return
            failure = StopIteration()
        except BaseException as error:  # the consumer shall see it, whatever it is
            failure = error
        self._put(None, failure)

    def _place(self, array: Any) -> jax.Array:
        return jax.make_array_from_process_local_data(self._sharding, array)

    def _put(self, batch: Tree, failure: BaseException | None) -> bool:
        while not self._closed.is_set():
            try:
                self._ready.put((batch, failure), timeout=_POLL)
                return True
            except queue.Full:
                continue
        return False


def to_device(
    batches: Iterator[Tree], sharding: jax.sharding.Sharding, *, depth: int = 2
) -> DevicePrefetch:
    """Places the process-local rows of each leaf [B / processes, ...] as global arrays [B, ...].

    `sharding` splits axis 0 over the devices, each process's in the order of its rows. Errors of
    `batches` are raised by `next`, in their turn. Call `close` when done.
    """
    return DevicePrefetch(batches, sharding, depth)
