"""Few-shot classification by ridge regression in closed form.

Features are standardised by the shots, a large constant stands for the bias so that it is hardly
regularised, and targets are -1 and 1; one eigendecomposition serves all strengths. Source: the
recipe of big_vision's evaluators/fewshot_lsr.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rsvl_jax.errors import UserError

SHOTS = (1, 5, 10, 25, 100)
STRENGTHS = tuple(2.0**power for power in range(-10, 20))
SEEDS = 3
_BIAS = 100.0


@dataclass(frozen=True)
class Ridge:
    """Ridge regressions of one set of shots for any strength.

    Attributes:
      mean, scale: of the shots, float64 [D].
      values: eigenvalues [R]. left [D+1,R] and right [R,C]: the weights are left / (values + l2)
        @ right.
    """

    mean: np.ndarray
    scale: np.ndarray
    values: np.ndarray
    left: np.ndarray
    right: np.ndarray

    @classmethod
    def fit(cls, features: np.ndarray, labels: np.ndarray, num_classes: int) -> "Ridge":
        """features [M,D], labels int [M]."""
        x = np.asarray(features, np.float64)
        mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-5
        x = _with_bias((x - mean) / scale)
        y = 2 * np.eye(num_classes)[np.asarray(labels)] - 1
        if len(x) >= x.shape[1]:
            values, vectors = np.linalg.eigh(x.T @ x)
            return cls(mean, scale, values, vectors, vectors.T @ (x.T @ y))
        values, vectors = np.linalg.eigh(x @ x.T)  # fewer examples than dimensions
        return cls(mean, scale, values, x.T @ vectors, vectors.T @ y)

    def scores(self, features: np.ndarray, l2: float) -> np.ndarray:
        """Class scores float64 [n,C] of features [n,D]."""
        x = _with_bias((np.asarray(features, np.float64) - self.mean) / self.scale)
        return x @ (self.left / (self.values + l2) @ self.right)


def _with_bias(x: np.ndarray) -> np.ndarray:
    return np.pad(x, ((0, 0), (0, 1)), constant_values=_BIAS)


def draw(labels: np.ndarray, shots: int, num_classes: int, seed: int) -> np.ndarray:
    """Rows of `shots` examples of each class, int [C * shots], drawn without replacement.

    Raises UserError for a class with fewer.
    """
    rng = np.random.default_rng(seed)
    found = []
    for label in range(num_classes):
        rows = np.flatnonzero(np.asarray(labels) == label)
        if len(rows) < shots:
            raise UserError(
                f"{shots} shots a class: class {label} has {len(rows)} training examples"
            )
        found.append(rng.permutation(rows)[:shots])
    return np.concatenate(found)


def strength(
    ridges: Sequence[Ridge],
    validation: tuple[np.ndarray, np.ndarray],
    strengths: Sequence[float] = STRENGTHS,
) -> float:
    """The strength with the best mean accuracy on (features, labels), of equals the greatest.

    (big_vision shows the best on the test examples; nothing here is chosen on those.)
    """
    features, labels = validation
    found = [
        np.mean([(r.scores(features, l2).argmax(axis=1) == labels).mean() for r in ridges])
        for l2 in strengths
    ]
    return max(zip(found, strengths, strict=True))[1]
