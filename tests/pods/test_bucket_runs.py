"""Object stores for work directories: both mains, and two processes that share one."""

import pytest
from pod import FLAVARS, GRAFT
from test_agreement import run

from flavars_jax import experiment as flavars
from graft_jax import experiment as graft
from rsvl_jax import command, storage
from rsvl_jax.training.metrics import comparable

METHODS = {"flavars": (flavars, FLAVARS), "graft": (graft, GRAFT)}
FILES = ["config.json", "illustrations.npz", "metrics.jsonl", "report.html", "scores.json"]


@pytest.mark.slow
@pytest.mark.parametrize("store", ["gs", "s3"])
@pytest.mark.parametrize("method", METHODS)
def test_everything_that_a_run_writes_lies_in_the_bucket(
    method,
    store,
    bucket,
    s3_endpoint,
    mini_earth_tiles,
    mini_zoom_pairs,
    tmp_path,
    monkeypatch,
    capsys,
):
    module, settings = METHODS[method]
    data = {"flavars": mini_earth_tiles, "graft": mini_zoom_pairs}[method]
    settings = settings | {"data.dir": data, "training.steps": 6, "evaluation.every_steps": 3}
    workdir = f"{store}://bucket/{method}"
    flags = [f"--config.{key}={value}" for key, value in settings.items()]
    given = command.parse(["main", f"--config=configs/{method}.py", f"--workdir={workdir}", *flags])
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for expected in (f"report: {workdir}/report.html", f"finished: {workdir}"):
        module.run(given.config, given.workdir)
        told = capsys.readouterr()
        assert expected in told.out + told.err
    assert set(FILES) <= {path.name for path in storage.locate(workdir).iterdir()}


@pytest.mark.slow
def test_two_processes_write_and_resume_in_one_bucket(s3_endpoint, tmp_path):
    """The arrays of both come to one checkpoint, which both go on from."""
    workdir = storage.locate("s3://bucket/pod")
    for steps in (12, 16):
        found = run(workdir, steps, "nothing", str(tmp_path / "compiled"))
        assert [status for status, _ in found] == [0, 0], found
    assert "restored the checkpoint of step 12" in found[0][1]
    assert [status for status, _ in run(tmp_path, 16, "nothing", str(tmp_path))] == [0, 0]
    bucket, disk = (
        [comparable(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
        for place in (workdir, tmp_path)
    )
    assert bucket == disk
