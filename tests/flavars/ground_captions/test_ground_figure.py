"""The figure: an image, its boxes, and its caption in their colours."""

import io

import numpy as np
import pytest
from chat_server import answer, completion, serve, thing
from PIL import Image, ImageColor

from flavars_jax.ground_captions.__main__ import run
from flavars_jax.ground_captions.figure import COLOURS, draw, pieces
from flavars_jax.ground_captions.shown import Shown
from rsvl_jax.errors import UserError


def test_phrases_are_found_in_the_caption():
    caption = "A lake, a small lake and a lakeside house."
    assert pieces(caption, ["lake", "small lake", "house", "tower"]) == [
        ("A ", None),
        ("lake", 0),
        (", a ", None),
        ("small lake", 1),
        (" and a lakeside ", None),
        ("house", 2),
        (".", None),
    ]
    assert pieces(caption, []) == [(caption, None)]


def test_boxes_and_phrases_have_one_colour():
    image = np.zeros((50, 100, 3), np.uint8)
    boxes = np.array([[10, 10, 40, 40], [60, 5, 95, 45]], np.float32)
    found = Shown("r", image, "A house costs $5 beside a lake. " * 3, ["house", "a lake"], boxes)
    picture = np.asarray(Image.open(io.BytesIO(draw(found))).convert("RGB")).astype(int)
    height, width = picture.shape[:2]
    edge = width * 0.16 / 6.4
    scale = (width - 2 * edge) / 100
    for number, (left, _, right, bottom) in enumerate(boxes):
        colour = np.array(ImageColor.getrgb(COLOURS[number]))
        near = np.abs(picture - colour).sum(-1) < 40
        ys, xs = np.nonzero(near[: int(edge + 50 * scale)])
        assert abs(xs.min() - (edge + left * scale)) < 6
        assert abs(xs.max() - (edge + right * scale)) < 6
        assert abs(ys.max() - (edge + bottom * scale)) < 6
        assert near[int(edge + 50 * scale) + 5 :].sum() > 500, "the phrase's chip"


def test_figures_of_answers_and_of_records(tmp_path, mini_earth_tiles, capsys):
    out = tmp_path / "figure.png"
    data = [f"--data_dir={mini_earth_tiles}", "--name=earth_tiles/mini"]
    run(["figure", *data, f"--output={out}"])
    assert Image.open(out).size[0] == 1024

    def reply(number, request):
        tags = request["messages"][-1]["content"][0]["text"].split("one a line:\n")[1]
        return completion(answer(objects=[thing("house", tags.split("\n")[0])]))

    with serve(reply) as chat:
        answers = tmp_path / "answers"
        run([*data, f"--output={answers}", f"--url={chat.url}", "--model=m", "--limit=2"])
    out.unlink()
    run(["figure", f"--answers={answers}", f"--output={out}"])
    assert out.exists() and "1 boxes" in capsys.readouterr().out
    with pytest.raises(UserError, match="has no 'nobody'"):
        run(["figure", f"--answers={answers}", "--id=nobody"])
    with pytest.raises(UserError, match="no journal"):
        run(["figure", f"--answers={tmp_path}"])
    with pytest.raises(UserError, match="one of them"):
        run(["figure"])
