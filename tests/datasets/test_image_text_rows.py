"""What becomes of one row: its image, captions and place; and the record that is made of it."""

import io
import math
import struct
import zlib
from collections import Counter

import numpy as np
import pytest
from made_downloads import picture
from PIL import Image

from rsvl_jax.data.transforms import decode
from rsvl_jax.datasets.image_text import alike, images, places, record, words
from rsvl_jax.datasets.image_text.options import Options
from rsvl_jax.datasets.image_text.reader import Drop, Row

OPTIONS = Options()


def encoded(image, form="PNG", **how):
    buffer = io.BytesIO()
    image.save(buffer, form, **how)
    return buffer.getvalue()


def noise(mode="RGB", size=(40, 30)):
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def png_of_16_bits(colour=0):
    """Grey (0) or RGB (2), 20 x 20."""
    channels = {0: 1, 2: 3}[colour]

    lines = b"".join(b"\0" + bytes(20 * channels * 2) for _ in range(20))
    return png(struct.pack(">IIBBBBB", 20, 20, 16, colour, 0, 0, 0), lines)


def bomb():
    """A PNG whose header says 20,000 x 20,000, of few bytes."""
    return png(struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0), bytes(100_000))


def png(head, lines):
    def part(kind, data):
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    body = part(b"IHDR", head) + part(b"IDAT", zlib.compress(lines)) + part(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    "data",
    [
        picture(0),
        picture(0, mode="L"),
        encoded(noise()),
        encoded(noise("L")),
        encoded(noise(), "JPEG", progressive=True, exif=b"Exif\0\0"),
    ],
    ids=["jpeg", "grey jpeg", "png", "grey png", "progressive"],
)
def test_jpeg_and_png_of_8_bits_stay_byte_for_byte(data):
    checked = images.check(data, OPTIONS)
    assert checked.data is data and not checked.change
    assert decode(data).shape == (checked.height, checked.width, 3)
    again = images.check(data, OPTIONS, decode=False)
    assert (again.data, again.width, again.height) == (data, checked.width, checked.height)


@pytest.mark.parametrize(
    ("data", "kind", "lossless"),
    [
        (picture(0, mode="CMYK", quality=95), "CMYK JPEG", False),
        (encoded(noise("P")), "P PNG", True),
        (encoded(noise("RGBA")), "RGBA PNG", True),
        (encoded(noise("LA")), "LA PNG", True),
        (encoded(noise("1")), "1 PNG", True),
        (encoded(noise(), "TIFF"), "RGB TIFF", True),
        (encoded(noise(), "BMP"), "RGB BMP", True),
        (encoded(noise("P"), "GIF"), "P GIF", True),
        (encoded(noise(), "WEBP", lossless=True), "RGB WEBP", True),
        (encoded(noise(), "WEBP"), "RGB WEBP", False),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_formats_are_converted_and_told(data, kind, lossless):
    checked = images.check(data, OPTIONS)
    assert checked.change == f"image converted to RGB from {kind}"
    wanted = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.int16)
    error = np.abs(decode(checked.data).astype(np.int16) - wanted)
    assert error.max() == 0 if lossless else error.mean() < 10
    assert images.check(data, OPTIONS, decode=False).data == checked.data
    assert images.check(checked.data, OPTIONS).change == ""


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<!DOCTYPE html><html><body>Not Found</body></html>", "not an image"),
        (b"", "not an image"),
        (picture(0)[:-200], "image cannot be decoded"),
        (encoded(noise())[:-200], "image cannot be decoded"),
        (picture(0)[:20], "not an image"),
        (encoded(Image.new("RGB", (1, 1))), "image is too small"),
        (bomb(), "image is too large"),
        (png_of_16_bits(0), "image has more than 8 bits a channel"),
        (png_of_16_bits(2), "image has more than 8 bits a channel"),
        (encoded(Image.new("I;16", (20, 20)), "TIFF"), "image has more than 8 bits a channel"),
        (encoded(Image.new("F", (20, 20)), "TIFF"), "image has more than 8 bits a channel"),
        (
            encoded(noise("P"), "GIF", save_all=True, append_images=[Image.new("P", (40, 30))]),
            "image is animated",
        ),
        (
            encoded(noise(), "PNG", save_all=True, append_images=[Image.new("RGB", (40, 30))]),
            "image is animated",
        ),
    ],
)
def test_what_cannot_be_trained_on_is_dropped_with_its_reason(data, reason):
    with pytest.raises(Drop) as caught:
        images.check(data, OPTIONS)
    assert caught.value.reason == reason


def test_limits_are_those_of_the_options():
    data = encoded(Image.new("RGB", (100, 10)))
    images.check(data, Options(min_side=10, max_pixels=1000))
    for options in (Options(min_side=11), Options(min_side=1, max_pixels=999)):
        with pytest.raises(Drop):
            images.check(data, options)


def test_looks_survive_another_size_and_quality_but_not_another_picture():
    def looks(data):
        return images.check(data, OPTIONS).looks

    def distance(a, b):
        return (a ^ b).bit_count()

    for seed in range(10):
        image = Image.open(io.BytesIO(picture(seed, (120, 100))))
        other = encoded(image.resize((240, 200)), "JPEG", quality=70)
        assert distance(looks(picture(seed, (120, 100))), looks(other)) <= alike.DISTANCE
        assert distance(looks(picture(seed)), looks(picture(seed + 1))) > alike.DISTANCE
    flat = [encoded(Image.new("RGB", (32, 32), (0, 0, blue))) for blue in (0, 0, 1)]
    assert looks(flat[0]) == looks(flat[1]) != looks(flat[2])


@pytest.mark.parametrize("distance", [0, 2, 4])
def test_near_hashes_are_those_of_comparing_each_with_each(distance):
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 300, np.uint64)
    hashes[250:] = hashes[rng.integers(0, 250, 50)]
    for bit in rng.integers(0, 64, (4, 1)):
        flipped = rng.integers(0, 300, 60)
        hashes[flipped] ^= np.uint64(1) << np.uint64(bit[0])
    hashes[100:140] = hashes[0] ^ (np.uint64(1) << np.arange(40, dtype=np.uint64))
    wanted = []
    for i, value in enumerate(hashes.tolist()):
        near = [
            j
            for j in range(i)
            if wanted[j] == j and (value ^ int(hashes[j])).bit_count() <= distance
        ]
        # an equal one comes before one that is merely near
        equal = [j for j in range(i) if int(hashes[j]) == value]
        wanted.append(wanted[equal[0]] if equal else near[0] if near else i)
    assert alike.repeats(hashes, distance).tolist() == wanted


@pytest.mark.parametrize(
    ("captions", "kept"),
    [
        (["a  b\n c"], ["a b c"]),
        (["a\0b", "a\0b", "ab"], ["ab"]),
        (["\ufeffcafé", 12], ["café", "12"]),
        (["x" * 10_000, "short"], ["short"]),
        (["", " ", "fine"], ["fine"]),
        (["bad \udcff", "good"], ["good"]),
    ],
)
def test_captions_are_cleaned(captions, kept):
    assert words.clean(captions, 4096, Counter()) == kept


@pytest.mark.parametrize(
    ("captions", "reason"),
    [
        ([], "caption is missing"),
        (["\0\n"], "caption is empty"),
        (["x" * 10_000], "caption is too long"),
        (["bad \udcff"], "caption is not in the encoding"),
    ],
)
def test_rows_without_a_caption_to_keep_are_dropped(captions, reason):
    with pytest.raises(Drop) as caught:
        words.clean(captions, 4096, Counter())
    assert caught.value.reason == reason


def test_what_is_left_out_of_a_row_that_stays_is_counted():
    changes = Counter()
    words.clean(["x" * 10_000, "a\1b"], 4096, changes)
    assert changes == {
        "left out: caption is too long": 1,
        "control characters taken out of a caption": 1,
    }


@pytest.mark.parametrize(
    ("box", "stored", "centre"),
    [
        ((10, 20, 12, 23), (10, 20, 12, 23), (11, 21.5)),
        ((179.5, -1, -179.5, 1), (179.5, -1, 180.5, 1), (-180, 0)),
        ((179, -1, 180.5, 1), (179, -1, 180.5, 1), (179.75, 0)),
        ((179.9, 0, -179.7, 1), (179.9, 0, 180.3, 1), (-179.9, 0.5)),
        ((200, 0, 201, 1), (-160, 0, -159, 1), (-159.5, 0.5)),
    ],
)
def test_boxes_run_west_to_east_also_across_the_date_line(box, stored, centre):
    lon, lat, found = places.place(Row("a", box=box))
    assert found == pytest.approx(stored)
    assert (lon, lat) == pytest.approx(centre)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (Row("a", lon=10, lat=95), "coordinates are out of range"),
        (Row("a", lon=200, lat=5), "coordinates are out of range"),
        (Row("a", lon=math.nan, lat=5), "coordinates are out of range"),
        (Row("a", lon=10), "coordinates are incomplete"),
        (Row("a", box=(45, 120, 46, 121)), "coordinates are out of range"),
        (Row("a", box=(12, 20, 10, 23)), "box is reversed"),
        (Row("a", box=(10, 23, 12, 20)), "box is reversed"),
        (Row("a", box=(10, math.nan, 12, 20)), "coordinates are out of range"),
        (Row("a", box=(10, 0, math.inf, 20)), "coordinates are out of range"),
    ],
)
def test_places_that_are_none_are_dropped(row, reason):
    with pytest.raises(Drop) as caught:
        places.place(row)
    assert caught.value.reason == reason


def test_a_row_without_a_place_has_none():
    lon, lat, box = places.place(Row("a"))
    assert all(map(math.isnan, (lon, lat, *box)))


def test_records_are_read_back_as_they_were_made():
    class Both:
        parts = frozenset({"image", "captions"})

    row = Row(
        key="é/1.jpg",
        image=picture(0),
        captions=["a café", "b"],
        box=(1.25, 2.5, 1.375, 2.625),
        time="2020-01-02",
        tags={"center": {"ö": "1"}},
        phrases=["a"],
        boxes=[(0, 0, 10, 10)],
        label=3,
    )
    made, _ = record.make(row, Both(), OPTIONS, Counter())
    found = record.parse(record.encode(made))
    assert made.keys() == found.keys()
    for name, value in made.items():
        np.testing.assert_array_equal(found[name], value)
    assert found["gsd"] == pytest.approx(0.125 * 111_195 / found["height"])
    assert record.encode(found) == record.encode(made)
    with pytest.raises(ValueError, match="not a tf.train.Example"):
        record.parse(b"\xff\xff")
