"""Asking about scenes and pictures, with a model that sees colours."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import made_scenes
import numpy as np
import pytest
from colours_model import ColoursModel
from PIL import Image

from graft_jax.ask import programs
from graft_jax.ask.__main__ import run
from rsvl_jax.errors import UserError

BACKGROUND = ["--background=black", "--background=white"]


@pytest.fixture
def scene(tmp_path):
    """Black ground of 10 m; two red squares of 16 px at the left, a blue one at the right."""
    pixels = made_scenes.plain((0, 0, 0), 96, 96)
    pixels[8:24, 8:24] = pixels[64:80, 8:24] = (255, 0, 0)
    pixels[32:64, 56:88] = (0, 0, 255)
    return made_scenes.write(tmp_path / "scene.tif", pixels)


def ask(scene, question, capsys, *flags, tmp=None):
    output = f"--output={tmp or scene + '.png'}"
    words = ["--workdir=x", f"--input={scene}", f"--question={question}", output, *BACKGROUND]
    run([*words, *flags], lambda workdir: ColoursModel())
    lines = capsys.readouterr().out.splitlines()
    return dict(line.split(": ", 1) for line in lines)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How many red are there?", "2"),
        ("Is there a blue in the image?", "yes"),
        ("Is a green present?", "no"),
        ("Are there more red than blue?", "yes"),
        ("Is the number of red equal to the number of blue?", "no"),
        ("Where is the blue?", "right"),
        ("How many red on the left of a blue are there?", "2"),
    ],
)
def test_questions_are_answered(scene, question, answer, capsys):
    found = ask(scene, question, capsys, "--overlap=0")
    assert found["answer"] == answer
    assert found["program"].startswith(("count(", "exists(", "place("))
    picture, raster = found["evidence"].split(" and ")
    assert raster == picture.removesuffix("png") + "tif"
    with Image.open(picture) as shown:
        assert min(shown.size) > 200


def test_the_raster_lies_on_the_scene(tmp_path, capsys):
    import rasterio

    pixels = made_scenes.plain((0, 0, 0), 96, 96)
    pixels[32:64, 56:88] = (0, 0, 255)
    hole = np.zeros((96, 96), bool)
    hole[:16] = True
    pixels[hole] = 7
    scene = made_scenes.write(tmp_path / "scene.tif", pixels, nodata=7)
    found = ask(scene, "Are there more blue than red?", capsys, "--overlap=0")
    with rasterio.open(scene) as one, rasterio.open(found["evidence"].split(" and ")[1]) as other:
        assert (other.crs, other.transform) == (one.crs, one.transform)
        assert other.descriptions == ("blue", "red")
        assert other.tags()["answer"] == "yes" and "count(" in other.tags()["program"]
        blue, red = other.read()
    assert np.isnan(blue[hole]).all() and np.isnan(red[hole]).all()
    assert set(np.unique(red[~hole])) == {0} and set(np.unique(blue[~hole])) == {0, 1}
    assert blue[40:56, 64:80].all() and not blue[20:90, :40].any()


def test_the_model_runs_once_whatever_is_sought(scene, capsys):
    class Counting(ColoursModel):
        calls = 0

        def images(self, pixels):
            Counting.calls += 1
            return super().images(pixels)

    words = ["--workdir=x", f"--input={scene}", f"--output={scene}.png", *BACKGROUND]
    words += ["--question=Are there more red than blue?", "--batch_size=1000"]
    run(words, lambda workdir: Counting())
    capsys.readouterr()
    assert Counting.calls == 1


def test_the_image_is_not_replaced(scene, tmp_path, capsys):
    before = Path(scene).read_bytes()
    with pytest.raises(UserError, match="would replace --input="):
        ask(scene, "How many red?", capsys, tmp=tmp_path / "scene.png")
    with pytest.raises(UserError, match="scene.tif' must end in .png"):
        ask(scene, "How many red?", capsys, tmp=tmp_path / "scene.tif")
    assert Path(scene).read_bytes() == before


def test_what_is_asked_is_checked_before_the_model_is_opened(scene, tmp_path):
    def never(workdir):
        raise AssertionError

    for name, question in ((scene, "Why?"), (tmp_path / "none.tif", "How many red?")):
        words = ["--workdir=x", f"--input={name}", f"--question={question}"]
        with pytest.raises(UserError, match="form that is understood|none.tif"):
            run([*words, f"--output={tmp_path / 'x.png'}"], never)


def test_areas_are_those_of_the_ground(scene, capsys):
    found = ask(scene, "What is the area covered by blue?", capsys, "--overlap=0")
    metres = float(found["answer"].removesuffix(" m2").replace(",", ""))
    # Bilinear edges of patches move by less than half a patch of 8 pixels.
    assert metres == pytest.approx((32 * 10) ** 2, rel=0.3)


def test_a_picture_has_no_ground(scene, tmp_path, capsys):
    import rasterio

    with rasterio.open(scene) as file:
        Image.fromarray(np.moveaxis(file.read(), 0, -1)).save(tmp_path / "scene.png")
    found = ask(str(tmp_path / "scene.png"), "What is the area covered by blue?", capsys)
    assert found["answer"].endswith(" pixels")


def test_a_program_of_ones_own(scene, capsys):
    program = 'count(find("red")) * 2 if exists(find("blue")) else 0'
    assert ask(scene, "?", capsys, f"--program={program}", "--overlap=0")["answer"] == "4"
    with pytest.raises(UserError, match="Import is not allowed|must be an expression"):
        ask(scene, "?", capsys, "--program=import os")


def test_least_and_margin(scene, capsys):
    assert ask(scene, "How many red?", capsys, "--least=100000")["answer"] == "0"
    assert ask(scene, "How many red?", capsys, "--margin=1.5")["answer"] == "0"


def test_bad_input_gets_one_line(scene, tmp_path, capsys):
    for arguments, what in (
        ((scene, "Why?", capsys), "has no form that is understood"),
        ((str(tmp_path / "no.tif"), "How many red?", capsys), "no.tif"),
    ):
        with pytest.raises(UserError, match=what) as error:
            ask(*arguments)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="no folder"):
        ask(scene, "How many red?", capsys, tmp=tmp_path / "none" / "x.png")
    with pytest.raises(UserError, match="is empty|needs|required"):
        run(["--workdir=x"], lambda workdir: ColoursModel())


class _Server(BaseHTTPRequestHandler):
    said: list = []
    answer = "```python\ncount(find('red')) + 1\n```"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        _Server.said.append((body, self.headers.get("Authorization")))
        content = {"choices": [{"message": {"content": _Server.answer}, "finish_reason": "stop"}]}
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    made = HTTPServer(("127.0.0.1", 0), _Server)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}/v1"
    made.shutdown()
    made.server_close()


def test_other_questions_go_to_an_endpoint(scene, server, capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    flags = (f"--endpoint={server}", "--model=m", "--overlap=0")
    found = ask(scene, "One more than the red ones?", capsys, *flags)
    assert found["answer"] == "3" and found["program"] == "count(find('red')) + 1"
    body, key = _Server.said[-1]
    assert body["model"] == "m" and key == "Bearer sk-very-secret"
    assert "One more than the red ones?" in body["messages"][0]["content"]
    assert "secret" not in str(found)
    _Server.answer = "__import__('os').system('true')"
    with pytest.raises(UserError, match="not allowed"):
        ask(scene, "Something else?", capsys, *flags)


def test_a_dead_endpoint_is_one_line(scene, capsys):
    with pytest.raises(UserError, match="the endpoint wrote no program: cannot connect"):
        ask(scene, "Why?", capsys, "--endpoint=http://127.0.0.1:9/v1", "--model=m")


def test_fences_are_taken_off():
    assert programs.program_of("```\n1 + 1\n```") == "1 + 1"
    assert programs.program_of("Here it is:\n```python\nx = 1\nx\n```\nIt counts.") == "x = 1\nx"
    assert programs.program_of("```python\n1 + 1") == "1 + 1"
    assert programs.program_of(" count(find('a')) ") == "count(find('a'))"
