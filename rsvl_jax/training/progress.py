"""What people see of a run: a bar on a terminal, a plain line now and then elsewhere."""

import sys
import time
from datetime import timedelta

import jax
from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 10.0


def say(text: str) -> None:
    """One line for people, from process 0 only, without breaking a bar."""
    if jax.process_index() == 0:
        tqdm.write(text, file=sys.stderr)


class Progress:
    """Steps done, loss, samples per second and time left; silent on all but process 0."""

    def __init__(self, total: int, start: int, batch_size: int) -> None:
        self._total, self._batch_size = total, batch_size
        self._printed = 0.0
        self._visible = jax.process_index() == 0
        self._bar = None
        if self._visible and sys.stderr.isatty():
            self._bar = tqdm(
                total=total, initial=start, dynamic_ncols=True, unit="step", file=sys.stderr
            )

    def update(self, step: int, loss: float, samples_per_second: float) -> None:
        """Shows a finished step."""
        if self._bar is not None:
            text = f"loss {loss:.4g}, {samples_per_second:.4g} samples/s"
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(step - self._bar.n)
        elif self._visible and time.monotonic() - self._printed > _SECONDS_BETWEEN_LINES:
            self._printed = time.monotonic()
            seconds = (self._total - step) * self._batch_size / max(samples_per_second, 1e-9)
            say(
                f"step {step}/{self._total}, loss {loss:.4g}, {samples_per_second:.4g} samples/s, "
                f"{timedelta(seconds=round(seconds))} left"
            )

    def close(self) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.close()
