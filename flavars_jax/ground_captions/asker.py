"""One row: asked about, asked again where that helps, and judged."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from flavars_jax.ground_captions import answers
from flavars_jax.ground_captions.answers import Invalid
from flavars_jax.ground_captions.costs import Budget, Spent, text_tokens
from flavars_jax.ground_captions.pace import Pace, back_off
from flavars_jax.ground_captions.pictures import Picture
from flavars_jax.ground_captions.prompt import Prompt
from flavars_jax.ground_captions.rows import Row, Unreadable
from flavars_jax.ground_captions.settings import Settings
from rsvl_jax.chat.endpoint import Endpoint, Failure, Reply

Entry = tuple[str, dict[str, Any]]  # kind, one of `journal.KINDS`, and its line


@dataclass
class Bill:
    """What a row has taken so far: requests, tokens as the server counts, dollars."""

    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0


@dataclass(frozen=True)
class Asker:
    """Turns rows into lines of the journal. stopping: whether the run is about to end."""

    endpoint: Endpoint
    prompt: Prompt
    settings: Settings
    pace: Pace
    budget: Budget
    stopping: Callable[[], bool]

    async def ask(self, row: Row, picture: Picture, bill: Bill) -> Entry:
        """The line of a row; `bill` is added to as it goes.

        Raises Failure where no other row would fare better, Spent where nothing was asked because
        the cap does not let it.
        """
        start = time.monotonic()
        problem: Failure | Invalid | None = None
        for _ in range(1 + self.settings.reask):
            try:
                reply = await self._reply(row, picture, bill)
                found = self._judge(reply, row, picture)
            except Spent:
                if problem is None:
                    raise
                break
            except (Failure, Invalid) as error:
                problem = error
                if isinstance(error, Failure):
                    break
            else:
                seconds = round(time.monotonic() - start, 3)
                fields = asdict(found) | {"width": picture.own_width, "height": picture.own_height}
                return "journal", about(row) | fields | asdict(bill) | {"seconds": seconds}
        assert problem is not None
        if isinstance(problem, Failure) and problem.hopeless:
            raise problem
        # What was refused for itself will be again; what had no answer may get one another time.
        kind = "failed" if isinstance(problem, Failure) and problem.again else "invalid"
        return kind, about(row) | because(problem.reason, problem.detail) | asdict(bill)

    def _judge(self, reply: Reply, row: Row, picture: Picture) -> answers.Grounded:
        if reply.refusal:
            raise Invalid("model refused", reply.refusal)
        if reply.cut:
            raise Invalid("answer was cut off", f"at {self.settings.max_tokens} tokens")
        units, longest = self.prompt.units, self.prompt.longest
        return answers.check(reply.content, row, picture, units=units, longest=longest)

    async def _reply(self, row: Row, picture: Picture, bill: Bill) -> Reply:
        """An answer, after as many attempts as are allowed."""
        failures = 0
        while True:
            try:
                return await self._attempt(row, picture, bill)
            except Failure as failure:
                failures += 1
                last = failures >= self.settings.attempts or self.stopping()
                if not failure.again or last:
                    raise
                await self._wait(failure, failures)

    async def _wait(self, failure: Failure, failures: int) -> None:
        most = self.settings.max_wait
        if failure.after is not None:
            if failure.after > most:
                detail = f"for {failure.after:.0f} s, above --max_wait={most:g}"
                raise Failure("server wants to be left alone", detail, hopeless=True)
            self.pace.quiet(failure.after)
        await asyncio.sleep(back_off(failures, most, failure.after))

    async def _attempt(self, row: Row, picture: Picture, bill: Bill) -> Reply:
        settings = self.settings
        words = text_tokens("".join(self.prompt.words(row, picture.width, picture.height)))
        reckoned = words + settings.image_tokens(picture.width, picture.height)
        reserved = await self.budget.reserve(reckoned, settings.max_tokens)
        cost = 0.0
        try:
            await self.pace.start(reckoned + settings.typical_tokens)
            bill.requests += 1
            cost = reserved  # dropped from here on, it may have been paid for
            reply = await self.endpoint.ask(self.prompt.messages(row, picture))
            told = self.budget.paid(reckoned, reply.tokens_in, reply.tokens_out)
            cost = reserved if told is None else told
            bill.tokens_in += reply.tokens_in or 0
            bill.tokens_out += reply.tokens_out or 0
            return reply
        except Failure as failure:
            cost = reserved if failure.paid else 0.0
            raise
        finally:
            bill.cost += cost
            self.budget.settle(reserved, cost)


def about(row: Row | Unreadable) -> dict[str, Any]:
    """What a line says of its row, so that it can be understood without the source."""
    if isinstance(row, Unreadable):
        return {"id": row.id}
    return {
        "id": row.id,
        "image": dict(row.image),
        "original": row.caption,
        "known": list(row.tags),
        "lon": row.lon,
        "lat": row.lat,
        "split": row.split,
    }


def because(reason: str, detail: str) -> dict[str, str]:
    """Why a row is not in the journal."""
    return {"reason": reason, "detail": detail}
