"""Hostile and damaged files: refused with one line, nothing executed, nothing written."""

import json
import os
import struct
import sys
import zipfile

import numpy as np
import pytest
import torch_files
from safetensors.numpy import save_file
from torch_files import call, group, legacy_file, name, number, table, tensor, tensors, text

from rsvl_jax import runtime
from rsvl_jax.weights import __main__ as command
from rsvl_jax.weights import families
from rsvl_jax.weights.families import satclip
from rsvl_jax.weights.sources import open_source

W = np.arange(12, dtype=np.float32).reshape(3, 4)


def good(**changes):
    """A checkpoint that SatCLIP's family takes: degree 2, width 4, one layer, dim 3."""
    start = "model.location.nnet"
    values = {
        f"{start}.layers.0.weight": np.ones((4, 4), np.float32),
        f"{start}.layers.0.bias": np.ones(4, np.float32),
        f"{start}.last_layer.weight": np.ones((3, 4), np.float32),
        f"{start}.last_layer.bias": np.ones(3, np.float32),
    }
    return values | {f"{start}.{key}": value for key, value in changes.items()}


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Runs the import of a file and returns (status, stderr); asserts that nothing was written."""
    monkeypatch.setattr(families, "FAMILIES", (satclip.FAMILY,))
    monkeypatch.chdir(tmp_path)

    def run(source, *more):
        before = sorted(os.listdir(tmp_path))
        argv = ["weights", "import", str(source), "--out=out", *more]
        monkeypatch.setattr(sys, "argv", argv)
        status = runtime.exit_status(command.main)
        if status:
            assert sorted(os.listdir(tmp_path)) == before
        return status, capfd.readouterr().err.strip()

    return run


def assert_refused(result, *words):
    status, told = result
    assert status == 2
    assert told.startswith("error: ") and "\n" not in told
    for word in words:
        assert word in told


def test_the_same_file_unharmed_is_taken(run, tmp_path):
    save_file(good(), tmp_path / "x.safetensors")
    assert run("x.safetensors") == (0, "")
    assert (tmp_path / "out" / "model.safetensors").exists()


SYSTEM = {
    "posix.system": lambda: call("posix.system", text("touch pwned")),
    "os.system": lambda: call("os.system", text("touch pwned")),
    "builtins.eval": lambda: call("builtins.eval", text("open('pwned', 'w')")),
    "builtins.getattr": lambda: call("builtins.getattr", name("torch.Size"), text("mro")),
    "subprocess.Popen": lambda: name("subprocess.Popen") + group(text("touch pwned")) + b"\x81",
    "torch.serialization.load": lambda: call("torch.serialization.load", text("x")),
    "torch._utils.os.system": lambda: call("torch._utils.os.system", text("touch pwned")),
    # INST and OBJ, the ways of older protocols
    "os.popen": lambda: b"(" + text("touch pwned") + b"ios\npopen\n",
    "nt.system": lambda: b"(" + name("nt.system") + text("touch pwned") + b"o",
    # STACK_GLOBAL, with dots in the name
    "os.path.os.system": lambda: text("os.path") + text("os.system") + b"\x93" + group() + b"R",
}


@pytest.mark.parametrize("wanted", SYSTEM)
@pytest.mark.parametrize("how", ["zip", "legacy"])
def test_a_pickle_that_calls(run, tmp_path, wanted, how):
    objects = table({**tensors({"w": W}), "payload": SYSTEM[wanted]()})
    write = torch_files.zip_file if how == "zip" else legacy_file
    write(tmp_path / "x.pt", objects, {"w": W})
    assert_refused(run("x.pt"), "x.pt", repr(wanted), "refused", "nothing was run")
    assert not (tmp_path / "pwned").exists()


def test_a_pickle_of_the_interpreter(run, tmp_path):
    (tmp_path / "x.bin").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    assert_refused(run("x.bin"), "'os.system'")


INNER = {
    "state given to a name": name("torch.Size") + table({"__doc__": text("x")}) + b"b",
    "call of a tensor": tensor("w", W) + group() + b"R",
    "call of a payload": call("argparse.Namespace") + group() + b"R",
    "extension code": b"\x82\x01",
    "bytearray of 2^60 bytes": b"\x96" + struct.pack("<Q", 2**60),
    "text of 2^60 bytes": b"\x8d" + struct.pack("<Q", 2**60),
    "memo of 2^32 places": b"K\x01r\xfe\xff\xff\xff\x82\x01",
    "storage of another kind": group(text("module"), *[text("x")] * 4) + b"Q",
    "tensor larger than its storage": tensor("w", W, shape=(2**40, 2**20), strides=(0, 0)),
    "tensor outside its storage": tensor("w", W, offset=10, shape=(3, 1), strides=(1, 1)),
    "negative shape": tensor("w", W, shape=(-3, -4)),
    "negative stride": tensor("w", W, strides=(-4, 1)),
    "storage of -1 numbers": tensor("w", W, count=-1),
    "storage of 2^60 numbers": tensor("w", W, count=2**60),
    "a type that is none": tensor("w", W, kind="torch.Size"),
    "opcode that is none": b"\xfe",
    "nothing on the stack": b"R",
}


@pytest.mark.parametrize("what", INNER)
def test_a_pickle_that_is_made_wrong(run, tmp_path, what):
    torch_files.zip_file(tmp_path / "x.pt", table({"w": INNER[what]}), {"w": W})
    assert_refused(run("x.pt"), "x.pt")


def test_no_tensors(run, tmp_path):
    torch_files.zip_file(tmp_path / "x.pt", table({"epoch": number(3)}), {})
    assert_refused(run("x.pt"), "no state dict", "epoch")


def test_a_cycle_of_dicts(run, tmp_path):
    torch_files.zip_file(tmp_path / "x.pt", b"}q\x00" + text("model") + b"h\x00s", {})
    assert_refused(run("x.pt"), "no state dict")


def test_a_storage_that_is_missing_or_short(run, tmp_path):
    torch_files.zip_file(tmp_path / "x.pt", table({"w": tensor("w", W)}), {})
    assert_refused(run("x.pt"), "lacks its member")
    torch_files.zip_file(tmp_path / "x.pt", table({"w": tensor("w", W)}), {"w": W[:2]})
    assert_refused(run("x.pt"), "32 bytes", "48")


def test_an_older_file_cut_short(run, tmp_path):
    values = good()
    path = legacy_file(tmp_path / "x.pt", table(tensors(values)), values)
    path.write_bytes(path.read_bytes()[:-4])
    assert_refused(run("x.pt"), "not whole")


def test_a_zip_cut_short(run, tmp_path):
    path = torch_files.state_dict(tmp_path / "x.pt", good())
    path.write_bytes(path.read_bytes()[:-30])
    assert_refused(run("x.pt"), "x.pt")


def flip(path, where: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(where)] ^= 1
    path.write_bytes(content)


def test_a_flipped_bit_in_a_zip(run, tmp_path):
    path = torch_files.state_dict(tmp_path / "x.pt", good())
    flip(path, np.ones(4, np.float32).tobytes())
    assert_refused(run("x.pt"), "damaged", "CRC")


def bomb(path, declared: int) -> None:
    """An .npz whose member declares more bytes, in the directory and before the member itself."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("w.npy", b"\0" * 1000)
    content = bytearray(path.read_bytes())
    size = struct.pack("<I", 1000)
    while (place := content.find(size)) >= 0:
        content[place : place + 4] = struct.pack("<I", declared)
    path.write_bytes(content)


def test_a_zip_bomb_by_its_header(run, tmp_path):
    bomb(tmp_path / "x.npz", 4_000_000_000)
    assert_refused(run("x.npz"), "4000000000 bytes", "cannot unfold")


def test_a_zip_bomb_that_unfolds(run, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for index in range(9):
            file.writestr(f"{index}.npy", b"\0" * (8 << 20))
    assert_refused(run("x.npz"), "compressed members", "refused")


@pytest.mark.parametrize("inner", ["../../x.npy", "/etc/x.npy", "C:\\x.npy", "a/../../x.npy"])
def test_a_member_that_escapes(run, tmp_path, inner):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        file.writestr(inner, b"")
    assert_refused(run("x.npz"), "escape")


def npy(header: bytes, data: bytes = b"") -> bytes:
    header += b" " * (64 - len(header)) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


NPY = {
    "objects": npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"x"),
    "bytes": npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999,)}"),
    "not an .npy": npy(b"__import__('os').system('touch pwned')"),
    "shape": npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -1)}", b"0000"),
}


@pytest.mark.parametrize("word", NPY)
def test_an_npz_that_is_made_wrong(run, tmp_path, word):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        file.writestr("w.npy", NPY[word])
    assert_refused(run("x.npz"), "w.npy", word)


def header(**entries) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text


def entry(*offsets: int, dtype: str = "F32", shape=(1,)):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


SAFETENSORS = {
    "empty": b"",
    "a header of 2^60 bytes": struct.pack("<Q", 2**60) + b"{}",
    "a header longer than the file": struct.pack("<Q", 5000) + b"{}",
    "no JSON": struct.pack("<Q", 4) + b"{{{{",
    "a deep header": struct.pack("<Q", 500_000) + b'{"a":' * 100_000,
    "offsets after the end": header(w=entry(0, 400, shape=[100])) + b"0" * 4,
    "overlapping offsets": header(a=entry(0, 4), b=entry(0, 4)) + b"0" * 4,
    "a hole": header(a=entry(0, 4), b=entry(8, 12)) + b"0" * 12,
    "offsets backwards": header(w=entry(4, 0)) + b"0" * 4,
    "a shape of another size": header(w=entry(0, 4, shape=[2**40, 2**40])) + b"0" * 4,
    "a type that is none": header(w=entry(0, 4, dtype="F99")) + b"0" * 4,
    "more than it says": header(w=entry(0, 4)) + b"0" * 9,
}


@pytest.mark.parametrize("what", SAFETENSORS)
def test_safetensors_that_are_made_wrong(run, tmp_path, what):
    (tmp_path / "x.safetensors").write_bytes(SAFETENSORS[what])
    assert_refused(run("x.safetensors"), "x.safetensors")


def test_safetensors_cut_short(run, tmp_path):
    save_file(good(), tmp_path / "x.safetensors")
    content = (tmp_path / "x.safetensors").read_bytes()
    for length in (3, 50, len(content) - 1):
        (tmp_path / "x.safetensors").write_bytes(content[:length])
        assert_refused(run("x.safetensors"), "not a whole safetensors file")


@pytest.mark.parametrize("shard", ["../secret.safetensors", "/etc/passwd", "a/../../secret.bin"])
def test_an_index_that_escapes(run, tmp_path, shard):
    folder = tmp_path / "model"
    folder.mkdir()
    save_file(good(), tmp_path / "secret.safetensors")
    index = {"weight_map": dict.fromkeys(good(), shard)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_refused(run("model"), "leads out of", "refused")


def test_a_link_that_escapes(run, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_text("secret")
    save_file(good(), folder / "model.safetensors")
    (folder / "tokenizer.json").symlink_to(tmp_path / "secret")
    assert_refused(run("model"), "tokenizer.json", "link that leads out")


def test_links_of_the_hubs_cache_are_followed(run, tmp_path):
    snapshot = tmp_path / "cache" / "snapshots" / "abc"
    blobs = tmp_path / "cache" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    save_file(good(), blobs / "123")
    (snapshot / "model.safetensors").symlink_to("../../blobs/123")
    assert run(snapshot) == (0, "")


@pytest.mark.parametrize("index", ["[]", "{}", '{"weight_map": {"w": 3}}', "nonsense", "[" * 99999])
def test_an_index_that_is_none(run, tmp_path, index):
    (tmp_path / "model.safetensors.index.json").write_text(index)
    assert_refused(run("model.safetensors.index.json"), "not an index")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_none(run, tmp_path, bad):
    values = good(**{"last_layer.bias": np.array([1, bad, 1], np.float32)})
    save_file(values, tmp_path / "x.safetensors")
    assert_refused(run("x.safetensors"), "location/siren/out/bias", "1 of 3", "--allow_nonfinite")
    assert run("x.safetensors", "--allow_nonfinite") == (0, "")


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.complex64, np.bool_])
def test_weights_that_are_no_floats(run, tmp_path, dtype):
    save_file(good(**{"last_layer.bias": np.ones(3, dtype)}), tmp_path / "x.safetensors")
    assert_refused(run("x.safetensors"), "location/siren/out/bias", np.dtype(dtype).name)


def test_shapes_that_do_not_fit(run, tmp_path):
    save_file(good(**{"last_layer.bias": np.ones(5, np.float32)}), tmp_path / "x.safetensors")
    assert_refused(run("x.safetensors"), "location/siren/out/bias", "[5]", "[3]")


def test_a_checkpoint_that_lacks_an_array(run, tmp_path):
    values = good()
    del values["model.location.nnet.last_layer.bias"]
    save_file(values, tmp_path / "x.safetensors")
    assert_refused(run("x.safetensors"), "not a whole", "location/siren/out/bias")


def test_names_of_no_family(run, tmp_path):
    save_file({"w": W}, tmp_path / "x.safetensors")
    assert_refused(run("x.safetensors"), "of no family", "(w)", "satclip")


def test_opening_a_hostile_file_in_python_raises_user_error_only(tmp_path):
    from rsvl_jax.errors import UserError

    path = torch_files.state_dict(tmp_path / "x.pt", good())
    content = path.read_bytes()
    draw = np.random.default_rng(0)
    for _ in range(300):
        broken = bytearray(content)
        for place in draw.integers(0, len(broken), 4):
            broken[place] = draw.integers(256)
        path.write_bytes(broken)
        try:
            arrays = open_source(str(path)).arrays
            for key in arrays:
                arrays[key]
        except UserError:
            pass
