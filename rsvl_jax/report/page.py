"""The page as a whole: summary, contents, sections."""

import os
from collections.abc import Mapping
from typing import Any

from rsvl_jax.report import files, illustrations, maps, pictures, scores, training
from rsvl_jax.report.files import Run
from rsvl_jax.report.illustrations import Illustrations
from rsvl_jax.report.markup import (
    Safe,
    Section,
    details,
    document,
    missing,
    number,
    table,
    tag,
)
from rsvl_jax.storage import replace_file

FILENAME = "report.html"


def write(workdir: str, shown: Illustrations | None = None) -> str:
    """Writes report.html from the files of a work directory and returns its path.

    shown: illustrations, which are kept in illustrations.npz so that the report can be written
    again; None takes those of an earlier call. What is missing is left out with a sentence.
    Readers see the old report or the new one, never a part. The same inputs give the same bytes.

    Raises UserError for a missing work directory, one without a run, or unreadable files.
    """
    run = files.read(workdir)
    kept = os.path.join(workdir, illustrations.FILENAME)
    if shown is None:
        shown = illustrations.load(kept)
    else:
        illustrations.save(kept, shown)
    path = os.path.join(workdir, FILENAME)
    with replace_file(path) as file:
        file.write(render(run, shown).encode("utf-8"))
    return path


def render(run: Run, shown: Illustrations) -> str:
    """The report as HTML."""
    method = shown.facts.get("method", "")
    title = f"{method} run report" if method else "Run report"
    sections = _sections(run, shown)
    contents = [tag("li", tag("a", s.title, href=f"#{s.anchor}")) for s in sections]
    body = [
        tag("header", _header(run, shown, title)),
        tag("nav", tag("ul", contents), aria_label="Contents"),
        tag("main", [section.render() for section in sections]),
        tag("footer", "Written by rsvl_jax.report. This file needs nothing else: no network."),
    ]
    return document(title, body)


def _header(run: Run, shown: Illustrations, title: str) -> list[Safe]:
    facts = {**_named(shown.facts), **_counts(run), **_origin(run)}
    pairs = [tag("div", tag("dt", name), tag("dd", value)) for name, value in facts.items()]
    return [
        tag("h1", title),
        tag("p", _lead(run), class_="lead"),
        scores.summary(run.cards),
        tag("dl", pairs, class_="facts"),
    ]


def _lead(run: Run) -> str:
    """What was trained and how it was scored, in a sentence or two."""
    parts = []
    if run.steps:
        name = _key(run.config, "data", "name")
        parts.append(f"Trained for {run.steps:,} steps" + (f" on {name}." if name else "."))
    if run.cards:
        card = run.cards[0]
        parts.append(f"Scored on the {card.split} split of {card.dataset}, held out from training.")
    return " ".join(parts)


def _counts(run: Run) -> dict[str, str]:
    """Steps, samples and training time."""
    batch = _key(run.config, "data", "batch_size") or 0
    found = {}
    if run.steps:
        found["Steps"] = f"{run.steps:,}"
        if batch:
            found["Samples"] = f"{run.steps * batch:,} ({batch:,} a step)"
    time = training.seconds(run.curves, batch)
    if time is not None:
        found["Time in training steps"] = duration(time)
    return found


def _named(facts: Mapping[str, str]) -> dict[str, str]:
    """Hardware, date and whatever else the method says; its name stands in the title."""
    return {
        name.replace("_", " ").capitalize(): text
        for name, text in facts.items()
        if text and name != "method"
    }


def _origin(run: Run) -> dict[str, str]:
    """Code revision and seed."""
    found = {}
    revision = next((c.provenance.revision for c in run.cards if c.provenance.revision), "")
    if revision:
        found["Code revision"] = revision[:12] + (" + changes" if "+" in revision else "")
    if "seed" in run.config:
        found["Seed"] = str(run.config["seed"])
    return found


def duration(seconds: float) -> str:
    """A time span for people: 3 h 07 min, 6 min 12 s, 8.1 s."""
    if seconds < 60:
        return f"{number(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _key(config: Mapping[str, Any], section: str, name: str) -> Any:
    inside = config.get(section)
    return inside.get(name) if isinstance(inside, Mapping) else None


def _sections(run: Run, shown: Illustrations) -> list[Section]:
    parts = {
        "Scores against the references": scores.against_references(run.cards),
        "Losses": training.losses(run.curves, shown.glossary),
        "Scores during training": training.progress(run.curves, run.cards),
        "Rate and speed": training.machinery(run.curves),
        "Where the tiles lie": maps.tiles(shown.tiles),
        "Filled-in images": pictures.reconstructions(shown.reconstructions),
        "Image to text": pictures.captions(shown.image_to_text),
        "Text to image": pictures.images(shown.text_to_image),
        "Places that look alike": maps.similarities(shown.similarities),
    }
    if run.cards:
        parts["Class by class"] = scores.per_class(run.cards)
        parts["All scores"] = scores.everything(run.cards)
        parts["Protocol of each score"] = scores.protocols(run.cards)
    parts["Configuration"] = _config(run.config)
    return [Section(title.lower().replace(" ", "-"), title, body) for title, body in parts.items()]


def _config(config: Mapping[str, Any]) -> Safe:
    leaves = _leaves(config)
    if not leaves:
        return missing("The configuration is empty.")
    head = ["key", "value"]
    return details(f"All {len(leaves)} keys, resolved", table(head, leaves, class_="config"))


def _leaves(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """(dotted key, value) of every leaf, in the config's own order."""
    found: list[tuple[str, str]] = []
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            found += _leaves(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", "none" if value is None else str(value)))
    return found
