"""From an image and a question to an answer, its program and the picture of its evidence."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graft_jax.ask import evidence, programs
from graft_jax.map import queries
from graft_jax.map.similarity import Scan, dense
from graft_jax.segment import run as pictures
from graft_jax.segment.labels import Picture
from graft_jax.towers import TextImageModel
from rsvl_jax.chat.access import Access
from rsvl_jax.errors import UserError
from rsvl_jax.rasters.scene import View, open_scene
from rsvl_jax.vqa import answers, grammar, interpreter, looking
from rsvl_jax.vqa.primitives import Primitives

_MOST = 64 * 2**20  # pixels, which are looked at in memory
_RASTERS = (".tif", ".tiff", ".vrt", ".jp2")


@dataclass(frozen=True)
class Settings:
    """What is asked, and how the image is looked at.

    Attributes:
      program: "" takes the question's template, or asks the endpoint where there is one.
      endpoint: of a language model that writes programs, or None.
      templates: prompts of a name. background, margin: see `looking.Similarities`.
      least: pixels below which a connected part is no thing; None: half a patch.
    """

    input: str
    question: str
    output: str
    program: str = ""
    endpoint: Access | None = None
    view: View = View()
    templates: Sequence[str] = queries.BARE
    background: tuple[str, ...] = looking.BACKGROUND
    margin: float = 0.0
    least: int | None = None
    overlap: float = 0.5
    batch_size: int = 32


@dataclass(frozen=True)
class Answer:
    """An answer, the program that gave it, and the picture."""

    text: str
    program: str
    picture: str

    def __str__(self) -> str:
        return f"answer: {self.text}\nprogram: {self.program}\nevidence: {self.picture}"


def ask(settings: Settings, model: TextImageModel) -> Answer:
    """Answers the question and writes OUTPUT.

    Raises UserError for an image or a question that is not understood, and for a program that the
    interpreter refuses.
    """
    kind, program = _program(settings)
    picture, metres = read(settings.input, settings.view)
    looker = looking.Similarities(
        lambda names: _scores(settings, model, picture, names),
        (picture.height, picture.width),
        metres,
        settings.background,
        settings.margin,
    )
    least = model.patch_size**2 // 2 if settings.least is None else settings.least
    value = interpreter.run(program, Primitives(looker, least).functions())
    text = said(value, kind, metres)
    evidence.write(settings.output, picture.pixels, looker.seen, settings.question, text)
    return Answer(text, program, settings.output)


def _program(settings: Settings) -> tuple[str, str]:
    """The kind of the question, "" where that is not known, and its program."""
    if settings.program:
        return "", settings.program
    try:
        parsed = grammar.parse(settings.question)
        return parsed.kind, parsed.program
    except UserError:
        if settings.endpoint is None:
            raise
        return "", programs.ask(settings.endpoint, settings.question)


def said(value: object, kind: str, metres: float | None) -> str:
    """The answer for people: areas with their unit, other numbers as they are."""
    if kind == grammar.AREA and isinstance(value, int | float):
        return f"{value:,.0f} {'pixels' if metres is None else 'm2'}"
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.4g}"
    return answers.written(value, kind)


def _scores(
    settings: Settings, model: TextImageModel, picture: Picture, names: Sequence[str]
) -> np.ndarray:
    vectors = queries.vectors(model, names, settings.templates)
    scan = Scan(vectors, overlap=settings.overlap, batch_size=settings.batch_size)
    return dense(model, picture, scan)


def read(path: str, view: View) -> tuple[Picture, float | None]:
    """A picture or a scene in memory, and the side of a pixel in metres where it is known."""
    if os.path.splitext(path)[1].lower() not in _RASTERS and "," not in path:
        return pictures.read(path), view.gsd
    with open_scene(path, view) as scene:
        if scene.height * scene.width > _MOST:
            raise UserError(
                f"{path!r} has {scene.height} x {scene.width} pixels, too many to ask about: cut "
                "a part out of it, or give a coarser --gsd"
            )
        pixels, valid = scene.read(0, 0, scene.height, scene.width)
        return Picture(pixels, valid), float(np.sqrt(scene.ground[0] * scene.ground[1]))
