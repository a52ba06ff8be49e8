"""`python -m graft_jax.map --workdir=DIR --input=scene.tif --query=TEXT [...] --output=map.tif`.

Maps how similar every pixel of a scene is to words, or which of several it is most similar to.
"""

import argparse
import sys
from collections.abc import Callable, Sequence

from graft_jax import towers
from graft_jax.map import arguments
from graft_jax.map.settings import KINDS, Settings
from graft_jax.map.similarity import LEVELS
from graft_jax.towers import TextImageModel
from rsvl_jax import runtime

Opener = Callable[[str], TextImageModel]


def run(argv: Sequence[str], open_model: Opener = towers.open_model) -> None:
    """Carries out a command line (without the program's name)."""
    given = _parser().parse_args(argv)
    settings = _settings(given)
    runtime.start()
    from graft_jax.map.run import make_map

    print(make_map(settings, open_model(given.workdir)))


def _parser() -> argparse.ArgumentParser:
    parser = arguments.Parser(prog="python -m graft_jax.map", description=__doc__)
    arguments.add_model(parser)
    parser.add_argument("--input", required=True, help=arguments.INPUT)
    arguments.add_queries(parser)
    parser.add_argument("--output", required=True, help="GeoTIFF to write; a PNG goes beside it")
    parser.add_argument("--kind", default="similarity", help=f"{', '.join(KINDS)} [similarity]")
    parser.add_argument(
        "--level",
        default="pixels",
        help=f"{', '.join(LEVELS)}: patches, or whole windows, for a model that was trained on "
        "images alone [pixels]",
    )
    arguments.add_threshold(parser)
    arguments.add_view(parser)
    arguments.add_overlap(parser)
    return parser


def _settings(given: argparse.Namespace) -> Settings:
    return Settings(
        input=given.input,
        output=given.output,
        queries=tuple(given.query),
        templates=arguments.templates(given),
        kind=given.kind,
        level=given.level,
        view=arguments.view(given),
        overlap=given.overlap,
        threshold=given.threshold,
        batch_size=given.batch_size,
    )


if __name__ == "__main__":
    sys.exit(runtime.exit_status(lambda: run(sys.argv[1:])))
