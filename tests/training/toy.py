"""A small objective with all that a real one has: towers, contrast, frozen target, noise."""

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from rsvl_jax.parallel.sharding import batch_sharding

DIN, HIDDEN, DOUT = 16, 32, 8
MANIFEST = {"name": "toy", "version": "1", "fingerprint": "abc", "splits": {"train": 320}}


class Toy:
    """Contrast of two towers, and a regression on a frozen projection with random noise."""

    def __init__(self):
        self.weights = {"contrast": 1.0, "fit": lambda step: jnp.minimum(1.0, 0.1 * step)}

    def init(self, rng):
        keys = jax.random.split(rng, 5)

        def tower(key_in, key_out):
            return {
                "in": {
                    "kernel": jax.random.normal(key_in, (DIN, HIDDEN)) * DIN**-0.5,
                    "bias": jnp.zeros(HIDDEN),
                },
                "out": {"kernel": jax.random.normal(key_out, (HIDDEN, DOUT)) * HIDDEN**-0.5},
            }

        params = {
            "image": tower(keys[0], keys[1]),
            "text": tower(keys[2], keys[3]),
            "logit_scale": jnp.log(jnp.float32(10.0)),
        }
        return {"params": params, "frozen": {"target": jax.random.normal(keys[4], (DIN, DOUT))}}

    def logical_axes(self):
        tower = {
            "in": {"kernel": ("embed", "mlp"), "bias": ("mlp",)},
            "out": {"kernel": ("mlp", "embed")},
        }
        params = {"image": tower, "text": tower, "logit_scale": ()}
        return {"params": params, "frozen": {"target": ("embed", None)}}

    def terms(self, params, frozen, batch, rng):
        a = _tower(params["image"], batch["image"])
        b = _tower(params["text"], batch["text"])
        a, b = (x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (a, b))
        logits = jnp.exp(params["logit_scale"]) * a @ b.T
        rows = jnp.arange(len(a))
        contrast = -jax.nn.log_softmax(logits)[rows, rows].sum()
        noise = 0.1 * jax.random.normal(rng, a.shape)
        error = (a + noise - batch["image"] @ frozen["target"]) ** 2
        return {"contrast": (contrast, len(a)), "fit": (error.sum(), error.size)}

    def project(self, params):
        return {**params, "logit_scale": jnp.minimum(params["logit_scale"], jnp.log(100.0))}

    def scalars(self, params):
        return {"logit_scale": params["logit_scale"]}

    def flops_per_sample(self):
        return 6.0 * 2 * (DIN * HIDDEN + HIDDEN * DOUT)


def _tower(params, x):
    return jnp.tanh(x @ params["in"]["kernel"] + params["in"]["bias"]) @ params["out"]["kernel"]


def host_batch(step, batch_size=16, seed=0):
    """Batch `step`, a pure function of its arguments."""
    rng = np.random.default_rng((seed, step))
    image = rng.normal(size=(batch_size, DIN)).astype(np.float32)
    noise = rng.normal(size=(batch_size, DIN)).astype(np.float32)
    return {"image": image, "text": image + 0.1 * noise}


def batches(mesh, batch_size=16, spoil=lambda step, batch: batch):
    """make_batches for `fit`; `spoil` may change a batch on its way."""

    def make(start):
        step = start
        while True:
            batch = spoil(step, host_batch(step, batch_size))
            yield jax.device_put(batch, batch_sharding(mesh))
            step += 1

    return make


def config(steps=12, **overrides):
    """A config as mains hand it over; overrides by dotted key, with "__" for the dot."""
    made = ConfigDict(
        {
            "seed": 3,
            "training": {"steps": steps, "nonfinite": "stop"},
            "data": {"name": "toy", "batch_size": 16, "workers": 0},
            "checkpoint": {"every_steps": 4, "keep": 2},
            "metrics": {"every_steps": 2, "tensorboard": False},
            "evaluation": {"every_steps": 6},
            "mesh": {"replica": 1, "data": -1, "fsdp": 1, "tensor": 1},
            "optimizer": {
                "name": "adamw",
                "learning_rate": 1e-2,
                "schedule": "constant",
                "warmup_steps": 3,
                "weight_decay": 0.1,
                "b1": 0.9,
                "b2": 0.98,
                "eps": 1e-8,
                "clip": 1.0,
                "ema": 0.9,
            },
            "model": {"hidden": HIDDEN},
        }
    )
    for key, value in overrides.items():
        section, name = key.split("__")
        made[section][name] = value
    return made
