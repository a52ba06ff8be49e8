"""What a method hands the core: an objective, and the one place where its terms are added up."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

Tree = Any
Term = tuple[jax.Array, jax.Array]
Weight = float | Callable[[jax.Array], jax.Array]


class Objective(Protocol):
    """A method seen from the core: parameters, loss terms, and what they cost.

    Trees are nested plain dicts of arrays. `frozen` holds what is used but never optimised
    (an image tokenizer's codebook, a frozen tower).
    """

    weights: Mapping[str, Weight]
    """Weight of each term, a number or a function of the step (int32 scalar)."""

    def init(self, rng: jax.Array) -> dict[str, Tree]:
        """{"params": tree, "frozen": tree}; traceable, so that it can run sharded."""
        ...

    def logical_axes(self) -> dict[str, Tree]:
        """The structure of `init`, with a tuple of logical axis names for each array."""
        ...

    def terms(self, params: Tree, frozen: Tree, batch: Tree, rng: jax.Array) -> dict[str, Term]:
        """name -> (sum, count) of each loss term over the global batch, float32 scalars."""
        ...

    def project(self, params: Tree) -> Tree:
        """Parameters brought back into their domain after an update (clamped logit scales)."""
        ...

    def flops_per_sample(self) -> float:
        """Analytic FLOPs of forward and backward for one sample, for MFU."""
        ...


@runtime_checkable
class ReportsScalars(Protocol):
    """An objective that has scalars of its own to log, such as its logit scales."""

    def scalars(self, params: Tree) -> dict[str, jax.Array]:
        """name -> scalar, logged as `train/<name>`."""
        ...


@runtime_checkable
class TellsArchitecture(Protocol):
    """An objective that says what its modules compute beside their arrays, for who loads them."""

    def architecture(self) -> dict[str, dict[str, Any]]:
        """Path of each module -> properties, see `rsvl_jax.models.architecture`."""
        ...


class Split:
    """Base of an objective whose rows are encoded each for itself, and related by embeddings.

    Such a batch can be taken in micro-batches (`accumulate`) with the gradient of the whole: terms
    that are sums over rows add up, and those that compare rows need nothing of them but embeddings.
    A subclass has `embed` and `relate` if it compares rows, `encode` if it has sums over rows.
    """

    @property
    def whole_batch(self) -> Mapping[str, str]:
        """What keeps a batch from being taken in parts, name -> reason: a term whose draws or
        inputs come from other rows, a layer with statistics of the batch."""
        return {}

    def prepare(self, batch: Tree) -> Tree:
        """The batch with what a row must know of all others (not of parameters) put beside it."""
        return batch

    def embed(self, params: Tree, frozen: Tree, batch: Tree, rng: jax.Array) -> Tree:
        """What rows are compared by: a tree of float arrays [B, ...], row i of the row i alone."""
        return {}

    def encode(
        self, params: Tree, frozen: Tree, batch: Tree, rng: jax.Array
    ) -> tuple[Tree, dict[str, Term]]:
        """What `embed` returns, to the last draw of `rng`, and the terms that are sums over rows.

        Counts do not depend on parameters.
        """
        return self.embed(params, frozen, batch, rng), {}

    def relate(self, params: Tree, frozen: Tree, embeddings: Tree, batch: Tree) -> dict[str, Term]:
        """The terms that compare rows, from the embeddings of all of them."""
        return {}

    def terms(self, params: Tree, frozen: Tree, batch: Tree, rng: jax.Array) -> dict[str, Term]:
        """name -> (sum, count) of each loss term over the global batch, float32 scalars."""
        batch = self.prepare(batch)
        embeddings, found = self.encode(params, frozen, batch, rng)
        return found | self.relate(params, frozen, embeddings, batch)


def total(
    terms: Mapping[str, Term], weights: Mapping[str, Weight], step: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Weighted sum of the terms' means: sum_i w_i(step) * sum_i / max(count_i, 1).

    Returns (loss, name -> unweighted mean), float32 scalars. Raises ValueError where a term has
    no weight, or a weight no term: either would drop a loss in silence.
    """
    if set(terms) != set(weights):
        raise ValueError(f"terms {sorted(terms)} and weights {sorted(weights)} differ in names")
    means = {
        name: jnp.asarray(value, jnp.float32) / jnp.maximum(jnp.asarray(count, jnp.float32), 1)
        for name, (value, count) in terms.items()
    }
    loss = jnp.zeros((), jnp.float32)
    for name in sorted(means):
        weight = weights[name]
        loss += jnp.asarray(weight(step) if callable(weight) else weight, jnp.float32) * means[name]
    return loss, means
