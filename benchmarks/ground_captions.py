"""How many requests `ground_captions` keeps in flight.

`python -m benchmarks.ground_captions [--in_flight=100] [--rows=2000]`: the whole command, from
JPEGs of 512 px on a disk to the journal, against a server in a process of its own that answers
every request after the same time. At a latency of L seconds no client can do more than
in_flight / L. "mean in flight" is the server's count over time, up to the last request.
"""

import argparse
import asyncio
import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request

import numpy as np
from PIL import Image

from flavars_jax.ground_captions.__main__ import run

_TAGS = ["building=house", "natural=water"]
_BOX = {"xmin": 64, "ymin": 64, "xmax": 512, "ymax": 512}
_ANSWER = {
    "caption": "A small house stands beside a lake.",
    "objects": [
        {"phrase": "house", "tag": _TAGS[0], "box": _BOX},
        {"phrase": "a lake", "tag": _TAGS[1], "box": _BOX},
    ],
}
_IMAGES = 64  # different ones


class Server:
    """Answers POST after `latency` seconds, GET with what it saw; as much HTTP as that takes."""

    def __init__(self, latency: float):
        self._latency = latency
        self._now, self._most, self._count = 0, 0, 0
        self._area, self._since, self._start, self._full = 0.0, 0.0, 0.0, 0.0
        choice = {"message": {"content": json.dumps(_ANSWER)}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 700, "completion_tokens": 80}
        self._answer = json.dumps({"choices": [choice], "usage": usage}).encode()

    async def serve(self) -> None:
        """Prints the port, then answers for ever."""
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0, backlog=512)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                if head.startswith(b"get"):
                    body = json.dumps(self._seen()).encode()
                else:
                    length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
                    await reader.readexactly(length)
                    body = await self._respond()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()

    async def _respond(self) -> bytes:
        self._count += 1
        self._change(1)
        await asyncio.sleep(self._latency)
        self._change(-1)
        return self._answer

    def _change(self, by: int) -> None:
        now = time.monotonic()
        self._start = self._start or now
        self._area += self._now * (now - (self._since or now))
        self._now, self._since = self._now + by, now
        self._most = max(self._most, self._now)
        if by > 0:  # the last request is where the fall begins
            self._full, self._last = self._area, now

    def _seen(self) -> dict[str, float]:
        seconds = self._last - self._start
        return {
            "requests": self._count,
            "most": self._most,
            "mean": self._full / seconds,
            "per_second": self._count / (self._since - self._start),
        }


def _table(folder: str, rows: int) -> str:
    """Images of about 60 kB, and a table that names each of them many times."""
    rng = np.random.default_rng(0)
    for number in range(_IMAGES):
        coarse = Image.fromarray(rng.integers(0, 255, (96, 96, 3), np.uint8))
        buffer = io.BytesIO()
        coarse.resize((512, 512), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        with open(os.path.join(folder, f"{number}.jpg"), "wb") as file:
            file.write(buffer.getvalue())
    path = os.path.join(folder, "rows.jsonl")
    with open(path, "w", encoding="utf-8") as lines:
        for row in range(rows):
            image = f"{row % _IMAGES}.jpg"
            line = {"id": str(row), "image": image, "caption": "A house.", "tags": _TAGS}
            lines.write(json.dumps(line) + "\n")
    return path


def measure(latency: float, in_flight: int, rows: int) -> dict[str, float]:
    """One run of the command."""
    with tempfile.TemporaryDirectory() as folder:
        table = _table(folder, rows)
        command = [sys.executable, "-m", "benchmarks.ground_captions", f"--serve={latency}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            address = f"http://127.0.0.1:{server.stdout.readline().strip()}"
            before = time.process_time()
            run(
                [
                    *(f"--input={table}", f"--output={folder}/out", f"--url={address}/v1"),
                    *("--model=local", f"--in_flight={in_flight}"),
                ]
            )
            used = time.process_time() - before
            with urllib.request.urlopen(address) as answer:
                found = json.load(answer)
            server.terminate()
    return found | {"cpu_ms": 1e3 * used / rows}


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--in_flight", type=int, default=100)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--latencies", default="2,1,0.5,0.2")
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve is not None:
        asyncio.run(Server(given.serve).serve())
        return
    print("| latency s | most in flight | mean in flight | requests/s | of the limit | CPU ms |")
    print("|---|---|---|---|---|---|")
    for latency in map(float, given.latencies.split(",")):
        found = measure(latency, given.in_flight, given.rows)
        share = found["per_second"] * latency / given.in_flight
        print(
            f"| {latency:g} | {found['most']} | {found['mean']:.1f} | {found['per_second']:.0f} | "
            f"{share:.2f} | {found['cpu_ms']:.1f} |",
            flush=True,
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory of the client: {peak:.2f} GiB")


if __name__ == "__main__":
    main()
