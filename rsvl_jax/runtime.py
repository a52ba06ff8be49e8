"""Starts JAX for a run and turns the ways a run can end into exit statuses.

Exit status: 0 finished · 2 bad flag, config or input (one line says what and how to mend it) ·
75 preempted after a complete save, run it again · anything else is a defect.
"""

import ctypes
import errno
import os
import sys
from collections.abc import Callable

from rsvl_jax.errors import Preempted, UserError

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


def start(cache_dir: str | None = None) -> None:
    """Prepares JAX: compiler flags and the persistent compilation cache.

    Args:
      cache_dir: where compiled programs are kept; None takes `JAX_COMPILATION_CACHE_DIR`, or
        `~/.cache/rsvl_jax/xla`.
    """
    add_xla_flags()
    import jax  # Imported here so that the flags above are read by the first backend.

    default = os.path.join(os.path.expanduser("~"), ".cache", "rsvl_jax", "xla")
    path = cache_dir or os.environ.get("JAX_COMPILATION_CACHE_DIR") or default
    jax.config.update("jax_compilation_cache_dir", path)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def release_memory() -> None:
    """Gives memory that was freed back to the system, where the C library is glibc.

    A compiler needs hundreds of megabytes for seconds, and malloc keeps them for later.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def exit_status(run: Callable[[], None]) -> int:
    """Runs `run` and returns the exit status for how it ended, telling why on stderr."""
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
    return 0
