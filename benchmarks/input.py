"""Speed of the input pipeline beside a PyTorch DataLoader doing the same work.

Each contender decodes 256 px JPEG tiles (cut from the Blue Marble mosaic), takes a random resized
crop to 224 px, normalises to float32 and hands out batches of 32, with two workers: two worker
processes in PyTorch, two threads in ours (OpenCV lets other threads run while it works), or
two worker processes. PyTorch reads once with Pillow, written as torchvision writes it, and once
with the very decoder and resize that ours uses, so that the loader alone makes the difference.

    pip install -e . torch==2.13.0 pillow
    python -m benchmarks.input [--rounds=15]
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np

from benchmarks import contest
from benchmarks.input_shape import MEAN, SHAPE, STD, load_images, write_images

TORCH = ("PyTorch, Pillow", "PyTorch, same decoder")
OURS = ("ours (threads)", "ours (processes)")
PACKAGES = ("torch", "pillow", "opencv-python-headless", "grain", "numpy")
_AHEAD = 2  # batches that a worker process of ours keeps ready


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


def serve_ours(name: str, images: str) -> None:
    """Answers rounds with our pipeline."""
    from rsvl_jax.data import pipeline
    from rsvl_jax.data.pairs import ImagePart, SampleTransform
    from rsvl_jax.data.transforms import Augmentation

    transform = SampleTransform(ImagePart(Augmentation(SHAPE.size, SHAPE.scale, SHAPE.ratio)))
    workers, threads = (0, SHAPE.workers) if name == OURS[0] else (SHAPE.workers, 1)
    tiles = Tiles(load_images(images))

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
        batches = endless or start()
        # Batches of the processes that are ready when a round starts do not count.
        for _ in range(SHAPE.steps + _AHEAD * workers):
            image = next(batches)["image"]
            assert image.shape == (SHAPE.batch, SHAPE.size, SHAPE.size, 3)
            assert image.dtype == np.float32
        if not workers:
            batches.close()

    contest.serve(work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--serve", choices=(*TORCH, *OURS), help="be a contender (internal)")
    parser.add_argument("--images", help="file of the tiles (internal)")
    flags = parser.parse_args()
    if flags.serve in OURS:
        serve_ours(flags.serve, flags.images)
    elif flags.serve:
        from benchmarks import input_torch

        input_torch.serve(flags.images, opencv=flags.serve == TORCH[1])
    else:
        compare(flags.rounds)


def compare(rounds: int) -> None:
    """Runs the contenders in interleaved rounds and prints the table."""
    with tempfile.TemporaryDirectory() as folder:
        images = os.path.join(folder, "tiles.pickle")
        write_images(images)
        own = [sys.executable, "-m", "benchmarks.input", f"--images={images}"]
        commands = {name: [*own, f"--serve={name}"] for name in (*TORCH, *OURS)}
        print(table(contest.run(commands, rounds, warmup=2)))


def table(contenders: Sequence[contest.Contender]) -> str:
    """Markdown: images a second, and the median over rounds of the ratio to each reference."""
    count = SHAPE.batch * SHAPE.steps
    seconds = {c.name: np.array(c.seconds) for c in contenders}
    lines = [
        "| contender | images/s, median (min-max) | x Pillow | x same decoder |",
        "|---|---|---|---|",
    ]
    for name, taken in seconds.items():
        speed = count / taken
        ratios = " | ".join(f"{np.median(seconds[base] / taken):.2f}" for base in TORCH)
        spread = f"{np.median(speed):.0f} ({speed.min():.0f}-{speed.max():.0f})"
        lines.append(f"| {name} | {spread} | {ratios} |")
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    rounds = len(contenders[0].seconds)
    lines += [
        "",
        f"{rounds} interleaved rounds of {count} images; {contest.hardware()}; {versions}",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
