import io

import numpy as np
import pytest
from PIL import Image

from rsvl_jax.errors import UserError
from rsvl_jax.inference.images import Preprocessing, each

CLIP = Preprocessing(16, (0.5,) * 3, (0.5,) * 3)
SQUARE = Preprocessing(16, (0.5,) * 3, (0.5,) * 3, resize="square", interpolation="bilinear")


def photo(height, width, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 5, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize(("height", "width"), [(40, 53), (53, 40), (16, 16), (9, 31), (97, 16)])
def test_the_shorter_side_is_resized_and_the_middle_cut_out(height, width):
    image = Image.fromarray(photo(height, width))
    scale = 16 / min(height, width)
    size = [16 if side == min(height, width) else int(side * scale) for side in (width, height)]
    resized = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (round((side - 16) / 2) for side in size)
    expected = np.asarray(resized.crop((left, top, left + 16, top + 16)))
    np.testing.assert_array_equal(CLIP(np.asarray(image)), expected)


def test_square_keeps_the_whole_image():
    image = Image.fromarray(photo(40, 53))
    expected = np.asarray(image.resize((16, 16), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(SQUARE(np.asarray(image)), expected)


def test_arrays_pictures_and_files_are_one(tmp_path):
    array = photo(20, 30)
    path = tmp_path / "a.png"
    Image.fromarray(array).save(path)
    for given in (Image.fromarray(array), path, str(path)):
        np.testing.assert_array_equal(CLIP(given), CLIP(array))


def test_pictures_with_palettes_and_alpha_become_rgb():
    image = Image.fromarray(photo(16, 16)).quantize(8)
    np.testing.assert_array_equal(CLIP(image), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((8, 8, 3), np.float32), "float32"),
        (np.zeros((8, 8), np.uint8), r"\(8, 8\)"),
        (np.zeros((8, 8, 4), np.uint8), r"\(8, 8, 4\)"),
        (np.zeros((0, 8, 3), np.uint8), r"\(0, 8, 3\)"),
        ("no_such.png", "no_such.png"),
        ("text", "object"),
    ],
)
def test_what_is_no_image_is_refused(given, message):
    with pytest.raises(UserError, match=message if message != "object" else "cannot read"):
        CLIP(given)


def test_a_file_that_is_no_image_is_refused(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(io.BytesIO(b"not an image").getvalue())
    with pytest.raises(UserError, match="no image that can be read"):
        CLIP(path)


@pytest.mark.parametrize("given", [np.zeros((8, 8, 3), np.uint8), "a.png", 5])
def test_one_image_is_not_many(given):
    with pytest.raises(UserError, match="give"):
        list(each(given))


def test_unknown_preprocessing_is_refused():
    with pytest.raises(UserError, match="interpolation='nearest'"):
        Preprocessing.of({"image_size": 8, "mean": [0], "std": [1], "interpolation": "nearest"})
