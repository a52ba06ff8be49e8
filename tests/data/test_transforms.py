"""Decoding, resizing, crops, flips and rotations with their boxes, coordinates."""

import cv2
import numpy as np
import pytest
from PIL import Image
from tiny_records import picture

from rsvl_jax.data import transforms
from rsvl_jax.data.transforms import Augmentation, CorruptImage, Crop, Turn
from rsvl_jax.datasets.earth_tiles.places import compass
from rsvl_jax.errors import UserError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("extension", [".png", ".jpg"])
def test_decode_gives_rgb(extension):
    image = np.zeros((16, 24, 3), np.uint8)
    image[..., 0] = 250  # red
    data = cv2.imencode(extension, image[..., ::-1])[1].tobytes()
    decoded = transforms.decode(data)
    assert decoded.shape == (16, 24, 3) and decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - image).max() < 4


def test_a_grey_image_gets_three_channels():
    data = cv2.imencode(".png", np.full((4, 4), 7, np.uint8))[1].tobytes()
    assert (transforms.decode(data) == 7).all() and transforms.decode(data).shape == (4, 4, 3)


@pytest.mark.parametrize("cut", [0, 1, 40, 0.5, 0.95])
@pytest.mark.parametrize("extension", [".png", ".jpg"])
def test_cut_or_foreign_bytes_are_corrupt(extension, cut):
    data = cv2.imencode(extension, picture(RNG, 64))[1].tobytes()
    short = data[: cut if isinstance(cut, int) else int(len(data) * cut)]
    for bad in (short, b"not an image"):
        with pytest.raises(CorruptImage, match="not a readable"):
            transforms.decode(bad)


@pytest.mark.parametrize("method", ["linear", "cubic"])
def test_resize_is_close_to_pillow_and_exact_on_request(method):
    image = picture(RNG, 64)
    filters = {"linear": Image.Resampling.BILINEAR, "cubic": Image.Resampling.BICUBIC}
    pillow = np.asarray(Image.fromarray(image).resize((56, 60), filters[method])).astype(int)
    ours = transforms.resize(image, (60, 56), method)
    assert ours.shape == (60, 56, 3) and np.abs(ours - pillow).mean() < 1
    assert (transforms.resize(image, (60, 56), f"pillow_{method}") == pillow).all()


def test_shrinking_does_not_alias():
    """A fine chequerboard shrinks to grey, not to black or white."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, 2)
    for method in ("linear", "cubic", "area", "pillow_cubic"):
        assert np.abs(transforms.resize(board, (9, 9), method).astype(int) - 127).max() < 16


@pytest.mark.parametrize("method", ["nearest", "pillow_nearest"])
def test_an_unknown_interpolation_is_refused(method):
    with pytest.raises(UserError, match="is unknown"):
        transforms.resize(picture(RNG), (8, 8), method)


def test_normalize_is_the_plain_formula():
    images = RNG.integers(0, 256, (2, 5, 7, 3)).astype(np.uint8)
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    normal = transforms.normalize(images, mean, std)
    assert normal.dtype == np.float32
    np.testing.assert_allclose(normal, (images / 255 - mean) / std, atol=1e-6)
    np.testing.assert_array_equal(transforms.normalize(images[0], mean, std), normal[0])


def test_crops_have_the_asked_area_and_aspect_and_lie_inside():
    crops = [transforms.draw_crop(RNG, (200, 300), (0.3, 0.6)) for _ in range(1000)]
    area = np.array([c.height * c.width for c in crops]) / 60_000
    aspect = np.array([c.width / c.height for c in crops])
    assert area.min() > 0.29 and area.max() < 0.61 and abs(area.mean() - 0.45) < 0.02
    assert aspect.min() > 0.74 and aspect.max() < 1.35 and abs(np.log(aspect).mean()) < 0.03
    assert all(c.top >= 0 and c.left >= 0 for c in crops)
    assert all(c.top + c.height <= 200 and c.left + c.width <= 300 for c in crops)
    corners = np.array([(c.top == 0, c.left == 0) for c in crops]).mean(0)
    assert (corners < 0.05).all()


@pytest.mark.parametrize(
    ("shape", "crop"),
    [
        ((10, 100), Crop(0, 43, 10, 13)),  # too wide: aspect 4 / 3
        ((100, 10), Crop(43, 0, 13, 10)),  # too high: aspect 3 / 4
    ],
)
def test_where_no_crop_fits_the_largest_centred_one(shape, crop):
    assert transforms.draw_crop(RNG, shape, (0.99, 1.0)) == crop


def _marked(box: tuple[int, int, int, int], size: int = 64) -> np.ndarray:
    left, top, right, bottom = box
    image = np.zeros((size, size, 3), np.uint8)
    image[top:bottom, left:right] = 255
    return image


def _extent(image: np.ndarray) -> list[int]:
    rows, columns = np.nonzero(image[..., 0] > 127)
    if not len(rows):
        return []
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("horizontal", [False, True])
@pytest.mark.parametrize("vertical", [False, True])
@pytest.mark.parametrize("quarters", range(4))
def test_boxes_turn_with_the_image(horizontal, vertical, quarters):
    box = (3, 10, 20, 60)
    turn = Turn(horizontal, vertical, quarters)
    boxes = turn.boxes(np.array([box], np.float32), 64)
    assert boxes[0].tolist() == _extent(turn.image(_marked(box)))


def test_boxes_follow_the_whole_augmentation():
    augmentation = Augmentation(
        96, (0.3, 1.0), flip_horizontal=True, flip_vertical=True, rotate=True
    )
    box = (12, 20, 50, 33)
    seen = 0
    for _ in range(200):
        view = augmentation.draw(RNG, (64, 64))
        image, boxes = view.image(_marked(box)), view.boxes(np.array([box], np.float32))
        assert image.shape == (96, 96, 3)
        if extent := _extent(image):
            seen += 1
            assert (
                np.abs(boxes[0] - extent).max() <= 2.5
            )  # half a source pixel of 64 -> 96 and a crop
    assert seen > 150


def test_all_turns_are_equally_frequent_and_off_by_default():
    image = picture(RNG, 8)
    full = Augmentation(8, flip_horizontal=True, flip_vertical=True, rotate=True)
    results = [full.draw(RNG, (8, 8)).image(image).tobytes() for _ in range(1600)]
    _, counts = np.unique(results, return_counts=True)
    assert len(counts) == 8 and counts.min() > 140
    assert (Augmentation(8).draw(RNG, (8, 8)).image(image) == image).all()


@pytest.mark.parametrize("horizontal", [False, True])
@pytest.mark.parametrize("vertical", [False, True])
@pytest.mark.parametrize("quarters", range(4))
@pytest.mark.parametrize("way", [(0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0)])
def test_directions_turn_with_the_image(horizontal, vertical, quarters, way):
    turn = Turn(horizontal, vertical, quarters)
    text = f"Snow in the {compass(*way)}, desert."
    east, north = way
    column, row = 4 + 3 * east, 4 - 3 * north
    box = _extent(turn.image(_marked((column, row, column + 1, row + 1), size=9)))
    turned = compass(box[0] - 4, 4 - box[1])
    assert turn.ways(text) == f"Snow in the {turned}, desert."


def test_directions_that_are_not_of_the_image_stay():
    turn = Turn(horizontal=True, vertical=True)
    assert turn.ways("In the north, a lake in the south-east.") == (
        "In the south, a lake in the north-west."
    )
    for text in (
        "Cropland in the north of Chile.",
        "About 40 km north-west of Lima.",
        "Desert in the West Bank, in the northern dunes, in the north-facing valley.",
    ):
        assert turn.ways(text) == text


def test_boxes_outside_the_crop_go_with_their_phrases():
    crop = Crop(0, 0, 32, 32)
    boxes = crop.boxes(
        np.array([[0, 0, 8, 8], [40, 40, 60, 60], [30, 0, 60, 9]], np.float32), (64, 64)
    )
    kept, phrases = transforms.keep_visible(boxes, ["city", "lake", "coast"])
    assert phrases == ["city", "coast"]
    assert kept.tolist() == [[0, 0, 16, 16], [60, 0, 64, 18]]


def test_jitter_is_symmetric_or_one_sided():
    def moves(symmetric):
        return np.array(
            [
                transforms.jitter_location(
                    RNG, lon=10.0, lat=20.0, degrees=0.5, symmetric=symmetric
                )
                for _ in range(2000)
            ]
        ) - [10, 20]

    both, north_east = moves(True), moves(False)
    assert np.abs(both).max() <= 0.5 and np.abs(both.mean(0)).max() < 0.03
    assert north_east.min() >= 0 and north_east.max() <= 0.5
    assert np.abs(north_east.mean(0) - 0.25).max() < 0.02


def test_jitter_stays_on_the_globe():
    moved = np.array(
        [
            transforms.jitter_location(RNG, lon=lon, lat=90.0, degrees=1.0)
            for lon in (-180.0, 180.0) * 200
        ]
    )
    assert np.abs(moved[:, 0]).max() <= 180 and moved[:, 0].min() < -179 < 179 < moved[:, 0].max()
    assert moved[:, 1].max() == 90.0 and moved[:, 1].min() > 88.9


@pytest.mark.parametrize(
    ("lon", "lat", "match"),
    [
        (45.0, 120.0, "swapped"),
        (200.0, 10.0, "lon=200.0"),
        (0.0, -90.5, "lat=-90.5"),
        (float("nan"), 0.0, "lon=nan"),
        (0.0, float("nan"), "lat=nan"),
    ],
)
def test_coordinates_out_of_range_are_refused(lon, lat, match):
    with pytest.raises(UserError, match=match):
        transforms.check_location(lon=lon, lat=lat)
