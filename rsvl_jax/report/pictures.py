"""The sections with pictures: what was filled in, and what was retrieved."""

from collections.abc import Callable
from functools import partial

import numpy as np

from rsvl_jax.report.illustrations import CaptionRetrievals, ImageRetrievals, Reconstructions
from rsvl_jax.report.images import picture
from rsvl_jax.report.markup import Safe, join, missing, tag

# Bounds that keep the page below 3 MB even for pictures of noise.
MOST_PICTURES = 9
MOST_QUERIES = 8
MOST_ANSWERS = 5


def reconstructions(shown: Reconstructions | None) -> Safe:
    """Original, masked and filled side by side."""
    if shown is None or not len(shown.original):
        return missing("This model fills in no images: none of its terms predicts masked patches.")
    text = (
        "Left to right: the tile, what the model was shown, and what it filled in. "
        "Only hidden patches are predicted; the others are copied from the tile."
    )
    figures = [_triptych(shown, index) for index in range(min(MOST_PICTURES, len(shown.original)))]
    return join([tag("p", text, class_="note"), tag("div", figures, class_="pictures")])


def _triptych(shown: Reconstructions, index: int) -> Safe:
    name = str(shown.names[index]) if index < len(shown.names) else f"tile {index + 1}"
    stages = {"original": shown.original, "masked": shown.masked, "filled in": shown.filled}
    cells = [
        tag("div", picture(pixels[index], f"{name}, {stage}"), tag("span", stage))
        for stage, pixels in stages.items()
    ]
    return tag("figure", tag("div", cells, class_="triptych"), tag("figcaption", name))


def captions(shown: CaptionRetrievals | None) -> Safe:
    """Image to text: each tile with the captions ranked highest."""
    if shown is None or not len(shown.images):
        return missing("No captions were retrieved: this model has no shared space with text.")
    text = (
        f"A held-out tile is compared with the captions of {shown.gallery:,} held-out tiles. "
        f"Below each: the highest-ranked different captions; ✓ marks those that are right, that "
        "is, the tile's own caption or one with the identical words. A miss can still be true of "
        "the tile."
    )
    return join(
        [tag("p", text, class_="note"), *_halves(shown.ranks, partial(_query, shown), "queries")]
    )


def _query(shown: CaptionRetrievals, index: int) -> Safe:
    truth, rank = str(shown.truth[index]), int(shown.ranks[index])
    answers = [
        tag("li", str(caption), class_="right" if right else None)
        for caption, right in zip(
            shown.captions[index][:MOST_ANSWERS], shown.right[index], strict=False
        )
    ]
    return tag(
        "div",
        tag("div", picture(shown.images[index], f"Query tile: {truth}")),
        tag(
            "div",
            tag("p", tag("span", "Its caption", class_="label"), truth),
            tag("span", "Ranked highest", class_="label"),
            tag("ol", answers, class_="answers"),
            tag("p", _rank_words(rank, shown.gallery), class_="rank"),
        ),
        class_="query",
    )


def images(shown: ImageRetrievals | None) -> Safe:
    """Text to image: each caption with the tiles ranked highest."""
    if shown is None or not len(shown.images):
        return missing("No tiles were retrieved by text: this model has no shared space with it.")
    text = (
        f"A caption is compared with {shown.gallery:,} held-out tiles. The highest-ranked five, "
        "best first; ✓ and a frame mark the tile that the caption was written for, and those "
        "whose caption has the identical words."
    )
    return join(
        [tag("p", text, class_="note"), *_halves(shown.ranks, partial(_strip, shown), "strips")]
    )


def _strip(shown: ImageRetrievals, index: int) -> Safe:
    rank = int(shown.ranks[index])
    tiles = []
    for place, pixels in enumerate(shown.images[index][:MOST_ANSWERS]):
        right = bool(shown.right[index][place])
        words = f"Rank {place + 1}, {'right' if right else 'wrong'}"
        tiles.append(tag("li", picture(pixels, words), class_="right" if right else None))
    return tag(
        "div",
        tag("p", f"“{shown.queries[index]}”"),
        tag("ol", tiles, class_="strip"),
        tag("p", _rank_words(rank, shown.gallery), class_="rank"),
    )


def _rank_words(rank: int, gallery: int) -> str:
    return f"first right answer at rank {rank:,} of {gallery:,}"


def _halves(ranks: np.ndarray, draw: Callable[[int], Safe], layout: str) -> list[Safe]:
    """The queries by rank: the better half under "Best", the other under "Worst"."""
    order = np.argsort(np.asarray(ranks), kind="stable").tolist()
    half = min((len(order) + 1) // 2, MOST_QUERIES // 2)
    parts = {"Best": order[:half], "Worst": order[half:][-half:]}
    return [
        join([tag("h3", title), tag("div", map(draw, rows), class_=layout)])
        for title, rows in parts.items()
        if rows
    ]
