"""python -m rsvl_jax.weights: import, verify, inspect, export, and what each says."""

import json
import sys

import numpy as np
import pytest
import stored
import torch_files
from safetensors.numpy import load_file, save_file

from rsvl_jax import runtime
from rsvl_jax.errors import UserError
from rsvl_jax.weights import __main__ as command
from rsvl_jax.weights import families, imports, store, trees
from rsvl_jax.weights.families import satclip
from rsvl_jax.weights.family import Family
from rsvl_jax.weights.sources import Arrays, Source

START = "model.location.nnet"
SHAPES = {
    f"{START}.layers.0.weight": (4, 4),
    f"{START}.layers.0.bias": (4,),
    f"{START}.last_layer.weight": (3, 4),
    f"{START}.last_layer.bias": (3,),
}


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a command line: (status, stdout, stderr)."""
    monkeypatch.setattr(families, "FAMILIES", (satclip.FAMILY,))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["weights", *map(str, arguments)])
        status = runtime.exit_status(command.main)
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def source(tmp_path):
    """SatCLIP's layout, and two arrays beside."""
    draw = np.random.default_rng(0)
    values = {name: draw.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    values |= {"model.visual.conv1.weight": draw.normal(size=2), "loss.scale": draw.normal(size=1)}
    return torch_files.state_dict(tmp_path / "satclip.ckpt", values)


def test_import_says_what_became_of_each_array(run, source, tmp_path):
    status, out, _ = run("import", source, f"--out={tmp_path}/out")
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == "loaded: 4 arrays, 35 numbers"
    assert "  location/siren/layer_0/kernel [4, 4]" in lines
    at = lines.index("unused: 1 arrays")
    assert lines[at + 1] == "  loss.scale [1]"
    assert "without weights in them: model.visual.conv1.weight" in lines
    assert any("family satclip" in line for line in lines)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["family"], config["kind"]) == ("satclip", "location")
    assert config["source"]["files"] == ["satclip.ckpt"] and config["source"]["licence"] == "MIT"
    arrays = load_file(tmp_path / "out" / "model.safetensors")
    assert store.fingerprint(arrays) == config["fingerprint"]


def test_a_family_may_be_named(run, source, tmp_path):
    assert run("import", source, f"--out={tmp_path}/a", "--family=satclip")[0] == 0
    status, _, told = run("import", source, f"--out={tmp_path}/b", "--family=satclop")
    assert status == 2 and told.startswith("error: unknown family 'satclop': choose one of satclip")


@pytest.mark.parametrize("wrapper", ["module.", "model.", "module.model.", "_orig_mod."])
def test_names_in_wrappers(wrapper, monkeypatch):
    family = Family("toy", "a toy", lambda shapes: "fc.weight" in shapes, None, None)
    monkeypatch.setattr(families, "FAMILIES", (family,))
    bare, rest = {"fc.weight": np.ones(2), "fc.bias": np.ones(1)}, {"loss.scale": np.ones(3)}
    wrapped = {wrapper + name: value for name, value in bare.items()}
    found, arrays, remarks = imports.identify(Source("x", Arrays.of(wrapped | rest), []))
    assert found is family and list(arrays) == list(bare)
    assert remarks == [f"names begin with {wrapper!r}; 1 arrays without it are left out"]
    assert imports.identify(Source("x", Arrays.of(bare), []))[2] == []
    with pytest.raises(UserError, match="of no family that is known"):
        imports.identify(Source("x", Arrays.of({"deep." + n: v for n, v in bare.items()}), []))


def test_verify_compares_bits(run, source, tmp_path):
    run("import", source, f"--out={tmp_path}/out")
    status, out, _ = run("verify", f"{tmp_path}/out", f"--against={source}")
    assert status == 0 and "4 arrays are equal" in out
    path = tmp_path / "out" / "model.safetensors"
    arrays = load_file(path)
    arrays["location/siren/out/bias"][1] = np.nextafter(arrays["location/siren/out/bias"][1], 9)
    del arrays["location/siren/out/kernel"]
    save_file(arrays, path)
    status, out, told = run("verify", f"{tmp_path}/out", f"--against={source}")
    assert status == 2 and "3 differences" in told
    assert "location/siren/out/bias: 1 of 3 numbers differ" in out
    assert "location/siren/out/kernel: in the source alone" in out
    assert "not those of the fingerprint" in out


def test_inspect_a_source_a_directory_and_names_of_no_family(run, source, tmp_path):
    status, out, _ = run("inspect", source)
    assert status == 0 and "family: satclip" in out and "fingerprint: " in out
    assert f"{START}.layers.0.weight" in out and "float32   [4, 4]" in out
    assert "6 arrays" in out
    run("import", source, f"--out={tmp_path}/out")
    _, out, _ = run("inspect", f"{tmp_path}/out")
    assert f"fingerprint: {store.read(f'{tmp_path}/out').fingerprint}" in out
    save_file({"w": np.ones(2, np.float32)}, tmp_path / "x.safetensors")
    status, out, _ = run("inspect", tmp_path / "x.safetensors")
    assert status == 0 and "family: none" in out


def test_export_to_safetensors_with_a_table_of_its_layout(run, source, tmp_path):
    run("import", source, f"--out={tmp_path}/out")
    status, out, _ = run("export", f"{tmp_path}/out", "--format=safetensors", f"--out={tmp_path}/e")
    assert status == 0 and "4 arrays" in out
    found = load_file(tmp_path / "e" / "model.safetensors")
    for name, value in store.read(f"{tmp_path}/out").arrays.items():
        assert found[name].tobytes() == value.tobytes()
    readme = (tmp_path / "e" / "README.md").read_text()
    assert "| location/siren/out/kernel | float32 | [4, 3] |" in readme


@pytest.mark.parametrize(
    ("form", "words"),
    [("huggingface", "no layout for a model of kind 'location'"), ("onnx", "unknown format")],
)
def test_formats_that_cannot_hold_it(run, source, tmp_path, form, words):
    run("import", source, f"--out={tmp_path}/out")
    status, _, told = run("export", f"{tmp_path}/out", f"--format={form}", f"--out={tmp_path}/e")
    assert status == 2 and words in told and not (tmp_path / "e").exists()


def test_an_import_does_not_overwrite(run, source, tmp_path):
    assert run("import", source, f"--out={tmp_path}/out")[0] == 0
    status, _, told = run("import", source, f"--out={tmp_path}/out")
    assert status == 2 and "is there already" in told


def test_an_unknown_command_is_told():
    with pytest.raises(SystemExit) as stop:
        command._parser().parse_args(["melt", "x"])
    assert stop.value.code == 2


@pytest.mark.parametrize("form", ["huggingface", "open_clip"])
def test_out_and_in_again_gives_the_same_bits(form, monkeypatch, capsys, tmp_path):
    case = stored.read("clip_quick_gelu")
    (tmp_path / "theirs").mkdir()
    save_file(case.weights, tmp_path / "theirs" / "model.safetensors")
    (tmp_path / "theirs" / "config.json").write_text(json.dumps(case.config))
    (tmp_path / "theirs" / "vocab.json").write_text("{}")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["weights", *map(str, arguments)])
        assert runtime.exit_status(command.main) == 0, capsys.readouterr().err

    ours, out, again = (tmp_path / name for name in ("ours", "out", "again"))
    run("import", tmp_path / "theirs", f"--out={ours}")
    run("export", ours, f"--format={form}", f"--out={out}")
    run("import", out, f"--out={again}")
    run("verify", again, f"--against={tmp_path / 'theirs'}")
    assert store.read(str(ours)).fingerprint == store.read(str(again)).fingerprint
    before, after = (trees.architectures(store.read(str(path)).model) for path in (ours, again))
    assert before == after
    assert (out / "vocab.json").read_text() == "{}"
    if form == "huggingface":
        found = load_file(out / "model.safetensors")
        assert {k: v.tobytes() for k, v in found.items()} == {
            k: np.ascontiguousarray(v).tobytes() for k, v in case.weights.items()
        }
