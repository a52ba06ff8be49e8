"""What is seen of an image hardly depends on how it is decoded, and what is drawn not at all."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image
from tiny_records import picture

from rsvl_jax.data import decoding
from rsvl_jax.data.decoding import Picture, decode_within, look
from rsvl_jax.data.transforms import Augmentation, CorruptImage, Crop, decode, resize
from rsvl_jax.errors import UserError

RNG = np.random.default_rng(0)
SIZES = [(256, 256), (301, 533), (640, 480), (97, 1024), (40, 31)]


def jpeg(shape: tuple[int, int], **options) -> bytes:
    image = cv2.resize(picture(np.random.default_rng(1), 64), shape[::-1])
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=95, **options)
    return file.getvalue()


def augmentation(decode: str, size: int = 32, **options) -> Augmentation:
    options = {"crop_scale": (0.2, 1.0), "flip_horizontal": True, "rotate": True} | options
    return Augmentation(size, decode=decode, **options)


@pytest.mark.parametrize("reduce", [2, 4, 8])
def test_reduced_decoding_is_rgb_and_close_to_means(reduce):
    data = jpeg((304, 528))
    whole = decode(data)
    means = cv2.resize(whole, (528 // reduce, 304 // reduce), interpolation=cv2.INTER_AREA)
    assert np.abs(decode(data, reduce).astype(int) - means).mean() < 1


@pytest.mark.parametrize(
    ("crop", "expected"),
    [((63, 400), 1), ((64, 64), 2), ((127, 500), 2), ((128, 128), 4), ((256, 300), 8)],
)
def test_only_as_far_as_the_crop_allows(crop, expected):
    assert decoding.reduction(Crop(0, 0, *crop), 32) == expected


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("choice", ["auto", "400"])
def test_the_choice_changes_neither_the_draws_nor_much_of_what_is_seen(shape, choice):
    data = jpeg(shape)
    whole = decode(data)
    for seed in range(12):
        generators = [np.random.default_rng(seed) for _ in range(2)]
        view, full = look(data, augmentation("full"), generators[0])
        other, small = look(data, augmentation(choice), generators[1])
        assert (other.crop, other.turn) == (view.crop, view.turn)
        assert generators[0].random() == generators[1].random()
        assert small.shape == full.shape == (32, 32, 3) and small.dtype == np.uint8
        crop = view.crop.image(whole)
        exact = view.turn.image(np.asarray(Image.fromarray(crop).resize((32, 32), 2)))
        assert np.abs(small.astype(int) - exact).mean() < 4  # grey levels


def test_the_window_stays_where_it_is():
    """A white square, anywhere in an image of any size, is seen where the whole image has it."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        rows, columns = rng.integers(200, 600, 2).tolist()
        image = np.zeros((rows, columns, 3), np.uint8)
        top, left = rows // 3, columns // 3
        image[top : 2 * top, left : 2 * left] = 255
        data = cv2.imencode(".jpg", image)[1].tobytes()
        view, seen = look(data, augmentation("auto", 48, crop_scale=(0.9, 1.0)), rng)
        box = view.boxes(np.array([[left, top, 2 * left, 2 * top]], np.float32))[0]
        ys, xs = np.nonzero(seen[..., 0] > 127)
        extent = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        assert np.abs(box - extent).max() <= 1.1, seed


def test_png_is_decoded_whole():
    image = picture(RNG, 200)
    png = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    _, seen = look(png, Augmentation(40, decode="auto"), np.random.default_rng(0))
    np.testing.assert_array_equal(seen, resize(image, (40, 40), "oversampled"))


def test_full_is_the_plain_way():
    data = jpeg((300, 200))
    view, seen = look(data, augmentation("full"), np.random.default_rng(3))
    drawn = augmentation("full").draw(np.random.default_rng(3), (300, 200))
    assert view == drawn
    np.testing.assert_array_equal(seen, drawn.image(decode(data)))


@pytest.mark.parametrize("size", [(20, 30), (29, 17), (64, 64)])
def test_oversampling_is_as_close_to_pillow_as_area_is(size):
    image = RNG.integers(0, 256, (131, 97, 3)).astype(np.uint8)  # noise: nothing aliases more
    pillow = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
    error = {
        method: np.abs(resize(image, size, method).astype(int) - pillow).mean()
        for method in ("oversampled", "area")
    }
    plain = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR).astype(int)
    assert error["oversampled"] < 1.3 * error["area"]
    assert error["oversampled"] < 0.5 * np.abs(plain - pillow).mean()


@pytest.mark.parametrize(("shape", "side"), [((600, 300), 100), ((300, 601), 250), ((90, 80), 100)])
@pytest.mark.parametrize("extension", [".png", ".jpg"])
def test_the_longer_side_is_limited(shape, side, extension):
    image = cv2.resize(picture(RNG, 64), shape[::-1])
    picture_ = decode_within(cv2.imencode(extension, image)[1].tobytes(), side)
    assert picture_.shape == shape
    assert max(picture_.pixels.shape[:2]) == min(side, max(shape))
    ratios = np.array(picture_.pixels.shape[:2]) / shape
    np.testing.assert_allclose(picture_.scale, ratios)


def test_a_tiny_crop_of_a_small_copy_is_a_pixel_of_it():
    copy = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    for place in range(80):
        window = Crop(place, 79 - place, 1, 1).scaled((0.1, 0.1)).image(copy)
        assert window.shape == (1, 1, 3)


def test_a_picture_is_taken_as_it_is():
    image = picture(RNG, 50)
    part = augmentation("full")
    view, seen = look(Picture(image, (50, 50)), part, np.random.default_rng(1))
    np.testing.assert_array_equal(seen, part.draw(np.random.default_rng(1), (50, 50)).image(image))


@pytest.mark.parametrize("choice", ["auto", "full", "50"])
def test_a_cut_jpeg_is_corrupt(choice):
    data = jpeg((300, 300))
    for bad in (data[: len(data) // 2], data[:300], b""):
        with pytest.raises(CorruptImage, match="not a readable"):
            look(bad, augmentation(choice), RNG)


def test_a_header_that_asks_for_too_much_is_corrupt():
    data = bytearray(jpeg((64, 64)))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = b"\xff\xff\xff\xff"
    with pytest.raises(CorruptImage):
        look(bytes(data), augmentation("full"), RNG)


@pytest.mark.parametrize("choice", ["", "half", "0", "-3", "1.5", "٣"])
def test_an_unknown_choice_is_refused(choice):
    with pytest.raises(UserError, match="data.decode="):
        look(jpeg((64, 64)), augmentation(choice), RNG)
