"""From an image and a question to an answer, its program and the evidence."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from graft_jax.ask import evidence, image, programs
from graft_jax.map import queries
from graft_jax.map.similarity import Scan, dense
from graft_jax.segment.labels import Picture
from graft_jax.towers import TextImageModel
from rsvl_jax.chat.access import Access
from rsvl_jax.errors import UserError
from rsvl_jax.rasters.scene import View
from rsvl_jax.vqa import answers, grammar, interpreter, looking
from rsvl_jax.vqa.primitives import Primitives


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
    """An answer, the program that gave it, and the files of its evidence."""

    text: str
    program: str
    files: tuple[str, ...]

    def __str__(self) -> str:
        where = " and ".join(self.files)
        return f"answer: {self.text}\nprogram: {self.program}\nevidence: {where}"


def ask(settings: Settings, open_model: Callable[[], TextImageModel]) -> Answer:
    """Answers the question; writes OUTPUT and, of a scene, a GeoTIFF beside it.

    Raises UserError for an image or a question that is not understood, and for a program that the
    interpreter refuses. The model is opened last, since that takes longest.
    """
    _check_output(settings)
    kind, program = _program(settings)
    names = interpreter.named(program, "find")
    looked = image.read(settings.input, settings.view)
    picture, metres = looked.picture, looked.metres
    model = open_model()
    looker = looking.Similarities(
        lambda names: _scores(settings, model, picture, names),
        (picture.height, picture.width),
        metres,
        settings.background,
        settings.margin,
    )
    looker.look(names)
    least = model.patch_size**2 // 2 if settings.least is None else settings.least
    value = interpreter.run(program, Primitives(looker, least).functions())
    text = said(value, kind, metres)
    tags = {"question": settings.question, "program": program, "answer": text}
    files = evidence.write(
        settings.output, looked, looker.seen, tags | {"model": model.fingerprint}
    )
    return Answer(text, program, files)


def _check_output(settings: Settings) -> None:
    """Raises UserError for no PNG, and where the evidence would replace the image."""
    if not settings.output.lower().endswith(".png"):
        raise UserError(f"--output={settings.output!r} must end in .png")
    ours = {os.path.realpath(path) for path in evidence.paths(settings.output)}
    if any(os.path.realpath(path) in ours for path in settings.input.split(",")):
        raise UserError(
            f"the evidence {' and '.join(evidence.paths(settings.output))} would replace "
            f"--input={settings.input!r}: give another --output"
        )


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
