"""What a run leaves behind: its scores by geographic block and its costs, as a small JSON file."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from reproduce.plan import Run
from rsvl_jax.errors import UserError
from rsvl_jax.evaluation.card import Card
from rsvl_jax.storage import replace_file

FORMAT = "rsvl_jax claims, version 1"


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
      run, group, seed: whose.
      recipe: hash of its config, see `Run.recipe`.
      split: that was scored, with its fingerprint.
      steps: optimiser steps of training.
      flops: of training, multiplications and additions.
      seconds: of training, without compiling, saving and scoring.
      revision: of the code.
      values: "task/metric" -> in %, or rank.
      references: "task/metric" -> predictor that learned less -> value.
      block_sums: task -> sums by block, [blocks][M], see `rsvl_jax.evaluation.card.Card`; those of
        a reference under "task | name".
    """

    run: str
    group: str
    seed: int
    recipe: str
    split: str
    split_fingerprint: str
    steps: int
    flops: float
    seconds: float
    revision: str
    values: Mapping[str, float]
    references: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    block_sums: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)

    def sums(self, task: str) -> np.ndarray | None:
        """Sums by block of a task, float64 [blocks, M]; None where the run has no such score."""
        found = self.block_sums.get(task)
        return None if found is None else np.array(found, np.float64)


def of_cards(
    run: Run, cards: Sequence[Card], *, split: str, steps: int, flops: float, seconds: float
) -> Result:
    """The result of a run from its cards; those without a value are left out."""
    scored = [card for card in cards if card.value is not None]
    return Result(
        run=run.name,
        group=run.group,
        seed=run.seed,
        recipe=run.recipe(),
        split=split,
        split_fingerprint=scored[0].split_fingerprint,
        steps=steps,
        flops=flops,
        seconds=round(seconds, 1),
        revision=scored[0].provenance.revision,
        values={card.key: round(float(card.value or 0), 4) for card in scored},
        references={
            card.key: {each.name: round(each.value, 4) for each in card.references}
            for card in scored
            if card.references
        },
        block_sums=_block_sums(scored, beside=run.graft),
    )


def _block_sums(cards: Sequence[Card], beside: bool) -> dict[str, list[list[float]]]:
    """beside: keep those of references, too."""
    found: dict[str, list[list[float]]] = {}
    for card in cards:
        entries = [(card.task, card.block_sums)]
        if beside:
            entries += [(f"{card.task} | {r.name}", r.block_sums) for r in card.references]
        found |= {name: np.round(s, 4).tolist() for name, s in entries if s is not None}
    return found


def write(folder: str, result: Result) -> None:
    """Writes FOLDER/RUN.json, whole or not at all."""
    os.makedirs(folder, exist_ok=True)
    text = json.dumps({"format": FORMAT, **asdict(result)}, separators=(",", ":"))
    with replace_file(_path(folder, result.run)) as file:
        file.write(text.replace('],"', '],\n"').replace('},"', '},\n"').encode() + b"\n")


def read(folder: str, name: str) -> Result | None:
    """The result of a run, None where there is none. Raises UserError for a damaged file."""
    path = _path(folder, name)
    if not os.path.exists(path):
        return None
    try:
        with open(path, encoding="utf-8") as file:
            content: dict[str, Any] = json.load(file)
        if content.pop("format") != FORMAT:
            raise ValueError("another format")
        return Result(**content)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path!r} is no result of a run ({error}): remove it") from error


def _path(folder: str, name: str) -> str:
    return os.path.join(folder, f"{name}.json")
