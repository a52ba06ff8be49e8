"""The toy run as a process of its own: `run_toy.py WORKDIR STEPS`, to be killed from outside."""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import numpy as np
from training.toy import MANIFEST, Toy, batches, config

from rsvl_jax.parallel.mesh import make_mesh
from rsvl_jax.runtime import exit_status
from rsvl_jax.training.loop import fit

STEPS = 40


def announce(step, batch):
    print(f"batch {step}", flush=True)
    time.sleep(0.02)
    return batch


def recipe(steps):
    return config(steps=steps, checkpoint__every_steps=5, evaluation__every_steps=10)


def train(workdir, steps):
    """The whole run on one device; returns its last state."""
    mesh = make_mesh(devices=jax.devices()[:1])
    return fit(
        config=recipe(steps),
        objective=Toy(),
        make_batches=batches(mesh, spoil=announce),
        manifest=MANIFEST,
        workdir=workdir,
        mesh=mesh,
        evaluate=lambda state, step: {"scale": float(state.params["logit_scale"])},
    )


def main(workdir, steps):
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(train(workdir, int(steps)))]
    np.savez(f"{workdir}/final.npz", *leaves)


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(*sys.argv[1:])))
