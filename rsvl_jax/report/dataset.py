"""A page about a data set: counts, sizes, words, places, pictures, repeats, what was left out."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rsvl_jax.datasets import registry, store
from rsvl_jax.datasets.image_text.alike import DISTANCE
from rsvl_jax.datasets.survey import Survey, spaced, survey
from rsvl_jax.errors import UserError
from rsvl_jax.report import bars, maps, specimens
from rsvl_jax.report.illustrations import TileMap
from rsvl_jax.report.markup import Safe, Section, details, document, missing, table, tag
from rsvl_jax.storage import replace_file

_TOP = 30  # words, tags and classes that are listed
_GROUPS, _OF_GROUP = 8, 6  # of pictures that look alike
_SHORT = 160  # characters of a caption that are shown
Pick = Callable[[str, int], Mapping[str, Any]]


def write(name: str, data_dir: str, output: str, *, most: int, pictures: int) -> Survey:
    """Writes the page, one file that loads nothing else, and returns what it tells.

    most: records that are read for it. pictures: records that are shown. Raises UserError for a
    data set that is not there, or a file that cannot be written.
    """
    found = survey(name, data_dir, most)
    sources = {split: store.load(name, data_dir, split) for split in found.read}
    left = _left(name, data_dir)
    page = render(found, lambda split, number: sources[split][number], pictures, left)
    try:
        with replace_file(os.path.abspath(output)) as file:
            file.write(page.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise UserError(f"cannot write --output={output!r}: {error.strerror}") from error
    return found


def render(found: Survey, pick: Pick, pictures: int, left: Mapping[str, Mapping[str, int]]) -> str:
    """The page as HTML. pick: the record of a split and number. left: see `_left`."""
    manifest = found.manifest
    sections = [
        Section("sizes", "Images and captions", _sizes(found)),
        Section("words", "Words, tags and classes", _words(found)),
        Section("places", "Places", _places(found)),
        Section("pictures", "Pictures", _pictures(found, pick, pictures)),
        Section("repeats", "Repeats", _repeats(found, pick)),
        Section("left", "Left out and changed", _counts(left)),
        Section("manifest", "Manifest", _manifest(manifest)),
    ]
    contents = [tag("li", tag("a", s.title, href=f"#{s.anchor}")) for s in sections]
    body = [
        tag("header", tag("h1", str(manifest["name"])), _lead(found), _facts(found)),
        tag("nav", tag("ul", contents), aria_label="Contents"),
        tag("main", [section.render() for section in sections]),
        tag("footer", "Written by rsvl_jax.datasets show. This file needs nothing else."),
    ]
    return document(f"{manifest['name']}, a data set", body, bars.CSS + specimens.CSS)


def _lead(found: Survey) -> Safe:
    total, read = sum(found.manifest["splits"].values()), sum(found.read.values())
    words = f"{total:,} records; "
    words += "all were read" if read == total else f"{read:,} of them, evenly spaced, were read"
    return tag("p", f"{words} for what is told here.", class_="lead")


def _facts(found: Survey) -> Safe:
    manifest = found.manifest
    facts = {split.capitalize(): f"{count:,}" for split, count in manifest["splits"].items()}
    facts |= {
        "Version": str(manifest["version"]),
        "Fingerprint": str(manifest["fingerprint"])[:12],
        "Layout": str(manifest.get("layout", "")),
        "Classes": str(len(manifest.get("classes", ())) or ""),
        "With a place": _share(sum(map(len, found.places.values())), found),
        "With captions": _share(sum(found.read.values()) - found.captions_each[0], found),
        "With boxes": _share(found.boxed, found),
        "Unreadable images": f"{len(found.unreadable):,}" if found.unreadable else "",
    }
    pairs = [tag("div", tag("dt", key), tag("dd", value)) for key, value in facts.items() if value]
    return tag("dl", pairs, class_="facts")


def _share(count: int, found: Survey) -> str:
    return f"{100 * count / max(1, sum(found.read.values())):.1f} %" if count else ""


def _sizes(found: Survey) -> Safe:
    """Histograms, and a line of what is the same in all records."""
    counts: dict[tuple[str, str], dict[int, int]] = {
        ("Image width", "px"): {},
        ("Image height", "px"): {},
    }
    for size, count in found.sizes.items():
        for known, side in zip(counts.values(), size, strict=True):
            known[side] = known.get(side, 0) + count
    if found.captions:
        counts["Caption length", "words"] = found.lengths
        counts["Captions of a record", "captions"] = found.captions_each
    same = [
        f"{t.lower()} {next(iter(c)):,} {unit}" for (t, unit), c in counts.items() if len(c) == 1
    ]
    charts = [_figure(title, c, unit) for (title, unit), c in counts.items() if len(c) > 1]
    if not same and not charts:
        return missing("It holds neither images nor captions.")
    words = tag("p", f"The same everywhere: {', '.join(same)}.", class_="note") if same else None
    return tag("div", words, tag("div", charts, class_="curves"))


def _figure(title: str, counts: Mapping[int, int], unit: str) -> Safe:
    values = np.repeat([*counts], [*counts.values()])
    usual = f"median {np.median(values):g}, from {values.min():,} to {values.max():,} {unit}"
    caption = tag("figcaption", tag("div", tag("b", title)), tag("p", usual))
    label = f"Histogram of {title.lower()}: {usual}"
    return tag("figure", caption, bars.histogram(counts, label=label, unit=unit))


def _words(found: Survey) -> Safe:
    lists = {
        "Words, by how many captions have them": found.words,
        "Tags, by how many records have them": found.tags,
        "Classes": found.labels,
    }
    parts = [
        tag(
            "div",
            tag("h3", title),
            tag("p", f"{len(counts):,} different", class_="note"),
            bars.rows(counts.most_common(_TOP)),
        )
        for title, counts in lists.items()
        if counts
    ]
    if not parts:
        return missing("No record has captions, tags or a class.")
    return tag("div", parts, class_="panels")


def _places(found: Survey) -> Safe:
    if not found.places:
        return missing("No record has coordinates.")
    points = [(*place, split) for split, known in found.places.items() for place in known]
    lon, lat, split = zip(*points, strict=True)
    return maps.tiles(TileMap(np.array(lon), np.array(lat), list(split), 0.0))


def _pictures(found: Survey, pick: Pick, count: int) -> Safe:
    total = sum(found.read.values())
    shown = [
        specimens.figure(pick(split, int(number)), found.manifest, split)
        for split, read in found.read.items()
        for number in spaced(found.manifest["splits"][split], max(1, round(count * read / total)))
    ]
    note = (
        "Evenly spaced. Boxes have the colours of their phrases; masks are beside their images, "
        "ground photos after them."
    )
    return tag("div", tag("p", note, class_="note"), tag("div", shown, class_="specimens"))


def _repeats(found: Survey, pick: Pick) -> Safe:
    texts, groups = found.repeated, found.alike
    total = sum(found.captions.values())
    parts: list[Safe] = []
    if texts:
        words = f"{len(found.captions):,} different captions among {total:,}. The most frequent:"
        head = [(_cut(text), f"{count:,}") for text, count in texts[:10]]
        parts += [tag("h3", "Captions"), tag("p", words), table(("caption", "times"), head)]
    elif total:
        parts.append(tag("p", f"All {total:,} captions are different."))
    if groups:
        alike = sum(map(len, groups))
        words = (
            f"{alike:,} images in {len(groups):,} groups look alike, by perceptual hashes up to "
            f"{DISTANCE} bits apart. The largest groups:"
        )
        strips = [_strip(group, pick) for group in groups[:_GROUPS]]
        parts += [tag("h3", "Images"), tag("p", words), tag("div", strips, class_="strips")]
    elif found.hashes:
        parts.append(tag("p", "No two images that were read look alike."))
    return tag("div", parts)


def _strip(group: Sequence[tuple[str, int]], pick: Pick) -> Safe:
    records = [pick(split, number) for split, number in group[:_OF_GROUP]]
    named = zip(records, group[:_OF_GROUP], strict=True)
    names = ", ".join(f"{record['id']} ({split})" for record, (split, _) in named)
    more = f" and {len(group) - _OF_GROUP:,} more" if len(group) > _OF_GROUP else ""
    images = [tag("li", specimens.thumbnail(record)) for record in records]
    return tag(
        "div", tag("p", names + more, class_="note"), tag("ul", images, class_="strip alike")
    )


def _counts(left: Mapping[str, Mapping[str, int]]) -> Safe:
    parts = [
        tag("div", tag("h3", title), bars.rows(sorted(counts.items(), key=lambda c: -c[1])))
        for title, counts in left.items()
        if counts
    ]
    if not parts:
        return missing("Nothing was left out of it.")
    return tag("div", parts, class_="panels")


def _manifest(manifest: Mapping[str, Any]) -> Safe:
    plain = {key: value for key, value in manifest.items() if key not in ("dropped", "changed")}
    pairs = [(tag("dt", key), tag("dd", _cut(str(value)))) for key, value in plain.items()]
    return details("All that it says", tag("dl", pairs, class_="protocol"))


def _left(name: str, data_dir: str) -> dict[str, dict[str, int]]:
    """Title -> reason -> count, from the manifest or what a collection of pairs has noted."""
    manifest = store.manifest(name, data_dir)
    left = {"Left out": manifest.get("dropped", {}), "Changed": manifest.get("changed", {})}
    summary = os.path.join(registry.find(name).directory(data_dir), "summary.json")
    if os.path.isfile(summary):
        left |= {f"Left out of the {kind}": counts for kind, counts in _summary(summary).items()}
    return {title: dict(counts) for title, counts in left.items()}


def _summary(path: str) -> dict[str, dict[str, int]]:
    """Kind -> reason -> count of a collection's summary.json."""
    with open(path, encoding="utf-8") as file:
        given = json.load(file)
    return {
        kind: told["skipped"]
        for kind, told in given.items()
        if isinstance(told, Mapping) and "skipped" in told
    }


def _cut(text: str) -> str:
    return text if len(text) <= 4 * _SHORT else f"{text[: 4 * _SHORT]} …"
