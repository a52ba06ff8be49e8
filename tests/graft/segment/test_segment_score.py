"""Cards of zero-shot segmentation beside loops over pixels."""

from types import SimpleNamespace

import numpy as np
import pytest
from colours_model import COLOURS, ColoursModel

from graft_jax.segment import segment
from graft_jax.segment.score import WHOLE, score
from rsvl_jax.evaluation.bootstrap import Blocks
from rsvl_jax.evaluation.card import Card, Provenance
from rsvl_jax.evaluation.suite import MAJORITY
from rsvl_jax.evaluation.tiles import Tiles
from rsvl_jax.parallel.mesh import make_mesh

CLASSES = ("red", "green", "blue")


def tiles(count, seed):
    """Tiles of random squares of a class's colour; some pixels are of a fourth, some unknown."""
    rng = np.random.default_rng(seed)
    masks = rng.integers(0, 3, (count, 4, 4)).repeat(8, axis=1).repeat(8, axis=2).astype(np.uint8)
    images = np.array([COLOURS[name] for name in CLASSES], np.uint8)[masks]
    masks[:, :3], masks[:, 3:5] = 3, 255
    flat = np.zeros(count)
    return Tiles(
        ids=np.arange(count).astype(str),
        images=images,
        captions=flat.astype(str),
        labels=flat.astype(np.int32),
        lon=flat,
        lat=flat,
        masks=masks,
        purity=flat,
        blocks=np.arange(count) // 2,
    )


def worded(**words):
    """The model that sees colours as if they were others."""
    model = ColoursModel()

    class Swapped(ColoursModel):
        def images(self, pixels):
            pixels = np.asarray(pixels)
            changed = pixels[..., [CLASSES.index(words.get(name, name)) for name in CLASSES]]
            return model.images(changed)

    return Swapped()


@pytest.fixture
def bench():
    test = tiles(10, seed=0)
    card = Card(
        task="",
        metric="",
        dataset="made up",
        dataset_fingerprint="",
        split="test",
        split_fingerprint="",
        n=10,
        protocol={"prompts": ["{c}"]},
        seed=0,
    )
    return SimpleNamespace(
        test=test,
        classes=CLASSES,
        vectors=ColoursModel().texts(list(CLASSES)),
        card=card,
        blocks=Blocks.draw(test.blocks, seed=0),
        batch_size=8,
        mesh=make_mesh(),
    )


def by_hand(bench, labels):
    """Mean IoU and accuracy in %, pixel by pixel."""
    hits, truth, said = np.zeros(3), np.zeros(3), np.zeros(3)
    for mask, label in zip(bench.test.masks, labels, strict=True):
        for wanted, found in zip(mask.ravel().tolist(), label.ravel().tolist(), strict=True):
            if wanted < 3:
                truth[wanted] += 1
                said[found] += 1
                hits[wanted] += wanted == found
    return 100 * np.mean(hits / (truth + said - hits)), 100 * hits.sum() / truth.sum()


def contestant(model):
    return SimpleNamespace(model=model, provenance=Provenance(weights=model.fingerprint))


def test_scores_are_those_of_every_pixel(bench):
    right, wrong = ColoursModel(), worded(red="green", green="red")
    cards = score(
        bench, [contestant(right), contestant(wrong)], {"other": wrong}, train=tiles(6, seed=1)
    )
    assert [card.key for card in cards] == [
        "segmentation/zeroshot/mean_iou",
        "segmentation/zeroshot/pixel_accuracy",
    ]
    values = []
    for model in (right, wrong):
        labels = [segment(model, image, bench.vectors).labels for image in bench.test.images]
        values.append(by_hand(bench, labels))
    assert values[0][0] > 70 > 40 > values[1][0]
    for card, of_right, of_wrong in zip(cards, values[0], values[1], strict=True):
        assert card.value == pytest.approx((of_right + of_wrong) / 2, abs=0.05)
        assert card.protocol["by_seed"] == pytest.approx([of_right, of_wrong], abs=0.05)
        assert card.reference("other").value == pytest.approx(of_wrong, abs=0.05)
        assert card.interval is not None and card.interval[0] < card.value < card.interval[1]
        assert card.n == 10 and card.protocol["prompts"] == ["{c}"]


def test_references_are_the_most_frequent_class_and_one_class_a_tile(bench):
    train = tiles(6, seed=1)
    most = np.bincount(train.masks[train.masks < 3]).argmax()
    model = ColoursModel()
    (iou, accuracy) = score(bench, [contestant(model)], {}, train=train)
    wanted = by_hand(bench, np.full_like(bench.test.masks, most))
    found = [card.reference(MAJORITY).value for card in (iou, accuracy)]
    assert found == pytest.approx(wanted, abs=1e-6)
    images = np.asarray(model.images(bench.test.images)["image"])
    whole = (images @ bench.vectors.T).argmax(axis=1)
    wanted = by_hand(bench, np.broadcast_to(whole[:, None, None], bench.test.masks.shape))
    found = [card.reference(WHOLE).value for card in (iou, accuracy)]
    assert found == pytest.approx(wanted, abs=1e-6)
    assert "by_seed" not in iou.protocol and set(iou.per_class) == set(CLASSES)
