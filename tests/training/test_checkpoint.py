import errno
import functools
import os
import re
import resource
import shutil
from dataclasses import fields
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from training.toy import MANIFEST, Toy, batches, config

from rsvl_jax.errors import UserError
from rsvl_jax.parallel.mesh import make_mesh
from rsvl_jax.training.checkpoint import Checkpoints, checksum, disk_errors
from rsvl_jax.training.optimizer import make_optimizer
from rsvl_jax.training.plan import make_plan
from rsvl_jax.training.state import abstract_state, create_state
from rsvl_jax.training.step import CompiledStep

# What Orbax leaves unawaited when a read or a write fails is reported at some later collection.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:coroutine:RuntimeWarning"
)


def parts(mesh):
    conf, toy = config(), Toy()
    _, lengths = make_plan(conf, MANIFEST)
    optimizer = make_optimizer(conf.optimizer, toy.logical_axes()["params"], lengths)
    return toy, optimizer, abstract_state(toy, optimizer, mesh)


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def abstract(mesh):
    return parts(mesh)[2]


@functools.cache
def fresh(mesh, seed):
    toy, optimizer, abstract = parts(mesh)
    return create_state(toy, optimizer, abstract, seed)


@pytest.fixture(scope="module")
def saved(mesh, tmp_path_factory):
    """Checkpoints of steps 1 to 3, of three different states."""
    directory = tmp_path_factory.mktemp("run") / "checkpoints"
    checkpoints = Checkpoints(str(directory), keep=3)
    for step in (1, 2, 3):
        checkpoints.save(step, fresh(mesh, seed=step), {"name": f"state {step}"})
    checkpoints.close()
    return directory


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "checkpoints")


def restore(directory, abstract, check=lambda metadata: None, **options):
    checkpoints = Checkpoints(str(directory), **{"keep": 3, **options})
    try:
        return checkpoints.restore(abstract, check)
    finally:
        checkpoints.close()


def assert_same(state, expected):
    jax.tree.map(np.testing.assert_array_equal, state, expected)


def test_nothing_to_restore(tmp_path, abstract):
    assert restore(tmp_path / "checkpoints", abstract) is None


def test_newest_is_restored_bitwise_with_its_metadata(copy, mesh, abstract):
    state, metadata = restore(copy, abstract)
    assert metadata["name"] == "state 3"
    assert metadata["step"] == 3
    assert_same(state, fresh(mesh, seed=3))


def test_restores_sharded_onto_another_mesh(copy, mesh):
    other = make_mesh(data=1, fsdp=4, tensor=2)
    target = parts(other)[2]
    state, _ = restore(copy, target)
    assert_same(state, fresh(mesh, seed=3))
    for field in fields(state):
        wanted = jax.tree.map(lambda x: x.sharding, getattr(target, field.name))
        found = jax.tree.map(lambda x: x.sharding, getattr(state, field.name))
        assert wanted == found


def test_only_the_latest_are_kept(tmp_path, mesh):
    checkpoints = Checkpoints(str(tmp_path / "checkpoints"), keep=2)
    state = fresh(mesh, seed=0)
    for step in (5, 10, 15):
        checkpoints.save(step, state, {})
    checkpoints.wait()
    assert checkpoints.steps() == [10, 15]
    checkpoints.close()
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["10", "15"]


def test_saving_goes_on_while_the_state_is_donated(tmp_path, mesh):
    """The copy that is written must not be the memory that the next steps overwrite."""
    toy, optimizer, abstract = parts(mesh)
    state = create_state(toy, optimizer, abstract, 0)
    step = CompiledStep(toy, optimizer, abstract, mesh, 0)
    batch = next(batches(mesh)(0))
    step.prepare(state, batch)
    checkpoints = Checkpoints(str(tmp_path / "checkpoints"), keep=1)
    expected = jax.tree.map(np.array, state)
    checkpoints.save(0, state, {})
    for _ in range(20):
        state, _ = step(state, batch)
    checkpoints.close()
    found, _ = restore(tmp_path / "checkpoints", abstract)
    assert_same(found, expected)


def arrays(step):
    """The files that hold array data. Which of them are read in the end depends on how the writes
    fell together, so all are damaged."""
    found = sorted(step.glob("state/**/d/*"))
    assert found
    return found


def truncate_arrays(step):
    for path in arrays(step):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])


def remove_arrays(step):
    for path in arrays(step):
        path.unlink()


def flip_a_bit_of_the_arrays(step):
    for path in arrays(step):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))


def remove_metadata(step):
    shutil.rmtree(step / "meta")


def spoil_metadata(step):
    (step / "meta" / "metadata").write_text("{")


def remove_state(step):
    shutil.rmtree(step / "state")


def empty(step):
    shutil.rmtree(step)
    step.mkdir()


DAMAGES = [
    truncate_arrays,
    remove_arrays,
    flip_a_bit_of_the_arrays,
    remove_metadata,
    spoil_metadata,
    remove_state,
    empty,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_newest_is_passed_over_logged_and_set_aside(damage, copy, mesh, abstract, caplog):
    damage(copy / "3")
    with caplog.at_level("WARNING"):
        state, metadata = restore(copy, abstract)
    assert metadata["step"] == 2
    assert_same(state, fresh(mesh, seed=2))
    assert re.search(r"checkpoints/3 is damaged: .+", caplog.text)
    assert sorted(os.listdir(copy)) == ["1", "2"]
    assert os.listdir(copy.parent / "damaged") == ["3"]
    checkpoints = Checkpoints(str(copy), keep=3)
    checkpoints.save(3, state, {"name": "again"})
    checkpoints.close()
    assert restore(copy, abstract)[1]["name"] == "again"


def test_damage_is_noticed_without_the_list_of_sizes(copy, mesh, abstract):
    """A kill between a save and its list of sizes leaves a checkpoint without one."""
    (copy / "3" / "sizes.json").unlink()
    assert restore(copy, abstract)[1]["step"] == 3
    truncate_arrays(copy / "3")
    assert restore(copy, abstract)[1]["step"] == 2


def test_unfinished_save_is_no_checkpoint_and_is_cleaned_up(copy, abstract):
    (copy / "3").rename(copy / "3.orbax-checkpoint-tmp")
    assert restore(copy, abstract, read_only=True)[1]["step"] == 2
    assert (copy / "3.orbax-checkpoint-tmp").exists()
    assert restore(copy, abstract)[1]["step"] == 2
    assert sorted(os.listdir(copy)) == ["1", "2"]


def test_reading_only_moves_nothing(copy, abstract):
    remove_metadata(copy / "3")
    assert restore(copy, abstract, read_only=True)[1]["step"] == 2
    assert sorted(os.listdir(copy)) == ["1", "2", "3"]


def test_all_damaged_is_an_error_and_nothing_is_touched(copy, abstract):
    for step in ("1", "2", "3"):
        remove_metadata(copy / step)
    with pytest.raises(UserError, match=r"no checkpoint in .* is whole \(steps \[1, 2, 3\]"):
        restore(copy, abstract)
    assert sorted(os.listdir(copy)) == ["1", "2", "3"]


def test_refusal_passes_through(copy, abstract):
    def check(metadata):
        raise UserError(f"not {metadata['name']}")

    with pytest.raises(UserError, match="not state 3"):
        restore(copy, abstract, check)


def test_checksum_does_not_depend_on_the_mesh_and_sees_one_bit():
    one = fresh(make_mesh(devices=jax.devices()[:1]), seed=0)
    many = fresh(make_mesh(data=1, fsdp=4, tensor=2), seed=0)
    assert checksum(one) == checksum(many)
    for index, leaf in enumerate(jax.tree.leaves(one)):
        leaves = [np.array(x) for x in jax.tree.leaves(one)]
        leaves[index].reshape(-1).view(np.uint8)[-1] ^= 1
        assert checksum(leaves) != checksum(one), leaf.shape


def test_file_in_the_way_is_a_user_error(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="cannot write to .*run"):
        Checkpoints(str(tmp_path / "run" / "checkpoints"), keep=1)


def test_full_disk_is_refused_before_writing(copy, mesh, abstract, monkeypatch):
    checkpoints = Checkpoints(str(copy), keep=1)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=5000))
        with pytest.raises(UserError, match="no space left .* KiB needed, 4 KiB free"):
            checkpoints.save(4, fresh(mesh, seed=4), {})
    assert checkpoints.steps() == [1, 2, 3]
    checkpoints.save(4, fresh(mesh, seed=4), {})
    checkpoints.close()
    assert restore(copy, abstract)[1]["step"] == 4


def test_save_that_fails_while_writing_loses_nothing(copy, mesh, abstract):
    """The operating system refuses large files, as it would on a disk that fills up meanwhile."""
    checkpoints = Checkpoints(str(copy), keep=1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
    try:
        with pytest.raises(UserError, match="cannot write to .*File too large"):
            checkpoints.save(4, fresh(mesh, seed=4), {})
            checkpoints.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    checkpoints.close()
    assert restore(copy, abstract)[1]["step"] == 3


def test_keep_must_be_positive(tmp_path):
    with pytest.raises(UserError, match="checkpoint.keep=0"):
        Checkpoints(str(tmp_path), keep=0)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_disk_errors_are_named(code):
    reason = os.strerror(code)
    with pytest.raises(UserError, match=f"cannot write to here.*{reason}"), disk_errors("here"):
        raise OSError(code, reason)


@pytest.mark.parametrize("said", ["An error occurred: Access Denied", "HTTP 403: AccessDenied"])
def test_a_bucket_that_is_not_ours_is_named(said):
    with pytest.raises(UserError, match="cannot write to s3://there"), disk_errors("s3://there"):
        raise RuntimeError(said)


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError), disk_errors("here"):
        raise ZeroDivisionError
