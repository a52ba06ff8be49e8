"""How rows are asked about, checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flavars_jax.ground_captions.costs import ImageTokens, Prices
from rsvl_jax.errors import UserError


@dataclass(frozen=True)
class Settings:
    """Raises UserError for what cannot be.

    Attributes:
      in_flight: requests that wait for their answers at a time.
      requests_per_minute, tokens_per_minute: 0 for no limit.
      timeout: seconds for a request · attempts: at it, of which all but the last may fail ·
      max_wait: seconds of the longest back-off, and of the longest Retry-After that is waited for.
      reask: times that an invalid answer is asked for again.
      give_up: rows in a row without a valid answer after which a start ends.
      max_tokens: of an answer · typical_tokens: that an answer is expected to have.
      min_side, max_side: pixels of the longer side of an image as sent.
      image_tokens, prices, max_cost: see `costs`; max_cost None: no cap.
      limit: rows to ask about in this start, None for all.
      grace: seconds that answers in flight are waited for after a signal.
      extra: further fields of a request.
    """

    in_flight: int = 16
    requests_per_minute: float = 0.0
    tokens_per_minute: float = 0.0
    timeout: float = 120.0
    attempts: int = 6
    max_wait: float = 120.0
    reask: int = 1
    give_up: int = 20
    max_tokens: int = 1500
    typical_tokens: int = 300
    min_side: int = 256
    max_side: int = 1024
    image_tokens: ImageTokens = ImageTokens()
    prices: Prices = Prices()
    max_cost: float | None = None
    limit: int | None = None
    grace: float = 10.0
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        least = {"in_flight": 1, "attempts": 1, "max_tokens": 1, "give_up": 1, "min_side": 1}
        for name in self.__dataclass_fields__:
            value, floor = getattr(self, name), least.get(name, 0)
            if isinstance(value, int | float) and not floor <= value < float("inf"):
                raise UserError(f"--{name}={value}: give {floor} or more")
        if not self.timeout:
            raise UserError("--timeout=0: give the seconds that a request may take")
        if self.max_side < self.min_side:
            raise UserError(f"--max_side={self.max_side} is below --min_side={self.min_side}")
        if self.max_cost is not None and not self.prices.known:
            raise UserError(f"--max_cost={self.max_cost} needs --price_in and --price_out")
