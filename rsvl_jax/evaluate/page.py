"""The scores of a suite as one HTML file, in the style of a run's report."""

from collections.abc import Sequence

from rsvl_jax.evaluation.card import Card
from rsvl_jax.report import scores
from rsvl_jax.report.markup import Child, Safe, document, percent, table, tag
from rsvl_jax.report.scores import metric_name, title_of

_HEAD = ("score", "metric", "value", "95 % interval", "chance", "best reference", "split", "n")


def render(title: str, cards: Sequence[Card]) -> str:
    """The page: every score, what did not apply and why, and how each score was made."""
    parts = {
        "Scores": _table([card for card in cards if card.value is not None]),
        "Not applicable": _reasons([card for card in cards if card.value is None]),
        "Protocols": scores.protocols(cards),
    }
    body = [
        tag("header", tag("h1", title), tag("p", _model(cards))),
        tag("main", [_section(name, part) for name, part in parts.items() if part]),
        tag("footer", "Written by rsvl_jax.evaluate. This file needs nothing else: no network."),
    ]
    return document(title, body)


def _section(title: str, part: Safe) -> Safe:
    return tag("section", tag("h2", title), part)


def _model(cards: Sequence[Card]) -> str:
    """Which weights were scored, and by which code."""
    if not cards:
        return ""
    made = cards[0].provenance
    step = f", step {made.step:,}" if made.step else ""
    return f"Weights {made.weights[:12]}{step}; code {made.revision or 'unknown'}."


def _table(cards: Sequence[Card]) -> Safe:
    return table(_HEAD, map(_row, cards), class_="scores") if cards else Safe("")


def _row(card: Card) -> list[Child]:
    assert card.value is not None
    interval = "–".join(_shown(card, bound) for bound in card.interval or ())
    return [
        title_of(card),
        f"{metric_name(card.metric)}, {card.unit}",
        tag("b", _shown(card, card.value)),
        interval,
        "" if card.chance is None else _shown(card, card.chance),
        _best(card),
        f"{card.dataset}, {card.split} {card.split_fingerprint}",
        f"{card.n:,}",
    ]


def _best(card: Card) -> str:
    """The reference that comes nearest to the model or is above it; of ranks, the lowest."""
    if not card.references:
        return ""
    choose = min if card.unit == "rank" else max
    best = choose(card.references, key=lambda reference: reference.value)
    return f"{_shown(card, best.value)}, {best.name}"


def _shown(card: Card, value: float) -> str:
    return percent(value) if card.unit == "%" else f"{value:.3g}"


def _reasons(cards: Sequence[Card]) -> Safe:
    rows = [[title_of(card), metric_name(card.metric), card.note] for card in cards]
    return table(["score", "metric", "why"], rows, class_="scores") if rows else Safe("")
