"""Draws an image with its caption and labelled boxes, as in the paper's figure 2.

python -m flavars_jax.ground_captions figure --answers=DIR [--id=ID] --output=figure.png
python -m flavars_jax.ground_captions figure --name=earth_tiles [--split=test] --output=figure.png

A phrase of the caption has the colour of its box.
"""

import argparse
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, withStroke

from flavars_jax.ground_captions import shown
from flavars_jax.ground_captions.shown import Shown
from rsvl_jax.errors import UserError
from rsvl_jax.storage import replace_file

# Told apart by colour-blind people, too (Okabe and Ito), darkened until white words can be read.
COLOURS = ("#b34700", "#005f99", "#00735a", "#a3477f", "#7a5c00", "#5b3fa0", "#8c1c13", "#35606e")
_DPI = 160
_WIDTH, _MARGIN = 6.4, 0.16  # inches
_ASPECT = (0.5, 1.4)  # height of the picture by its width
_LINE = 0.26  # inches from line to line of the caption
_STROKE = 2.0  # points of a box's line
_GAP, _LABEL_HEIGHT = 0.05, 0.17  # inches around a label, and of it
_AIR = 0.025  # inches on either side of a coloured phrase
_CAPTION, _LABEL = FontProperties(size=11), FontProperties(size=8.5)
_CHIP = {"boxstyle": "round,pad=0.18", "linewidth": 0}

Piece = tuple[str, int | None]  # words, and the number of the phrase that they are
Rect = tuple[float, float, float, float]


def run(given: argparse.Namespace) -> None:
    """Writes the figure that a command line asks for."""
    if bool(given.answers) == bool(given.name):
        raise UserError("give --answers=DIR or --name=DATASET, one of them")
    if given.answers:
        found = shown.of_answers(given.answers, given.id)
    else:
        found = shown.of_records(given.name, given.data_dir, given.split, given.id)
    with replace_file(given.output) as file:
        file.write(draw(found))
    print(f"{found.id}, {len(found.boxes)} boxes: {given.output}")


def draw(found: Shown) -> bytes:
    """The figure as PNG."""
    height, width = found.image.shape[:2]
    picture = (_WIDTH - 2 * _MARGIN) * min(max(height / width, _ASPECT[0]), _ASPECT[1])
    lines = list(_lines(pieces(found.caption, found.phrases), _WIDTH - 2 * _MARGIN))
    total = picture + len(lines) * _LINE + 3 * _MARGIN
    with matplotlib.rc_context({"font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(_WIDTH, total), dpi=_DPI)
        FigureCanvasAgg(figure)
        bottom = (total - _MARGIN - picture) / total
        box = (_MARGIN / _WIDTH, bottom, 1 - 2 * _MARGIN / _WIDTH, picture / total)
        _draw_image(figure.add_axes(box), found, (_WIDTH - 2 * _MARGIN, picture))
        for number, line in enumerate(lines):
            _draw_line(figure, line, total - picture - (2 + 0.9) * _MARGIN - number * _LINE, total)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", facecolor="white")
    return buffer.getvalue()


def pieces(caption: str, phrases: Sequence[str]) -> list[Piece]:
    """The caption in pieces: its phrases with their numbers, longer ones first, and the rest."""
    owner: list[int | None] = [None] * len(caption)
    order = sorted(range(len(phrases)), key=lambda i: -len(phrases[i]))
    for index in order:
        for match in re.finditer(rf"(?<!\w){re.escape(phrases[index])}(?!\w)", caption, re.I):
            if all(x is None for x in owner[match.start() : match.end()]):
                owner[match.start() : match.end()] = [index] * len(match[0])
                break
    found: list[Piece] = []
    start = 0
    for end in range(1, len(caption) + 1):
        if end == len(caption) or owner[end] != owner[start]:
            found.append((caption[start:end], owner[start]))
            start = end
    return found


def _lines(found: Sequence[Piece], width: float) -> Iterator[list[Piece]]:
    """Breaks pieces into lines of so many inches, between words."""
    line: list[Piece] = []
    for words, owner in found:
        for word in re.findall(r"\S+\s*|\s+", words):
            joined = line and line[-1][1] == owner
            more = [*line[:-1], (line[-1][0] + word, owner)] if joined else [*line, (word, owner)]
            if line and line[-1][0][-1:].isspace() and _length(more) > width:
                yield line
                more = [(word, owner)]
            line = more
    if line:
        yield line


def _length(line: Sequence[Piece]) -> float:
    return sum(_inches(words, _CAPTION) + 2 * _AIR * (owner is not None) for words, owner in line)


_MEASURE = FigureCanvasAgg(Figure(dpi=_DPI)).get_renderer()


def _inches(text: str, font: FontProperties) -> float:
    # The width of a trailing blank is lost: measured with a stop behind it.
    whole, stop = (
        _MEASURE.get_text_width_height_descent(words, font, False)[0] for words in (f"{text}.", ".")
    )
    return (whole - stop) / _DPI


def _draw_line(figure: Figure, line: Sequence[Piece], y: float, total: float) -> None:
    x = _MARGIN
    for words, owner in line:
        style: dict[str, Any] = {"color": "#1a1a1a"}
        if owner is not None:
            style = {"color": "white", "bbox": _CHIP | {"facecolor": _colour(owner)}}
        shown_words = words.rstrip() if owner is not None else words
        air = _AIR if owner is not None else 0.0
        x += air
        figure.text(
            x / _WIDTH,
            y / total,
            shown_words,
            fontproperties=_CAPTION,
            va="baseline",
            parse_math=False,
            **style,
        )
        x += _inches(words, _CAPTION) + air


def _draw_image(axes: Any, found: Shown, inches: tuple[float, float]) -> None:
    """inches: width and height of the picture."""
    height, width = found.image.shape[:2]
    axes.imshow(found.image, extent=(0, width, height, 0), interpolation="bicubic", aspect="auto")
    axes.axis("off")
    for number, (left, top, right, bottom) in enumerate(found.boxes):
        patch = Rectangle((left, top), right - left, bottom - top, fill=False)
        patch.set(edgecolor=_colour(number), linewidth=_STROKE)
        patch.set_path_effects([withStroke(linewidth=_STROKE + 1.4, foreground="white"), Normal()])
        patch.set_clip_on(False)
        axes.add_patch(patch)
    unit = inches[0] / width, inches[1] / height
    taken: list[Rect] = []
    for number, (box, phrase) in enumerate(zip(found.boxes, found.phrases, strict=True)):
        x, y, *_ = place = _free_place(box, _inches(phrase, _LABEL), unit, inches, taken)
        taken.append(place)
        axes.text(
            x / inches[0],
            1 - y / inches[1],
            phrase,
            transform=axes.transAxes,
            va="top",
            fontproperties=_LABEL,
            color="white",
            bbox=_CHIP | {"facecolor": _colour(number)},
            parse_math=False,
        )


def _free_place(
    box: Any,
    length: float,
    unit: tuple[float, float],
    inches: tuple[float, float],
    taken: Sequence[Rect],
) -> Rect:
    """Where the label of a box goes: above it, inside, or below; where no other one is, if it can.

    All in inches from the upper left corner, x, y, width and height; unit: inches a pixel.
    """
    left, top, right, bottom = (float(v) * unit[i % 2] for i, v in enumerate(box))
    high = _LABEL_HEIGHT
    rows = (top - high, top + _GAP, bottom - high, bottom + _GAP)
    columns = (left + _GAP, right - length - _GAP, (left + right - length) / 2)
    places = [
        (
            min(max(x, _GAP), inches[0] - length - _GAP),
            min(max(y, _GAP), inches[1] - high),
            length,
            high,
        )
        for y in rows
        for x in columns
    ]
    return min(places, key=lambda place: sum(_common(place, other) for other in taken))


def _common(a: Rect, b: Rect) -> float:
    """The area that two labels share, with the air around them."""
    x = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]) + 2 * _GAP
    y = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]) + _GAP
    return max(x, 0.0) * max(y, 0.0)


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]
