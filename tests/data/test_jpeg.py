"""Headers of JPEG files, and their upper rows."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image
from tiny_records import picture

from rsvl_jax.data.jpeg import decode_rows, frame
from rsvl_jax.data.transforms import decode

RNG = np.random.default_rng(0)
SIZES = [(256, 256), (301, 533), (640, 480), (97, 1024), (40, 31)]


def jpeg(shape: tuple[int, int], mode: str = "RGB", **options) -> bytes:
    image = cv2.resize(picture(np.random.default_rng(1), 64), shape[::-1])
    file = io.BytesIO()
    Image.fromarray(image).convert(mode).save(file, "JPEG", quality=95, **options)
    return file.getvalue()


def shape_of(data: bytes) -> tuple[int, int] | None:
    header = frame(data)
    return header and header.shape


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_the_header_tells_the_size(shape, options):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees: of no concern here
    assert shape_of(jpeg(shape, exif=exif, comment=b"c" * 900, **options)) == shape


def test_a_thumbnail_is_not_taken_for_the_image():
    inner, outer = jpeg((24, 32)), jpeg((240, 320))
    length = (len(inner) + 2).to_bytes(2, "big")
    assert shape_of(outer[:2] + b"\xff\xe1" + length + inner + outer[2:]) == (240, 320)


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 4, 20, 100])
def test_no_header_no_size(cut):
    assert shape_of(jpeg((64, 64))[:cut]) is None


def test_what_is_no_jpeg_has_no_size():
    png = cv2.imencode(".png", picture(RNG))[1].tobytes()
    assert shape_of(png) is None and shape_of(b"<html>") is None
    assert shape_of(b"\xff\xd8" + b"\xff\xe0\x00\x00" * 1000) is None


@pytest.mark.parametrize("reduce", [1, 2, 4, 8])
@pytest.mark.parametrize(
    "options",
    [{}, {"subsampling": 0}, {"subsampling": 1}, {"progressive": True}, {"restart_marker_rows": 1}],
)
def test_upper_rows_are_those_of_the_whole(reduce, options):
    """By another decoder, bit by bit."""
    data = jpeg((301, 533), **options)
    whole = decode(data, reduce)
    for rows in (1, 16, 100, 285, 290, 301):
        found = decode_rows(data, frame(data), rows, reduce)
        wanted = -(-rows // reduce)
        np.testing.assert_array_equal(found[:wanted], whole[:wanted])
        assert found.shape[1:] == whole.shape[1:]
    if "progressive" not in options:
        assert len(decode_rows(data, frame(data), 100, reduce)) == 128 // reduce


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_colours_are_for_another_decoder(mode):
    data = jpeg((64, 64), mode)
    assert decode_rows(data, frame(data), 64) is None


def test_what_is_cut_is_for_another_decoder():
    data = jpeg((300, 300))
    assert decode_rows(data[:-2], frame(data), 100) is None
    assert decode_rows(data[: len(data) // 2] + data[-2:], frame(data), 300) is None
    large = bytearray(data)
    place = frame(data).place + 5
    large[place : place + 4] = b"\xff\xff\xff\xff"
    assert decode_rows(bytes(large), frame(bytes(large)), 100) is None
