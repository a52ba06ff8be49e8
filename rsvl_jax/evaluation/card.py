"""Score cards: a number with everything needed to know what it means and to get it again."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.storage import locate, replace_file

FORMAT = "rsvl_jax scores, version 1"

Interval = tuple[float, float]


@dataclass(frozen=True)
class Reference:
    """The same score of a predictor that learned nothing, or nothing of pixels.

    Attributes:
      name: such as "colour statistics".
      value: in the card's unit.
      interval: its confidence interval.
      difference: confidence interval of (card - reference), from shared resamples.
      block_sums: as a card's, of this predictor.
    """

    name: str
    value: float
    interval: Interval | None = None
    difference: Interval | None = None
    block_sums: np.ndarray | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Provenance:
    """What was scored: the weights and the code.

    Attributes:
      weights: fingerprint of the parameters, see `weights_fingerprint`.
      step: training step of the weights.
      revision: code revision.
    """

    weights: str = ""
    step: int = 0
    revision: str = ""


@dataclass(frozen=True)
class Card:
    """One score and its whole protocol.

    Attributes:
      task: path-like name, such as "knn/l2_k5/mean"; with `metric` it names the score.
      metric: such as "balanced_accuracy".
      title: the task in words.
      value: in `unit`; None where the task does not apply, and then `note` says why.
      unit: "%", "fraction" or "rank".
      interval: confidence interval of the value, None where none was computed.
      interval_method: how it was computed.
      chance: expected value of a random guess, None where it is not known in closed form.
      references: the same score of honest baselines.
      n: test examples scored.
      dataset, dataset_fingerprint: the data set.
      split, split_fingerprint: the split, and a hash of the ids of its examples.
      protocol: class names, prompts, pooling, resize, crop, normalisation, k, distance, ...
      per_class: the score of each class, in `unit`.
      seed: of resampling and of sampling training pixels.
      provenance: weights, step and code revision.
      note: what a reader must know beside the number.
      block_sums: what the metric is a function of, summed by block, float64 [blocks, M], so that
        scores of other models can be compared on the same draws; not written to scores.json.
    """

    task: str
    metric: str
    title: str = ""
    value: float | None = None
    unit: str = "%"
    interval: Interval | None = None
    interval_method: str = ""
    chance: float | None = None
    references: tuple[Reference, ...] = ()
    n: int = 0
    dataset: str = ""
    dataset_fingerprint: str = ""
    split: str = ""
    split_fingerprint: str = ""
    protocol: Mapping[str, Any] = field(default_factory=dict)
    per_class: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    provenance: Provenance = Provenance()
    note: str = ""
    block_sums: np.ndarray | None = field(default=None, repr=False, compare=False)

    @property
    def key(self) -> str:
        """Name of the score, such as "knn/l2_k5/mean/balanced_accuracy"."""
        return f"{self.task}/{self.metric}"

    def reference(self, name: str) -> Reference:
        """The reference of that name. Raises KeyError where the card has none."""
        return {reference.name: reference for reference in self.references}[name]


def as_metrics(cards: Iterable[Card]) -> dict[str, float]:
    """Flat keys for metrics.jsonl, "eval/<task>/<metric>"; cards without a value are left out."""
    return {f"eval/{card.key}": card.value for card in cards if card.value is not None}


def write(path: str, cards: Sequence[Card]) -> None:
    """Writes scores.json; a reader sees the old file or the new one, never a part.

    Raises ValueError for a value that is not finite: JSON has no such number.
    """
    text = json.dumps({"format": FORMAT, "cards": [as_json(card) for card in cards]}, **_STYLE)
    with replace_file(path) as file:
        file.write(text.encode() + b"\n")


def as_json(card: Card) -> dict[str, Any]:
    """The fields of a card as they are written."""
    fields = asdict(card)
    for entry in (fields, *fields["references"]):
        del entry["block_sums"]
    return fields


_STYLE: dict[str, Any] = {"indent": 1, "ensure_ascii": False, "allow_nan": False}


def read(path: str) -> list[Card]:
    """Cards of a scores.json. Raises UserError where the file is not one."""
    try:
        content = json.loads(locate(path).read_text())
        if content["format"] != FORMAT:
            raise UserError(f"{path!r} has format {content['format']!r}, expected {FORMAT!r}")
        return [_card(fields) for fields in content["cards"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path!r} is not a scores.json: {error}") from error


def _card(fields: dict[str, Any]) -> Card:
    fields["interval"] = _interval(fields["interval"])
    fields["references"] = tuple(_reference(reference) for reference in fields["references"])
    fields["provenance"] = Provenance(**fields["provenance"])
    return Card(**fields)


def _reference(fields: dict[str, Any]) -> Reference:
    pair = {name: _interval(fields[name]) for name in ("interval", "difference")}
    return Reference(**{**fields, **pair})


def _interval(pair: Sequence[float] | None) -> Interval | None:
    return None if pair is None else (pair[0], pair[1])


def markdown(cards: Sequence[Card]) -> str:
    """A table of the cards, one row a score, references beside it."""
    rows = [
        "| task | metric | score (95 % interval) | chance | references | n |",
        "|---|---|---|---|---|---|",
    ]
    for card in cards:
        references = "; ".join(f"{r.name} {r.value:.1f}" for r in card.references)
        references = references.replace("|", "\\|")  # else it would end the cell
        chance = "" if card.chance is None else f"{card.chance:.1f}"
        cells = [card.title or card.task, f"{card.metric} ({card.unit})", _score(card)]
        rows.append("| " + " | ".join([*cells, chance, references, str(card.n or "")]) + " |")
    return "\n".join(rows) + "\n"


def _score(card: Card) -> str:
    if card.value is None:
        return card.note
    bounds = "" if card.interval is None else f" ({card.interval[0]:.1f}–{card.interval[1]:.1f})"
    return f"{card.value:.1f}{bounds}"


def weights_fingerprint(params: Any) -> str:
    """Hash of a tree of arrays, 12 hex digits; the same however the arrays are sharded."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        name = f"{jax.tree_util.keystr(path)} {leaf.shape} {leaf.dtype} {int(_checksum(leaf))}\n"
        digest.update(name.encode())
    return digest.hexdigest()[:12]


@jax.jit
def _checksum(leaf: jax.Array) -> jax.Array:
    """Sum of the 32-bit words, weighted by their place, modulo 2^32.

    Integer sums do not depend on their order, hence not on the number of devices either.
    """
    bits = jax.lax.bitcast_convert_type(leaf.astype(jnp.float32), jnp.uint32)
    place = jnp.zeros(bits.shape, jnp.uint32)
    for axis, size in enumerate(bits.shape):
        place = place * jnp.uint32(size % 2**32) + jax.lax.broadcasted_iota(
            jnp.uint32, bits.shape, axis
        )
    return jnp.sum(bits * (2 * place + 1), dtype=jnp.uint32)
