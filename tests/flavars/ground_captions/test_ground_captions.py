"""The whole command against a local server: good answers, faults, limits, caps, stops."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from chat_server import TAGS, answer, completion, error, serve, thing
from PIL import Image

from flavars_jax.ground_captions import pace
from flavars_jax.ground_captions.__main__ import run
from flavars_jax.ground_captions.journal import read
from rsvl_jax.errors import Preempted, UserError

KEY = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(pace, "_FIRST_WAIT", 0.01)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


class World:
    """A table of rows `r0`, `r1`, ... with images, and a folder for what is answered."""

    def __init__(self, folder, count):
        self.folder, self.output = folder, folder / "out"
        for number in range(count):
            self.image(f"r{number}")
        self.write([self.row(f"r{number}") for number in range(count)])

    def image(self, name):
        buffer = io.BytesIO()
        Image.new("RGB", (64, 64), "green").save(buffer, "PNG")
        (self.folder / f"{name}.png").write_bytes(buffer.getvalue())

    @staticmethod
    def row(name):
        return {"id": name, "image": f"{name}.png", "caption": f"Row {name}.", "tags": list(TAGS)}

    def write(self, rows):
        (self.folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def flags(self, chat, **more):
        url = chat if isinstance(chat, str) else chat.url
        flags = {"input": self.folder / "t.jsonl", "output": self.output, "url": url, "model": "m"}
        return [f"--{name}={value}" for name, value in (flags | more).items()]

    def ask(self, chat, **more):
        run(self.flags(chat, **more))

    def lines(self, kind):
        return {line["id"]: line for line in read(str(self.output / f"{kind}.jsonl"))}

    def summary(self):
        return json.loads((self.output / "summary.json").read_text())


def name_of(request):
    """Which row a request is about."""
    text = request["messages"][-1]["content"][0]["text"]
    return text.split("Its caption so far: Row ")[1].split(".")[0]


def test_good_answers_are_kept_and_never_asked_for_again(tmp_path, capsys):
    world = World(tmp_path, 9)
    with serve() as chat:
        world.ask(chat, in_flight=4, price_in=1.0, price_out=2.0)
        assert len(chat.requests) == 9 and chat.most <= 4
        world.ask(chat, in_flight=4, price_in=1.0, price_out=2.0)
        assert len(chat.requests) == 9
    request, headers = chat.requests[0], chat.headers[0]
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert request["model"] == "m" and request["_path"] == "/v1/chat/completions"
    assert request["response_format"]["json_schema"]["schema"]["required"] == ["caption", "objects"]
    image = request["messages"][-1]["content"][1]["image_url"]["url"]
    assert image.startswith("data:image/jpeg;base64,")
    found = world.lines("journal")
    assert found.keys() == {f"r{number}" for number in range(9)}
    assert found["r3"]["boxes"] == [[4, 8, 16, 24], [0, 0, 32, 32]]
    assert found["r3"]["phrases"] == ["house", "a lake"] and found["r3"]["tags"] == list(TAGS)
    assert found["r3"]["original"] == "Row r3."
    shown = capsys.readouterr()
    assert "9 captions with 18 boxes" in shown.out
    assert "9 rows, 9 answered before, 0 to ask" in shown.err
    assert world.summary()["spent"] == pytest.approx(9 * (500 + 2 * 50) / 1e6)


def test_the_environment_names_a_proxy_and_no_other_credentials(tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    world = World(tmp_path, 2)
    with serve() as chat:
        world.ask(chat, limit=1)
        monkeypatch.setenv("http_proxy", chat.url.removesuffix("/v1"))
        monkeypatch.setenv("no_proxy", "")
        world.ask("http://model.invalid/v1")
    assert chat.requests[1]["_path"] == "http://model.invalid/v1/chat/completions"
    assert [headers["Authorization"] for headers in chat.headers] == [f"Bearer {KEY}"] * 2


FAULTS = {
    "r0": completion(answer()),
    "r1": completion("no JSON"),
    "r2": completion(answer(objects=[thing("house", TAGS[0], (0, 0, 300, 10))])),
    "r3": completion(answer(objects=[thing("house", "building=castle")])),
    "r4": completion(answer(objects=[thing("a castle", TAGS[0])])),
    "r5": error(400, f"image not liked, {KEY}"),
    "r6": completion(answer(), finish="length"),
    "r7": completion(None, refusal="I cannot help with that."),
    "r8": error(503, "overloaded"),
    "r9": (200, {}, "<html>proxy</html>"),
    "r10": None,  # no answer ever
}


def test_each_fault_is_named_counted_and_kept_apart(tmp_path, capsys):
    world = World(tmp_path, 11)
    rows = [world.row(f"r{number}") for number in range(11)]
    (tmp_path / "html.png").write_text("<html>not found</html>")
    world.write([*rows, world.row("gone"), world.row("html"), rows[0]])
    with (tmp_path / "t.jsonl").open("a") as file:
        file.write("{no JSON\n")
    flags = {"reask": 0, "attempts": 2, "timeout": 1.5}
    with serve(lambda _, request: FAULTS[name_of(request)]) as chat:
        world.ask(chat, **flags)
    assert world.lines("journal").keys() == {"r0"}
    assert {name: line["reason"] for name, line in world.lines("invalid").items()} == {
        "r1": "answer is not JSON",
        "r2": "box is outside of the image",
        "r3": "tag is unknown",
        "r4": "phrase is not in the caption",
        "r5": "request was refused",
        "r6": "answer was cut off",
        "r7": "model refused",
        "gone": "image is missing",
        "html": "image cannot be decoded",
        "line 15": "line is no JSON object",
    }
    failed = world.lines("failed")
    assert {name: line["reason"] for name, line in failed.items()} == {
        "r8": "server error",
        "r9": "answer is no chat completion",
        "r10": "no answer in time",
    }
    assert failed["r8"]["requests"] == 2 and "HTTP 503: overloaded" in failed["r8"]["detail"]
    shown = capsys.readouterr().out
    assert "1 captions with 2 boxes (0 without any), 10 invalid, 3 failed, 0 not asked" in shown
    assert "1 invalid: tag is unknown" in shown and "1 rows left out: another row" in shown
    with serve() as chat:
        world.ask(chat, **flags)
    assert {name_of(request) for request in chat.requests} == {"r8", "r9", "r10"}
    assert world.lines("journal").keys() == {"r0", "r8", "r9", "r10"}
    everything = b"".join(path.read_bytes() for path in world.output.iterdir())
    assert KEY.encode() not in everything and b"image not liked, ***" in everything


def test_an_invalid_answer_is_asked_for_again(tmp_path):
    world = World(tmp_path, 1)
    replies = [completion("no JSON"), completion(answer())]
    with serve(lambda number, _: replies[number]) as chat:
        world.ask(chat, reask=1)
    line = world.lines("journal")["r0"]
    assert line["requests"] == 2 and line["tokens_in"] == 1000


def test_too_many_requests_are_waited_out_by_all(tmp_path):
    world = World(tmp_path, 6)

    def reply(number, request):
        return error(429, "slow down", Retry_After=0.6) if number == 0 else completion(answer())

    with serve(reply) as chat:
        world.ask(chat, in_flight=1)
    assert len(chat.requests) == 7
    assert chat.times[1] - chat.times[0] >= 0.6
    assert len(world.lines("journal")) == 6


def test_requests_leave_no_faster_than_asked(tmp_path):
    world = World(tmp_path, 6)
    with serve() as chat:
        world.ask(chat, in_flight=6, requests_per_minute=600)
    assert chat.times[-1] - chat.times[0] >= 0.45


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (
            error(401, f"Incorrect API key provided: {KEY}"),
            r"refused: HTTP 401: .*provided: \*\*\*",
        ),
        (error(404, "no such model"), "HTTP 404: no such model"),
        (error(429, "insufficient_quota"), "insufficient_quota"),
        (error(429, "later", Retry_After=7200), "left alone: for 7200 s, above --max_wait=120"),
        (error(301, "", Location="http://other/v1"), "moved: to http://other/v1"),
    ],
)
def test_what_no_row_can_pass_ends_the_start_at_once(tmp_path, capsys, reply, words):
    world = World(tmp_path, 8)
    with serve(lambda *_: reply) as chat, pytest.raises(UserError, match=words) as found:
        world.ask(chat, in_flight=2)
    assert len(chat.requests) <= 2
    shown = capsys.readouterr()
    everything = b"".join(path.read_bytes() for path in world.output.iterdir()).decode()
    assert KEY not in str(found.value) + shown.out + shown.err + everything


def test_nobody_at_the_address(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        world = World(tmp_path, 5)
        words = "3 rows in a row without a valid answer, the last because cannot connect"
        with pytest.raises(UserError, match=words):
            world.ask(url, attempts=2, give_up=3, in_flight=1)
    assert len(world.lines("failed")) == 3 and world.summary()["not_asked"] == 2


@pytest.mark.parametrize(
    ("said", "key", "wanted"),
    [
        (
            "response_format json_schema is not supported",
            "response_format",
            {"type": "json_object"},
        ),
        ("use 'max_completion_tokens' instead", "max_completion_tokens", 1500),
    ],
)
def test_what_a_server_does_not_know_is_left_out(tmp_path, said, key, wanted):
    world = World(tmp_path, 3)

    def reply(number, request):
        return completion(answer()) if request.get(key) == wanted else error(400, said)

    with serve(reply) as chat:
        world.ask(chat, in_flight=1)
    assert len(chat.requests) == 4 and len(world.lines("journal")) == 3


def test_the_cap_holds_before_and_inside_a_start(tmp_path):
    world = World(tmp_path, 20)
    prices = {"price_in": 1000.0, "price_out": 1000.0, "max_tokens": 100, "typical_tokens": 50}
    with serve() as chat:
        with pytest.raises(UserError, match="above --max_cost=1: raise it"):
            world.ask(chat, max_cost=1, **prices)
        assert not chat.requests
        # It looks cheap, for answers and images that are thought to be short; it is not.
        chat.reply = lambda *_: completion(answer(), tokens=(2000, 50))
        cheap = prices | {"typical_tokens": 0, "image_tokens": 0, "in_flight": 4}
        cap = 17
        with pytest.raises(UserError, match=f"stopped before --max_cost={cap:g}"):
            world.ask(chat, max_cost=cap, **cheap | {"reask": 0})
    asked = len(chat.requests)
    paid = sum(line["cost"] for line in world.lines("journal").values())
    assert paid == pytest.approx(2.05 * asked) and paid <= cap
    assert world.summary()["not_asked"] == 20 - asked
    with serve() as chat, pytest.raises(UserError, match="spent before"):
        world.ask(chat, max_cost=cap, **cheap)
    with pytest.raises(UserError, match="needs --price_in"):
        world.ask(chat, max_cost=1)


def test_a_dry_run_sends_and_writes_nothing(tmp_path, capsys):
    world = World(tmp_path, 4)
    run([f"--input={tmp_path}/t.jsonl", f"--output={world.output}", "--dry_run", "--limit=3"])
    assert "4 rows, 0 answered before, 3 to ask (1 left by --limit)" in capsys.readouterr().err
    assert not world.output.exists()


def test_a_signal_keeps_what_is_in_flight_and_the_next_start_goes_on(tmp_path):
    world = World(tmp_path, 40)

    def reply(number, request):
        if number == 10:
            os.kill(os.getpid(), signal.SIGTERM)
        if number == 11:
            return None  # dropped when the grace is over
        time.sleep(0.05)
        return completion(answer())

    with serve(reply) as chat, pytest.raises(Preempted, match="rows left"):
        world.ask(chat, in_flight=4, grace=0.5)
    kept = world.lines("journal")
    assert 0 < len(kept) < 40
    with serve() as chat:
        world.ask(chat, in_flight=4)
    assert len(chat.requests) == 40 - len(kept)
    assert len(world.lines("journal")) == 40
    assert len((world.output / "journal.jsonl").read_text().splitlines()) == 40


def test_after_a_kill_the_next_start_asks_for_the_rest_alone(tmp_path):
    world = World(tmp_path, 60)

    def reply(number, request):
        time.sleep(0.1)
        return completion(answer())

    with serve(reply) as chat:
        command = [sys.executable, "-m", "flavars_jax.ground_captions", *world.flags(chat)]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while len(chat.requests) < 30:
            assert process.poll() is None
            time.sleep(0.01)
        with pytest.raises(UserError, match="written by another process"):
            world.ask(chat)
        process.kill()
        process.wait()
    kept = world.lines("journal")
    with serve() as chat:
        world.ask(chat)
    assert 0 < len(kept) < 60 and len(chat.requests) == 60 - len(kept)
    assert len(world.lines("journal")) == 60


def test_a_hundred_are_in_flight(tmp_path):
    world = World(tmp_path, 200)
    together = threading.Barrier(100, timeout=60)  # nobody is answered before a hundred have asked

    def reply(number, request):
        together.wait()
        return completion(answer())

    with serve(reply) as chat:
        world.ask(chat, in_flight=100)
    assert chat.most == 100
    assert len(world.lines("journal")) == 200


def test_flags_that_cannot_be(tmp_path):
    world = World(tmp_path, 1)
    for flags, words in (
        ({"in_flight": 0}, "--in_flight=0: give 1 or more"),
        ({"timeout": 0}, "--timeout=0"),
        ({"max_side": 8}, "--max_side=8 is below --min_side=256"),
        ({"box_units": "inches"}, "--box_units='inches'"),
        ({"extra": "[]"}, "no JSON object"),
        ({"columns": "a"}, "FIELD=COLUMN"),
        ({"name": "earth_tiles"}, "one of them"),
        ({"prompt": "none"}, "--prompt='none' cannot be read .*ours are: grounded"),
        ({"url": "x"}, "--url='x' is no address"),
    ):
        with pytest.raises(UserError, match=words):
            world.ask("http://127.0.0.1:1/v1", **flags)
