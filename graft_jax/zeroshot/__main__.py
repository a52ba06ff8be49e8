"""`python -m graft_jax.zeroshot --workdir=DIR --images=FOLDER [--prompts=SET] [--fit=pad]`.

Classifies and retrieves the labelled images of a folder (one sub-folder a class) by text alone.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from graft_jax import towers
from graft_jax.map import arguments
from graft_jax.towers import TextImageModel
from graft_jax.zeroshot import folder, score
from rsvl_jax import runtime
from rsvl_jax.data.fits import FITS
from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import card, prompts
from rsvl_jax.evaluation.card import Card, Provenance
from rsvl_jax.evaluation.features import encode_texts, extract

Opener = Callable[[str], TextImageModel]


def run(argv: Sequence[str], open_model: Opener = towers.open_model) -> None:
    """Carries out a command line (without the program's name)."""
    given = _parser().parse_args(argv)
    if given.fit not in FITS:
        raise UserError(f"unknown --fit={given.fit!r}: choose one of {', '.join(FITS)}")
    if given.batch_size < 1:
        raise UserError(f"--batch_size={given.batch_size} must be 1 or more")
    if given.output and not os.path.isdir(os.path.dirname(os.path.abspath(given.output))):
        raise UserError(f"no folder for --output={given.output!r}: make it first")
    runtime.start()
    cards = evaluate(given, open_model(given.workdir))
    if given.output:
        card.write(given.output, cards)
    print(card.markdown(cards))


def evaluate(given: argparse.Namespace, model: TextImageModel) -> list[Card]:
    """The cards that a command line asks for."""
    from rsvl_jax.parallel.mesh import make_mesh
    from rsvl_jax.training.resume import code_revision

    images = folder.read(given.images, size=model.image_size, fit=given.fit, listed=given.list)
    asked = prompts.load(images.classes, prompts=given.prompts, names=given.names)
    mesh = make_mesh()
    batch = {"batch_size": given.batch_size, "mesh": mesh}
    vectors = prompts.vectors(asked, lambda texts: encode_texts(model.texts, texts, **batch))
    sides = images.sides()
    found = extract(
        lambda pixels: {"image": model.images(pixels)["image"]}, images, label="images", **batch
    )
    template = Card(
        task="",
        metric="",
        dataset=os.path.basename(os.path.normpath(given.images)),
        dataset_fingerprint=images.fingerprint,
        split=os.path.basename(given.list) if given.list else "all",
        split_fingerprint=images.fingerprint,
        protocol=score.protocol(images, asked, sides),
        provenance=Provenance(weights=model.fingerprint, revision=code_revision()),
    )
    return score.score(found["image"], vectors, images.labels, template)


def _parser() -> argparse.ArgumentParser:
    parser = arguments.Parser(prog="python -m graft_jax.zeroshot", description=__doc__)
    arguments.add_model(parser)
    parser.add_argument("--images", required=True, help="folder with one sub-folder a class")
    parser.add_argument("--list", help="text file of the images to take, a path a line [all]")
    parser.add_argument(
        "--prompts",
        default="graft",
        help=f"{', '.join(prompts.SETS)}; a .txt with a template a line, {{c}} for the class; or a "
        ".json of finished prompts by class [graft]",
    )
    parser.add_argument(
        "--names",
        default="words",
        help='class names: words ("AnnualCrop" is "annual crop"), raw, or a .json by class [words]',
    )
    parser.add_argument(
        "--fit",
        default="resize",
        help="resize, or pad (black) and pad_reflect, which keep metres a pixel [resize]",
    )
    parser.add_argument("--output", help="scores.json [print only]")
    return parser


if __name__ == "__main__":
    sys.exit(runtime.exit_status(lambda: run(sys.argv[1:])))
