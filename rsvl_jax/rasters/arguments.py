"""Flags that the mains around rasters share."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from rsvl_jax.errors import UserError

if TYPE_CHECKING:
    from rsvl_jax.rasters.scene import View

INPUT = 'GeoTIFF, VRT, JPEG 2000, ..., or three one-band files "red.jp2,green.jp2,blue.jp2"'


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every command of the project does."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def add_view(parser: argparse.ArgumentParser) -> None:
    """--bands, --scale, --percentiles, --per_band and --gsd."""
    parser.add_argument(
        "--bands", type=_numbers(int, (1, 3)), default=(), help="red,green,blue or one, from 1"
    )
    parser.add_argument(
        "--scale",
        type=_numbers(float, (2, 6)),
        help="values shown black and white, e.g. 0,3000, or such a pair for each band [8-bit "
        "values as they are, others by percentiles]",
    )
    parser.add_argument(
        "--percentiles",
        type=_numbers(float, (2,)),
        default=(2.0, 98.0),
        help="that become black and white where there is no --scale [2,98]",
    )
    parser.add_argument(
        "--per_band",
        action="store_true",
        help="percentiles of each band by itself: takes out haze, and shifts hues",
    )
    parser.add_argument(
        "--gsd",
        type=float,
        help="metres a pixel, those that the model was trained at; the scene is resampled to it "
        "[the scene's own]",
    )


def view(given: argparse.Namespace) -> "View":
    """How a command line wants scenes to be looked at."""
    from rsvl_jax.rasters.scene import View  # rasterio is in the extra `geo`

    return View(given.bands, given.scale, given.percentiles, given.per_band, given.gsd)


def _numbers(kind: Callable[[str], float], counts: tuple[int, ...]) -> Callable[[str], tuple]:
    def parse(text: str) -> tuple:
        try:
            found = tuple(kind(part) for part in text.split(","))
        except ValueError:
            found = ()
        if len(found) not in counts:
            wanted = " or ".join(str(count) for count in counts)
            raise argparse.ArgumentTypeError(f"{text!r} must be {wanted} numbers with commas")
        return found

    return parse
