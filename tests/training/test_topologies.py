"""A run goes on wherever it is started again: other meshes, other ways of running its layers."""

import json

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from training.toy import config as toy_config

from rsvl_jax.objectives.image_text import ImageTextObjective
from rsvl_jax.parallel.mesh import make_mesh
from rsvl_jax.parallel.sharding import batch_sharding
from rsvl_jax.training.loop import fit

TOWER = {"width": 16, "depth": 2, "heads": 2, "mlp_dim": 32}
ROWS, LENGTH = 16, 7
MANIFEST = {"name": "pairs", "version": "1", "fingerprint": "abc", "splits": {"train": 320}}


def config(steps, **running):
    model = {
        "image": {"size": 16, "patch": 4, **TOWER},
        "text": {"vocab_size": 30, "length": LENGTH, **TOWER},
        "embed_dim": 8,
        "activation": "gelu",
        "scan": True,
        "remat": "none",
        "attention": "auto",
        "dtype": "float32",
        **running,
    }
    objective = {
        "contrast": "softmax",
        "identical_captions": True,
        "logit_scale_init": 2.6592,
        "logit_scale_max": 4.6052,
    }
    made = toy_config(steps=steps, metrics__every_steps=1)
    with made.unlocked():
        made.model, made.objective = ConfigDict(model), ConfigDict(objective)
        made.data.update(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    return made


def pairs(step):
    rng = np.random.default_rng(step)
    mask = np.arange(LENGTH) < rng.integers(3, LENGTH + 1, ROWS)[:, None]
    text = np.where(mask, rng.integers(5, 30, mask.shape), 0).astype(np.int32)
    return {
        "paired": {
            "image": rng.integers(0, 256, (ROWS, 16, 16, 3)).astype(np.uint8),
            "text": text,
            "text_mask": mask,
            "text_id": np.arange(ROWS, dtype=np.int32),
        }
    }


def start(workdir, steps, devices, axes, **running):
    mesh = make_mesh(devices=jax.devices()[:devices], **axes)

    def batches(step):
        while True:
            yield jax.device_put(pairs(step), batch_sharding(mesh))
            step += 1

    conf = config(steps, **running)
    return fit(
        config=conf,
        objective=ImageTextObjective(conf, mesh),
        make_batches=batches,
        manifest=MANIFEST,
        workdir=str(workdir),
        mesh=mesh,
    )


def losses(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["train/loss"] for line in lines]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("straight")
    return workdir, start(workdir, 12, 1, {})


# (until step, devices, mesh, way of running the layers), one start after the other.
STARTS = [
    (4, 8, {"data": 1, "fsdp": 4, "tensor": 2}, {}),
    (8, 1, {}, {"scan": False, "remat": "full"}),
    (12, 8, {"replica": 2, "data": 2, "fsdp": 2}, {}),
]


def test_devices_mesh_and_layers_may_change_at_every_start(straight, tmp_path, capsys):
    for steps, devices, axes, running in STARTS:
        state = start(tmp_path, steps, devices, axes, **running)
        if steps > 4:
            assert f"restored the checkpoint of step {steps - 4}" in capsys.readouterr().err
    np.testing.assert_allclose(losses(tmp_path), losses(straight[0]), rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5),
        jax.device_get(state.params),
        jax.device_get(straight[1].params),
    )
