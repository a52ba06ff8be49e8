import json
import os
import shutil
import signal
import threading

import jax
import numpy as np
import pytest
from training.toy import MANIFEST, Toy, batches, config, host_batch

from rsvl_jax.errors import NonFiniteLoss, Preempted, UserError
from rsvl_jax.parallel.mesh import make_mesh
from rsvl_jax.training import loop, resume
from rsvl_jax.training.loop import fit, load_state
from rsvl_jax.training.metrics import comparable


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(devices=jax.devices()[:1])


class Evaluator:
    """Counts its calls; the score is a function of the parameters."""

    def __init__(self):
        self.steps = []

    def __call__(self, state, step):
        self.steps.append(step)
        return {"norm": np.linalg.norm(state.params["image"]["out"]["kernel"])}


def start(workdir, mesh, conf=None, **options):
    conf = conf if conf is not None else config()
    options = {"make_batches": batches(mesh), "manifest": MANIFEST, "objective": Toy(), **options}
    return fit(config=conf, workdir=str(workdir), mesh=mesh, **options)


def lines(workdir):
    return [comparable(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def values(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def steps_saved(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


def assert_same(state, expected):
    jax.tree.map(np.testing.assert_array_equal, state, expected)


def interrupt(step):
    """make_batches that fails when batch `step` is asked for, as a crash would."""

    def spoil(index, batch):
        if index == step:
            raise ZeroDivisionError(f"batch {step}")
        return batch

    return spoil


@pytest.fixture(scope="module")
def whole(mesh, tmp_path_factory):
    """An uninterrupted run of 12 steps: its work directory, final state and evaluated steps."""
    workdir, evaluator = tmp_path_factory.mktemp("whole"), Evaluator()
    state = start(workdir, mesh, evaluate=evaluator)
    return workdir, state, evaluator.steps


def test_a_run_leaves_metrics_checkpoints_and_config(whole):
    workdir, state, evaluated = whole
    assert int(state.step) == 12
    assert evaluated == [0, 6, 12]
    assert steps_saved(workdir) == [8, 12]
    assert json.loads((workdir / "config.json").read_text()) == config().to_dict()
    found = values(workdir)
    assert [line["step"] for line in found if "train/loss" in line] == [1, 2, 4, 6, 8, 10, 12]
    assert [line["step"] for line in found if "eval/norm" in line] == [0, 6, 12]
    assert [line["step"] for line in found] == sorted(line["step"] for line in found)
    trained = [line for line in found if "train/loss" in line]
    assert set(trained[0]) == {
        "step",
        "train/loss",
        "train/loss/contrast",
        "train/loss/fit",
        "train/grad_norm",
        "train/param_norm",
        "train/learning_rate",
        "train/logit_scale",
        "train/skipped",
        "perf/samples_per_second",
        "perf/mfu",
        "perf/input_wait",
        "perf/goodput",
        "perf/host_memory_peak",
    }
    assert trained[-1]["train/loss/contrast"] < trained[0]["train/loss/contrast"]
    assert all(line["perf/samples_per_second"] > 0 and line["perf/mfu"] > 0 for line in trained)


def test_a_suite_has_a_schedule_of_its_own_and_is_not_scored_twice(mesh, tmp_path):
    evaluator, suite = Evaluator(), Evaluator()
    conf = config(evaluation__every_steps=6, checkpoint__keep_best="suite/norm")
    with conf.unlocked():
        conf.evaluation.suite_every_steps = 4
    options = {"conf": conf, "evaluate": evaluator, "suite": suite}
    with pytest.raises(ZeroDivisionError):
        start(tmp_path, mesh, **options, make_batches=batches(mesh, spoil=interrupt(9)))
    assert suite.steps == [4, 8] and evaluator.steps == [0, 6]
    start(tmp_path, mesh, **options)
    start(tmp_path, mesh, **options)
    assert suite.steps == [4, 8, 12] and evaluator.steps == [0, 6, 12]
    assert [line["step"] for line in values(tmp_path) if "suite/norm" in line] == [4, 8, 12]


def test_logged_loss_is_that_of_the_step(whole, mesh):
    first = next(line for line in values(whole[0]) if line["step"] == 1)
    conf = config()
    fresh = Toy().init(jax.random.fold_in(jax.random.key(conf.seed), 2**32 - 1))
    rng = jax.random.fold_in(jax.random.key(conf.seed), 0)
    terms = Toy().terms(fresh["params"], fresh["frozen"], host_batch(0), rng)
    for name, (value, count) in terms.items():
        np.testing.assert_allclose(first[f"train/loss/{name}"], value / count, rtol=1e-5)


@pytest.mark.parametrize("crash", [1, 4, 5, 7, 11])
def test_a_crashed_run_goes_on_bitwise(crash, whole, mesh, tmp_path):
    with pytest.raises(ZeroDivisionError):
        start(
            tmp_path,
            mesh,
            make_batches=batches(mesh, spoil=interrupt(crash)),
            evaluate=Evaluator(),
        )
    evaluator = Evaluator()
    state = start(tmp_path, mesh, evaluate=evaluator)
    assert_same(state, whole[1])
    assert lines(tmp_path) == lines(whole[0])
    assert evaluator.steps == [step for step in whole[2] if step > crash // 4 * 4 or crash < 4]


def test_a_stopped_run_saves_at_once_and_goes_on_bitwise(whole, mesh, tmp_path, monkeypatch):
    """The stop comes in step 6, which has an evaluation due that must then not be lost."""

    def stop_at_6(self, batch, train=loop._Loop._train):
        train(self, batch)
        self.stop.requested = self.step == 6

    with monkeypatch.context() as patch:
        patch.setattr(loop._Loop, "_train", stop_at_6)
        with pytest.raises(Preempted, match="saved step 6"):
            start(tmp_path, mesh, evaluate=Evaluator())
    assert steps_saved(tmp_path) == [4, 6]
    evaluator = Evaluator()
    assert_same(start(tmp_path, mesh, evaluate=evaluator), whole[1])
    assert evaluator.steps == [6, 12]
    assert lines(tmp_path) == lines(whole[0])


def test_a_stop_before_the_first_step_is_a_preemption_too(whole, mesh, tmp_path):
    def make_batches(step):
        os.kill(os.getpid(), signal.SIGTERM)
        return batches(mesh)(step)

    with pytest.raises(Preempted, match="saved step 0"):
        start(tmp_path, mesh, make_batches=make_batches, evaluate=Evaluator())
    assert_same(start(tmp_path, mesh, evaluate=Evaluator()), whole[1])
    assert lines(tmp_path) == lines(whole[0])


def test_finished_run_says_so_and_does_nothing(whole, mesh, tmp_path, capsys):
    workdir = shutil.copytree(whole[0], tmp_path / "run")
    before = (workdir / "metrics.jsonl").read_bytes()

    def no_batches(start):
        raise AssertionError("a finished run reads no data")

    evaluator = Evaluator()
    state = start(workdir, mesh, make_batches=no_batches, evaluate=evaluator)
    assert_same(state, whole[1])
    assert "finished" in capsys.readouterr().err
    assert evaluator.steps == []
    assert (workdir / "metrics.jsonl").read_bytes() == before


def test_more_steps_go_on_from_the_checkpoint(whole, mesh, tmp_path):
    workdir = shutil.copytree(whole[0], tmp_path / "run")
    asked = []

    def make_batches(step):
        asked.append(step)
        return batches(mesh)(step)

    extended = start(workdir, mesh, config(steps=16), make_batches=make_batches)
    assert asked == [12]
    assert_same(extended, start(tmp_path / "straight", mesh, config(steps=16)))
    assert lines(workdir)[: len(lines(whole[0]))] == lines(whole[0])
    assert values(workdir)[-1]["step"] == 16
    assert steps_saved(workdir) == [12, 16]


def test_on_eight_devices_the_same_run_goes_on(whole, mesh, tmp_path):
    with pytest.raises(ZeroDivisionError):
        start(tmp_path, mesh, make_batches=batches(mesh, spoil=interrupt(6)))
    wide = make_mesh(data=1, fsdp=4, tensor=2)
    conf = config()
    conf.mesh.update(fsdp=4, tensor=2)
    state = start(tmp_path, wide, conf)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), state.params, whole[1].params
    )


def arrays(checkpoint):
    """The file that holds the array data."""
    return max(checkpoint.glob("state/ocdbt.process_0/d/*"), key=lambda path: path.stat().st_size)


def truncated_file(checkpoint):
    os.truncate(arrays(checkpoint), arrays(checkpoint).stat().st_size // 2)


def missing_shard(checkpoint):
    arrays(checkpoint).unlink()


def missing_metadata(checkpoint):
    shutil.rmtree(checkpoint / "meta")


def killed_in_mid_save(checkpoint):
    """As Orbax leaves it: under a temporary name, and without what is written last."""
    (checkpoint / "_CHECKPOINT_METADATA").unlink()
    (checkpoint / "sizes.json").unlink()
    checkpoint.rename(checkpoint.with_name("12.orbax-checkpoint-tmp"))


DAMAGES = [truncated_file, missing_shard, missing_metadata, killed_in_mid_save]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_checkpoint_costs_only_its_steps(damage, whole, mesh, tmp_path, caplog, capsys):
    workdir = shutil.copytree(whole[0], tmp_path / "run")
    damage(workdir / "checkpoints" / "12")
    with caplog.at_level("WARNING"):
        state = start(workdir, mesh, evaluate=Evaluator())
    if damage is not killed_in_mid_save:
        assert "checkpoints/12 is damaged" in caplog.text
    assert "restored the checkpoint of step 8" in capsys.readouterr().err
    assert_same(state, whole[1])
    assert lines(workdir) == lines(whole[0])


@pytest.mark.parametrize("damage", DAMAGES[:3], ids=lambda damage: damage.__name__)
def test_a_run_whose_checkpoints_are_all_damaged_never_starts_anew(damage, whole, mesh, tmp_path):
    workdir = shutil.copytree(whole[0], tmp_path / "run")
    for step in ("8", "12"):
        damage(workdir / "checkpoints" / step)
    before = sorted(path for path in workdir.rglob("*") if path.is_file())
    with pytest.raises(UserError, match=r"no checkpoint in .* is whole \(steps \[8, 12\]; newest"):
        start(workdir, mesh)
    assert sorted(path for path in workdir.rglob("*") if path.is_file()) == before
    assert lines(workdir) == lines(whole[0])


def test_a_run_without_any_whole_save_starts_anew_and_says_so(whole, mesh, tmp_path, capsys):
    workdir = shutil.copytree(whole[0], tmp_path / "run")
    shutil.rmtree(workdir / "checkpoints" / "8")
    killed_in_mid_save(workdir / "checkpoints" / "12")
    assert_same(start(workdir, mesh, evaluate=Evaluator()), whole[1])
    assert f"no checkpoint: step 0, in {workdir}" in capsys.readouterr().err
    assert lines(workdir) == lines(whole[0])


def test_steps_go_on_while_a_save_is_written(whole, mesh, tmp_path, monkeypatch):
    """The last act of a save is held back until two more steps were asked for."""
    two_steps_later, held = threading.Event(), []

    def rename(*names, original=os.rename):
        if threading.current_thread() is not threading.main_thread():
            held.append(two_steps_later.wait(60))
        return original(*names)

    def spoil(step, batch):
        if step == 6:
            two_steps_later.set()
        return batch

    monkeypatch.setattr(os, "rename", rename)
    state = start(tmp_path, mesh, make_batches=batches(mesh, spoil=spoil), evaluate=Evaluator())
    assert held and all(held)
    assert_same(state, whole[1])
    assert steps_saved(tmp_path) == [8, 12]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"optimizer__learning_rate": 0.5}, r"config: optimizer.learning_rate \(there 0.01, here"),
        ({"data__batch_size": 32}, r"data.batch_size \(there 16, here 32\)"),
        ({"model__hidden": 64}, "model.hidden"),
        ({"training__dropout": 0.1}, r"training.dropout \(there None, here 0.1\)"),
    ],
)
def test_another_config_is_refused(change, named, whole, mesh, tmp_path):
    workdir = shutil.copytree(whole[0], tmp_path / "run")
    conf = config()
    with conf.unlocked():
        for key, value in change.items():
            section, name = key.split("__")
            conf[section][name] = value
    before = sorted(path.read_bytes() for path in workdir.rglob("*") if path.is_file())
    with pytest.raises(UserError, match=named) as error:
        start(workdir, mesh, conf)
    assert "\n" not in str(error.value)
    assert sorted(path.read_bytes() for path in workdir.rglob("*") if path.is_file()) == before


def test_another_manifest_is_refused(whole, mesh, tmp_path):
    workdir = shutil.copytree(whole[0], tmp_path / "run")
    manifest = {**MANIFEST, "fingerprint": "xyz"}
    with pytest.raises(UserError, match=r"data manifest: fingerprint \(there 'abc', here 'xyz'\)"):
        start(workdir, mesh, manifest=manifest)


def test_another_model_is_refused(whole, mesh, tmp_path):
    class Wide(Toy):
        def init(self, rng):
            made = super().init(rng)
            made["params"]["extra"] = made["params"]["logit_scale"]
            return made

        def logical_axes(self):
            axes = super().logical_axes()
            axes["params"]["extra"] = ()
            return axes

    workdir = shutil.copytree(whole[0], tmp_path / "run")
    with pytest.raises(UserError, match=r"parameters: params/extra \(there None"):
        start(workdir, mesh, objective=Wide())


def test_cadence_and_place_may_change(whole, mesh, tmp_path):
    workdir = shutil.copytree(whole[0], tmp_path / "run")
    conf = config(steps=13, checkpoint__keep=5, metrics__every_steps=1, data__workers=4)
    conf.data.dir = "elsewhere"
    assert int(start(workdir, mesh, conf).step) == 13


def poisoned(mesh, step):
    def spoil(index, batch):
        if index == step:
            batch["image"][0, 0] = np.nan
        return batch

    return batches(mesh, spoil=spoil)


def test_nonfinite_loss_stops_with_step_terms_and_checkpoint(mesh, tmp_path):
    with pytest.raises(NonFiniteLoss) as error:
        start(tmp_path, mesh, make_batches=poisoned(mesh, 9))
    message = str(error.value)
    assert "step 10" in message
    assert "contrast, fit" in message
    assert str(tmp_path / "checkpoints" / "8") in message
    assert steps_saved(tmp_path) == [4, 8]


def test_no_checkpoint_is_saved_after_a_nonfinite_loss(mesh, tmp_path):
    """The loss of step 8 fails when a save is due: the save must not happen."""
    with pytest.raises(NonFiniteLoss, match="step 8: .*checkpoints/4"):
        start(tmp_path, mesh, make_batches=poisoned(mesh, 7))
    assert steps_saved(tmp_path) == [4]


def test_nonfinite_update_is_skipped_counted_and_said(mesh, tmp_path, capsys):
    conf = config(training__nonfinite="skip", metrics__every_steps=1)
    state = start(tmp_path, mesh, conf, make_batches=poisoned(mesh, 9))
    assert int(state.step) == 12
    assert int(state.skipped) == 1
    assert "step 10: terms contrast, fit not finite, update skipped (1 so far)" in (
        capsys.readouterr().err
    )
    found = {line["step"]: line for line in values(tmp_path)}
    assert found[10]["train/loss"] is None
    assert [found[step]["train/skipped"] for step in (9, 10, 12)] == [0, 1, 1]
    assert found[11]["train/param_norm"] == found[10]["train/param_norm"]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("training__nonfinite", "ignore", "'ignore'"),
        ("data__batch_size", 0, "batch size 0"),
        ("training__steps", -1, "steps=-1"),
        ("checkpoint__keep", 0, "keep=0"),
    ],
)
def test_bad_values_are_quoted(key, value, message, mesh, tmp_path):
    with pytest.raises(UserError, match=message):
        start(tmp_path, mesh, config(**{key: value}))


def test_file_where_the_work_directory_should_be(mesh, tmp_path):
    (tmp_path / "run").write_text("precious")
    with pytest.raises(UserError, match="cannot write to .*run"):
        start(tmp_path / "run", mesh)
    assert (tmp_path / "run").read_text() == "precious"


def test_batches_from_the_host_are_refused_inside_the_loop(mesh, tmp_path):
    """The transfer guard: a batch that was not put on the mesh would be copied at every step."""

    def host_batches(step):
        while True:
            yield host_batch(step)
            step += 1

    with pytest.raises(Exception, match="(?i)transfer|sharding"):
        start(tmp_path, mesh, make_batches=host_batches)


def test_load_state(whole, mesh, tmp_path):
    arguments = {"config": config(), "objective": Toy(), "manifest": MANIFEST, "mesh": mesh}
    assert_same(load_state(workdir=str(whole[0]), **arguments), whole[1])
    with pytest.raises(UserError, match="no checkpoint in .*nowhere"):
        load_state(workdir=str(tmp_path / "nowhere"), **arguments)
    assert not (tmp_path / "nowhere").exists()


class Replacing:
    """Batches that say which unreadable records they replaced."""

    def __init__(self, inner):
        self.inner, self.skipped = inner, []

    def __iter__(self):
        return self

    def __next__(self):
        self.skipped.append(f"tile-{len(self.skipped)}")
        return next(self.inner)


def test_replaced_records_are_counted_and_named(mesh, tmp_path, capsys):
    make = batches(mesh)
    start(tmp_path, mesh, config(steps=3), make_batches=lambda step: Replacing(make(step)))
    assert values(tmp_path)[-1]["perf/records_skipped"] == 3
    assert "replaced 3 records that cannot be decoded: tile-0, tile-1" in capsys.readouterr().err


def test_assets_travel_with_the_checkpoint(mesh, tmp_path):
    content = bytes(range(256))
    start(tmp_path, mesh, config(steps=3), assets={"tokenizer.model": content})
    metadata = json.loads((tmp_path / "checkpoints/3/meta/metadata").read_text())
    assert resume.unpack(metadata) == {"tokenizer.model": content}
