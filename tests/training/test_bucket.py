"""A whole run in an object store: written, interrupted, damaged, gone on with."""

import json
import os
import shutil

import jax
import numpy as np
import pytest
from training.toy import MANIFEST, Toy, batches, config

from rsvl_jax.errors import UserError
from rsvl_jax.parallel.mesh import make_mesh
from rsvl_jax.training.loop import fit, load_state
from rsvl_jax.training.metrics import comparable

RUN = "gs://bucket/run"


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(devices=jax.devices()[:1])


def start(workdir, mesh, steps=12, crash=None):
    def spoil(step, batch):
        if step == crash:
            raise ZeroDivisionError
        return batch

    return fit(
        config=config(steps=steps),
        objective=Toy(),
        make_batches=batches(mesh, spoil=spoil),
        manifest=MANIFEST,
        workdir=workdir,
        mesh=mesh,
        evaluate=lambda state, step: {"scale": float(state.params["logit_scale"])},
    )


def lines(folder):
    return [comparable(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def shards(step):
    return sorted(path for path in step.rglob("d/*") if path.is_file())


def unfinished(step):
    """As a save leaves it that is killed before its last object."""
    (step / "commit_success.txt").unlink()


def without_a_shard(step):
    max(shards(step), key=os.path.getsize).unlink()


@pytest.mark.parametrize("damage", [unfinished, without_a_shard], ids=lambda each: each.__name__)
def test_a_run_goes_on_bitwise_from_the_newest_whole_checkpoint(damage, mesh, bucket, tmp_path):
    straight = start(str(tmp_path / "straight"), mesh)
    with pytest.raises(ZeroDivisionError):
        start(RUN, mesh, crash=10)
    run = bucket / "run"
    assert {"4", "8"} <= set(os.listdir(run / "checkpoints"))
    assert json.loads((run / "config.json").read_text())["seed"] == 3
    damage(run / "checkpoints" / "8")
    state = start(RUN, mesh)
    jax.tree.map(np.testing.assert_array_equal, state, straight)
    assert lines(run) == lines(tmp_path / "straight")
    if damage is without_a_shard:
        assert shards(run / "damaged" / "8")
    found = load_state(config=config(), objective=Toy(), manifest=MANIFEST, workdir=RUN, mesh=mesh)
    jax.tree.map(np.testing.assert_array_equal, found, straight)


def test_nothing_whole_is_an_error(mesh, bucket):
    start(RUN, mesh, steps=6)
    for step in ("4", "6"):
        shutil.rmtree(bucket / "run" / "checkpoints" / step / "meta")
    with pytest.raises(UserError, match=r"no checkpoint in gs://bucket/run/checkpoints is whole"):
        start(RUN, mesh)
