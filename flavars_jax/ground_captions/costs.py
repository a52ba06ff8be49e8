"""What requests cost: tokens of words and images before they are sent, and a cap that holds."""

import asyncio
import math
from dataclasses import dataclass

from rsvl_jax.errors import UserError

_CHARACTERS = 3.5  # of English and JSON a token, on the safe side of 4
_OVERHEAD = 12  # tokens around a request's messages
_SCHEMA_TOKENS = 120  # the schema is read, too


@dataclass(frozen=True)
class ImageTokens:
    """Tokens of an image, by a rule: "tiles", "patches:SIDE", or a number for any image.

    tiles: 85, and 170 for each tile of 512 pixels after reduction to 2048 a side and to 768 on the
    shorter one (OpenAI's published rule for GPT-4V and GPT-4o at detail "high"); patches: one a
    square of SIDE pixels (28 for Qwen2.5-VL, 32 for GPT-4.1 mini, before their factors).

    Raises UserError for another rule.
    """

    rule: str = "tiles"

    def __post_init__(self) -> None:
        name, _, side = self.rule.partition(":")
        fine = self.rule == "tiles" or self.rule.isdigit()
        if not fine and not (name == "patches" and side.isdigit() and int(side) > 0):
            raise UserError(
                f"--image_tokens={self.rule!r}: give tiles, patches:SIDE (such as patches:28), or "
                "a number"
            )

    def __call__(self, width: int, height: int) -> int:
        """Tokens of an image of so many pixels."""
        if self.rule.isdigit():
            return int(self.rule)
        if self.rule != "tiles":
            side = int(self.rule.partition(":")[2])
            return math.ceil(width / side) * math.ceil(height / side)
        scale = min(1, 2048 / max(width, height))
        scale = min(scale, 768 / (scale * min(width, height)) * scale)
        return 85 + 170 * math.ceil(width * scale / 512) * math.ceil(height * scale / 512)


def text_tokens(text: str) -> int:
    """Tokens of a request's words, about; its frame and the schema of its answer with them."""
    return math.ceil(len(text.encode()) / _CHARACTERS) + _OVERHEAD + _SCHEMA_TOKENS


@dataclass(frozen=True)
class Prices:
    """US dollars for a million tokens; None where they are not told."""

    tokens_in: float | None = None
    tokens_out: float | None = None

    def __post_init__(self) -> None:
        if (self.tokens_in is None) != (self.tokens_out is None):
            raise UserError("give --price_in and --price_out together, or neither")
        if not all(price is None or price >= 0 for price in (self.tokens_in, self.tokens_out)):
            raise UserError(
                f"--price_in={self.tokens_in}, --price_out={self.tokens_out}: prices are dollars "
                "for a million tokens, zero or more"
            )

    @property
    def known(self) -> bool:
        """Whether costs can be told."""
        return self.tokens_in is not None

    def cost(self, tokens_in: float, tokens_out: float) -> float:
        """US dollars, 0 without prices."""
        if self.tokens_in is None or self.tokens_out is None:
            return 0.0
        return (tokens_in * self.tokens_in + tokens_out * self.tokens_out) / 1e6


class Spent(Exception):
    """The next request might go beyond the cap."""


class Budget:
    """Dollars spent and set aside. Nothing is sent that could go beyond `cap` (None: no cap).

    spent: by earlier starts.
    """

    def __init__(self, prices: Prices, cap: float | None, spent: float = 0.0):
        self.spent, self._prices, self._cap = spent, prices, cap
        self._aside = 0.0
        self._changed = asyncio.Event()
        self._factor = 1.0  # by how much real prompts were longer than reckoned, at the most

    async def reserve(self, tokens_in: float, tokens_out: float) -> float:
        """Sets aside what a request may cost at the most, and returns it, to be settled.

        Waits where others in flight may turn out cheaper. Raises Spent where even that is too much.
        """
        while True:
            most = self._prices.cost(tokens_in * self._factor, tokens_out)
            if self._cap is None or self.spent + self._aside + most <= self._cap:
                self._aside += most
                return most
            if self._aside <= 0:
                self._changed.set()  # whoever waits beside this one waits for nothing, too
                raise Spent
            self._changed.clear()
            await self._changed.wait()

    def settle(self, reserved: float, cost: float) -> None:
        """Takes back what was set aside, and counts what was paid."""
        # Sums of floats do not come back to zero by themselves, and zero is asked for.
        self._aside = self._aside - reserved if self._aside - reserved > 1e-12 else 0.0
        self.spent += cost
        self._changed.set()

    def paid(self, reckoned: float, tokens_in: int | None, tokens_out: int | None) -> float | None:
        """Dollars of an answer whose prompt was reckoned at so many tokens; None if not told."""
        if tokens_in is None or tokens_out is None:
            return None
        self._factor = max(self._factor, tokens_in / max(reckoned, 1))
        return self._prices.cost(tokens_in, tokens_out)
