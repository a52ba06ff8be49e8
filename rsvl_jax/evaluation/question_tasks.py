"""Questions about tiles whose answers are in their masks."""

from collections.abc import Sequence

import numpy as np

from rsvl_jax.evaluation import scoring, vqa
from rsvl_jax.evaluation import segmentation as seg
from rsvl_jax.evaluation.card import Card
from rsvl_jax.evaluation.features import encode_texts
from rsvl_jax.evaluation.suite import Model, Setting, start_card
from rsvl_jax.evaluation.vectors import normalize
from rsvl_jax.evaluation.zeroshot import CLASS_SLOT
from rsvl_jax.evaluation_sets.collection import Question
from rsvl_jax.vqa.looking import Similarities
from rsvl_jax.vqa.made_questions import made

METRICS = ("accuracy", "average_accuracy")
EACH = 3  # questions a tile


def question_cards(
    setting: Setting, model: Model, untrained: Model | None, *, seed: int
) -> list[Card]:
    """Accuracy by kind of question, of programs over the similarity of patches to class names."""
    names = tuple(name.replace("_", " ") for name in setting.pixel_classes)
    card = start_card(
        setting,
        model,
        "vqa",
        "questions made from the masks",
        questions=f"{EACH} a tile: presence, count, comparison; yes as often as no",
        programs="by the grammar of RSVQA's templates",
        masks="nearer to the name than to that of any other class",
        classes=names,
        least="things of at least a patch, in masks and in what the model sees",
        prompts=list(setting.templates),
    )
    if model.encoders.texts is None or "text_patches" not in model.test:
        return scoring.not_applicable(card, METRICS, "the objective trains no text encoder")
    side = setting.test.masks.shape[1]
    least = side * side // model.test["text_patches"].shape[1]
    asked = made(setting.test.masks, names, seed=seed, each=EACH, least=least)
    if not asked:
        return scoring.not_applicable(card, METRICS, "the masks answer no question")
    said = _said(setting, model, names, asked, least)
    return vqa.cards_of(card, asked, said, blocks=setting.blocks)


def _said(
    setting: Setting, model: Model, names: tuple[str, ...], asked: list[Question], least: int
) -> list[str]:
    vectors = _vectors(setting, model, names)
    rows, columns = setting.test.masks.shape[1:]
    tokens = model.test["text_patches"]
    grid = seg.grid_of(tokens.shape[1], (rows, columns))
    up, across = seg.upsampling(grid[0], rows), seg.upsampling(grid[1], columns)
    said: list[str] = []
    looker, shown = None, -1
    for question in asked:
        if question.image != shown or looker is None:
            shown = question.image
            cosines = (normalize(tokens[shown]) @ vectors.T).reshape(*grid, -1)
            maps = np.einsum("yi,xj,ijc->cyx", up, across, cosines, optimize=True)
            looker = Similarities(_Known(names, maps), (rows, columns), background=names)
        said.append(vqa.answer(question, looker, least=least))
    return said


class _Known:
    """Similarities that are there already: names -> cosines float32 [Q,H,W]."""

    def __init__(self, names: tuple[str, ...], maps: np.ndarray):
        self._maps = dict(zip(names, maps, strict=True))

    def __call__(self, names: Sequence[str]) -> np.ndarray:
        return np.stack([self._maps[name] for name in names])


def _vectors(setting: Setting, model: Model, names: tuple[str, ...]) -> np.ndarray:
    """A unit vector a name, over the templates, float32 [C,E]."""
    encode = model.encoders.texts
    assert encode is not None
    texts = [t.replace(CLASS_SLOT, name) for name in names for t in setting.templates]
    found = encode_texts(encode, texts, batch_size=setting.batch_size, mesh=setting.mesh)
    return normalize(normalize(found).reshape(len(names), len(setting.templates), -1).mean(axis=1))
