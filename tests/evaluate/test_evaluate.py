"""The evaluation command: every kind of task on small data, tables that resume, bad input."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_runs
from PIL import Image

import rsvl_jax
from flavars_jax import inference
from flavars_jax.model import FlavarsModel
from flavars_jax.settings import from_config
from rsvl_jax.errors import UserError
from rsvl_jax.evaluate import suite as suites
from rsvl_jax.evaluate.__main__ import run as command
from rsvl_jax.evaluate.subject import Subject
from rsvl_jax.evaluate.tasks import KINDS
from rsvl_jax.evaluation import card
from rsvl_jax.evaluation.features import extract
from rsvl_jax.evaluation_sets.opening import open_collection
from rsvl_jax.inference.encoders import encoders
from rsvl_jax.models import functional
from rsvl_jax.parallel.mesh import make_mesh

sys.path.append(str(Path(__file__).parents[1] / "evaluation_sets"))
import made_sets  # noqa: E402
import test_rsvqa_reader  # noqa: E402

ROOT = Path(__file__).parents[2]
CLASSES = ("desert", "open water", "snow and ice")
OPTIONS = {name: kind.options for name, kind in KINDS.items()}

SUITE = """
title = "All kinds"
[[tasks]]
kind = "knn"
set = "scenes"
pooling = ["cls", "mean", "text_space"]
[[tasks]]
kind = "linear_probe"
set = "scenes"
grid = [0.01, 1.0]
[[tasks]]
kind = "few_shot"
set = "scenes"
shots = [1, 2]
seeds = 2
[[tasks]]
kind = "zeroshot"
set = "scenes"
prompts = "skyscript"
[[tasks]]
kind = "class_retrieval"
set = "scenes"
[[tasks]]
kind = "geolocation"
set = "scenes"
[[tasks]]
kind = "retrieval"
set = "told"
merge = true
[[tasks]]
kind = "segmentation"
set = "roads"
train = "train"
[[tasks]]
kind = "segmentation"
name = "roads-conv"
set = "roads"
head = "conv"
width = 8
steps = 2
[[tasks]]
kind = "open_vocabulary"
set = "roads"
[[tasks]]
kind = "vqa"
set = "asked"
gsd = 10.0
[[tasks]]
kind = "selo"
set = "sought"
scales = [16, 32]
"""


def noise(path, seed, size=20):
    made_sets.image(path)
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    for number, split in enumerate(("train", "val", "test")):
        for place in range(15):
            name = CLASSES[place % 3]
            noise(root / "scenes" / split / name / f"{place}.png", 100 * number + place)
    lines = [f"test/{CLASSES[n % 3]}/{n}.png,{10 * n},{3 * n}" for n in range(14)]
    (root / "scenes" / "places.csv").write_text("\n".join(["image,lon,lat", *lines]))
    entries = [
        (f"{n}.png", "test", [f"a photo of {CLASSES[n % 3]}", f"tile {n}"]) for n in range(7)
    ]
    made_sets.karpathy(root / "told", "dataset", entries)
    for split in ("train", "test"):
        for place in range(4):
            noise(root / "roads" / split / "images" / f"{place}.png", place)
            mask = made_sets.image(root / "roads" / split / "masks" / f"{place}.png", 0, mode="L")
            half = np.zeros((20, 20), np.uint8)
            half[:, : 5 + 3 * place] = 1
            Image.fromarray(half).save(mask)
    (root / "roads" / "classes.csv").write_text("0,ground\n1,road\n")
    test_rsvqa_reader.write(root / "asked")
    noise(root / "sought" / "imgs" / "1.png", 0, size=64)
    sought = {"jpg_name": "1.png", "caption": "a desert", "points": [[[0, 0], [30, 0], [30, 30]]]}
    (root / "sought" / "anno.json").write_text(json.dumps([sought]))
    (root / "all.toml").write_text(SUITE)
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tiny_runs.flavars(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def scored(data, run):
    command([f"--workdir={run[0]}", f"--suite={data / 'all.toml'}", f"--data={data}"])
    return Path(run[0]) / "evaluations" / "all"


def test_every_kind_gives_cards_with_their_protocol(scored):
    cards = {each.key: each for each in card.read(str(scored / "scores.json"))}
    assert "scenes/knn_l2_k5/text_space/accuracy" in cards
    assert "scenes/few_shot/mean/accuracy_2_shots" in cards
    assert "told/retrieval/image_to_text/recall@1" in cards
    assert "roads/segmentation/zeroshot/mean_iou" in cards
    convolved = cards["roads/segmentation/conv/mean_iou"].protocol
    assert convolved["steps"] == 2 and convolved["learning_rate"] == 1e-3
    assert cards["asked/vqa/accuracy"].n == 3
    found = cards["scenes/class_retrieval/map@20"]
    assert found.chance < found.value <= 100 and found.interval[0] <= found.value
    where = cards["scenes/geolocation/accuracy@2500km"]
    assert where.protocol["without_place"] == 1 and 0 < where.chance < 100 and where.n == 14
    for each in cards.values():
        assert each.value is not None and np.isfinite(each.value), each.key
        assert each.provenance.weights and each.split_fingerprint and each.n
        assert {"image", "normalisation"} <= set(each.protocol)
    zeroshot = cards["scenes/zeroshot_skyscript/accuracy"]
    assert zeroshot.protocol["prompts"][0] == "a satellite photo of desert."
    assert zeroshot.interval is not None and zeroshot.chance == pytest.approx(100 / 3)
    assert cards["told/retrieval/text_to_image/recall@1"].n == 10  # of 14 captions, 10 differ
    table = (scored / "scores.md").read_text()
    assert table.startswith("# All kinds") and "scenes: linear probe, cls" in table


@pytest.mark.slow
def test_two_processes_of_four_devices_score_as_one_does(scored, data, run, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = [sys.executable, "-m", "rsvl_jax.evaluate", f"--workdir={run[0]}", f"--data={data}"]
    words += [f"--suite={data / 'all.toml'}", f"--output={tmp_path}", f"--coordinator={address}"]
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    processes = [
        subprocess.Popen([*words, "--processes=2", f"--process={n}"], env=environment, cwd=ROOT)
        for n in range(2)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    alone, together = (card.read(str(folder / "scores.json")) for folder in (scored, tmp_path))
    assert [each.key for each in together] == [each.key for each in alone]
    for each, other in zip(together, alone, strict=True):
        # Features agree to 1e-5; where patches decide, a few pixels of thousands may fall over.
        assert each.value == pytest.approx(other.value, abs=0.2), each.key
        assert each.protocol == other.protocol and each.n == other.n


def test_finished_tasks_and_features_stay(scored, data, run, monkeypatch):
    before = (scored / "scores.json").read_bytes()
    tasks = sorted((scored / "tasks").iterdir())
    tasks[0].unlink()
    monkeypatch.setattr("rsvl_jax.evaluate.subject.extract", None)  # features are kept
    words = [f"--workdir={run[0]}", f"--suite={data / 'all.toml'}", f"--data={data}"]
    command([*words, "--only=scenes-few_shot,scenes-zeroshot,scenes-knn,scenes-linear_probe"])
    command([*words, "--only=told-retrieval"])
    monkeypatch.undo()
    command(words)
    assert (scored / "scores.json").read_bytes() == before


def test_damaged_features_are_computed_again(scored, data, run, capsys):
    kept = next((scored / "features").iterdir())
    kept.write_bytes(kept.read_bytes()[:100])
    for path in (scored / "tasks").iterdir():
        path.unlink()
    command([f"--workdir={run[0]}", f"--suite={data / 'all.toml'}", f"--data={data}"])
    assert "are damaged" in capsys.readouterr().err


def test_two_models_side_by_side(scored, data, run, capsys, tmp_path):
    other = tmp_path / "other"
    words = [f"--weights={run[0]}", f"--suite={data / 'all.toml'}", f"--data={data}"]
    words += ["--only=scenes-knn", f"--output={other}", f"--compare={scored}"]
    command(words)
    assert "scenes/knn_l2_k5/cls/accuracy" in capsys.readouterr().out
    assert (other / "compare.html").exists()
    content = json.loads((other / "scores.json").read_text())
    content["cards"][0]["protocol"]["k"] = 20
    (other / "scores.json").write_text(json.dumps(content))
    from rsvl_jax.report import compare

    assert "≠" in compare.write([str(scored), str(other)], str(tmp_path / "page.html"))


def subject_of(run, mesh):
    embedder = rsvl_jax.load(run[0])
    return Subject(
        encoders=encoders(embedder, mesh),
        prepare=embedder.preprocessing,
        provenance=card.Provenance("w"),
        mesh=mesh,
        batch_size=8,
    )


def test_features_are_those_of_the_method_and_of_any_mesh(run):
    graph = functional.structure(lambda rngs: FlavarsModel(from_config(run[1]), rngs))
    model = functional.bind(graph, run[2].params, run[2].frozen)
    shape = (13, tiny_runs.SIZE, tiny_runs.SIZE, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    expected = jax.jit(lambda x: inference.images(model, x))(images)
    for mesh in (make_mesh(devices=jax.devices()[:1]), make_mesh(data=4, fsdp=2)):
        one_pass = subject_of(run, mesh).encoders.images
        found = extract(one_pass, images, batch_size=8, mesh=mesh)
        assert set(found) == set(expected) | {"text_patches"}
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, atol=2e-5, err_msg=name)


def test_images_of_another_size_are_resized_whole(run):
    encode = subject_of(run, make_mesh(devices=jax.devices()[:1])).encoders.images
    shape = (2, 2 * tiny_runs.SIZE, 2 * tiny_runs.SIZE, 3)
    small = np.random.default_rng(0).integers(0, 256, (2, *[tiny_runs.SIZE] * 2, 3), np.uint8)
    large = np.ascontiguousarray(np.broadcast_to(small[:, :1, :1], shape))
    found = encode(np.ascontiguousarray(large))["cls"]
    plain = encode(np.ascontiguousarray(np.broadcast_to(small[:, :1, :1], small.shape)))["cls"]
    np.testing.assert_allclose(found, plain, atol=1e-5)


def test_models_without_texts_do_what_they_can(data, tmp_path):
    path = tiny_runs.flavars(tmp_path, "mae")[0]
    command([f"--workdir={path}", f"--suite={data / 'all.toml'}", f"--data={data}"])
    found = card.read(f"{path}/evaluations/all/scores.json")
    notes = {each.task.split("/")[1]: each.note for each in found if each.value is None}
    assert notes["retrieval"] == "not applicable: the model has no text encoder"
    assert any(each.task.startswith("scenes/knn") and each.value is not None for each in found)


def test_built_in_suites_are_sound():
    for name in suites.names():
        suite = suites.load(name, "data", OPTIONS)
        assert suite.title and suite.tasks
    with pytest.raises(UserError, match="did you mean 'torchgeo'"):
        suites.load("torchgoe", "data", OPTIONS)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("title = 1", "no \\[\\[tasks\\]\\]"),
        ("[[tasks", "is no TOML"),
        ('[[tasks]]\nkind = "knm"\nset = "a"', "task kind 'knm': did you mean 'knn'"),
        ('[[tasks]]\nkind = "knn"', "names no set"),
        ('[[tasks]]\nkind = "knn"\nset = "a"\npoling = "cls"', "'poling': did you mean 'pooling'"),
        ('[[tasks]]\nkind = "knn"\nset = "a"\n' * 2, "two tasks 'a-knn'"),
    ],
)
def test_suite_files_that_are_wrong(text, what, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=what):
        suites.load(str(path), "data", OPTIONS)


def test_command_lines_that_are_wrong(run, data, tmp_path):
    suite = f"--suite={data / 'all.toml'}"
    for words, what in (
        ([], "give one of --workdir"),
        ([f"--weights={run[0]}", suite], "give --output"),
        ([f"--workdir={run[0]}", suite, "--only=scene-knn"], "did you mean 'scenes-knn'"),
        ([f"--workdir={run[0]}", suite, f"--data={tmp_path}"], "not there: scenes in"),
        ([f"--workdir={run[0]}", "--suite=mine.toml"], "no suite file 'mine.toml'"),
    ):
        with pytest.raises(UserError, match=what):
            command(words)


def test_tasks_say_what_their_data_lack(run, data):
    mesh = make_mesh()
    subject = subject_of(run, mesh)
    spec = suites.Spec("t", "retrieval", "scenes", str(data / "scenes"))
    with pytest.raises(UserError, match="needs captions: scenes test has none"):
        KINDS["retrieval"].score(subject, spec)
    spec = suites.Spec("t", "knn", "scenes", str(data / "scenes"), {"fit": "stretch"})
    with pytest.raises(UserError, match="fit 'stretch'"):
        KINDS["knn"].score(subject, spec)
    for options, what in (
        ({"head": "fpn"}, "head 'fpn': use linear or conv"),
        ({"steps": 9}, "steps are for head"),
    ):
        spec = suites.Spec("t", "segmentation", "roads", str(data / "roads"), options)
        with pytest.raises(UserError, match=what):
            KINDS["segmentation"].score(subject, spec)
    padded = subject.images(open_collection("scenes", str(data / "scenes"), "test"), "pad")
    assert padded[0].shape == (tiny_runs.SIZE, tiny_runs.SIZE, 3)
