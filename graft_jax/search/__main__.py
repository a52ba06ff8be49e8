"""Search by words.

`python -m graft_jax.search build --workdir=DIR --input=SCENES --index=tiles.parquet` makes an index
of tiles; `python -m graft_jax.search --workdir=DIR --index=tiles.parquet --query=TEXT [...]
--output=gallery.html` ranks them.
"""

import argparse
import datetime
import sys
from collections.abc import Callable, Sequence

from graft_jax import towers
from graft_jax.map import arguments
from graft_jax.search.settings import Build, Search
from graft_jax.towers import TextImageModel
from rsvl_jax import runtime
from rsvl_jax.rasters.footprints import Box

Opener = Callable[[str], TextImageModel]
_BUILD = "build"


def run(argv: Sequence[str], open_model: Opener = towers.open_model) -> None:
    """Carries out a command line (without the program's name)."""
    if argv[:1] == [_BUILD]:
        _build(argv[1:], open_model)
    else:
        _search(argv, open_model)


def _build(argv: Sequence[str], open_model: Opener) -> None:
    given = _build_parser().parse_args(argv)
    settings = Build(
        index=given.index,
        inputs=tuple(given.input),
        dataset=given.dataset,
        split=given.split,
        data_dir=given.data_dir,
        view=arguments.view(given),
        overlap=given.overlap,
        min_valid=given.min_valid,
        date=given.date,
        batch_size=given.batch_size,
    )
    runtime.start()
    from graft_jax.search.build import build

    print(build(settings, open_model(given.workdir)))


def _search(argv: Sequence[str], open_model: Opener) -> None:
    given = vars(_search_parser().parse_args(argv))
    workdir = given.pop("workdir")
    templates = given.pop("template") or Search.templates
    settings = Search(queries=tuple(given.pop("query")), templates=tuple(templates), **given)
    runtime.start()
    from graft_jax.search.run import find

    find(settings, lambda: open_model(workdir))


def _build_parser() -> argparse.ArgumentParser:
    parser = arguments.Parser(
        prog=f"python -m graft_jax.search {_BUILD}", description="Makes an index of tiles."
    )
    arguments.add_model(parser)
    parser.add_argument(
        "--input",
        action="extend",
        nargs="+",
        default=[],
        help=f"scenes of any size, or patterns: {arguments.INPUT}",
    )
    parser.add_argument(
        "--dataset", default="", help="tiles of a built data set instead, such as zoom_pairs"
    )
    parser.add_argument("--split", default="", help="of the data set [all]")
    parser.add_argument("--data_dir", default="data", help="where data sets lie [data]")
    parser.add_argument("--index", required=True, help="GeoParquet to write")
    arguments.add_view(parser)
    parser.add_argument(
        "--overlap", type=float, default=0.0, help="of neighbouring tiles, share of their side [0]"
    )
    parser.add_argument(
        "--min_valid",
        type=float,
        default=0.5,
        help="share of a tile's pixels that must hold data [0.5]",
    )
    parser.add_argument(
        "--date", type=_day, help="of all scenes, as 2021-06-30 [their TIFFTAG_DATETIME]"
    )
    return parser


def _search_parser() -> argparse.ArgumentParser:
    parser = arguments.Parser(prog="python -m graft_jax.search", description=__doc__)
    parser.add_argument("--workdir", required=True, help="work directory of the trained model")
    parser.add_argument("--index", required=True, help="that the build command wrote")
    arguments.add_queries(parser)
    parser.add_argument("--top", type=int, default=20, help="hits a query [20]")
    parser.add_argument(
        "--distinct", action="store_true", help="leave out tiles that are centred on a better one"
    )
    parser.add_argument("--bbox", type=_box, help="W,S,E,N degrees: tiles with their centre there")
    parser.add_argument("--after", type=_day, help="first day, as 2021-06-30")
    parser.add_argument("--before", type=_day, help="last day")
    parser.add_argument("--output", help="gallery to write, HTML")
    parser.add_argument("--geojson", help="footprints of the hits to write")
    parser.add_argument("--density", help="GeoTIFF to write; a PNG goes beside it")
    parser.add_argument(
        "--cell", type=float, help="degrees, of the density map [about half a tile]"
    )
    parser.add_argument(
        "--threshold",
        type=float,
        help="the density map shows the share of tiles with this cosine or more [mean cosine]",
    )
    return parser


def _box(text: str) -> Box:
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} must be W,S,E,N in degrees") from None
    return west, south, east, north


def _day(text: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no day such as 2021-06-30") from None


if __name__ == "__main__":
    sys.exit(runtime.exit_status(lambda: run(sys.argv[1:])))
