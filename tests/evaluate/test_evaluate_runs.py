"""A work directory is scored as its run scores itself; results as people read them."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_runs
from ml_collections import ConfigDict

from flavars_jax.encoders import EncoderFactory
from flavars_jax.objective import FlavarsObjective
from graft_jax import encoders as graft_encoders
from graft_jax import opening
from graft_jax.objective import GraftObjective
from graft_jax.teacher import Teacher
from rsvl_jax import datasets
from rsvl_jax.data.fits import reduced
from rsvl_jax.data.tokenizer_files import of_model
from rsvl_jax.errors import UserError
from rsvl_jax.evaluate import contestant, page
from rsvl_jax.evaluate import run as running
from rsvl_jax.evaluate import suite as suites
from rsvl_jax.evaluate.tasks import embedded, few_shot, knn, linear_probe, reading
from rsvl_jax.evaluation import card
from rsvl_jax.evaluation.card import Card
from rsvl_jax.evaluation_sets.collection import Collection
from rsvl_jax.inference.images import Preprocessing
from rsvl_jax.parallel import distributed
from rsvl_jax.parallel.mesh import make_mesh
from rsvl_jax.training import loop
from rsvl_jax.weights import runs

SPEC = suites.Spec("earth", "earth", "earth_tiles", ".")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tiny_runs.flavars(tmp_path_factory.mktemp("run"))


def subject_of(run, mesh=None, cache=""):
    mesh = mesh or make_mesh(devices=jax.devices()[:1])
    return contestant.subject(run[0], mesh=mesh, batch_size=16, seed=None, cache=cache)


def asked(run, monkeypatch):
    """What the embedded suite is asked to score, with what."""
    seen = {}
    monkeypatch.setattr(datasets, "ensure", lambda name, folder: None)
    monkeypatch.setattr(datasets, "manifest", lambda name, folder: tiny_runs.MANIFEST)
    monkeypatch.setattr(datasets, "load", lambda name, folder, split: (name, split))

    def evaluate(encoders, untrained, train, test, manifest, **options):
        seen.update(encoders=encoders, untrained=untrained, train=train, test=test, **options)
        return []

    monkeypatch.setattr(embedded.earth_tiles, "evaluate", evaluate)
    embedded.score(subject_of(run), SPEC)
    return seen


def test_a_run_is_scored_on_the_embedded_data_as_it_scores_itself(run, monkeypatch):
    """The encoders are those of the method, at the end and at initialisation, and say the same."""
    path, config, state = run
    seen = asked(run, monkeypatch)
    codebook = np.asarray(state.frozen["tokenizer"]["centroids"])
    objective = FlavarsObjective(config, codebook=codebook)
    start = loop.initial_state(
        config=config, objective=objective, manifest=tiny_runs.MANIFEST, mesh=seen["mesh"]
    )
    factory = EncoderFactory(objective, of_model((Path(path) / "tokenizer.model").read_bytes()))
    shape = (5, tiny_runs.SIZE, tiny_runs.SIZE, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    texts, place = ["open water", "snow"], {"lon": np.array([9.5]), "lat": np.array([-60.0])}
    for name, own in (("encoders", state), ("untrained", start)):
        ours, theirs = seen[name], factory(own.params, own.frozen)
        for feature, value in theirs.images(images).items():
            np.testing.assert_allclose(ours.images(images)[feature], value, atol=2e-5)
        np.testing.assert_allclose(ours.texts(texts), theirs.texts(texts), atol=2e-6)
        np.testing.assert_allclose(ours.locations(**place), theirs.locations(**place), atol=2e-6)
        assert ours.protocol == theirs.protocol
    assert (seen["seed"], seen["test"]) == (config.seed, ("earth_tiles", "test"))
    weights = card.weights_fingerprint(state.params)
    assert (seen["provenance"].weights, seen["provenance"].step) == (weights, tiny_runs.STEP)


def test_a_student_in_training_is_scored_as_its_checkpoint_is(tmp_path):
    folder = tiny_runs.graft(tmp_path)
    mesh = make_mesh(devices=jax.devices()[:1])
    saved = contestant.subject(folder, mesh=mesh, batch_size=4, seed=None, cache="").encoders
    config = ConfigDict(runs.read(f"{folder}/seed0").config)
    objective = GraftObjective(config)
    state = loop.load_state(
        config=config,
        objective=objective,
        manifest=tiny_runs.MANIFEST,
        workdir=f"{folder}/seed0",
        mesh=mesh,
    )
    teacher = Teacher.of_run(f"{folder}/teacher", mesh)
    ours = graft_encoders.EncoderFactory(objective, teacher)(state.params, state.frozen)
    images = np.random.default_rng(0).integers(0, 256, (3, 20, 20, 3), np.uint8)
    theirs = saved.images(images)
    for feature, value in ours.images(images).items():
        np.testing.assert_allclose(value, theirs[feature], atol=2e-5)
    np.testing.assert_allclose(ours.texts(["snow"]), saved.texts(["snow"]), atol=2e-6)
    assert ours.protocol == saved.protocol and ours.image_size == saved.image_size
    # The reference beside it: the teacher's image tower before its first step, as the run has it.
    start = contestant.subject(folder, mesh=mesh, batch_size=4, seed=None, cache="").untrained()
    theirs, images = start.images(images), jax.image.resize(images, (3, 16, 16, 3), "linear")
    pair = teacher.untrained().images(np.clip(np.round(images), 0, 255).astype(np.uint8))
    np.testing.assert_allclose(theirs["text_space"], pair["image"], atol=2e-5)
    np.testing.assert_allclose(theirs["text_patches"], pair["pixels"], atol=2e-5)
    np.testing.assert_allclose(start.texts(["snow"]), saved.texts(["snow"]), atol=2e-6)
    prepared = graft_encoders.preprocessing(objective.settings)
    assert prepared == Preprocessing.of(opening.open_run(folder).model.preprocessing)


def test_embedded_data_are_those_that_the_run_has_seen(run):
    subject = subject_of(run)
    name, folder = subject.earth
    assert (name, folder) == ("earth_tiles", run[1].data.dir)
    assert subject.seed == run[1].seed


def collection(images):
    labels = np.arange(len(images)) % 2
    ids = tuple(map(str, range(len(images))))
    return Collection("made", "test", ids, images, labels.astype(np.int32), ("a", "b"))


def test_images_are_scored_at_several_resolutions(run, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)
    monkeypatch.setattr(knn.reading, "split", lambda *_: collection(images))
    subject, options = subject_of(run), {"k": 1, "pooling": "cls", "fit": "resize"}
    spec = suites.Spec("t", "knn", "made", ".", {**options, "resolutions": [0.5, 1.0]})
    found = {each.key: each for each in knn.score(subject, spec)}
    each = [found[f"made/knn_l2_k1@{at}/cls/accuracy"] for at in ("50%", "100%", "mean")]
    assert each[1].value == 100  # its own nearest neighbour, and seen as in training
    assert each[2].value == pytest.approx((each[0].value + each[1].value) / 2)
    assert each[2].interval is None and "50 %, 100 %" in each[2].protocol["resolution"]
    small = collection(np.stack([reduced(image, 0.5) for image in images]))
    expected = subject.features(replace(small, name="small"), "resize")["cls"]
    actual = subject.features(collection(images), "resize", 0.5)["cls"]
    np.testing.assert_array_equal(actual, expected)
    with pytest.raises(UserError, match="resolution 2 must be above 0"):
        knn.score(subject, suites.Spec("t", "knn", "made", ".", {"resolutions": [2]}))


def test_images_of_several_labels_are_probed_too(run, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8)
    labels = np.stack([images[..., 0].mean(axis=(1, 2)) > 127, np.arange(12) % 2 == 0], axis=1)
    several = replace(collection(images), labels=labels)
    monkeypatch.setattr(reading, "split", lambda *_: several)
    options = {"pooling": "cls", "grid": [1.0, 100.0]}
    cards = linear_probe.score(subject_of(run), suites.Spec("t", "linear_probe", "m", ".", options))
    found = {each.metric: each for each in cards}
    assert list(found) == ["map_macro", "map_micro", "f1_micro", "f1_macro"]
    assert found["map_macro"].value > 90 and found["f1_micro"].value > 80  # it has seen them
    assert "against the rest" in found["f1_macro"].protocol["probe"]
    grouped = replace(several, labels=labels[:, 0].astype(np.int32), blocks=np.arange(12) // 4)
    monkeypatch.setattr(reading, "split", lambda *_: grouped)
    spec = suites.Spec("t", "knn", "m", ".", {"k": 1, "pooling": "cls"})
    assert "over 3 groups of images" in knn.score(subject_of(run), spec)[0].interval_method
    monkeypatch.setattr(reading, "split", lambda *_: several)
    with pytest.raises(UserError, match="several labels an image"):
        few_shot.score(subject_of(run), suites.Spec("t", "few_shot", "m", "."))


def test_reduced_pixels_are_means_of_areas():
    image = np.arange(64, dtype=np.uint8).reshape(4, 4, 4)[..., :3] * 2
    expected = image.reshape(2, 2, 2, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(reduced(image, 0.5), expected, atol=0.5)


def test_where_one_process_has_nothing_kept_all_compute(run, monkeypatch, tmp_path):
    images = np.zeros((3, tiny_runs.SIZE, tiny_runs.SIZE, 3), np.uint8)
    seen = []
    extract = contestant.Subject._made
    monkeypatch.setattr(
        contestant.Subject, "_made", lambda self, *a: seen.append(1) or extract(self, *a)
    )
    for kept_by_all, computed in ((True, 1), (True, 1), (False, 2)):
        monkeypatch.setattr(distributed, "everywhere", lambda ok, all_=kept_by_all: ok and all_)
        subject_of(run, cache=str(tmp_path)).features(collection(images))
        assert len(seen) == computed


def test_missing_data_are_named_before_anything_is_scored(run, tmp_path):
    (tmp_path / "there").mkdir()
    tasks = [
        suites.Spec(f"{name}-knn", "knn", name, str(tmp_path / name))
        for name in ("there", "one", "two")
    ]
    outputs = running.Outputs(str(tmp_path / "out"))
    with pytest.raises(UserError, match="not there: one in .*, two in .*--only=there-knn"):
        running.run(subject_of(run), suites.Suite("s", "S", tuple(tasks)), tasks, outputs)


def test_a_damaged_file_of_a_task_is_scored_again(run, tmp_path, monkeypatch, capsys):
    (tmp_path / "made").mkdir()
    spec = suites.Spec("made-knn", "knn", "made", str(tmp_path / "made"), {"k": 1})
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    monkeypatch.setattr(knn.reading, "split", lambda *_: collection(images))
    outputs, subject = running.Outputs(str(tmp_path / "out")), subject_of(run)
    suite = suites.Suite("s", "A title", (spec,))
    before = running.run(subject, suite, [spec], outputs)
    Path(outputs.task(subject, spec)).write_text("{")
    assert running.run(subject, suite, [spec], outputs) == before
    assert "is not a scores.json" in capsys.readouterr().err
    assert "A title" in Path(outputs.page).read_text()


def test_the_page_tells_scores_reasons_and_protocols():
    scored = Card("a/knn", "accuracy", "a: kNN", 71.25, interval=(60.0, 80.0), n=1234, chance=10.0)
    scored = replace(scored, protocol={"k": 5}, dataset="a <b>", split="test")
    without = Card("a/zeroshot", "accuracy", "a: zero-shot", note="not applicable: no texts")
    text = page.render("Mine", [scored, without])
    for part in ("71.2", "60.0–80.0", "1,234", "a &lt;b&gt;", "not applicable: no texts", "<dt>k"):
        assert part in text
    assert "Not applicable" not in page.render("Mine", [scored])
