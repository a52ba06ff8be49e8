"""How fast a scene is mapped by text, and how much memory that takes above the model.

    python -m benchmarks.map [--small=5000x5000,10000x10000,20000x2500] [--base=1680x1680]

Synthetic scenes (RGB, 8 bits, tiled and compressed GeoTIFF), two queries, similarity map with
overlap 0.5, overviews and quicklook and all, random weights: `small` is the model of the embedded
run (32 px, patch 4), which shows the reading, blending and writing; `base` is ViT-B/16 at 224 px.
Each case is a process of its own. Memory above the model is the peak of the whole process less
what was resident after the model had seen its first batch.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np

from benchmarks import contest

PRESETS = {"small": "", "base": "naip"}
BATCH = {"small": 256, "base": 16}
QUERIES = ("farmland", "open water")
_BLOCK = 512


def write_scene(path: str, width: int, height: int) -> None:
    """Smooth random ground with grain, from a few blocks that come again."""
    import rasterio
    from rasterio.transform import from_origin
    from rasterio.windows import Window

    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 220, (8, 3, 8, 8)).repeat(64, axis=2).repeat(64, axis=3)
    blocks = (coarse + rng.integers(0, 32, coarse.shape)).astype(np.uint8)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=width,
        height=height,
        count=3,
        dtype="uint8",
        crs="EPSG:32618",
        transform=from_origin(400_000, 4_200_000, 10, 10),
        tiled=True,
        blockxsize=_BLOCK,
        blockysize=_BLOCK,
        compress="deflate",
        zlevel=1,
    ) as file:
        for top in range(0, height, _BLOCK):
            for left in range(0, width, _BLOCK):
                here = Window(left, top, min(_BLOCK, width - left), min(_BLOCK, height - top))
                block = blocks[rng.integers(len(blocks))]
                file.write(block[:, : int(here.height), : int(here.width)], window=here)


def model(name: str) -> Any:
    """A student of these sizes with random weights; texts are random vectors."""
    import jax

    from configs import graft
    from graft_jax.objective import GraftObjective
    from graft_jax.teacher import TextImage

    config = graft.get_config(PRESETS[name])
    config.model.dtype = "float32"
    objective = GraftObjective(config)
    params = jax.jit(objective.init)(jax.random.key(0))["params"]
    see = jax.jit(objective.embed_images)

    def read(texts: list[str]) -> np.ndarray:
        found = np.random.default_rng(0).normal(size=(len(texts), config.model.embed_dim))
        return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)

    size = config.model.image
    return TextImage(size.size, size.patch, "random", lambda pixels: see(params, {}, pixels), read)


def memory(field: str) -> int:
    """VmRSS or VmHWM of this process, bytes."""
    with open("/proc/self/status", encoding="utf-8") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


def case(name: str, scene: str, folder: str) -> dict[str, float]:
    """Maps a scene in this process."""
    from rsvl_jax import runtime

    runtime.start()
    from graft_jax.map.run import make_map
    from graft_jax.map.settings import Settings

    used = model(name)
    blank = np.zeros((BATCH[name], used.image_size, used.image_size, 3), np.uint8)
    np.asarray(used.images(blank)["pixels"])
    resident = memory("VmRSS")
    settings = Settings(
        scene, os.path.join(folder, "map.tif"), queries=QUERIES, batch_size=BATCH[name]
    )
    made = make_map(settings, used)
    return {
        "windows": made.windows,
        "seconds": made.seconds,
        "resident": resident,
        "peak": memory("VmHWM"),
    }


def measure(name: str, width: int, height: int) -> str:
    """A row of the table, from a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        scene = os.path.join(folder, "scene.tif")
        write_scene(scene, width, height)
        command = [sys.executable, "-m", "benchmarks.map", f"--case={name},{scene},{folder}"]
        environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
        said = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout
    found = json.loads(said.splitlines()[-1])
    gib = {key: found[key] / 2**30 for key in ("resident", "peak")}
    return (
        f"| {name} | {width:,} x {height:,} | {found['windows']:,} | {found['seconds']:.0f} "
        f"| {found['windows'] / found['seconds']:,.1f} "
        f"| {width * height / 1e6 / found['seconds']:.2f} | {gib['resident']:.2f} GiB "
        f"| {gib['peak'] - gib['resident']:.2f} GiB |"
    )


def sizes(text: str) -> list[tuple[int, int]]:
    """ "WxH,WxH" -> pairs; none from an empty text."""
    return [(int(w), int(h)) for w, h in (part.split("x") for part in text.split(",") if part)]


def main() -> None:
    """Prints a table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", default="5000x5000,10000x10000,20000x2500")
    parser.add_argument("--base", default="1680x1680")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case:
        print(json.dumps(case(*given.case.split(","))))
        return
    print("| model | scene, pixels | windows | s | images/s | Mpx/s | model | above the model |")
    print("|---|---|---|---|---|---|---|---|")
    for name in PRESETS:
        for width, height in sizes(getattr(given, name)):
            print(measure(name, width, height), flush=True)
    print(f"\n{contest.hardware()}")


if __name__ == "__main__":
    main()
