"""Runs side by side: scores, what differs in their configs, loss curves.

Two scores are in one row only by name. Where their protocol differs (data, split, prompts, k, ...),
the cell is marked and the differences are told: such numbers must not be compared as they stand.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation.card import Card
from rsvl_jax.report import charts, files
from rsvl_jax.report.files import Run
from rsvl_jax.report.markup import (
    Child,
    Safe,
    document,
    join,
    missing,
    number,
    percent,
    table,
    tag,
)
from rsvl_jax.report.scores import metric_name, title_of
from rsvl_jax.report.training import LOSS, first_and_last
from rsvl_jax.storage import is_remote, replace_file

MARK = "≠"
# Of a run and not of its protocol: what each seed gave, and which weights made it.
_RESULTS = ("by_seed", "standard_deviation_over_seeds", "texts")
_CSS = """
.runs td, .runs th { vertical-align: top; }
.runs .other { color: var(--held); }
svg .run0, .run0 { --run: #0a66a8; } svg .run1, .run1 { --run: #b4441f; }
svg .run2, .run2 { --run: #0b6e52; } svg .run3, .run3 { --run: #7d5ba6; }
svg .run { fill: none; stroke: var(--run); stroke-width: 2; stroke-linejoin: round; }
.key span { display: inline-block; margin-right: 1.2rem; }
.key i { display: inline-block; width: 1.4rem; height: .25rem; margin-right: .4rem;
  vertical-align: middle; background: var(--run); }
"""
_MOST = 4


@dataclass(frozen=True)
class Row:
    """A score of each run by its name; None where a run has none.

    Attributes:
      differences: for each run, how its protocol differs from that of the first that has the score.
    """

    key: str
    cards: tuple[Card | None, ...]
    differences: tuple[tuple[str, ...], ...]


def write(workdirs: Sequence[str], output: str) -> str:
    """Writes the comparison as one HTML file, and returns it as text for a terminal.

    Raises UserError for fewer than two runs or more than four, and for what is no run.
    """
    if not 2 <= len(workdirs) <= _MOST:
        raise UserError(f"--compare takes 2 to {_MOST} work directories, not {len(workdirs)}")
    if not is_remote(output) and not os.path.isdir(os.path.dirname(os.path.abspath(output))):
        raise UserError(f"no folder for --output={output!r}: make it first")
    runs = {name: files.read(path) for name, path in _named(workdirs).items()}
    with replace_file(output) as file:
        file.write(render(runs).encode("utf-8"))
    return text(runs)


def _named(workdirs: Sequence[str]) -> dict[str, str]:
    """Short names, the last part of the path where that tells them apart."""
    short = [os.path.basename(os.path.normpath(path)) for path in workdirs]
    names = short if len(set(short)) == len(short) else list(workdirs)
    if len(set(names)) < len(names):
        raise UserError(f"--compare names a work directory twice: {', '.join(workdirs)}")
    return dict(zip(names, workdirs, strict=True))


def rows(runs: Mapping[str, Run]) -> list[Row]:
    """The scores of all runs, in the order in which they first occur."""
    by_key = [{card.key: card for card in run.cards} for run in runs.values()]
    keys = dict.fromkeys(key for found in by_key for key in found)
    return [_row(key, tuple(found.get(key) for found in by_key)) for key in keys]


def _row(key: str, cards: tuple[Card | None, ...]) -> Row:
    first = next(card for card in cards if card is not None)
    return Row(key, cards, tuple(_differences(first, card) if card else () for card in cards))


def _differences(first: Card, other: Card) -> tuple[str, ...]:
    ours, theirs = _protocol(first), _protocol(other)
    return tuple(key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key))


def _protocol(card: Card) -> dict[str, Any]:
    kept = {k: v for k, v in card.protocol.items() if k not in _RESULTS}
    return {
        "data set": (card.dataset, card.dataset_fingerprint),
        "split": (card.split, card.split_fingerprint),
        "examples": card.n,
        "unit": card.unit,
        **kept,
    }


def text(runs: Mapping[str, Run]) -> str:
    """The scores as a Markdown table."""
    lines = [f"| score | {' | '.join(runs)} |", "|---" * (1 + len(runs)) + "|"]
    different: dict[str, None] = {}
    for row in rows(runs):
        cells = [
            _words(card, marks) for card, marks in zip(row.cards, row.differences, strict=True)
        ]
        lines.append(f"| {row.key} | {' | '.join(cells)} |")
        different.update(dict.fromkeys(mark for marks in row.differences for mark in marks))
    if different:
        lines += ["", f"{MARK} another protocol ({', '.join(different)}): do not compare"]
    return "\n".join(lines)


def _words(card: Card | None, marks: Sequence[str]) -> str:
    if card is None or card.value is None:
        return "–"
    return (f"{MARK} " if marks else "") + _value(card)


def _value(card: Card) -> str:
    assert card.value is not None
    shown = percent if card.unit == "%" else number
    interval = f" ({shown(card.interval[0])} to {shown(card.interval[1])})" if card.interval else ""
    return shown(card.value) + interval


def render(runs: Mapping[str, Run]) -> str:
    """The comparison as HTML."""
    parts = {"Scores": _scores(runs), "Configuration": _configs(runs), "Losses": _losses(runs)}
    body = [
        tag("header", tag("h1", "Runs compared"), _key(runs)),
        tag("main", [tag("section", tag("h2", title), part) for title, part in parts.items()]),
        tag("footer", "Written by rsvl_jax.report. This file needs nothing else: no network."),
    ]
    return document("Runs compared: " + ", ".join(runs), body, css=_CSS)


def _key(runs: Mapping[str, Run]) -> Safe:
    entries = [
        tag("span", tag("i"), f"{name}, {run.steps:,} steps", class_=f"run{index}")
        for index, (name, run) in enumerate(runs.items())
    ]
    return tag("p", entries, class_="key")


def _scores(runs: Mapping[str, Run]) -> Safe:
    found = rows(runs)
    if not found:
        return missing("None of the runs has scores.json.")
    body: list[list[Child]] = []
    for row in found:
        card = next(card for card in row.cards if card is not None)
        cells = [_cell(c, marks) for c, marks in zip(row.cards, row.differences, strict=True)]
        body.append([f"{title_of(card)}, {metric_name(card.metric)}", *cells])
    note = (
        f"95 % intervals in brackets. {MARK}: measured under another protocol than the first of "
        "the row; the numbers do not compare. Intervals of two runs that overlap may still hide a "
        "difference, or not: they are not of the difference."
    )
    return join([tag("p", note, class_="note"), table(["score", *runs], body, class_="runs")])


def _cell(card: Card | None, marks: Sequence[str]) -> Child:
    if card is None or card.value is None:
        return "–"
    if not marks:
        return _value(card)
    return [tag("span", f"{MARK} {_value(card)}", class_="other"), tag("br"), ", ".join(marks)]


def _configs(runs: Mapping[str, Run]) -> Safe:
    flat = [_leaves(run.config) for run in runs.values()]
    keys = sorted({key for leaves in flat for key in leaves})
    differing = [key for key in keys if len({leaves.get(key, "–") for leaves in flat}) > 1]
    if not differing:
        return missing("The configurations are the same.")
    body = [[key, *(leaves.get(key, "–") for leaves in flat)] for key in differing]
    return table(["key that differs", *runs], body, class_="runs config")


def _leaves(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= _leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = "none" if value is None else str(value)
    return found


def _losses(runs: Mapping[str, Run]) -> Safe:
    names = dict.fromkeys(
        name
        for run in runs.values()
        for name in run.curves
        if name == LOSS or name.startswith(f"{LOSS}/")
    )
    if not names:
        return missing("None of the runs has metrics.jsonl.")
    figures = [_figure(name, runs) for name in sorted(names, key=lambda name: (name != LOSS, name))]
    note = "Running means. Losses of other batch sizes, terms or weights are not comparable."
    return join([tag("p", note, class_="note"), tag("div", figures, class_="curves")])


def _figure(name: str, runs: Mapping[str, Run]) -> Safe:
    title = "total" if name == LOSS else name.removeprefix(f"{LOSS}/").replace("_", " ")
    curves = [run.curves.get(name) for run in runs.values()]
    ends = " / ".join("–" if c is None else number(first_and_last(c)[1]) for c in curves)
    caption = tag("figcaption", tag("div", tag("b", title), tag("span", ends)))
    return tag("figure", caption, charts.together(curves, label=f"{title}: {ends}"))
