"""Checkpoints; with `retention` and `orbax_s3`, the only file that knows Orbax.

Layout: `<directory>/<step>/` with the items `state` (arrays) and `meta` (JSON), written under a
temporary name and renamed when complete, so that a step's name alone says that it was finished.
"""

import contextlib
import functools
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from types import TracebackType
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from rsvl_jax.errors import Preempted, UserError
from rsvl_jax.parallel import distributed
from rsvl_jax.storage import is_remote, locate, move_folder, replace_file, sizes
from rsvl_jax.training import orbax_s3
from rsvl_jax.training.retention import Retention, stored
from rsvl_jax.training.state import TrainState

Tree = Any
Metadata = dict[str, Any]

logger = logging.getLogger(__name__)

_SIZES = "sizes.json"
_INDEX_BYTES = 1 << 20  # generous: what is written beside the arrays
_DISK_WORDS = (
    "No space left on device",
    "Read-only file system",
    "Permission denied",
    "Not a directory",
    "Disk quota",
    "File too large",
    "Access Denied",  # of buckets, as their client says it
    "AccessDenied",  # and as TensorStore does
)


class Checkpoints:
    """The checkpoints of one run: asynchronous saves, the newest whole one on restore."""

    def __init__(self, directory: str, keep: int | Retention = 1, read_only: bool = False) -> None:
        """Opens (and makes) a directory; keeps the latest `keep` checkpoints, or what it says.

        Leftovers of saves that were killed half-way are removed, unless `read_only`: then the run
        may be going on elsewhere, and nothing is touched.
        Raises UserError where the directory cannot be made or `keep` is not positive.
        """
        self._retention = Retention(keep) if isinstance(keep, int) else keep
        self.directory = locate(directory if is_remote(directory) else os.path.abspath(directory))
        self._read_only = read_only
        if str(self.directory).startswith("s3://"):
            orbax_s3.teach()
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self._retention.policy(),
            # It makes Orbax write the score and read it back.
            best_fn=stored if self._retention.best else None,
            # What Orbax would set itself, with a warning, where nothing is written.
            save_interval_steps=0 if read_only else 1,
            create=not read_only,
            read_only=read_only,
            cleanup_tmp_directories=not read_only,
        )
        _quiet_orbax()
        with disk_errors(self.directory):
            self._manager = _Manager(self.directory, options=options)
        self._unsealed: int | None = None

    def steps(self) -> list[int]:
        """Steps of the finished checkpoints, oldest first."""
        return sorted(self._manager.all_steps(read=True)) if self.directory.exists() else []

    def path(self, step: int) -> epath.Path:
        """Where a step's checkpoint lies."""
        return self.directory / str(step)

    def save(
        self,
        step: int,
        state: TrainState,
        metadata: Metadata,
        scores: Mapping[str, float] | None = None,
    ) -> None:
        """Starts saving; returns when the arrays are copied and `state` may be donated.

        scores: of the evaluation of this step, where there was one, see `Retention`. A save that is
        still under way is waited for. Raises UserError where the disk is full or
        read-only (also for the save before); finished checkpoints stay as they are.
        """
        score = self._retention.score(scores)
        self.wait()
        self._check_space(state)
        meta = {**metadata, "step": step, "checksum": checksum(state)}
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(_as_dict(state)), meta=ocp.args.JsonSave(meta)
        )
        with disk_errors(self.directory):
            self._manager.save(step, args=arguments, metrics=score, force=True)
        self._unsealed = step

    def _check_space(self, state: TrainState) -> None:
        """Refuses a save that cannot fit, before the storage layers run into the wall."""
        if jax.process_index() == 0 and not is_remote(self.directory):
            needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + _INDEX_BYTES
            free = shutil.disk_usage(self.directory).free
            if free < needed:
                raise UserError(
                    f"no space left for a checkpoint in {self.directory}: {needed >> 10} KiB "
                    f"needed, {free >> 10} KiB free; free space or choose another --workdir, then "
                    "run the same command again"
                )

    def wait(self) -> None:
        """Blocks until the save under way is complete. Raises UserError as `save` does."""
        step, self._unsealed = self._unsealed, None
        with disk_errors(self.directory):
            self._manager.wait_until_finished()
            if step is not None and jax.process_index() == 0:
                self._seal(step)

    def _seal(self, step: int) -> None:
        """Notes the size of every file of the save that has just finished.

        It costs no reading, and lets a restore see a truncated or missing file at once.
        """
        text = json.dumps(sizes(self.path(step)))
        with replace_file(self.path(step) / _SIZES) as file:
            file.write(text.encode())

    def restore(
        self, abstract: TrainState, check: Callable[[Metadata], None]
    ) -> tuple[TrainState, Metadata] | None:
        """The newest whole checkpoint, straight to its place on the mesh; None if there is none.

        abstract: ShapeDtypeStructs with shardings; another mesh than at the save will do.
        check: called with the metadata before arrays are read, raises UserError to refuse.

        A damaged checkpoint is logged, passed over, and moved to `damaged/` beside the directory
        once an older one has been restored. Raises UserError if all of them are damaged.
        """
        damaged: dict[int, str] = {}
        for step in distributed.from_first(self.steps())[::-1]:
            try:
                metadata = _together(functools.partial(self._read_metadata, step))
                check(metadata)
                state = self._read_state(step, abstract, metadata["checksum"])
            except UserError:
                raise
            except Exception as error:  # Orbax raises whatever its storage layers raise.
                damaged[step] = " ".join(str(error).split())[:200] or type(error).__name__
                logger.warning("checkpoint %s is damaged: %s", self.path(step), damaged[step])
                continue
            self._set_aside(damaged)
            return state, metadata
        if damaged:
            raise UserError(
                f"no checkpoint in {self.directory} is whole (steps {sorted(damaged)}; newest: "
                f"{damaged[max(damaged)]}); mend it or move the directory away to start anew"
            )
        return None

    def _read_metadata(self, step: int) -> Metadata:
        """Metadata of a step whose files have the sizes they were written with."""
        sealed = self.path(step) / _SIZES
        if sealed.exists():
            found = sizes(self.path(step))
            for name, size in json.loads(sealed.read_text()).items():
                if found.get(name) != size:
                    raise ValueError(f"{name} has {found.get(name, 0)} of {size} bytes")
        with _reader(ocp.JsonCheckpointHandler) as reader:
            return dict(reader.restore(self.path(step) / "meta", args=ocp.args.JsonRestore()))

    def _read_state(self, step: int, abstract: TrainState, expected: int) -> TrainState:
        state = _together(functools.partial(self._read_arrays, step, abstract))
        if checksum(state) != expected:
            raise ValueError("the arrays are not those that were saved (checksums differ)")
        return state

    def _read_arrays(self, step: int, abstract: TrainState) -> TrainState:
        arguments = ocp.args.StandardRestore(_as_dict(abstract))
        with _reader(ocp.StandardCheckpointHandler) as reader:
            return TrainState(**reader.restore(self.path(step) / "state", args=arguments))

    def _set_aside(self, damaged: dict[int, str]) -> None:
        """Moves damaged checkpoints out of the way of coming saves; nothing is deleted."""
        if self._read_only or not damaged:
            return
        for step in damaged:
            target = self.directory.parent / "damaged" / str(step)
            if jax.process_index() == 0:
                with disk_errors(target):
                    move_folder(self.path(step), target)
            logger.warning("moved the damaged checkpoint of step %d to %s", step, target)
        distributed.wait_for_all("damaged checkpoints are set aside")
        self._manager.reload()

    def close(self) -> None:
        """Waits for the save under way and ends the background threads."""
        try:
            self.wait()
        finally:
            self._manager.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A save under way needs all processes: one that fails must not wait for the others.
        if error is None or isinstance(error, Preempted) or not distributed.running():
            self.close()


class _Manager(ocp.CheckpointManager):
    """Orbax's, without its own look at preemptions.

    All looks of a process share one count (`distributed.stop_reached`), and JAX waits for the one
    that follows the last. Orbax would look under the number of the step: a stop that is asked for
    during a save would come as many steps later as the run is old.
    """

    def reached_preemption(self, step: int) -> bool:
        """Never: the loop asks, and saves."""
        return False


def _together(read: Callable[[], Any]) -> Any:
    """What `read` returns, if it returns on every process: none shall go on with another one."""
    value, failure = None, None
    try:
        value = read()
    except Exception as error:
        failure = error
    if distributed.everywhere(failure is None):
        return value
    raise failure or ValueError("another process cannot read it")


def _reader(handler: type) -> ocp.Checkpointer:
    """A reader for this process alone: where it fails, no other waits for it in a barrier."""
    own = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"reader{own}"
    )
    return ocp.Checkpointer(handler(multiprocessing_options=alone), multiprocessing_options=alone)


def _quiet_orbax() -> None:
    """Keeps away the pages that Orbax logs on a failure: the failure itself is raised."""
    for name in ("absl", "asyncio"):
        log = logging.getLogger(name)
        if _is_ours not in log.filters:
            log.addFilter(_is_ours)


def _is_ours(record: logging.LogRecord) -> bool:
    return f"{os.sep}orbax{os.sep}" not in record.pathname and "exception was" not in record.msg


def _as_dict(state: TrainState) -> dict[str, Tree]:
    return {field.name: getattr(state, field.name) for field in fields(state)}


def checksum(tree: Tree) -> int:
    """A 32-bit sum over the bits of every array, computed on the devices.

    Integer addition has no order, so the value does not depend on the mesh. Storage formats check
    their own indexes but not the array data: a flipped bit there would be restored in silence.
    """
    sums = jax.device_get([_bit_sum(leaf) for leaf in jax.tree.leaves(tree)])
    weights = np.arange(1, 2 * len(sums), 2, dtype=np.uint32)
    return int(np.sum(np.asarray(sums, np.uint32) * weights, dtype=np.uint32))


@jax.jit
def _bit_sum(array: jax.Array) -> jax.Array:
    unsigned = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[array.dtype.itemsize]
    return jnp.sum(jax.lax.bitcast_convert_type(array, unsigned), dtype=jnp.uint32)


@contextlib.contextmanager
def disk_errors(path: Any) -> Iterator[None]:
    """Turns a full, read-only or forbidden disk into a UserError that names `path`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = next((word for word in _DISK_WORDS if word in str(error)), None)
        if reason is None and not isinstance(error, FileExistsError):
            raise
        raise UserError(
            f"cannot write to {path} ({reason or error}); "
            "free space or choose another --workdir, then run the same command again"
        ) from error
