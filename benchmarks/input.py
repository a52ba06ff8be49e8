"""Speed of the input pipeline beside PyTorch's DataLoader and webdataset doing the same work.

Each contender decodes JPEG tiles (cut from the Blue Marble mosaic), takes a random resized crop to
224 px, flips every other one, normalises to float32 and hands out batches of 32, with two workers:
worker processes in PyTorch, two threads in ours (OpenCV lets other threads run while it works), or
two worker processes. PyTorch reads once with torchvision's transforms on Pillow, as people write
it, and once with the decoder that ours uses, at full size, so that the rest makes the difference.

    pip install -e . torch torchvision webdataset
    python -m benchmarks.input [--rounds=15] [--tile=600]
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np

from benchmarks import contest
from benchmarks.input_shape import AHEAD, MEAN, SHAPE, STD, load_images, write_images

PILLOW, DECODER = "DataLoader, Pillow", "DataLoader, same decoder"
# What is told apart: (tar files, our decoder).
TORCH = {
    PILLOW: (False, False),
    DECODER: (False, True),
    "webdataset, Pillow": (True, False),
    "webdataset, same decoder": (True, True),
}
# (worker processes, threads, data.decode, data.cache).
OURS = {
    "ours (threads)": (0, SHAPE.workers, "auto", "none"),
    "ours (processes)": (SHAPE.workers, 1, "auto", "none"),
    "ours (threads), decode=full": (0, SHAPE.workers, "full", "none"),
    "ours (threads), later epochs with cache=memory": (0, SHAPE.workers, "1024", "memory"),
}
PACKAGES = (
    "torch",
    "torchvision",
    "webdataset",
    "pillow",
    "opencv-python-headless",
    "grain",
    "numpy",
)


class Tiles:
    """The JPEG tiles as records."""

    def __init__(self, images: list[bytes]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        return {"id": str(index), "image": self.images[index]}


def normalized(batch: dict) -> dict:
    """The batch with float32 images."""
    from rsvl_jax.data.transforms import normalize

    return {"image": normalize(batch["image"], MEAN, STD)}


def serve_ours(name: str, folder: str) -> None:
    """Answers rounds with our pipeline."""
    from rsvl_jax.data import pipeline
    from rsvl_jax.data.cache import cached
    from rsvl_jax.data.pairs import ImagePart, SampleTransform
    from rsvl_jax.data.transforms import Augmentation

    workers, threads, decode, cache = OURS[name]
    transform = SampleTransform(
        ImagePart(
            Augmentation(SHAPE.size, SHAPE.scale, SHAPE.ratio, flip_horizontal=True, decode=decode)
        )
    )
    tiles = cached(
        Tiles(load_images(folder)), cache, gib=1.0, decode=decode, key="", workers=workers
    )

    def start() -> pipeline.Batches:
        return pipeline.train_batches(
            tiles,
            transform,
            batch_size=SHAPE.batch,
            seed=0,
            workers=workers,
            threads=threads,
            finish=normalized,
        )

    endless = start() if workers else None

    def work() -> None:
        made = endless or start()
        # Batches of the processes that are ready when a round starts do not count.
        for _ in range(batches(name)):
            image = next(made)["image"]
            assert image.shape == (SHAPE.batch, SHAPE.size, SHAPE.size, 3)
            assert image.dtype == np.float32
        if not workers:
            made.close()

    contest.serve(work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--tile", type=int, default=256, help="side of the JPEG tiles")
    parser.add_argument("--serve", choices=(*TORCH, *OURS), help="be a contender (internal)")
    parser.add_argument("--folder", help="where the tiles are (internal)")
    flags = parser.parse_args()
    if flags.serve in OURS:
        serve_ours(flags.serve, flags.folder)
    elif flags.serve:
        from benchmarks import input_torch

        tars, opencv = TORCH[flags.serve]
        input_torch.serve(flags.folder, opencv=opencv, tars=tars)
    else:
        compare(flags.rounds, flags.tile)


def compare(rounds: int, tile: int) -> None:
    """Runs the contenders in interleaved rounds and prints the table."""
    with tempfile.TemporaryDirectory() as folder:
        write_images(folder, tile)
        own = [sys.executable, "-m", "benchmarks.input", f"--folder={folder}"]
        commands = {name: [*own, f"--serve={name}"] for name in (*TORCH, *OURS)}
        print(table(contest.run(commands, rounds, warmup=2), tile))


def table(contenders: Sequence[contest.Contender], tile: int) -> str:
    """Markdown: images a second, by the clock and by CPU, and ratios to each DataLoader.

    The ratios are medians over rounds. Those by CPU hardly depend on who else uses the machine.
    """
    lines = [
        f"| tiles of {tile} px | images/s, median (min-max) | x Pillow | x same decoder "
        "| images/s a core, median (min-max) | x Pillow | x same decoder |",
        "|---|---|---|---|---|---|---|",
    ]
    clock = {c.name: SHAPE.batch * SHAPE.steps / np.array(c.seconds) for c in contenders}
    core = {c.name: SHAPE.batch * batches(c.name) / np.array(c.cpu_seconds) for c in contenders}
    for name in clock:
        cells = [*_cells(clock, name), *_cells(core, name)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    rounds = len(contenders[0].seconds)
    lines += [
        "",
        f"{rounds} interleaved rounds of {SHAPE.batch * SHAPE.steps} images; "
        f"{contest.hardware()}; {versions}",
    ]
    return "\n".join(lines)


def _cells(speed: dict[str, np.ndarray], name: str) -> list[str]:
    own = speed[name]
    ratios = [f"{np.median(own / speed[base]):.2f}" for base in (PILLOW, DECODER)]
    return [f"{np.median(own):.0f} ({own.min():.0f}-{own.max():.0f})", *ratios]


def batches(name: str) -> int:
    """Batches that a contender makes in a round; endless ones replace those made ahead."""
    endless = TORCH[name][0] if name in TORCH else OURS[name][0] > 0
    return SHAPE.steps + (AHEAD * SHAPE.workers if endless else 0)


if __name__ == "__main__":
    main()
