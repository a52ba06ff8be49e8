"""`python -m graft_jax.segment --workdir=DIR --input=image.png --query=TEXT [...] --output=o.png`.

Labels every pixel of a picture or a scene with the text that it is most similar to.
"""

import argparse
import sys
from collections.abc import Callable, Sequence

from graft_jax import towers
from graft_jax.map import arguments
from graft_jax.segment.sam import POINTS
from graft_jax.segment.settings import REFINEMENTS, Settings
from graft_jax.towers import TextImageModel
from rsvl_jax import runtime

Opener = Callable[[str], TextImageModel]


def run(argv: Sequence[str], open_model: Opener = towers.open_model) -> None:
    """Carries out a command line (without the program's name)."""
    given = _parser().parse_args(argv)
    settings = _settings(given)
    runtime.start()
    from graft_jax.segment.run import make_labels

    print(make_labels(settings, open_model(given.workdir)))


def _parser() -> argparse.ArgumentParser:
    parser = arguments.Parser(prog="python -m graft_jax.segment", description=__doc__)
    arguments.add_model(parser)
    parser.add_argument("--input", required=True, help=f"PNG, JPEG, or a scene: {arguments.INPUT}")
    arguments.add_queries(parser)
    parser.add_argument(
        "--output",
        required=True,
        help="PNG for a picture, GeoTIFF for a scene; a view for people goes beside it",
    )
    arguments.add_threshold(parser)
    parser.add_argument(
        "--refine",
        default="none",
        help=f"{', '.join(REFINEMENTS)}: regions that take one label each [none]",
    )
    parser.add_argument(
        "--superpixel", type=int, help="side of superpixels, pixels [that of a patch]"
    )
    parser.add_argument("--sam", help="folder (or hub name) of Segment Anything for transformers")
    parser.add_argument(
        "--sam_points", type=int, default=POINTS, help=f"prompts a side of a tile [{POINTS}]"
    )
    arguments.add_view(parser)
    arguments.add_overlap(parser)
    return parser


def _settings(given: argparse.Namespace) -> Settings:
    return Settings(
        input=given.input,
        output=given.output,
        queries=tuple(given.query),
        templates=arguments.templates(given),
        threshold=given.threshold,
        refine=given.refine,
        superpixel=given.superpixel,
        sam=given.sam,
        sam_points=given.sam_points,
        view=arguments.view(given),
        overlap=given.overlap,
        batch_size=given.batch_size,
    )


if __name__ == "__main__":
    sys.exit(runtime.exit_status(lambda: run(sys.argv[1:])))
