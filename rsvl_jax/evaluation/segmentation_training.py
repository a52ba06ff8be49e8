"""Training for segmentation: pixel cross-entropy, AdamW, and batches that are read as they come.

Batch k is a function of the seed and k alone. Its rows are spread over the mesh; where they do not
divide, rows without a labelled pixel are added, which weigh nothing in the loss: the same update on
any number of devices.
"""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from tqdm import tqdm

from rsvl_jax.data.prefetch import DevicePrefetch
from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import placing
from rsvl_jax.evaluation.segmentation import IGNORE
from rsvl_jax.losses import masked
from rsvl_jax.parallel.mesh import batch_shards
from rsvl_jax.parallel.sharding import batch_sharding, replicated

Tree = Any
Batch = dict[str, jax.Array]
Sample = Callable[[int], tuple[np.ndarray, np.ndarray]]
Loss = Callable[[Tree, Tree, Batch, jax.Array], jax.Array]

SCHEDULES = ("cosine", "poly")
_THREADS = 4
_AHEAD = 2


def pixel_loss(logits: jax.Array, masks: jax.Array) -> jax.Array:
    """Mean cross-entropy over the labelled pixels of a batch, float32 []; 0 where there are none.

    logits [B,H,W,C], masks uint8 [B,H,W] with IGNORE where unknown.
    """
    labels, known = masks.astype(jnp.int32), masks != IGNORE
    total, count = masked.cross_entropy(logits=logits, labels=labels, weights=known)
    return total / jnp.maximum(count, 1)


def rates(kind: str, peak: float, *, warmup: int, steps: int) -> optax.Schedule:
    """Learning rate: linear from zero to `peak` in `warmup` steps, then down to zero at `steps`.

    kind: "cosine", or "poly", in a straight line (mmsegmentation's power 1). Raises UserError for
    another kind, and where the warm-up leaves no step.
    """
    if kind not in SCHEDULES:
        raise UserError(f"schedule {kind!r}: use {' or '.join(SCHEDULES)}")
    if not 0 <= warmup < steps:
        raise UserError(f"warm-up of {warmup} steps does not fit into {steps} steps")
    left = steps - warmup
    down = (
        optax.cosine_decay_schedule(peak, left)
        if kind == "cosine"
        else optax.polynomial_schedule(peak, 0.0, power=1, transition_steps=left)
    )
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), down], [warmup])


def adamw(rate: optax.Schedule, *, weight_decay: float, scales: Tree = None) -> Any:
    """AdamW whose decay leaves out vectors (biases, norms, tokens, tables of positions).

    scales: factor of the learning rate of each array, a tree of arrays or numbers that broadcast;
    None for 1. An array is a vector by its rank; "positions", and what is in a stack of layers, by
    its name.
    """
    parts = [optax.scale_by_adam(), optax.add_decayed_weights(weight_decay, mask=_decayed)]
    if scales is not None:
        parts.append(
            optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, scales))
        )
    return optax.chain(*parts, optax.scale_by_learning_rate(rate))


def _decayed(params: Tree) -> Tree:
    def decays(path: Any, leaf: jax.Array) -> bool:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        rank = leaf.ndim - ("/layers/" in f"/{name}")
        return rank >= 2 and not name.endswith(("bias", "positions"))

    return jax.tree_util.tree_map_with_path(decays, params)


def batches(sample: Sample, size: int, mesh: Mesh) -> Iterator[dict[str, np.ndarray]]:
    """Rows of batches 0, 1, 2, ... that this process holds: "inputs" and "masks".

    sample: number of a draw -> its input and its mask; batch k holds draws k * size and on. It is
    called by several threads at a time.
    """
    shards = batch_shards(mesh)
    own = -(-size // shards) * shards // jax.process_count()
    places = range(own * jax.process_index(), own * (jax.process_index() + 1))
    with ThreadPoolExecutor(_THREADS) as pool:
        first = 0
        while True:
            found = list(pool.map(sample, [first + place for place in places if place < size]))
            # A process whose rows are all padding must know their shape.
            yield _padded(found or [_unlabelled(*sample(first))], own)
            first += size


def _unlabelled(inputs: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros_like(inputs), np.full_like(mask, IGNORE)


def _padded(rows: list[tuple[np.ndarray, np.ndarray]], count: int) -> dict[str, np.ndarray]:
    rows = rows + [_unlabelled(*rows[0])] * (count - len(rows))
    inputs, masks = zip(*rows, strict=True)
    return {"inputs": np.stack(inputs), "masks": np.stack(masks)}


def fit(
    loss: Loss,
    trained: Tree,
    fixed: Tree,
    rows: Iterator[dict[str, np.ndarray]],
    transform: optax.GradientTransformation,
    *,
    steps: int,
    seed: int,
    mesh: Mesh,
    label: str = "",
) -> tuple[Tree, np.ndarray]:
    """`trained` after `steps` updates, and the loss before each of them, float32 [steps].

    loss: (trained, fixed, batch, random key) -> scalar; the key is a function of seed and step.
    rows: see `batches`; closed at the end. Raises UserError where the loss is no longer finite.
    """
    whole = replicated(mesh)
    # A copy, as what is donated to the first update may share memory with what was handed over.
    trained = jax.jit(partial(jax.tree.map, jnp.copy), out_shardings=whole)(put(trained, mesh))
    fixed = put(fixed, mesh)
    state = jax.jit(transform.init, out_shardings=whole)(trained)
    update = partial(_step(loss, transform, mesh), jax.random.key(seed))
    ready = DevicePrefetch(rows, batch_sharding(mesh), _AHEAD)
    found: list[float] = []
    last = None
    try:
        for step in _progress(steps, label):
            trained, state, value = update(trained, state, fixed, next(ready), step)
            # One step behind, so that the host is never many batches ahead of the devices.
            found += [] if last is None else [_finite(last, step - 1)]
            last = value
    finally:
        ready.close()
    found += [] if last is None else [_finite(last, steps - 1)]
    return trained, np.asarray(found, np.float32)


def put(tree: Tree, mesh: Mesh) -> Tree:
    """Arrays of the host, whole on every device."""
    return jax.tree.map(lambda leaf: placing.put(np.asarray(leaf), mesh, split=False), tree)


def _step(loss: Loss, transform: optax.GradientTransformation, mesh: Mesh) -> Callable[..., Any]:
    @partial(jax.jit, donate_argnums=(1, 2), out_shardings=replicated(mesh))
    def step(key: Any, trained: Tree, state: Any, fixed: Tree, batch: Batch, number: int) -> Any:
        key = jax.random.fold_in(key, number)
        value, gradient = jax.value_and_grad(loss)(trained, fixed, batch, key)
        updates, state = transform.update(gradient, state, trained)
        return optax.apply_updates(trained, updates), state, value

    return step


def _finite(value: jax.Array, step: int) -> float:
    found = float(value)
    if not np.isfinite(found):
        raise UserError(
            f"the loss of segmentation is {found} at step {step}: take a smaller learning_rate"
        )
    return found


def _progress(steps: int, label: str) -> Any:
    silent = not label or jax.process_index() != 0 or not sys.stderr.isatty()
    return tqdm(range(steps), desc=label, unit="step", leave=False, disable=silent)
