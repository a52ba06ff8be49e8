"""The ranked gallery: one HTML file that needs nothing else."""

import base64

import numpy as np

from graft_jax.search.index import About
from graft_jax.search.locator import Locator
from graft_jax.search.picture import degrees
from graft_jax.search.ranking import Found, Hit
from graft_jax.search.settings import Search
from rsvl_jax.report.markup import Safe, document, number, tag
from rsvl_jax.storage import replace_file

_OWN_CSS = """
.locator { margin: 1rem 0 1.4rem; }
.locator > div:first-child { display: flex; flex-wrap: wrap; gap: 1rem;
  align-items: flex-start; }
.locator svg { border: 1px solid var(--line); print-color-adjust: exact; }
.locator svg text { font-size: 11px; fill: #44484e; }
.locator svg .hit text { fill: #fff; font-weight: 600; text-anchor: middle; }
.locator svg a:hover circle { fill: #000; }
.hits { display: grid; gap: 1.3rem 1rem; margin: 0; padding: 0; list-style: none;
  grid-template-columns: repeat(auto-fill, minmax(8.2rem, 1fr)); }
.hits li { break-inside: avoid; font-size: .8rem; line-height: 1.35; scroll-margin-top: 1rem; }
.hits li:target { outline: 3px solid var(--held); outline-offset: 4px; }
.hits img { width: 100%; aspect-ratio: 1; margin-bottom: .35rem; outline: 1px solid var(--line); }
.hits .score { display: flex; justify-content: space-between; font-size: .9rem; }
.hits .score b { color: var(--held); }
.hits span { display: block; overflow-wrap: anywhere; }
.hits .soft { color: var(--soft); }
"""


def write(path: str, found: Found, about: About, settings: Search) -> None:
    """Writes the gallery of a search; readers see the old file or the new one, never a part."""
    with replace_file(path) as file:
        file.write(render(found, about, settings).encode("utf-8"))


def render(found: Found, about: About, settings: Search) -> str:
    """The gallery as HTML; the same search gives the same bytes."""
    title = "Tiles by words: " + ", ".join(found.queries)
    contents = [tag("li", tag("a", query, href=f"#q{n}")) for n, query in enumerate(found.queries)]
    locator = Locator(found)
    body = [
        locator.definitions(),
        tag("header", tag("h1", "Tiles by words"), _facts(found, about, settings)),
        tag("nav", tag("ul", contents), aria_label="Queries") if len(contents) > 1 else None,
        tag("main", [_section(found, n, locator) for n in range(len(found.queries))]),
        tag("footer", "Written by graft_jax.search. This file needs nothing else: no network."),
    ]
    return document(title, body, css=_OWN_CSS)


def _facts(found: Found, about: About, settings: Search) -> Safe:
    searched = f"{len(found.places):,}"
    if len(found.places) < about.tiles:
        searched += f" of {about.tiles:,}"
    facts = {
        "Tiles searched": searched,
        "Cut from": about.made_of,
        "Tile": f"{about.image_size} x {about.image_size} pixels",
        "Model": about.model,
    }
    if settings.templates != Search.templates:
        facts["Prompts"] = " · ".join(settings.templates)
    if settings.bbox:
        facts["Region (W, S, E, N)"] = ", ".join(f"{edge:g}°" for edge in settings.bbox)
    if settings.after or settings.before:
        facts["Dates"] = f"{settings.after or '…'} to {settings.before or '…'}"
        facts["Left out, no date"] = f"{found.undated:,}"
    if settings.distinct:
        facts["Overlaps"] = "tiles centred on a better one are left out"
    pairs = [tag("div", tag("dt", name), tag("dd", value)) for name, value in facts.items()]
    return tag("dl", pairs, class_="facts")


def _section(found: Found, query: int, locator: Locator) -> Safe:
    hits, scores = found.hits[query], found.scores[:, query]
    text = (
        f"The {len(hits):,} nearest of {len(scores):,} tiles by cosine, the best first. The median "
        f"tile has {number(float(np.median(scores)))}. Cosines with different texts do not compare."
    )
    cards = [_card(hit, f"q{query}-{hit.rank}") for hit in hits]
    heading = tag("h2", f"“{found.queries[query]}”")
    shown = [locator.figure(query), tag("ol", cards, class_="hits")]
    return tag("section", heading, tag("p", text, class_="note"), shown, id=f"q{query}")


def _card(hit: Hit, anchor: str) -> Safe:
    tile = hit.tile
    place = f"{degrees(round(tile['lat'], 3), 'NS')}, {degrees(round(tile['lon'], 3), 'EW')}"
    uri = "data:image/jpeg;base64," + base64.b64encode(tile["thumbnail"]).decode("ascii")
    lines = [
        tag("span", tag("b", f"{hit.rank}"), f"{hit.score:.3f}", class_="score"),
        tag("span", place),
        [tag("span", text, class_="soft") for text in (hit.date, tile["id"], hit.origin) if text],
    ]
    image = tag("img", src=uri, alt=f"Rank {hit.rank}: tile at {place}", loading="lazy")
    return tag("li", image, lines, id=anchor)
