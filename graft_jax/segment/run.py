"""From a picture or a scene and queries to labels."""

import os
import time
from collections.abc import Mapping

import numpy as np
from PIL import Image as Pillow
from PIL import PngImagePlugin

import rsvl_jax
from graft_jax.map import classes, queries
from graft_jax.map.run import make_map
from graft_jax.map.similarity import blocks
from graft_jax.segment import overlay
from graft_jax.segment.labels import Picture, segment
from graft_jax.segment.refined import Refined
from graft_jax.segment.regions import Regions
from graft_jax.segment.settings import Settings
from graft_jax.towers import TextImageModel
from rsvl_jax.errors import UserError
from rsvl_jax.storage import replace_file

_MOST = 64 * 2**20  # pixels of a picture, which is labelled in memory


def make_labels(settings: Settings, model: TextImageModel) -> str:
    """Writes the labels and a picture of them for people; what was made, in a line."""
    regions = settings.regions(model.patch_size)
    tags = settings.tags(model.patch_size)
    if settings.is_picture:
        return _picture(settings, model, regions, tags)
    folder = os.path.dirname(os.path.abspath(settings.output))
    scanner = blocks if regions is None else Refined(regions, folder)
    return str(make_map(settings.map, model, scanner, tags))


def _picture(
    settings: Settings, model: TextImageModel, regions: Regions | None, tags: Mapping[str, str]
) -> str:
    start = time.perf_counter()
    picture = read(settings.input)
    found = segment(
        model,
        picture.pixels,
        queries.vectors(model, settings.queries, settings.templates),
        valid=picture.valid,
        regions=regions,
        threshold=settings.threshold,
        overlap=settings.overlap,
        batch_size=settings.batch_size,
    )
    named = classes.names(settings.queries, settings.threshold)
    tags = {
        "software": f"rsvl-jax {rsvl_jax.__version__}, graft_jax.segment",
        "model": model.fingerprint,
        "templates": " | ".join(settings.templates),
        "threshold": "none" if settings.threshold is None else f"{settings.threshold:g}",
        **tags,
        **{f"class_{n}": name for n, name in enumerate(named)},
    }
    table = classes.colours(settings.queries, settings.threshold)
    shown = os.path.splitext(settings.output)[0] + "_overlay.png"
    _write(settings.output, found.labels, table, tags)
    overlay.write(shown, picture, found.labels, named, table, os.path.basename(settings.input))
    seconds = time.perf_counter() - start
    return f"{settings.output} and {shown}: {found.labels.size:,} pixels in {seconds:.1f} s"


def read(path: str) -> Picture:
    """A PNG, JPEG, ... of 8 bits; transparent pixels are not valid.

    Raises UserError for a file that is missing, damaged, of more bits, or too large.
    """
    try:
        with Pillow.open(path) as file:
            if file.width * file.height > _MOST:
                raise UserError(
                    f"{path!r} has {file.width} x {file.height} pixels, too many for a picture: "
                    "make it a GeoTIFF, which is read by window"
                )
            if file.mode.startswith(("I", "F")):
                raise UserError(
                    f"{path!r} has more than 8 bits: make it a GeoTIFF and give --scale"
                )
            pixels = np.asarray(file.convert("RGBA"))
    except (OSError, SyntaxError, Pillow.DecompressionBombError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"--input={path!r} cannot be read as a picture: {reason}") from error
    valid = pixels[..., 3] > 0
    if not valid.any():
        raise UserError(f"{path!r} is transparent everywhere: give a picture with pixels to label")
    return Picture(np.ascontiguousarray(pixels[..., :3]), valid)


def _write(path: str, labels: np.ndarray, table: classes.Colours, tags: Mapping[str, str]) -> None:
    """Labels as a PNG with palette: its pixel values are the classes, 255 is transparent."""
    image = Pillow.fromarray(labels)
    palette = np.zeros((256, 3), np.uint8)
    for number, colour in table.items():
        palette[number] = colour[:3]
    image.putpalette(palette.tobytes())
    text = PngImagePlugin.PngInfo()
    for name, value in tags.items():
        text.add_itxt(name, value)
    with replace_file(path) as file:
        image.save(file, format="PNG", transparency=classes.NO_CLASS, pnginfo=text)
