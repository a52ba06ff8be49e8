"""Logistic regression on frozen features: full batch, L-BFGS, deterministic.

Multinomial where an example has one label; one class against the rest where it has several.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

from rsvl_jax.evaluation import multilabel

L2 = 1e-4
ITERATIONS = 100


@dataclass(frozen=True)
class LinearHead:
    """A linear layer on standardised features.

    Attributes:
      mean, scale: float32 [D], of the training features.
      weight: float32 [D,C]. bias: float32 [C].
    """

    mean: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    bias: np.ndarray

    def folded(self) -> tuple[np.ndarray, np.ndarray]:
        """(weight [D,C], bias [C]) of the same layer on features as they are."""
        weight = self.weight / self.scale[:, None]
        return weight, self.bias - self.mean @ weight

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Class scores, float32 [..., C], of features [..., D]."""
        weight, bias = self.folded()
        return np.asarray(features, np.float32) @ weight + bias


def fit(
    features: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    *,
    l2: float = L2,
    iterations: int = ITERATIONS,
    start: np.ndarray | None = None,
) -> LinearHead:
    """Minimises mean cross-entropy + l2/2 |weight|^2 over all examples.

    features [M,D]; labels int [M] in [0, num_classes), or bool [M,num_classes] where an example may
    have several: the loss is then the sum of the binary ones. Features are standardised per
    dimension, as a batch norm before the layer would do (constant dimensions are left at zero).
    start: (weight, bias) float [D+1,C] on standardised features to begin from; None: zeros.
    """
    features = np.asarray(features, np.float32)
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 1e-6, scale, 1.0).astype(np.float32)
    x, y = jnp.asarray((features - mean) / scale), jnp.asarray(labels, jnp.int32)
    loss = _loss if y.ndim == 1 else _loss_of_several
    dims = features.shape[1]

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = loss(jnp.asarray(flat.reshape(dims + 1, -1), jnp.float32), x, y, l2)
        return float(value), np.asarray(gradient, np.float64).reshape(-1)

    start = np.zeros((dims + 1, num_classes)) if start is None else start
    options = {"maxiter": iterations, "maxcor": 20}
    found = minimize(objective, start.reshape(-1), jac=True, method="L-BFGS-B", options=options)
    solution = found.x.reshape(dims + 1, num_classes).astype(np.float32)
    return LinearHead(mean=mean, scale=scale, weight=solution[:-1], bias=solution[-1])


@jax.jit
@jax.value_and_grad
def _loss(params: jax.Array, x: jax.Array, y: jax.Array, l2: float) -> jax.Array:
    """params [D+1,C], the bias in the last row; x [M,D], y [M]."""
    weight, bias = params[:-1], params[-1]
    logits = jnp.matmul(x, weight, precision=jax.lax.Precision.HIGHEST) + bias
    chosen = jnp.take_along_axis(logits, y[:, None], axis=1)[:, 0]
    entropy = jnp.mean(jax.nn.logsumexp(logits, axis=1) - chosen)
    return entropy + 0.5 * l2 * jnp.sum(weight**2)


@jax.jit
@jax.value_and_grad
def _loss_of_several(params: jax.Array, x: jax.Array, y: jax.Array, l2: float) -> jax.Array:
    """As `_loss`, with y int [M,C] of 0 and 1."""
    weight, bias = params[:-1], params[-1]
    logits = jnp.matmul(x, weight, precision=jax.lax.Precision.HIGHEST) + bias
    entropy = jnp.mean(jnp.sum(jax.nn.softplus(logits) - y * logits, axis=1))
    return entropy + 0.5 * l2 * jnp.sum(weight**2)


# torchgeo-bench's grid of scikit-learn's C.
GRID = tuple(np.logspace(-6, 4, 40).tolist())


@dataclass(frozen=True)
class Probe:
    """A head whose strength was chosen on validation examples.

    Attributes:
      head: fitted to training and validation examples together.
      c: the chosen inverse strength, scikit-learn's C.
      validation: accuracy (for several labels mean average precision) in [0, 1] on the validation
        examples, of each C of the grid, by heads that saw training examples alone.
    """

    head: LinearHead
    c: float
    validation: tuple[float, ...]


def sweep(
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    num_classes: int,
    *,
    grid: Sequence[float] = GRID,
    iterations: int = 10 * ITERATIONS,
) -> Probe:
    """Fits a head for every C, weakest last, takes the best one, and fits it to all examples.

    train, validation: (features [M,D], labels as of `fit`). C weighs the summed cross-entropy
    against |weight|^2 / 2, as in scikit-learn; each fit starts from the one before. Of equals the
    smallest C counts. Source: torchgeo-bench (L-BFGS, logspace(-6, 4, 40), refit on both).
    """
    start, found = None, []
    for c in sorted(grid):
        l2 = 1 / (c * len(train[1]))
        head = fit(*train, num_classes, l2=l2, iterations=iterations, start=start)
        start = np.concatenate([head.weight, head.bias[None]]).astype(np.float64)
        found.append(_quality(head.logits(validation[0]), validation[1]))
    best = sorted(grid)[int(np.argmax(found))]
    features, labels = (np.concatenate(pair) for pair in zip(train, validation, strict=True))
    head = fit(features, labels, num_classes, l2=1 / (best * len(labels)), iterations=iterations)
    return Probe(head, best, tuple(found))


def _quality(logits: np.ndarray, labels: np.ndarray) -> float:
    """What strengths are compared by; 0 where no class has a positive."""
    if labels.ndim == 1:
        return float(np.mean(logits.argmax(axis=1) == labels))
    return float(np.nan_to_num(multilabel.macro(logits, labels)))
