"""How fast SkyScript's zips become shards, and how much memory it takes as rows grow.

`python -m benchmarks.build_skyscript [--rows=100000,1000000] [--side=64] [--workers=2]`: a made-up
SkyScript of so many rows in its published layout (six zips of images, six of pickles, one CSV), its
images being a few noisy JPEGs again and again; then the command itself as a process of its own.
Every row is decoded, checked, joined with its pickle and written, shuffled.
"""

import argparse
import csv
import io
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

_ZIPS = range(2, 8)
_PICTURES = 64
_THINGS = ("building", "farmland", "forest", "harbour", "parking lot", "river", "road", "school")


def pictures(side: int) -> list[bytes]:
    """JPEGs of quality 75 with detail at all scales, as photos from above have."""
    rng, found = np.random.default_rng(0), []
    for _ in range(_PICTURES):
        pixels = np.zeros((side, side, 3))
        for size in (4, 16, side):
            layer = rng.integers(0, 255, (size, size, 3), np.uint8)
            pixels += np.asarray(
                Image.fromarray(layer).resize((side, side), Image.Resampling.BICUBIC)
            )
        buffer = io.BytesIO()
        Image.fromarray((pixels / 3).astype(np.uint8)).save(buffer, "JPEG", quality=75)
        found.append(buffer.getvalue())
    return found


def metadata(number: int) -> bytes:
    """A pickle as SkyScript's, of about its size."""
    rng = np.random.default_rng(number)
    lon, lat = float(rng.uniform(-179, 179)), float(rng.uniform(-60, 70))
    tags = [{"highway": "residential"}, {"building": "house", "roof:shape": "gabled"}]
    return pickle.dumps(
        {
            "box": (lon, lat, lon + 0.004, lat + 0.003),
            "time": (2019, 7, 1 + number % 28, 10, 30),
            "center_tags": {"landuse": _THINGS[number % len(_THINGS)]},
            "surrounding_tags": tags,
        }
    )


def make(folder: Path, rows: int, side: int) -> None:
    """The download."""
    images = pictures(side)
    with open(folder / "SkyScript_train_top30pct_filtered_by_CLIP_openai.csv", "w") as file:
        writer = csv.writer(file)
        writer.writerow(("filepath", "title", "title_multi_objects"))
        for number in range(rows):
            thing = _THINGS[number % len(_THINGS)]
            writer.writerow(
                (_path(number), thing, f"{thing} {number % 9973}, surrounded by houses; a road")
            )
    for part in _ZIPS:
        numbers = range(part - _ZIPS.start, rows, len(_ZIPS))
        with zipfile.ZipFile(folder / f"images{part}.zip", "w") as archive:
            for number in numbers:
                archive.writestr(_path(number), images[number % len(images)])
        with zipfile.ZipFile(folder / f"meta{part}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for number in numbers:
                name = _path(number).replace("images", "meta").replace(".jpg", ".pickle")
                archive.writestr(name, metadata(number))


def _path(number: int) -> str:
    return f"images{_ZIPS[number % len(_ZIPS)]}/w{10**8 + number}_US_19.jpg"


def build(source: Path, data_dir: Path, workers: int) -> tuple[float, float, dict[int, int]]:
    """Seconds and CPU seconds of the command, and the peak KiB of each of its processes."""
    words = [sys.executable, "-m", "rsvl_jax.datasets", "build", "skyscript", f"--source={source}"]
    words += [f"--data_dir={data_dir}", f"--workers={workers}"]
    start, before, peaks = time.perf_counter(), _cpu(), {}
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        for number in (process.pid, *_children(process.pid)):
            peaks[number] = max(peaks.get(number, 0), _peak(number))
        time.sleep(0.2)
    assert process.returncode == 0
    return time.perf_counter() - start, _cpu() - before, peaks


def _cpu() -> float:
    """Seconds that all processes took that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _children(number: int) -> list[int]:
    try:
        return [int(n) for n in Path(f"/proc/{number}/task/{number}/children").read_text().split()]
    except OSError:
        return []


def _peak(number: int) -> int:
    """Anonymous memory in KiB: pages of the files that are mapped can be taken back at any time."""
    try:
        lines = Path(f"/proc/{number}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


def main() -> None:
    """Prints a row of a table for each number of rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="100000,1000000")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    print(
        "| rows | px | GB of zips | s | rows/s | CPU s | rows/CPU s | MiB, main | MiB, a worker |",
        flush=True,
    )
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for rows in map(int, arguments.rows.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "sky"
            source.mkdir()
            if (child := os.fork()) == 0:  # its memory is not to be counted
                make(source, rows, arguments.side)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            size = sum(path.stat().st_size for path in source.glob("*.zip"))
            seconds, cpu, peaks = build(source, Path(folder) / "data", arguments.workers)
        main_peak, *others = peaks.values()
        print(
            f"| {rows:,} | {arguments.side} | {size / 1e9:.2f} | {seconds:.0f} | "
            f"{rows / seconds:,.0f} | {cpu:.0f} | {rows / cpu:,.0f} | {main_peak / 1024:.0f} | "
            f"{max(others, default=0) / 1024:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
