"""Throughput and model FLOP utilisation (MFU)."""

import contextlib
import time
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp

# Dense bfloat16 peak of one device, in TFLOP/s (vendors' data sheets), by a part of
# `device.device_kind` in lower case; the first entry that matches counts.
PEAK_TFLOPS = (
    ("tpu v4", 275.0),
    ("tpu v5 lite", 197.0),
    ("tpu v5e", 197.0),
    ("tpu v5", 459.0),
    ("tpu v6 lite", 918.0),
    ("tpu v6e", 918.0),
    ("a100", 312.0),
    ("h100", 989.0),
    ("h200", 989.0),
)


def peak_flops(devices: Sequence[jax.Device]) -> float | None:
    """Peak FLOP/s of all devices together; None for a kind that is not in the table.

    For CPUs there is no meaningful data sheet: the float32 rate of a large matrix product is
    measured once, and taken for the whole machine because simulated devices share its cores.
    """
    if devices[0].platform == "cpu":
        return _measured_peak(devices[0])
    kind = devices[0].device_kind.lower()
    peak = next((value for part, value in PEAK_TFLOPS if part in kind), None)
    return None if peak is None else peak * 1e12 * len(devices)


def _measured_peak(device: jax.Device, size: int = 1024, rounds: int = 5) -> float:
    """FLOP/s of the fastest of a few size^3 matrix products, a tenth of a second in all."""
    matrix = jax.device_put(jnp.ones((size, size), jnp.float32), device)
    product = jax.jit(jnp.matmul)
    product(matrix, matrix).block_until_ready()
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


class Chrono:
    """Training time by laps, without pauses (compiling, evaluating, saving).

    samples, flops_per_sample: of one step and one sample; peak: FLOP/s of all devices or None.
    """

    def __init__(self, samples: int, flops_per_sample: float, peak: float | None) -> None:
        self._samples = samples
        self._flops = flops_per_sample
        self._peak = peak
        self._all_steps, self._all_seconds, self._all_waited = 0, 0.0, 0.0
        self._restart()

    def _restart(self) -> None:
        self._started = time.perf_counter()
        self._paused = self._waited = 0.0
        self._steps = 0

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Time inside does not count."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._paused += time.perf_counter() - start

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Time inside counts as waiting for input."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._waited += time.perf_counter() - start

    def finished_step(self) -> None:
        """Counts one step as done."""
        self._steps += 1

    def _seconds(self) -> float:
        return max(time.perf_counter() - self._started - self._paused, 1e-9)

    @property
    def samples_per_second(self) -> float:
        """Since the start, for people: steadier than that of a lap."""
        steps, seconds = self._all_steps + self._steps, self._all_seconds + self._seconds()
        return steps * self._samples / seconds

    @property
    def productive_seconds(self) -> float:
        """Since the start, without pauses and without waiting for batches."""
        return self._all_seconds - self._all_waited + self._seconds() - self._waited

    def lap(self) -> dict[str, float | None]:
        """Measures since the last lap, and starts the next.

        perf/samples_per_second; perf/mfu, a fraction of the peak, None if that is unknown;
        perf/input_wait, the fraction of the time spent waiting for batches.
        """
        seconds = self._seconds()
        rate = self._steps * self._samples / seconds
        values = {
            "perf/samples_per_second": rate,
            "perf/mfu": rate * self._flops / self._peak if self._peak else None,
            "perf/input_wait": self._waited / seconds,
        }
        self._all_steps += self._steps
        self._all_seconds += seconds
        self._all_waited += self._waited
        self._restart()
        return values
