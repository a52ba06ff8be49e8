"""Which kind of device a program is for, asked where the fastest form differs between kinds."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import jax

_target: ContextVar[str | None] = ContextVar("target", default=None)


def kind() -> str:
    """ "cpu", "gpu" or "tpu": JAX's default backend, or what `compiling_for` says."""
    return _target.get() or jax.default_backend()


def lone_cpu() -> bool:
    """True where one CPU device is all there is, so that nothing is sharded."""
    return kind() == "cpu" and jax.device_count() == 1


@contextmanager
def compiling_for(target: str) -> Iterator[None]:
    """Programs traced inside are for that kind of device, though this machine has none of it."""
    token = _target.set(target)
    try:
        yield
    finally:
        _target.reset(token)
