"""The suite of the embedded data, on synthetic tiles whose right scores are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from synthetic_tiles import BLIND, MANIFEST, NAMES, SEEING, encode_images, png, records

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import card as cards
from rsvl_jax.evaluation import earth_tiles, tiles
from rsvl_jax.evaluation.card import Provenance
from rsvl_jax.evaluation.features import Encoders
from rsvl_jax.parallel.mesh import make_mesh


@pytest.fixture(scope="module")
def sources():
    return records(150, seed=1), records(60, seed=2)


def run(sources, encoders=SEEING, untrained=None, **changes):
    train, test = sources
    options = {"batch_size": 32, "mesh": make_mesh(), "seed": 0, **changes}
    manifest = options.pop("manifest", MANIFEST)
    return earth_tiles.evaluate(encoders, untrained, train, test, manifest, **options)


@pytest.fixture(scope="module")
def scored(sources):
    provenance = Provenance(weights="beef", step=7, revision="abc")
    found = run(sources, untrained=BLIND, provenance=provenance)
    return {card.key: card for card in found}


def test_every_task_is_scored_with_its_protocol(scored, tmp_path):
    tasks = {key.rsplit("/", 1)[0] for key in scored}
    pools = ("mean", "cls", "text_space")
    knn = {f"knn/{vote}/{pool}" for vote in ("l2_k5", "cosine_k20") for pool in pools}
    pairs = [("text", "image"), ("location", "image")]
    directions = {f"retrieval/image_to_{a}" for a, _ in pairs}
    directions |= {f"retrieval/{a}_to_image" for a, _ in pairs}
    directions |= {f"retrieval/image_{a}" for a, _ in pairs}
    others = {"zeroshot", "zeroshot_pure", "segmentation/linear", "geolocation", "vqa"}
    assert tasks == knn | directions | others | {f"linear/{pool}" for pool in pools}
    for card in scored.values():
        assert card.dataset == "synthetic 1.0.0"
        assert (card.dataset_fingerprint, card.split, len(card.split_fingerprint)) == (
            "f00d",
            "test",
            12,
        )
        assert card.provenance == Provenance("beef", 7, "abc")
        assert card.protocol["resize"] == "none"
    path = str(tmp_path / "scores.json")
    cards.write(path, list(scored.values()))
    assert [card.key for card in cards.read(path)] == list(scored)


def test_a_seeing_encoder_scores_and_a_blind_one_does_not(scored):
    for task in ("knn/l2_k5/mean", "zeroshot", "zeroshot_pure"):
        card = scored[f"{task}/balanced_accuracy"]
        assert card.value > 85
        assert card.chance == 20
        assert card.reference("untrained encoder").value <= 30
        assert card.reference("untrained encoder").difference[0] > 30
        assert card.interval[0] <= card.value <= card.interval[1]
        assert set(card.per_class) <= set(NAMES)
    assert scored["knn/l2_k5/mean/accuracy"].n == 54
    assert scored["zeroshot_pure/accuracy"].n < 54


def test_kept_features_are_not_computed_again(sources, scored):
    kept, made = {}, []

    def keep(of, make):
        key = str(of)
        if key not in kept:
            made.append(key)
            kept[key] = make()
        return kept[key]

    provenance = Provenance(weights="beef", step=7, revision="abc")
    for _ in range(2):
        found = run(sources, untrained=BLIND, provenance=provenance, keep=keep)
        assert {card.key: card for card in found} == scored
    assert len(made) == 4  # two splits of two encoders, each once


def test_land_cover_stands_beside_colours_place_and_majority(scored):
    names = {reference.name for reference in scored["knn/l2_k5/mean/accuracy"].references}
    assert names == {
        "majority class",
        "colour statistics",
        "colour statistics + |latitude|",
        "longitude/latitude alone",
        "untrained encoder",
    }
    card = scored["knn/l2_k5/mean/accuracy"]
    assert card.reference("colour statistics").value > 80
    # Places were drawn at random: they must not help.
    assert card.reference("longitude/latitude alone").value < 45
    assert scored["zeroshot/accuracy"].reference("colour statistics (kNN on labels)").value > 80


def test_identical_captions_count_in_retrieval(scored, sources):
    captions = [record["captions"][0] for record in sources[1]]
    shares = [captions.count(caption) / 60 for caption in captions]
    card = scored["retrieval/image_to_text/recall@1"]
    assert card.chance == pytest.approx(100 * np.mean(shares))
    assert card.value > 80
    assert card.protocol["distinct_captions"] == 5
    assert scored["retrieval/image_to_text/median_rank"].value == 1
    mean = [scored[f"retrieval/{d}/mean_recall"].value for d in ("image_to_text", "text_to_image")]
    assert scored["retrieval/image_text/mean_recall"].value == pytest.approx(np.mean(mean))


def test_segmentation_beats_the_majority_and_a_blind_encoder(scored):
    card = scored["segmentation/linear/mean_iou"]
    assert card.value > 70
    assert card.reference("raw pixels, linear").value > 60
    assert card.reference("majority class").value < 34
    assert card.reference("untrained encoder").value < 34
    # IGBP 0-4 of the tiles: water, and four forests that are two merged classes.
    assert set(card.per_class) == {"water", "forest", "evergreen"}
    # Each of them covers more than a hundredth of the pixels, so none is left out.
    assert scored["segmentation/linear/mean_iou_frequent"].value == card.value
    assert card.n == 60


def test_what_the_objective_lacks_is_said_and_not_scored(scored, sources):
    missing = scored["retrieval/image_to_location/recall@10"]
    assert missing.value is None
    assert missing.note == "not applicable: the objective trains no location encoder"

    def pixels_only(images):
        return {k: v for k, v in encode_images(images).items() if k != "text_space"}

    found = {card.key: card for card in run(sources, Encoders(pixels_only), quick=True)}
    assert found["zeroshot/accuracy"].note == "not applicable: the objective trains no text encoder"
    assert found["retrieval/image_text/mean_recall"].value is None
    assert found["knn/l2_k5/mean/accuracy"].value > 80


def test_quick_is_a_cheap_subset(scored, sources, monkeypatch):
    monkeypatch.setattr(earth_tiles, "QUICK_TRAIN_TILES", 100)
    monkeypatch.setattr(earth_tiles, "QUICK_TEST_TILES", 30)
    found = {card.key: card for card in run(sources, untrained=BLIND, quick=True)}
    assert set(found) < set(scored)
    assert {key.split("/")[0] for key in found} == {
        "knn",
        "zeroshot",
        "zeroshot_pure",
        "retrieval",
    }
    assert found["retrieval/image_to_text/recall@1"].n == 30
    assert all(card.interval is None and not card.references for card in found.values())
    assert (
        found["zeroshot/accuracy"].split_fingerprint
        != scored["zeroshot/accuracy"].split_fingerprint
    )


def test_one_device_gives_the_same_scores(scored, sources):
    again = run(sources, untrained=BLIND, mesh=make_mesh(devices=jax.devices()[:1]))
    for card in again:
        if card.value is not None:
            assert card.value == pytest.approx(scored[card.key].value, abs=1e-4), card.key
            assert card.interval == pytest.approx(scored[card.key].interval, abs=1e-4)


def test_places_are_retrieved_by_their_own_embedding(sources):
    def images_know_their_place(images):
        # Test images are told apart by their pixels; the table below knows where each one is.
        return {**encode_images(images), "location_space": images.reshape(len(images), -1)[:, :90]}

    test = tiles.read(sources[1], range(60))
    table = dict(
        zip(test.lon.astype(np.float32).tolist(), test.images.reshape(60, -1), strict=True)
    )

    def locations(*, lon, lat):
        return jnp.array([table[float(x)][:90] for x in lon])

    knowing = Encoders(images_know_their_place, locations=locations)
    found = {card.key: card for card in run(sources, knowing, quick=True)}
    assert found["retrieval/image_to_location/recall@1"].value == 100
    assert found["retrieval/image_to_location/recall@10"].chance == pytest.approx(1000 / 60)
    assert found["retrieval/location_to_image/recall@1"].value == 100


def test_splits_without_labels_are_said_and_not_scored(sources):
    train, test = sources
    blank = png(np.full((16, 16), 255, np.uint8))
    unknown = [{**record, "label": -1, "mask": blank} for record in test[:9]]
    found = {card.key: card for card in run((train, unknown))}
    assert found["knn/l2_k5/mean/accuracy"].note == "not applicable: no labelled tile in the split"
    assert found["segmentation/linear/mean_iou"].value is None
    assert found["retrieval/image_to_text/recall@1"].value is not None


def test_bad_input_is_named(sources):
    train, test = sources
    for name, data in (("image", b"not an image"), ("image", b""), ("mask", b"no"), ("mask", b"")):
        with pytest.raises(UserError, match=f"record '2-0': its {name} cannot be decoded"):
            run((train, [{**test[0], name: data}]))
    with pytest.raises(UserError, match="the split is empty"):
        run((train, []))
    with pytest.raises(UserError, match="manifest has no 'prompts'"):
        run(sources, manifest={**MANIFEST, "prompts": []})


def test_split_fingerprint_follows_the_ids(sources):
    whole = tiles.read(sources[1], range(60))
    assert whole.fingerprint() == tiles.read(sources[1], range(60)).fingerprint()
    assert whole.fingerprint() != whole.take(np.arange(59)).fingerprint()
