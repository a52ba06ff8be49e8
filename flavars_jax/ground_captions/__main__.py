"""Has a vision model write better captions with boxes.

python -m flavars_jax.ground_captions --input=TABLE --output=DIR [--url=... --model=...]
python -m flavars_jax.ground_captions --name=DATASET --output=DIR ...
python -m flavars_jax.ground_captions figure --answers=DIR [--id=ID] --output=figure.png

The same command again goes on with what has no answer yet. docs/grounded_captions.md tells how to
make a data set of the answers, and how to train on it.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from flavars_jax.ground_captions import answers, arguments, prompt
from flavars_jax.ground_captions.costs import Spent
from flavars_jax.ground_captions.journal import History, Journal
from flavars_jax.ground_captions.plan import Plan, plan
from flavars_jax.ground_captions.prompt import Prompt
from flavars_jax.ground_captions.rows import Rows
from flavars_jax.ground_captions.settings import Settings
from rsvl_jax import runtime
from rsvl_jax.chat import access
from rsvl_jax.errors import Preempted, UserError
from rsvl_jax.training.signals import StopSignal

if TYPE_CHECKING:
    from flavars_jax.ground_captions.outcome import Outcome


def run(argv: Sequence[str]) -> None:
    """Carries out a command line (without the program's name)."""
    if argv and argv[0] == "figure":
        from flavars_jax.ground_captions import figure

        figure.run(arguments.figure(figure.__doc__ or "").parse_args(argv[1:]))
        return
    given = arguments.ask(__doc__ or "").parse_args(argv)
    settings = arguments.settings(given)
    words = Prompt(prompt.read(given.prompt), given.box_units, given.max_caption)
    rows = _rows(given)
    if given.dry_run:
        _plan(rows, words, settings, History.of(given.output))
        return
    where = access.find(given.url, given.model, given.api_key_file, given.api_key_variable)
    with Journal(given.output, _source(rows, words, where, settings)) as journal:
        history = History.of(given.output)
        found = _plan(rows, words, settings, history)
        asyncio.run(_ask(rows, words, where, journal, settings, history, found))


def _rows(given: argparse.Namespace) -> Rows:
    if bool(given.input) == bool(given.name):
        raise UserError("give --input=TABLE or --name=DATASET, one of them")
    if given.name:
        from flavars_jax.ground_captions.records import Records

        return Records(given.name, given.data_dir, given.split)
    from flavars_jax.ground_captions.tables import Table

    return Table(given.input, given.images_dir, given.columns)


def _source(
    rows: Rows, words: Prompt, where: access.Access, settings: Settings
) -> dict[str, object]:
    """What answers of one folder have in common; the address may change, the model may not."""
    return {
        "rows": rows.describe(),
        "model": where.model,
        "prompt": words.text,
        "box_units": words.units,
        "max_caption": words.longest,
        "sides": [settings.min_side, settings.max_side],
        "extra": dict(settings.extra),
    }


def _plan(rows: Rows, words: Prompt, settings: Settings, history: History) -> Plan:
    """Tells what is going to be asked. Raises UserError where that goes beyond the cap."""
    found = plan(rows, history.done, words, settings)
    print(found, file=sys.stderr)
    found.check(history.spent, settings.max_cost)
    return found


async def _ask(
    rows: Rows,
    words: Prompt,
    where: access.Access,
    journal: Journal,
    settings: Settings,
    history: History,
    found: Plan,
) -> None:
    try:
        from flavars_jax.ground_captions.run import Run
        from rsvl_jax.chat.endpoint import Endpoint
    except ImportError as error:
        raise UserError(f"{error}: pip install 'rsvl-jax[ground]'") from error
    endpoint = Endpoint(
        where,
        settings.in_flight,
        settings.timeout,
        settings.max_tokens,
        settings.extra,
        answers.SCHEMA,
    )
    start = Run(rows, words, endpoint, journal, settings, history)
    with StopSignal() as stop:
        async with endpoint:
            outcome = await start.carry_out(found, stop)
    spent = start.budget.spent
    print("\n".join(outcome.lines(found, spent)))
    journal.summarise(outcome.numbers(found, spent))
    _end(outcome, stop, found, settings)


def _end(outcome: "Outcome", stop: StopSignal, found: Plan, settings: Settings) -> None:
    """Raises what a start ends with that did not ask about all of its rows."""
    ended, left = outcome.ended, found.ask - outcome.rows
    if isinstance(ended, Spent):
        raise UserError(
            f"stopped before --max_cost={settings.max_cost:g} could be passed, with {left:,} rows "
            "left: raise it and start again"
        )
    if ended is not None:
        detail = getattr(ended, "detail", "")
        raise UserError(f"{ended}: {detail}" if detail else str(ended))
    if stop.requested and (left or outcome.dropped):
        raise Preempted(f"{left + outcome.dropped:,} rows left; run the same command again")


if __name__ == "__main__":
    sys.exit(runtime.exit_status(lambda: run(sys.argv[1:])))
