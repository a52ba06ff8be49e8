"""The first loss of a run that starts from weights, and what float64 makes of it."""

import jax
import numpy as np

from rsvl_jax.parallel.mesh import make_mesh
from rsvl_jax.training.parts import Parts
from rsvl_jax.weights import init_from


def first(config, objective, manifest, batch, leave=()):
    """(state before the first step as `loop.fit` makes it, {term: its mean on the batch})."""
    mesh = make_mesh(devices=jax.devices()[:1])
    parts = Parts.make(config, objective, manifest, mesh)
    initial = init_from.initial(config, objective.architecture(), leave=leave)
    state, _ = parts.create(initial)
    terms = jax.jit(objective.terms)(state.params, state.frozen, batch, jax.random.key(0))
    return state, {name: float(total) / float(count) for name, (total, count) in terms.items()}


def projected(state, contrast, tower, x):
    """A tower's vectors through the projection that the run draws for a contrast, float64."""
    own = jax.device_get(state.params[contrast][tower])
    return np.asarray(x, np.float64) @ own["kernel"].astype(np.float64) + own["bias"]


def info_nce(a, b, log_scale):
    """CLIP's loss of pairs [B, E] in float64."""
    a, b = (x / np.linalg.norm(np.asarray(x, np.float64), axis=1, keepdims=True) for x in (a, b))
    logits = np.exp(log_scale) * a @ b.T
    costs = [np.log(np.exp(m).sum(1)) - np.diag(m) for m in (logits, logits.T)]
    return np.mean(costs)
