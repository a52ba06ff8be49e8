"""`python -m graft_jax.ask --workdir=DIR --input=scene.tif --question="How many lakes are there?"`.

Prints the answer and the program that gave it, and draws where the model sees what it speaks of.
"""

import argparse
import sys
from collections.abc import Callable, Sequence

from graft_jax import towers
from graft_jax.map import arguments, geotiff
from graft_jax.towers import TextImageModel
from rsvl_jax import runtime
from rsvl_jax.chat import access
from rsvl_jax.vqa.looking import BACKGROUND

Opener = Callable[[str], TextImageModel]
_KEY = "OPENAI_API_KEY"


def run(argv: Sequence[str], open_model: Opener = towers.open_model) -> None:
    """Carries out a command line (without the program's name)."""
    given = _parser().parse_args(argv)
    geotiff.check_folder(given.output)
    where = None
    if given.endpoint:
        where = access.find(given.endpoint, given.model, given.api_key_file, _KEY)
    runtime.start()
    from graft_jax.ask.run import Settings, ask

    settings = Settings(
        input=given.input,
        question=given.question,
        output=given.output,
        program=given.program,
        endpoint=where,
        view=arguments.view(given),
        templates=tuple(given.template or ("{c}",)),
        background=tuple(given.background or BACKGROUND),
        margin=given.margin,
        least=given.least,
        overlap=given.overlap,
        batch_size=given.batch_size,
    )
    print(ask(settings, lambda: open_model(given.workdir)))


def _parser() -> argparse.ArgumentParser:
    parser = arguments.Parser(prog="python -m graft_jax.ask", description=__doc__)
    arguments.add_model(parser)
    add = parser.add_argument
    add("--input", required=True, help=f"picture, or {arguments.INPUT}")
    add("--question", required=True, help="in English")
    add(
        "--output",
        default="evidence.png",
        help="PNG to write; a GeoTIFF of a scene lies beside it [%(default)s]",
    )
    add("--program", default="", help="to run instead of the question's own")
    add("--template", action="append", help='prompt with {c} for a name; again for more ["{c}"]')
    add("--background", action="append", help="what else a pixel may be; again for more")
    add("--margin", type=float, default=0.0, help="in cosine, over the background [0]")
    add("--least", type=int, help="pixels of the smallest thing [half a patch]")
    add("--endpoint", default="", help="URL of a language model, for other questions")
    add("--model", default="", help="its name [OPENAI_MODEL]")
    add("--api_key_file", default="", help=f"file with the key [{_KEY}]")
    arguments.add_view(parser)
    arguments.add_overlap(parser)
    return parser


if __name__ == "__main__":
    sys.exit(runtime.exit_status(lambda: run(sys.argv[1:])))
