"""A run in a real S3 server: written, killed, damaged, gone on with."""

import os
import signal

import fsspec
import jax
import numpy as np
import pytest
from training import run_toy
from training.test_kill import launch, stop_after
from training.toy import MANIFEST, Toy

from rsvl_jax import storage
from rsvl_jax.errors import UserError
from rsvl_jax.parallel.mesh import make_mesh
from rsvl_jax.training import orbax_s3
from rsvl_jax.training.loop import load_state
from rsvl_jax.training.metrics import comparable

STEPS = 20  # a save is due at every fifth


def read_lines(workdir):
    text = (storage.locate(workdir) / "metrics.jsonl").read_text()
    return [comparable(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    workdir = str(tmp_path_factory.mktemp("straight"))
    return run_toy.train(workdir, STEPS), read_lines(workdir)


@pytest.fixture(scope="module")
def killed(s3_endpoint, compilation_cache):
    """The address of a run whose process was killed, and the steps that it had saved."""
    workdir = "s3://bucket/killed"
    status, errors = stop_after(launch(workdir, compilation_cache, STEPS), 17, signal.SIGKILL)
    assert status == -signal.SIGKILL, errors
    return workdir, saved_steps(workdir)


def saved_steps(workdir):
    folders = (storage.locate(workdir) / "checkpoints").iterdir()
    return sorted(int(f.name) for f in folders if (f / "commit_success.txt").exists())


def copied(workdir, name):
    """The same run under another address."""
    source, target = storage.locate(workdir), storage.locate(f"s3://bucket/{name}")
    for each in storage.sizes(source):
        (source / each).copy(target / each)
    return str(target)


def spoil(step, change):
    """Changes the content of the files of arrays, of which some hold what is no longer read."""
    for name in storage.sizes(step):
        if "/d/" in name:
            (step / name).write_bytes(change((step / name).read_bytes()))


def truncated(content):
    return content[: len(content) // 2]


def flipped(content):
    """Sizes stay, bits differ."""
    return bytes(byte ^ (place % 64 == 32) for place, byte in enumerate(content))


@pytest.mark.parametrize("damage", [None, truncated, flipped], ids=["whole", "short", "flipped"])
def test_a_killed_run_goes_on_bitwise(damage, killed, straight, capsys):
    workdir, steps = killed
    assert steps == [5, 10]  # a save waits for the one before; that of 15 was not finished
    run = copied(workdir, damage.__name__ if damage else "whole")
    if damage:
        spoil(storage.locate(run) / "checkpoints" / str(steps[-1]), damage)
    state = run_toy.train(run, STEPS)
    used, passed = (steps[0], steps[1:]) if damage else (steps[1], [])
    assert f"restored the checkpoint of step {used}" in capsys.readouterr().err
    for step in passed:
        assert storage.sizes(storage.locate(run) / "damaged" / str(step))
    jax.tree.map(np.testing.assert_array_equal, state, straight[0])
    assert read_lines(run) == straight[1]
    found = load_state(
        config=run_toy.recipe(STEPS),
        objective=Toy(),
        manifest=MANIFEST,
        workdir=run,
        mesh=make_mesh(devices=jax.devices()[:1]),
    )
    jax.tree.map(np.testing.assert_array_equal, found, straight[0])


def test_arrays_and_files_go_to_the_same_server(s3_endpoint, monkeypatch):
    spec = orbax_s3.specification("s3://bucket/run/checkpoints/1")
    assert spec == {
        "driver": "s3",
        "bucket": "bucket",
        "path": "run/checkpoints/1",
        "endpoint": s3_endpoint,
        "aws_region": os.environ["AWS_REGION"],
        "use_conditional_write": False,
    }
    # Amazon's own endpoints and regions TensorStore finds by itself.
    files = fsspec.filesystem("s3")
    monkeypatch.setattr(files.s3.meta, "_endpoint_url", "https://s3.eu-west-2.amazonaws.com")
    assert set(orbax_s3.specification("s3://bucket/run")) == {"driver", "bucket", "path"}


def test_other_addresses_keep_their_ways(s3_endpoint):
    from orbax.checkpoint._src.serialization import tensorstore_utils

    orbax_s3.teach()
    base = tensorstore_utils.build_kvstore_tspec("/disk/run", use_ocdbt=False)
    assert (base["driver"], base["path"]) == ("file", "/disk/run")
    base = tensorstore_utils.build_kvstore_tspec("gs://bucket/run", use_ocdbt=True)["base"]
    assert base == {"driver": "gcs", "bucket": "bucket", "path": "run"}


def test_an_orbax_that_is_built_otherwise_is_refused(s3_endpoint, monkeypatch):
    from orbax.checkpoint._src.serialization import tensorstore_utils

    monkeypatch.setattr(
        tensorstore_utils, "build_kvstore_tspec", lambda *args, **options: {"base": {}}
    )
    with pytest.raises(UserError, match="orbax-checkpoint .* cannot be taught s3:// addresses"):
        orbax_s3.teach()
