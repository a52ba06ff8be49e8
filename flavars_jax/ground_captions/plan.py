"""What a start is going to ask, and what that is going to cost, before anything is sent."""

import random
from collections.abc import Set
from dataclasses import dataclass

from flavars_jax.ground_captions import pictures
from flavars_jax.ground_captions.costs import text_tokens
from flavars_jax.ground_captions.prompt import Prompt
from flavars_jax.ground_captions.rows import Row, Rows
from flavars_jax.ground_captions.settings import Settings
from rsvl_jax.errors import UserError

_LOOKED_AT = 256  # images whose sizes stand for all


@dataclass(frozen=True)
class Plan:
    """Rows of the source, of them answered before, and to ask now; tokens and dollars of these.

    left: rows that --limit leaves for another start; cost: None without prices.
    """

    rows: int
    done: int
    ask: int
    left: int
    tokens_in: float
    tokens_out: float
    cost: float | None

    def __str__(self) -> str:
        text = f"{self.rows:,} rows, {self.done:,} answered before, {self.ask:,} to ask"
        if self.left:
            text += f" ({self.left:,} left by --limit)"
        text += f": about {self.tokens_in:,.0f} tokens in, {self.tokens_out:,.0f} out"
        return f"{text}, ${self.cost:,.2f}" if self.cost is not None else text

    def check(self, spent: float, cap: float | None) -> None:
        """Raises UserError where it is going to cost more than the cap, less what is spent."""
        if cap is not None and self.cost is not None and spent + self.cost > cap:
            before = f" and ${spent:,.2f} spent before" if spent else ""
            raise UserError(
                f"about ${self.cost:,.2f}{before} are above --max_cost={cap:g}: raise it, or ask "
                "about fewer rows with --limit"
            )


def plan(rows: Rows, done: Set[str], prompt: Prompt, settings: Settings) -> Plan:
    """Reads all rows once; images by a sample of them, by their headers."""
    total = before = waiting = 0
    words, draw = 0.0, random.Random(0)
    sample: list[Row] = []
    seen: set[str] = set()
    for row in rows:
        total += 1
        if row.id in seen:
            continue  # counted where rows are asked about
        seen.add(row.id)
        if row.id in done:
            before += 1
        elif isinstance(row, Row):
            waiting += 1
            words += text_tokens("".join(prompt.words(row, settings.max_side, settings.max_side)))
            if len(sample) < _LOOKED_AT:
                sample.append(row)
            elif (place := draw.randrange(waiting)) < _LOOKED_AT:
                sample[place] = row
    ask = waiting if settings.limit is None else min(waiting, settings.limit)
    tokens_in = ask * (words / max(waiting, 1) + _image_tokens(rows, sample, settings))
    tokens_out = float(ask * settings.typical_tokens)
    prices = settings.prices
    cost = prices.cost(tokens_in, tokens_out) if prices.known else None
    return Plan(total, before, ask, waiting - ask, tokens_in, tokens_out, cost)


def _image_tokens(rows: Rows, sample: list[Row], settings: Settings) -> float:
    """The mean of the images that can be read."""
    found = []
    for row in sample:
        try:
            size = pictures.size(rows.picture(row))
        except (OSError, pictures.Unfit):
            continue  # told when its turn comes
        found.append(
            settings.image_tokens(*pictures.fit(*size, settings.min_side, settings.max_side))
        )
    return sum(found) / max(len(found), 1)
