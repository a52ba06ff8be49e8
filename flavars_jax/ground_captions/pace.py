"""How fast requests leave: so many a minute, so many tokens a minute, none while the server asks
for quiet."""

import asyncio
import random
import time

_FIRST_WAIT = 1.0  # seconds of back-off after the first failure, doubled at each


class Pace:
    """Hands out starts, evenly over the minute. 0: no limit."""

    def __init__(self, requests_per_minute: float = 0, tokens_per_minute: float = 0):
        self._rates = requests_per_minute / 60, tokens_per_minute / 60
        self._free = [0.0, 0.0]  # when the next request may leave, by either limit
        self._quiet_until = 0.0

    async def start(self, tokens: float) -> None:
        """Returns when a request of so many tokens may leave."""
        at = time.monotonic()
        for index, (rate, amount) in enumerate(zip(self._rates, (1.0, tokens), strict=True)):
            if rate:
                free = max(self._free[index], time.monotonic())
                self._free[index] = free + amount / rate
                at = max(at, free)
        await _sleep_until(at)
        while self._quiet_until > time.monotonic():
            await _sleep_until(self._quiet_until)

    def quiet(self, seconds: float) -> None:
        """No request leaves for so long: the server's limits are for all of them together."""
        self._quiet_until = max(self._quiet_until, time.monotonic() + seconds)


def back_off(failures: int, most: float, asked: float | None = None) -> float:
    """Seconds to wait after so many failures in a row: a random part of 1, 2, 4, ... up to `most`.

    asked: what the server asked for, which is the least. Random ("full jitter"), so that requests
    that failed together do not come back together.
    """
    drawn = random.uniform(0, min(most, _FIRST_WAIT * 2 ** (failures - 1)))
    return drawn if asked is None else asked + drawn


async def _sleep_until(at: float) -> None:
    await asyncio.sleep(max(0.0, at - time.monotonic()))
