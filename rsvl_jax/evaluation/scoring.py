"""From per-example counts to cards: values, block-bootstrap intervals, references beside them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from rsvl_jax.evaluation.bootstrap import Blocks, Images, Statistic, percentile
from rsvl_jax.evaluation.card import Card, Reference


@dataclass(frozen=True)
class Outcome:
    """What a predictor did on each example of a task.

    Attributes:
      examples: float64 [n,M], what each example adds to the sums that the metrics are functions of.
      references: the same for the reference predictors, by name, on the same n examples.
      chance: metric -> expected value of a random guess, in [0, 1].
      blocks: draws of geographic blocks for the intervals; None leaves them out.
      per_class: metric -> statistic of the sums with one value a class, in [0, 1].
      class_names: names for `per_class`.
    """

    examples: np.ndarray
    references: Mapping[str, np.ndarray] = field(default_factory=dict)
    chance: Mapping[str, float] = field(default_factory=dict)
    blocks: Blocks | Images | None = None
    per_class: Mapping[str, Statistic] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()


def cards(template: Card, metrics: Mapping[str, Statistic], outcome: Outcome) -> list[Card]:
    """One card a metric, in percent: `template` with the numbers of the outcome filled in.

    A metric maps summed examples [..., M] to [...] in [0, 1].
    """
    return [_card(template, name, statistic, outcome) for name, statistic in metrics.items()]


def not_applicable(template: Card, metrics: Iterable[str], reason: str) -> list[Card]:
    """The cards of a task that a model cannot do: no value, and why."""
    note = f"not applicable: {reason}"
    return [replace(template, metric=name, note=note) for name in metrics]


def _card(template: Card, name: str, statistic: Statistic, outcome: Outcome) -> Card:
    model = _draws(outcome.examples, statistic, outcome.blocks)
    chance = outcome.chance.get(name)
    return replace(
        template,
        metric=name,
        value=_percent(outcome.examples, statistic),
        interval=None if model is None else percentile(model),
        interval_method="" if outcome.blocks is None else outcome.blocks.describe(),
        chance=None if chance is None else 100 * chance,
        references=tuple(
            _reference(reference, examples, statistic, model, outcome.blocks)
            for reference, examples in outcome.references.items()
        ),
        n=len(outcome.examples),
        per_class=_per_class(name, outcome),
        block_sums=_sums(outcome.blocks, outcome.examples),
    )


def _reference(
    name: str,
    examples: np.ndarray,
    statistic: Statistic,
    model: np.ndarray | None,
    blocks: Blocks | Images | None,
) -> Reference:
    value = _percent(examples, statistic)
    draws = _draws(examples, statistic, blocks)
    if model is None or draws is None or blocks is None:
        return Reference(name, value)
    bounds = percentile(draws), percentile(model - draws)
    return Reference(name, value, *bounds, block_sums=_sums(blocks, examples))


def _sums(blocks: Blocks | Images | None, examples: np.ndarray) -> np.ndarray | None:
    return blocks.sums(examples) if isinstance(blocks, Blocks) else None


def _percent(examples: np.ndarray, statistic: Statistic) -> float:
    return 100 * float(statistic(examples.sum(axis=0)))


def _draws(
    examples: np.ndarray, statistic: Statistic, blocks: Blocks | Images | None
) -> np.ndarray | None:
    return None if blocks is None else 100 * blocks.replicates(examples, statistic)


def _per_class(metric: str, outcome: Outcome) -> dict[str, float]:
    if metric not in outcome.per_class:
        return {}
    values = 100 * outcome.per_class[metric](outcome.examples.sum(axis=0))
    named = zip(outcome.class_names, values.tolist(), strict=True)
    return {name: value for name, value in named if not np.isnan(value)}
