"""`python -m graft_jax.pairs --photos=PATH --rasters=PATH --gsd=METRES [--name=NAME] ...`.

Turns geotagged photos and satellite rasters into the data set `ground_satellite_pairs/NAME`.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from graft_jax.pairs.settings import RESAMPLING, SEASONS, Settings
from rsvl_jax.errors import UserError
from rsvl_jax.runtime import exit_status


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every command of the project does."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def run(argv: Sequence[str]) -> None:
    """Carries out a command line (without the program's name)."""
    settings = parse(argv)
    from graft_jax.pairs import collect, summary  # after the flags are known to be good

    directory, found = collect.collect(settings)
    for line in summary.lines(found):
        print(line)
    print(f"{settings.name}: {directory}")


def parse(argv: Sequence[str]) -> Settings:
    """The settings of a command line; UserError for one that cannot be meant."""
    given = {k: v for k, v in vars(_parser().parse_args(argv)).items() if v is not None}
    for name in ("photos", "rasters", "beam_options"):
        if name in given:
            given[name] = tuple(given[name])
    if "columns" in given:
        given["columns"] = dict(pair for part in given["columns"] for pair in part)
    return Settings(**given)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m graft_jax.pairs",
        description="Pairs of satellite tiles and ground photos from what you have.",
        argument_default=None,
        allow_abbrev=False,
    )
    _add_input(parser.add_argument_group("input and output"))
    _add_photos(parser.add_argument_group("photos"))
    _add_tiles(parser.add_argument_group("tiles"))
    _add_rasters(parser.add_argument_group("rasters"))
    _add_running(parser.add_argument_group("running"))
    return parser


def _add_input(group) -> None:
    group.add_argument(
        "--photos",
        action="append",
        required=True,
        help="CSV, TSV or Parquet of photo metadata, a folder of such, or a folder of JPEGs with "
        "GPS; again for more",
    )
    group.add_argument(
        "--rasters",
        action="append",
        required=True,
        help="GeoTIFF, VRT, STAC item collection (.json) or a folder of rasters; again for more",
    )
    group.add_argument("--gsd", type=float, required=True, help="metres a pixel of a tile: 1, 10")
    group.add_argument("--size", type=int, help="pixels of a tile's side [224]")
    group.add_argument("--name", help="what the collection is called [pairs]")
    group.add_argument("--data_dir", help="where data sets lie [data]")
    group.add_argument("--image_format", help="png or jpeg, of the tiles [png]")


def _add_photos(group) -> None:
    group.add_argument(
        "--columns",
        action="append",
        type=_columns,
        help="other column names: lon=X,lat=Y,id=KEY; also date, owner, accuracy, error, width, "
        "height, path",
    )
    group.add_argument("--photos_dir", help="where the files of a metadata table's paths lie")
    group.add_argument("--photo_size", type=int, help="stored shorter side, 0 for as it is [256]")
    group.add_argument("--min_accuracy", type=float, help="least Flickr level, 1 to 16 [15]")
    group.add_argument("--max_error", type=float, help="most metres of a GPS error [100]")
    group.add_argument("--since", help="first day, YYYY-MM-DD")
    group.add_argument("--until", help="last day, YYYY-MM-DD [today]")
    group.add_argument("--min_side", type=int, help="least pixels of the shorter side [0]")
    group.add_argument(
        "--per_spot", type=int, help="most photos of one owner at one spot (11 m) in a day [1]"
    )
    group.add_argument("--per_owner", type=int, help="most photos of one owner, 0 for all [0]")
    group.add_argument("--outdoor", help="column of outdoor scores, or module:function")
    group.add_argument("--outdoor_min", type=float, help="least outdoor score [0.5]")


def _add_tiles(group) -> None:
    group.add_argument("--season", help=f"photos share a tile within one: {', '.join(SEASONS)}")
    group.add_argument(
        "--spacing",
        type=float,
        help="least distance of two centres of a season, in tiles: 0.5 (tiles overlap by half at "
        "most) to 1 (not at all) [0.5]",
    )
    group.add_argument(
        "--share_photos",
        action=argparse.BooleanOptionalAction,
        help="whether a photo may be on several tiles, else on the nearest [yes]",
    )
    group.add_argument("--max_photos", type=int, help="most photos of a tile [25]")
    group.add_argument("--min_photos", type=int, help="least photos of a tile [1]")
    group.add_argument(
        "--per_owner_per_tile", type=int, help="most photos of one owner on a tile, 0 for all [0]"
    )
    group.add_argument("--seed", type=int, help="of the order of photos and of the splits [0]")
    group.add_argument("--block", type=float, help="side of a split's blocks, degrees [0.5]")
    group.add_argument("--gap", type=float, help="metres between two splits [a tile]")
    group.add_argument(
        "--fractions", type=_floats(3), help="train,validation,test by area [0.8,0.1,0.1]"
    )


def _add_rasters(group) -> None:
    group.add_argument("--bands", type=_integers, help="red,green,blue or one, from 1")
    group.add_argument("--assets", type=_names, help="STAC assets: one, or red,green,blue")
    group.add_argument(
        "--stretch", type=_floats(2), help="values shown black and white, e.g. 0,3000"
    )
    group.add_argument("--sensor", help="name written into the records [that of STAC]")
    group.add_argument("--max_cloud", type=float, help="most eo:cloud_cover, percent [100]")
    group.add_argument(
        "--max_days", type=int, help="most days between photo and raster, 0 for any [0]"
    )
    group.add_argument("--min_valid", type=float, help="least share of valid pixels [0.95]")
    group.add_argument("--resampling", help=f"{', '.join(RESAMPLING)} [bilinear]")


def _add_running(group) -> None:
    group.add_argument("--workers", type=int, help="processes, 0 for one a core [0]")
    group.add_argument("--runner", help="local or beam [local]")
    group.add_argument(
        "--beam_options", action="append", help="an option of Beam, e.g. --runner=DataflowRunner"
    )


def _columns(text: str) -> list[tuple[str, str]]:
    known = ("id", "lon", "lat", "date", "owner", "accuracy", "error", "width", "height", "path")
    pairs = [tuple(part.split("=", 1)) for part in text.split(",")]
    if bad := [pair for pair in pairs if len(pair) != 2 or pair[0] not in known]:
        raise argparse.ArgumentTypeError(f"{'='.join(bad[0])!r} is not one of {known}=NAME")
    return pairs  # type: ignore[return-value]


def _floats(count: int):
    def parse(text: str) -> tuple[float, ...]:
        values = tuple(float(part) for part in text.split(","))
        if len(values) != count:
            raise argparse.ArgumentTypeError(f"{text!r} must be {count} numbers, such as 0,1")
        return values

    return parse


def _integers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


if __name__ == "__main__":
    sys.exit(exit_status(lambda: run(sys.argv[1:])))
