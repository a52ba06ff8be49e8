"""All rows, many at a time: images made ready, asked about, and what came back put on the disk."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from tqdm import tqdm

from flavars_jax.ground_captions import pictures
from flavars_jax.ground_captions.asker import Asker, Bill, Entry, about, because
from flavars_jax.ground_captions.costs import Budget, Spent
from flavars_jax.ground_captions.journal import History, Journal
from flavars_jax.ground_captions.outcome import Outcome
from flavars_jax.ground_captions.pace import Pace
from flavars_jax.ground_captions.plan import Plan
from flavars_jax.ground_captions.prompt import Prompt
from flavars_jax.ground_captions.rows import Row, Rows, Unreadable
from flavars_jax.ground_captions.settings import Settings
from rsvl_jax.chat.endpoint import Endpoint, Failure
from rsvl_jax.training.signals import StopSignal

_READERS = 4  # that make images ready; their work is done in threads
_LOOK = 0.1  # seconds between looks at the signal


class Run:
    """One start. Lives inside an event loop."""

    def __init__(
        self,
        rows: Rows,
        prompt: Prompt,
        endpoint: Endpoint,
        journal: Journal,
        settings: Settings,
        history: History,
    ):
        self._rows, self._journal, self._settings = rows, journal, settings
        self._done = history.done
        self.outcome = Outcome()
        self.budget = Budget(settings.prices, settings.max_cost, history.spent)
        pace = Pace(settings.requests_per_minute, settings.tokens_per_minute)
        self._halted = asyncio.Event()
        self._asker = Asker(endpoint, prompt, settings, pace, self.budget, self._halted.is_set)
        self._ready: asyncio.Queue[tuple[Row, pictures.Picture] | None]
        self._ready = asyncio.Queue(settings.in_flight)
        self._written: asyncio.Queue[Entry | None] = asyncio.Queue()
        self._bad_in_a_row = 0

    async def carry_out(self, plan: Plan, stop: StopSignal) -> Outcome:
        """Asks about all rows that have no answer, or as many as it may until it is stopped."""
        start, waiting = time.monotonic(), self._waiting()
        with tqdm(total=plan.ask, desc="asking", unit=" rows", smoothing=0.05) as bar:
            writer = asyncio.create_task(self._write(bar))
            work = asyncio.create_task(self._work(waiting))
            watch = asyncio.create_task(self._watch(stop))
            ended = asyncio.create_task(self._halted.wait())
            try:
                await asyncio.wait({work, ended, writer}, return_when=asyncio.FIRST_COMPLETED)
                await self._let_finish(work, writer, stop)
                await _end(work)
            finally:
                for task in (watch, ended):
                    task.cancel()
                self._written.put_nowait(None)  # what was paid for is kept, whatever went wrong
                await writer
        self.outcome.seconds = time.monotonic() - start
        return self.outcome

    async def _let_finish(self, work: asyncio.Task, writer: asyncio.Task, stop: StopSignal) -> None:
        """Waits for what is in flight: a request's time, and after a signal no longer than that."""
        end = time.monotonic() + self._settings.timeout
        while not (work.done() or writer.done()) and time.monotonic() < end:
            if stop.requested:
                end = min(end, time.monotonic() + self._settings.grace)
            await asyncio.wait({work, writer}, timeout=_LOOK, return_when="FIRST_COMPLETED")

    def _waiting(self) -> Iterator[Row | Unreadable]:
        """Rows without an answer, each id once."""
        asked, seen = 0, set()
        for row in self._rows:
            if row.id in seen:
                self.outcome.repeated += 1
                continue
            seen.add(row.id)
            if row.id in self._done:
                continue
            if isinstance(row, Row):
                if asked == self._settings.limit:
                    continue
                asked += 1
            yield row

    async def _work(self, waiting: Iterator[Row | Unreadable]) -> None:
        async with asyncio.TaskGroup() as senders:
            for _ in range(self._settings.in_flight):
                senders.create_task(self._send())
            async with asyncio.TaskGroup() as readers:
                for _ in range(_READERS):
                    readers.create_task(self._read(waiting))
            for _ in range(self._settings.in_flight):
                await self._ready.put(None)

    async def _read(self, waiting: Iterator[Row | Unreadable]) -> None:
        for row in waiting:
            if self._halted.is_set():
                return
            if isinstance(row, Unreadable):
                self._written.put_nowait(("invalid", about(row) | because(row.reason, row.detail)))
                continue
            try:
                picture = await asyncio.to_thread(self._picture, row)
            except (OSError, pictures.Unfit) as error:
                self._written.put_nowait(("invalid", about(row) | because(*_unseen(error))))
                continue
            await self._ready.put((row, picture))

    def _picture(self, row: Row) -> pictures.Picture:
        least, most = self._settings.min_side, self._settings.max_side
        return pictures.prepare(self._rows.picture(row), least, most)

    async def _send(self) -> None:
        while (item := await self._ready.get()) is not None:
            if self._halted.is_set():
                continue
            row, picture = item
            bill = Bill()
            try:
                entry = await self._asker.ask(row, picture, bill)
            except Spent as spent:
                self._halt(spent)
            except Failure as failure:
                line = _lost(row, failure.reason, failure.detail, bill)
                self._written.put_nowait(("failed", line))
                self._halt(failure)
            except asyncio.CancelledError:
                self.outcome.dropped += 1
                if bill.cost:
                    line = _lost(row, "dropped at a stop", "its whole price is counted", bill)
                    self._written.put_nowait(("failed", line))
                raise
            else:
                self._written.put_nowait(entry)
                self._judge(entry)

    def _judge(self, entry: Entry) -> None:
        """Ends the run where nothing good comes back any more."""
        kind, line = entry
        self._bad_in_a_row = 0 if kind == "journal" else self._bad_in_a_row + 1
        if self._bad_in_a_row >= self._settings.give_up:
            reason = f"{self._bad_in_a_row} rows in a row without a valid answer, the last because"
            self._halt(Failure(f"{reason} {line['reason']}", line["detail"]))

    def _halt(self, why: Exception | None) -> None:
        if not self._halted.is_set():
            self.outcome.ended = why
            self._halted.set()

    async def _watch(self, stop: StopSignal) -> None:
        while not stop.requested:
            await asyncio.sleep(_LOOK)
        self._halt(None)

    async def _write(self, bar: Any) -> None:
        """Writes what has come together since the last time, so that one fsync serves many."""
        more = True
        while more:
            entries = [await self._written.get()]
            while not self._written.empty():
                entries.append(self._written.get_nowait())
            more = None not in entries
            lines = [entry for entry in entries if entry is not None]
            await asyncio.to_thread(self._journal.add, lines)
            for entry in lines:
                self.outcome.add(entry)
            bar.update(sum("image" in line for _, line in lines))


def _unseen(error: Exception) -> tuple[str, str]:
    if isinstance(error, pictures.Unfit):
        return str(error), ""
    if isinstance(error, FileNotFoundError):
        return "image is missing", str(error.filename)
    return "image cannot be read", str(error)


def _lost(row: Row, reason: str, detail: str, bill: Bill) -> dict[str, Any]:
    return about(row) | because(reason, detail) | asdict(bill)


async def _end(task: asyncio.Task) -> None:
    """Cancels what still runs, and waits; the first thing that went wrong inside is raised."""
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from group
