"""The command line of `python -m rsvl_jax.embed`."""

import argparse

from rsvl_jax.inference.embedder import BATCH_SIZE
from rsvl_jax.inference.towers import SPACES
from rsvl_jax.rasters.arguments import Parser, add_view


def parser(description: str) -> Parser:
    """Its flags; those of scenes are read where the input is scenes."""
    found = Parser(
        prog="python -m rsvl_jax.embed",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("--weights", required=True, metavar="DIR|WORKDIR", help="imported or a run")
    found.add_argument(
        "--input",
        required=True,
        action="append",
        help="folder, CSV, shards, scenes; or more",
    )
    found.add_argument("--output", required=True, help=".parquet, .geoparquet or .npz, to be made")
    found.add_argument("--batch_size", type=int, default=BATCH_SIZE, help="at a time [%(default)s]")
    found.add_argument(
        "--space", default="", choices=("", *SPACES), help="of the embeddings [texts', if there]"
    )
    found.add_argument(
        "--overlap", type=float, default=0.0, help="of windows of scenes, share of their side [0]"
    )
    found.add_argument(
        "--min_valid", type=float, default=0.5, help="share of a window that holds data [0.5]"
    )
    add_view(found)
    return found
