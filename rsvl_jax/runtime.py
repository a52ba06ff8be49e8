"""Starts JAX for a run and turns the ways a run can end into exit statuses.

Exit status: 0 finished · 2 bad flag, config or input (one line says what and how to mend it) ·
70 stalled: a step, save or evaluation took longer than `watchdog.seconds`, and the stacks of all
threads were written · 75 preempted: after a complete save, or where there is nothing to save, or
left alone by another process of the run: run it again · anything else is a defect.
"""

import contextlib
import ctypes
import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any, NoReturn

from rsvl_jax.errors import Preempted, UserError
from rsvl_jax.parallel import distributed

# Measured on AVX-512 machines with XLA:CPU: erf, tanh and exp run up to twice as fast on 512-bit
# vectors, and XLA prefers 256 by default.
CPU_XLA_FLAGS = ("--xla_cpu_prefer_vector_width=512",)

_DISK_ERRORS = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT)


def add_xla_flags() -> None:
    """Adds the CPU flags to XLA_FLAGS. It must run before JAX opens a backend.

    A flag that the user has already set keeps the user's value.
    """
    present = os.environ.get("XLA_FLAGS", "")
    missing = [flag for flag in CPU_XLA_FLAGS if flag.split("=")[0] not in present]
    os.environ["XLA_FLAGS"] = " ".join([present, *missing]).strip()


def start(cache_dir: str | None = None, *, processes: Mapping[str, Any] | None = None) -> None:
    """Prepares JAX: compiler flags, the persistent compilation cache, and the other processes.

    Args:
      cache_dir: where compiled programs are kept; None takes `JAX_COMPILATION_CACHE_DIR`, or
        `~/.cache/rsvl_jax/xla`.
      processes: `config.distributed`, see `parallel.distributed.start`; None: this one alone.
    """
    add_xla_flags()
    import jax  # Imported here so that the flags above are read by the first backend.

    default = os.path.join(os.path.expanduser("~"), ".cache", "rsvl_jax", "xla")
    path = cache_dir or os.environ.get("JAX_COMPILATION_CACHE_DIR") or default
    jax.config.update("jax_compilation_cache_dir", path)
    if processes is not None:
        distributed.start(**processes)


def release_memory() -> None:
    """Gives memory that was freed back to the system, where the C library is glibc.

    A compiler needs hundreds of megabytes for seconds, and malloc keeps them for later.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def exit_status(run: Callable[[], None]) -> int:
    """Runs `run` and returns the exit status for how it ended, telling why on stderr.

    One of several processes that fails ends at once: JAX's own clean-up would wait for the others.
    """
    with _stoppable():
        status = _ending(run)
    if status not in (0, 75) and distributed.running():
        _end_at_once(status)
    return status


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Context in which SIGTERM ends the process with status 75, unless others take it.

    In training that is `training.signals`; among several processes JAX takes it when they join.
    Elsewhere there is nothing to save, and files are replaced whole.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _preempt)
    try:
        yield
    finally:
        if not distributed.running():
            signal.signal(signal.SIGTERM, before)


def _preempt(number: int, frame: FrameType | None) -> None:
    """Ends the process here: an exception would be lost if a finaliser is what runs just now."""
    os.write(2, b"preempted: told to stop outside of training; run the same command again\n")
    os._exit(75)


def _ending(run: Callable[[], None]) -> int:
    try:
        run()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Preempted as signal:
        print(f"preempted: {signal}", file=sys.stderr)
        return 75
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        where = f" ({error.filename})" if error.filename else ""
        print(f"error: cannot write{where}: {error.strerror}", file=sys.stderr)
        return 2
    except Exception as error:
        if not distributed.running():
            raise
        traceback.print_exc()
        if distributed.is_loss_of_peer(error):
            text = "left alone by another process of the run; run the same command again to go on"
            print(f"preempted: {text}", file=sys.stderr)
            _end_at_once(75)
        _end_at_once(1)
    return 0


def _end_at_once(status: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
