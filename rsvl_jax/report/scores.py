"""The sections made from score cards: headline, references, classes, all scores, protocols."""

from collections.abc import Mapping, Sequence
from typing import Any

from rsvl_jax.evaluation.card import Card, Reference
from rsvl_jax.report import charts
from rsvl_jax.report.markup import Child, Safe, details, join, missing, percent, signed, table, tag

# The scores that stand for a run, where it has them: one a task.
HEADLINES = (
    "zeroshot/balanced_accuracy",
    "knn/l2_k5/mean/balanced_accuracy",
    # Classes of a few pixels, which no predictor finds, would only dilute every difference.
    "segmentation/linear/mean_iou_frequent",
    "retrieval/image_to_text/recall@10",
    "retrieval/image_to_location/recall@10",
)
_MOST = 6
_UNTRAINED = "untrained"
_NONE = "No scores.json in the work directory: the run has not been scored yet."


def headlines(cards: Sequence[Card]) -> list[Card]:
    """The cards that stand for the run: the known ones, or the first of each task."""
    scored = {card.key: card for card in cards if card.value is not None and card.unit == "%"}
    known = [scored[key] for key in HEADLINES if key in scored]
    if known:
        return known
    tasks: dict[str, Card] = {}
    for card in scored.values():
        tasks.setdefault(card.task.split("/")[0], card)
    return list(tasks.values())[:_MOST]


def summary(cards: Sequence[Card]) -> Safe:
    """The headline scores in large figures, each with what it must be read beside."""
    chosen = headlines(cards)
    return tag("ul", map(_headline, chosen), class_="headline") if chosen else join(None)


def _headline(card: Card) -> Safe:
    lines: list[Child] = [metric_name(card.metric)]
    if card.interval:
        lines.append(f"interval {_range(card.interval)}")
    if card.chance is not None:
        lines.append(f"chance {percent(card.chance)}")
    if best := _best(card.references):
        lines.append(f"best reference {percent(best.value)}: {best.name}")
    return tag(
        "li",
        tag("b", percent(card.value or 0.0), tag("small", " %")),
        tag("span", title_of(card), class_="name"),
        [tag("span", text) for text in lines],
    )


def title_of(card: Card) -> str:
    """The card's task as a heading."""
    title = card.title or card.task
    if card.task.startswith("retrieval/"):
        title = f"retrieval, {title}"
    # "kNN" keeps its small letter.
    return title if title[1:2].isupper() else title[:1].upper() + title[1:]


def metric_name(metric: str) -> str:
    """mean_iou -> mean IoU."""
    return metric.replace("_", " ").replace("iou", "IoU")


def _range(interval: tuple[float, float]) -> str:
    return f"{percent(interval[0])}–{percent(interval[1])}"


def _best(references: Sequence[Reference]) -> Reference | None:
    return max(references, key=lambda reference: reference.value, default=None)


def against_references(cards: Sequence[Card]) -> Safe:
    """A dot chart for each headline score: the model, and what has learned nothing."""
    chosen = headlines(cards)
    if not chosen:
        return missing(_NONE)
    text = (
        "Filled: this model. Hollow: predictors that have learned nothing, or nothing of pixels. "
        f"Bars are intervals{_method(chosen)}; the dashed line is a random guess. A score is "
        "worth what it adds to the best of its references."
    )
    panels = [_panel(card) for card in chosen]
    return join([tag("p", text, class_="note"), tag("div", panels, class_="panels")])


def _method(cards: Sequence[Card]) -> str:
    """How the intervals were computed, in brackets."""
    method = next((card.interval_method for card in cards if card.interval_method), "")
    reason = ", because neighbouring tiles are not independent" if "block" in method else ""
    return f" ({method}{reason})" if method else ""


def _panel(card: Card) -> Safe:
    others = sorted(card.references, key=lambda reference: -reference.value)
    rows = [
        charts.Row("this model", card.value or 0.0, card.interval, model=True),
        *(charts.Row(each.name, each.value, each.interval) for each in others),
    ]
    if card.chance is not None:
        rows.append(charts.Row("chance", card.chance))
    heading = tag("h3", title_of(card))
    what = f"{metric_name(card.metric)}, {card.unit}, {card.n:,} examples of {card.split}"
    return tag(
        "div",
        heading,
        tag("p", what, class_="note"),
        charts.dots(rows, chance=card.chance),
        tag("p", _verdict(card), class_="note"),
        tag("p", f"Note: {card.note}.", class_="note") if card.note else None,
    )


def _verdict(card: Card) -> str:
    """Whether the model is above its best reference and chance, as surely as intervals allow."""
    sentences = []
    best = _best(card.references)
    if best is not None and card.value is not None:
        gain = signed(card.value - best.value)
        sentences.append(f"{gain} points from the best reference ({best.name}){_surety(best)}.")
    if card.chance is not None and card.interval and card.interval[0] <= card.chance:
        sentences.append("The interval reaches down to chance.")
    return " ".join(sentences)


def _surety(reference: Reference) -> str:
    if reference.difference is None:
        return ""
    low, high = reference.difference
    words = "the interval holds zero, so they cannot be told apart"
    if low > 0:
        words = "clearly above it"
    elif high < 0:
        words = "clearly below it"
    return f", interval {signed(low)} to {signed(high)}: {words}"


def per_class(cards: Sequence[Card]) -> Safe:
    """A dot chart of the classes for each headline score that has them."""
    chosen = [card for card in headlines(cards) if card.per_class]
    if not chosen:
        return missing("No score of this run has results by class.")
    panels = [_classes(card) for card in chosen]
    text = (
        "Recall of each class, or its IoU, in %. Classes with few tiles in the test split move "
        "a lot by chance; classes that are absent from it are left out."
    )
    return join([tag("p", text, class_="note"), tag("div", panels, class_="panels")])


def _classes(card: Card) -> Safe:
    ordered = sorted(card.per_class.items(), key=lambda item: -item[1])
    rows = [charts.Row(name, value, model=True) for name, value in ordered]
    rule = "dashed: chance" if card.chance is not None else ""
    what = ", ".join(filter(None, [metric_name(card.metric), f"mean {card.value:.1f}", rule]))
    return tag(
        "div",
        tag("h3", title_of(card)),
        tag("p", what, class_="note"),
        charts.dots(rows, chance=card.chance, plain=True),
    )


def everything(cards: Sequence[Card]) -> Safe:
    """All cards in one table, collapsed."""
    head = ["score", "metric", "value", "95 % interval", "chance", "untrained", "gain", "n"]
    rows = [[title_of(card), metric_name(card.metric), *_cells(card)] for card in cards]
    text = (
        "Values in %, except ranks. Gain: over the same encoder untrained, with its 95 % interval "
        "from shared resamples."
    )
    return details(
        f"Table of {len(cards)} scores",
        tag("p", text, class_="note"),
        table(head, rows, class_="scores"),
    )


def _cells(card: Card) -> list[Child]:
    if card.value is None:
        return [card.note, "", "", "", "", ""]
    untrained = next((r for r in card.references if r.name.startswith(_UNTRAINED)), None)
    gain = ""
    if untrained is not None and card.unit == "%":
        gain = signed(card.value - untrained.value)
        if untrained.difference:
            gain += f" ({' to '.join(map(signed, untrained.difference))})"
    return [
        _shown(card.value, card.unit),
        _range(card.interval) if card.interval else "",
        "" if card.chance is None else percent(card.chance),
        "" if untrained is None else _shown(untrained.value, card.unit),
        gain,
        f"{card.n:,}",
    ]


def _shown(value: float, unit: str) -> str:
    return percent(value) if unit == "%" else f"{value:g}"


def protocols(cards: Sequence[Card]) -> Safe:
    """What one needs to get each score again, one collapsed part a task."""
    tasks: dict[str, list[Card]] = {}
    for card in cards:
        tasks.setdefault(card.task, []).append(card)
    return join([_protocol(group) for group in tasks.values()])


def _protocol(group: Sequence[Card]) -> Safe:
    card = group[0]
    entries: Mapping[str, Any] = {
        "metrics": ", ".join(metric_name(each.metric) for each in group),
        **card.protocol,
        "data set": f"{card.dataset}, fingerprint {card.dataset_fingerprint}",
        "split": f"{card.split}, {card.n:,} examples, fingerprint {card.split_fingerprint}",
        "intervals": card.interval_method or "none",
        "seed": card.seed,
        "weights": f"{card.provenance.weights}, step {card.provenance.step:,}",
        "code": card.provenance.revision or "unknown",
        "note": card.note,
    }
    pairs = [
        (tag("dt", name.replace("_", " ")), tag("dd", _said(value)))
        for name, value in entries.items()
        if value not in ("", None)
    ]
    return details(title_of(card), tag("dl", pairs, class_="protocol"))


def _said(value: Any) -> str:
    """A value of a protocol in words: lists with semicolons, synonyms with slashes."""
    if isinstance(value, list | tuple):
        parts = [" / ".join(map(str, v)) if isinstance(v, list | tuple) else v for v in value]
        return "; ".join(str(part) for part in parts)
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_said(each)}" for name, each in value.items())
    return str(value)
