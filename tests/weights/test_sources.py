"""Files and folders of all formats, to arrays by name."""

import json
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch_files
from safetensors.numpy import save_file
from torch_files import call, legacy_file, name, state, table, tensors, text, zip_file

from rsvl_jax.errors import UserError
from rsvl_jax.weights.sources import open_source
from rsvl_jax.weights.sources.archive import Archive

DRAW = np.random.default_rng(0)
VALUES = {
    "a.weight": DRAW.normal(size=(4, 3)).astype(np.float32),
    "a.bias": DRAW.normal(size=4).astype(np.float16),
    "b": DRAW.normal(size=(2, 2)).astype(ml_dtypes.bfloat16),
    "turned": DRAW.normal(size=(3, 5)).astype(np.float32).T,
    "scalar": np.array(2.5, np.float32),
    "count": np.array(7, np.int64),
}


def assert_are(arrays, values=VALUES) -> None:
    assert sorted(arrays) == sorted(values)
    assert arrays.shapes == {key: value.shape for key, value in values.items()}
    for key, value in values.items():
        found = arrays[key]
        assert found.dtype == value.dtype == arrays.tensors[key].dtype
        assert found.tobytes() == np.ascontiguousarray(value).tobytes()


def whole(values=VALUES):
    return {key: np.ascontiguousarray(value).reshape(value.shape) for key, value in values.items()}


def test_safetensors(tmp_path):
    save_file(whole(), tmp_path / "x.safetensors")
    assert_are(open_source(str(tmp_path / "x.safetensors")).arrays)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save):
    plain = {key: v for key, v in VALUES.items() if v.dtype != ml_dtypes.bfloat16}
    save(tmp_path / "x.npz", **plain)
    assert_are(open_source(str(tmp_path / "x.npz")).arrays, plain)


@pytest.mark.parametrize("ending", ["bin", "pt", "pth", "ckpt"])
def test_pytorch(tmp_path, ending):
    path = torch_files.state_dict(tmp_path / f"x.{ending}", VALUES)
    assert_are(open_source(str(path)).arrays)


def test_pytorch_before_1_6(tmp_path):
    path = legacy_file(tmp_path / "x.pth", table(tensors(VALUES)), VALUES)
    assert_are(open_source(str(path)).arrays)


def test_torchscript_by_the_names_of_attributes(tmp_path):
    def module(**attributes: bytes) -> bytes:
        return state(name("__torch__.model.M") + b")\x81", table(attributes))

    inner = module(weight=torch_files.tensor("w", VALUES["a.weight"]), training=b"\x89")
    path = zip_file(
        tmp_path / "x.pt",
        module(visual=inner, bias=torch_files.tensor("b", VALUES["b"]), size=text("224")),
        {"w": VALUES["a.weight"], "b": VALUES["b"]},
        {"code/__torch__/model.py": b"import os; os.system('touch pwned')"},
    )
    source = open_source(str(path))
    assert_are(source.arrays, {"visual.weight": VALUES["a.weight"], "bias": VALUES["b"]})
    assert any("TorchScript" in remark for remark in source.remarks)


def test_a_trainers_payload_is_skipped_and_told(tmp_path):
    namespace = state(name("argparse.Namespace") + b")\x81", table({"lr": text("1e-3")}))
    config = call("omegaconf.dictconfig.DictConfig", text("x"))
    checkpoint = {
        "epoch": text("3"),
        "hyper_parameters": table({"args": namespace, "path": call("pathlib.PosixPath")}),
        "config": config,
        "state_dict": call("collections.OrderedDict") + table(tensors(VALUES))[1:],
    }
    source = open_source(str(zip_file(tmp_path / "x.ckpt", table(checkpoint), VALUES)))
    assert_are(source.arrays)
    told = " ".join(source.remarks)
    assert "'state_dict'" in told and "argparse.Namespace" in told and "omegaconf" in told


def test_a_state_dict_inside_others(tmp_path):
    inner = table({"model": table(tensors(VALUES)), "optimizer": table({"x": text("y")})})
    path = zip_file(tmp_path / "x.pt", table({"module": inner}), VALUES)
    assert_are(open_source(str(path)).arrays)


def test_a_view_into_a_storage(tmp_path):
    storage = np.arange(10, dtype=np.float32)
    part = torch_files.tensor("s", storage, offset=3, shape=(2, 2), strides=(3, 1))
    path = zip_file(tmp_path / "x.pt", table({"part": part}), {"s": storage})
    assert open_source(str(path)).arrays["part"].tolist() == [[3, 4], [6, 7]]


def test_arrays_are_read_when_they_are_asked_for(tmp_path, monkeypatch):
    path = torch_files.state_dict(tmp_path / "x.pt", VALUES)
    source, read = open_source(str(path)), []
    own = Archive.read
    monkeypatch.setattr(Archive, "read", lambda self, key: read.append(key) or own(self, key))
    assert source.arrays.shapes["a.weight"] == (4, 3) and not read
    source.arrays["a.weight"]
    assert read == ["archive/data/a.weight"]


def shards(folder: Path) -> Path:
    values, keys = whole(), list(VALUES)
    save_file({key: values[key] for key in keys[:3]}, folder / "model-1.safetensors")
    save_file({key: values[key] for key in keys[3:]}, folder / "model-2.safetensors")
    places = {key: f"model-{1 + (index > 2)}.safetensors" for index, key in enumerate(keys)}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return index


def test_shards_by_index_and_by_folder(tmp_path):
    index = shards(tmp_path)
    for given in (index, tmp_path):
        source = open_source(str(given))
        assert_are(source.arrays)
        assert len(source.files) == 2 and len(source.sha256()) == 64


def test_a_hugging_face_folder(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5]}')
    (tmp_path / "vocab.json").write_text("{}")
    torch_files.state_dict(tmp_path / "pytorch_model.bin", {"pickled": VALUES["a.weight"]})
    save_file(whole(), tmp_path / "model.safetensors")
    source = open_source(str(tmp_path))
    assert_are(source.arrays)  # what is safe is preferred
    assert source.config == {"model_type": "clip"}
    assert source.preprocessor == {"image_mean": [0.5, 0.5, 0.5]}
    assert source.tokenizer == {"vocab.json": str(tmp_path / "vocab.json")}


def test_an_open_clip_folder(tmp_path):
    (tmp_path / "open_clip_config.json").write_text('{"model_cfg": {"embed_dim": 8}}')
    (tmp_path / "config.json").write_text('{"not": "this"}')
    torch_files.state_dict(tmp_path / "open_clip_pytorch_model.bin", VALUES)
    source = open_source(str(tmp_path))
    assert_are(source.arrays)
    assert source.config == {"model_cfg": {"embed_dim": 8}}


def test_a_folder_with_one_file_of_any_name(tmp_path):
    torch_files.state_dict(tmp_path / "satclip-vit16-l10.ckpt", VALUES)
    assert_are(open_source(str(tmp_path)).arrays)
    torch_files.state_dict(tmp_path / "satclip-vit16-l40.ckpt", VALUES)
    with pytest.raises(UserError, match=r"satclip-vit16-l10.ckpt, satclip-vit16-l40.ckpt.*name"):
        open_source(str(tmp_path))


@pytest.mark.parametrize("given", ["nothing_here", "../nothing", "org/name/../x"])
def test_what_is_neither_a_path_nor_a_name_of_the_hub(given):
    with pytest.raises(UserError, match="no file or folder"):
        open_source(given)


def test_the_hub_needs_its_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="install huggingface_hub"):
        open_source("nobody/nothing")


def test_a_name_of_the_hub_is_fetched(tmp_path, monkeypatch):
    class Hub:
        @staticmethod
        def list_repo_files(repo: str) -> list[str]:
            return ["model.safetensors", "pytorch_model.bin"]

        @staticmethod
        def snapshot_download(repo: str, allow_patterns: list[str]) -> str:
            assert repo == "org/name" and "*.bin" not in allow_patterns
            return str(tmp_path)

    save_file(whole(), tmp_path / "model.safetensors")
    monkeypatch.setitem(sys.modules, "huggingface_hub", Hub)
    assert_are(open_source("org/name").arrays)


def test_files_of_pytorch_itself(tmp_path):
    torch = pytest.importorskip("torch")
    values = {"w": torch.randn(3, 4).t(), "h": torch.ones(2, dtype=torch.bfloat16)}
    module = torch.jit.script(torch.nn.Linear(2, 3))
    torch.save(values, tmp_path / "new.pt")
    torch.save(values, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    torch.jit.save(module, tmp_path / "script.pt")
    for file in ("new.pt", "old.pt"):
        found = open_source(str(tmp_path / file)).arrays
        assert np.array_equal(found["w"], values["w"].numpy())
        assert np.array_equal(found["h"].astype(np.float32), [1, 1])
    found = open_source(str(tmp_path / "script.pt")).arrays
    assert np.array_equal(found["weight"], module.weight.detach().numpy())
