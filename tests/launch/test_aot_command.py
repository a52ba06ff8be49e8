"""The command line of `launch.aot_compile`, for this machine and for TPU topologies."""

import importlib.util
import json
import os
import subprocess
import sys

import aot_tiny
import jax
import pytest
from fake_programs import ROOT

from launch import aot_compile
from launch.aot import chips, report
from rsvl_jax.errors import UserError

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu, the TPU compiler, is not installed"
)


@pytest.fixture(autouse=True)
def here(monkeypatch):
    monkeypatch.chdir(ROOT)
    # What the command sets for its own process is not to stay.
    monkeypatch.setattr(os, "environ", dict(os.environ))


def tiny(method, *more):
    return [*aot_tiny.options(method), "--topology=local", *more]


def test_compiled_for_this_machine(tmp_path, capsys):
    paths = {name: str(tmp_path / f"report.{name}") for name in ("json", "mlir")}
    more = "--config.mesh.fsdp=2", f"--output={paths['json']}", f"--stablehlo={paths['mlir']}"
    words = tiny("graft", *more, "--batch_per_chip=4", "--remat=qkv")
    aot_compile.main(words)
    with open(paths["json"]) as file:
        found = json.load(file)
    assert found["method"] == "graft" and found["mesh"]["fsdp"] == 2 and found["remat"] == "qkv"
    assert found["command"] == " ".join(["python -m launch.aot_compile", *words])
    assert found["batch"] == {"global": 32, "per_chip": 4.0}
    assert found["fits"] and found["memory"]["hbm"] is None
    parts = ("arguments", "outputs", "temporaries", "program")
    assert found["memory"]["peak"] == sum(found["memory"][part] for part in parts)
    assert found["collectives"]["all-reduce"]["count"] > 0
    assert found["collectives"]["all-gather"]["bytes"] > 0  # parameters along fsdp
    flops = found["flops"]
    assert flops["per_chip"] == 4 * flops["per_sample"] < flops["per_chip_with_recomputation"]
    with open(paths["mlir"]) as file:
        assert "func.func public @main" in file.read()
    lines = capsys.readouterr().out.splitlines()
    assert "| batch | 32 (4 a chip) |" in lines
    assert len({line.count("|") for line in lines}) == 1
    head, rule, row = report.summary([found]).splitlines()
    assert head.count("|") == rule.count("|") == row.count("|") and "qkv" in row
    assert sorted(os.listdir(tmp_path)) == ["report.json", "report.mlir"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--config.data.batch_size=30"], "batch size 30 does not divide over 8 devices"),
        (["--config.mesh.data=3"], "3 does not fit 8 devices"),
        (["--remat=half"], "unknown remat policy 'half'"),
        (["--batch_per_chip=0"], "'0' is not a whole number above zero"),
        (["--slices=2"], "--slices=2 describes TPUs"),
        (["--fit"], "--fit needs a device whose memory is known"),
        (["--output=no/such/report.json"], "there is no folder 'no/such'"),
        (["--stablehlo=docs"], "'docs' is a folder"),
        (["--topology=v9:2x2"], "unknown topology 'v9:2x2' .no chip 'v9'.; use one like v5e:2x2"),
        (["--config.modle.remat=full"], "did you mean config.model.remat"),
        (["--outptu=x"], "outptu"),
    ],
)
def test_mistakes_are_told_before_anything_is_compiled(more, says, monkeypatch):
    monkeypatch.setattr(report, "compile_program", lambda *_: pytest.fail("compiled"))
    with pytest.raises(UserError, match=says) as error:
        aot_compile.main(tiny("graft", *more))
    assert "\n" not in str(error.value)


def test_without_libtpu(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"v5e:2x2 needs libtpu.*pip install 'rsvl-jax\[aot\]'"):
        chips.open_chips("v5e:2x2")


def on_tpu(*words):
    """(exit status, what it prints, its report) of the command in a process of its own, since
    libtpu reads its settings once."""
    command = [sys.executable, "-m", "launch.aot_compile", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=_environment())
    return done.returncode, done.stdout, done.stderr


def _environment():
    # Not those of the tests: TPU programs know none of the CPU's.
    return {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}


@needs_libtpu
@pytest.mark.parametrize("terms", ["clip", pytest.param("flavars", marks=pytest.mark.slow)])
def test_flavars_compiles_for_four_chips(terms, tmp_path):
    path = str(tmp_path / "report.json")
    recipe, *sizes = aot_tiny.options("flavars")
    words = f"{recipe}:{terms}", *sizes, "--topology=v5e:2x2", "--config.model.dtype=bfloat16"
    status, table, told = on_tpu(*words, "--config.mesh.fsdp=2", f"--output={path}")
    assert status == 0, told[-2000:]
    with open(path) as file:
        found = json.load(file)
    assert found["topology"] == "v5e:2x2" and found["devices"] == 4 and found["fits"]
    assert found["memory"]["hbm"] == int(15.75 * 2**30)
    assert 0 < found["memory"]["arguments"] < found["memory"]["peak"] < 2**28
    assert found["flops"]["peak_per_second"] == 197e12
    assert found["collectives"]["all-reduce"]["count"] > 0
    assert "LIBTPU_INIT_ARGS" in found["flags"] and "libtpu" in found["versions"]
    assert "| fits | yes, " in table


@pytest.mark.slow
@needs_libtpu
def test_a_batch_that_does_not_fit_is_told_with_what_it_needs():
    words = *aot_tiny.options("graft"), "--topology=v5e:2x2", "--batch_per_chip=1048576"
    status, table, told = on_tpu(*words)
    assert status == 0, told[-2000:]
    (verdict,) = [line for line in table.splitlines() if line.startswith("| fits |")]
    assert float(verdict.split()[4]) > 15.75 and "NO" in verdict


@pytest.mark.slow
@needs_libtpu
@pytest.mark.parametrize("method", ["flavars", "graft"])
def test_two_slices_and_every_policy(method):
    slices = "--topology=v5e:2x2", "--slices=2", "--config.mesh.replica=2", "--remat=all"
    status, table, told = on_tpu(*aot_tiny.options(method), *slices)
    assert status == 0, told[-2000:]
    assert "on 2 x v5e:2x2" in table and "| mesh | replica 2 x data 4 " in table
    assert "| remat none | 0.00 T again" in table


@needs_libtpu
def test_a_topology_that_does_not_exist():
    status, _, told = on_tpu(*aot_tiny.options("graft"), "--topology=v5e:3x3")
    assert status == 2
    assert told.splitlines()[-1].startswith("error: unknown topology 'v5e:3x3' (")


def test_the_backend_of_the_tests_is_left_as_it_was():
    assert jax.default_backend() == "cpu" and len(jax.devices()) == 8
