"""The page about a data set: all that it must tell, in one small file that loads nothing."""

import csv
import json
import re

import cv2
import numpy as np
import pytest

from rsvl_jax import datasets
from rsvl_jax.datasets.__main__ import run
from rsvl_jax.errors import UserError
from rsvl_jax.report import bars, dataset, specimens

RED = np.array([230, 60, 60])


def image(seed, size=(60, 44)):
    coarse = np.random.default_rng(seed).integers(0, 120, (5, 5, 3)).astype(np.uint8)
    return cv2.imencode(".png", cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC))[
        1
    ].tobytes()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A data set with boxes, places, repeats, an ill-meaning caption, and rows left out."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "in").mkdir()
    rows = []
    for i in range(12):
        (folder / f"in/{i}.png").write_bytes(image(i // 2 * 2 if i in (4, 5) else i))
        caption = ("a river & <b>bold</b>", "a farm")[i % 2]
        boxes = json.dumps([[5, 5, 30, 40]]) if i == 3 else ""
        phrases = json.dumps(["farm <i>"]) if i == 3 else ""
        rows.append((f"{i}.png", caption, 10 * i - 60, 40 - i, phrases, boxes, "train"))
    rows[0] = (*rows[0][:2], "", "", *rows[0][4:])
    rows += [("gone.png", "a", 0, 0, "", "", "train"), ("1.png", "twice", 0, 0, "", "", "train")]
    with open(folder / "in/t.csv", "w", newline="") as file:
        csv.writer(file).writerows(
            [("image", "caption", "lon", "lat", "phrases", "boxes", "split"), *rows]
        )
    where = [f"--source={folder / 'in/t.csv'}", "--name=made", f"--data_dir={folder}"]
    run(["build", "csv", *where, "--workers=1", "--vocabulary=300"])
    return "image_text/made", str(folder)


@pytest.fixture(scope="module")
def page(built, tmp_path_factory):
    path = tmp_path_factory.mktemp("out") / "page.html"
    run(["show", built[0], f"--data_dir={built[1]}", f"--output={path}", "--pictures=12"])
    return path.read_text()


def section(page, anchor):
    return re.search(rf'<section id="{anchor}".*?</section>', page, re.S)[0]


def pictures(markup):
    import base64

    for data in re.findall(r"data:image/jpeg;base64,([^\"]+)", markup):
        yield cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR_RGB)


def test_counts_and_what_was_left_out(page):
    assert "12 records; all were read" in page
    assert "<dd>91.7 %</dd>" in page  # with a place: all but one
    left = section(page, "left")
    assert "image is missing" in left and "row put together with the first of its image" in left
    assert "image width 60 px" in section(page, "sizes") and "<svg" in section(page, "sizes")


def test_words_places_and_repeats(page):
    words = section(page, "words")
    assert re.search(r"river</th>.*?>6</td>", words, re.S) and re.search(
        r"farm</th>.*?>6</td>", words
    )
    assert "train: 11 tiles" in section(page, "places")
    repeats = section(page, "repeats")
    assert "2 images in 1 groups" in repeats and "4.png (train)" in repeats
    assert "3 different captions among 13" in repeats


def test_text_of_the_data_is_text(page):
    assert "a river &amp; &lt;b&gt;bold" in page and "farm &lt;i&gt;" in page
    assert "<b>bold" not in page and "<i>" not in section(page, "pictures")


def test_boxes_are_drawn_where_they_are(page):
    shown = next(f for f in section(page, "pictures").split("<figure>") if "3.png" in f)
    (view,) = pictures(shown)
    scale = view.shape[1] / 60
    edge = view[round(20 * scale), round(5 * scale) : round(5 * scale) + 2].mean(0)
    assert np.abs(edge - RED).max() < 60
    inside = view[round(20 * scale), round(17 * scale)]
    assert np.abs(inside.astype(int) - RED).max() > 60


def test_the_page_is_small_and_loads_nothing(page):
    assert len(page) < 400_000
    assert not re.search(r'(src|href)="(?!data:|#)', page)


def test_masks_are_beside_their_images(mini_earth_tiles, tmp_path):
    out = tmp_path / "p.html"
    found = dataset.write("earth_tiles/mini", mini_earth_tiles, str(out), most=20, pictures=4)
    text = out.read_text()
    assert sum(found.read.values()) in range(18, 24)
    assert "mask of" in text and "Nothing was left out" in text


def test_ground_photos_without_captions():
    record = {
        "id": "t",
        "image": image(1),
        "photos": [image(2), b"junk"],
        "lon": -3.0,
        "lat": -4.0,
        "gsd": 10.0,
        "date": "2020-01-02",
        "photo_ids": ["a", "b"],
    }
    shown = specimens.figure(record, {}, "train")
    assert "photo cannot be decoded" in shown and shown.count("data:image/jpeg") == 2
    assert "4.000° S 3.000° W · 10 m/px · 2020-01-02" in shown


def test_a_page_that_cannot_be_written(built):
    with pytest.raises(UserError, match="cannot write --output='/dev/null/page.html'"):
        dataset.write(*built, "/dev/null/page.html", most=5, pictures=1)
    assert datasets.manifest(*built)["splits"]["train"] == 12


def heights(svg):
    return [float(h) for h in re.findall(r'<rect[^>]* height="([\d.]+)"', svg)]


def test_bars_are_as_high_as_their_counts():
    few = heights(bars.histogram({1: 10, 2: 20, 4: 5}, label="l", unit="u"))
    assert len(few) == 4 and few[2] == 0
    np.testing.assert_allclose(np.array(few) / few[1], [0.5, 1, 0, 0.25], atol=0.01)
    many = dict.fromkeys(range(1000), 1) | {10**6: 1}
    svg = bars.histogram(many, label="l", unit="px")
    assert len(heights(svg)) == 30 and "+ px" in svg  # the far one is in the last bar
    assert len(heights(bars.histogram({7: 3}, label="l", unit="u"))) == 1
