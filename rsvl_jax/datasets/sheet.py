"""A contact sheet: tiles with captions and boxes, to be looked at before they are believed."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np

from rsvl_jax.data.transforms import decode

_COLUMNS = 3
_CELL = (5.6, 2.2)  # inches
_COLOURS = ("#ff5050", "#ffd23c", "#5aff5a", "#50c8ff", "#ff78ff", "#ffa05a", "#ffffff", "#c8aaff")


def contact_sheet(records: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> bytes:
    """A PNG of each record's image with its boxes, beside its captions, phrases and label."""
    from matplotlib.figure import Figure

    rows = -(-len(records) // _COLUMNS)
    with matplotlib.rc_context({"font.size": 6}):
        figure = Figure(figsize=(_CELL[0] * _COLUMNS, _CELL[1] * rows), dpi=100)
        for cell, record in enumerate(records):
            _draw(figure, record, classes, cell % _COLUMNS, cell // _COLUMNS, rows)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def spread(length: int, count: int) -> np.ndarray:
    """Evenly spaced record numbers, int64 [min(count, length)]; the same on every call."""
    return np.unique(np.linspace(0, length - 1, min(count, length)).astype(np.int64))


def _draw(figure, record, classes, column: int, row: int, rows: int) -> None:
    left, bottom = column / _COLUMNS, 1 - (row + 1) / rows
    width, height = 1 / _COLUMNS, 1 / rows
    picture = figure.add_axes((left + 0.002, bottom + 0.04 * height, 0.36 * width, 0.92 * height))
    picture.imshow(decode(record["image"]), extent=(0, 64, 64, 0), interpolation="nearest")
    picture.axis("off")
    x = left + 0.38 * width
    figure.text(x, bottom + 0.96 * height, _text(record, classes), va="top")
    for number, (phrase, box) in enumerate(zip(record["phrases"], record["boxes"], strict=True)):
        colour = _COLOURS[number % len(_COLOURS)]
        x0, y0, x1, y1 = box
        picture.add_patch(
            matplotlib.patches.Rectangle(
                (x0, y0), x1 - x0, y1 - y0, fill=False, color=colour, linewidth=0.8
            )
        )
        side, line = number % 2, number // 2
        figure.text(
            x + side * 0.3 * width,
            bottom + (0.36 - 0.055 * line) * height,
            phrase,
            va="top",
            bbox={"color": colour, "pad": 0.3, "alpha": 0.6},
        )


def _text(record: Mapping[str, Any], classes: Sequence[str]) -> str:
    label = classes[record["label"]] if record["label"] >= 0 else "ambiguous"
    head = (
        f"{record['id']}  {record['lat']:.1f}N {record['lon']:.1f}E  [{label}]  "
        f"{record['climate'] or '-'}  {record['country']}"
    )
    lines = [head]
    for caption in record["captions"]:
        lines += textwrap.wrap(caption, 78, initial_indent="- ", subsequent_indent="  ")
    return "\n".join(lines)
