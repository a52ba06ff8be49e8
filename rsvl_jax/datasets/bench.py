"""How fast records become batches, by stage and as a whole, and what feeding a pod takes.

    python -m rsvl_jax.datasets bench NAME --data_dir=data [--size=224] [--chips=256 ...]

Stages are timed by CPU, so they hardly depend on who else uses the machine; the whole pipeline by
the clock.
"""

import argparse
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rsvl_jax.data import pipeline
from rsvl_jax.data.decoding import longest_side, look
from rsvl_jax.data.jpeg import frame
from rsvl_jax.data.pairs import ImagePart, Record, SampleTransform, Source, TextPart
from rsvl_jax.data.tokenizer import SentencePieceTokenizer
from rsvl_jax.data.transforms import Augmentation, decode
from rsvl_jax.datasets import store
from rsvl_jax.errors import UserError

_RECORDS = 512  # read for the stages
_THREADS = 4  # of a process that the interpreter's lock hardly slows
_ENOUGH = 0.95  # of the best rate: fewer workers are as good
TOKENIZER = "tokenizer.model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the command."""
    add = parser.add_argument
    add("name", help="a built data set")
    add("--data_dir", default="data", help="where data sets lie [data]")
    add("--split", default="train")
    add("--size", type=int, default=224, help="pixels of the view [224]")
    add("--crop_scale", default="0.9,1", help="share of the image that a crop keeps [0.9,1]")
    add("--decode", default="auto", help="data.decode [auto]")
    add("--length", type=int, default=77, help="tokens of a caption [77]")
    add("--batch_size", type=int, default=256, help="of this host [256]")
    add("--seconds", type=float, default=2.0, help="for each measurement [2]")
    add("--cores", type=int, default=_cores(), help="try up to so many threads and processes")
    add("--chips", type=int, help="say what it takes to feed so many")
    add("--chips_per_host", type=int, default=4, help="[4]")
    add("--samples_per_second_per_chip", type=float, help="what a chip trains on")
    add("--gflops_per_sample", type=float, help="or: of a training step ...")
    add("--chip_tflops", type=float, default=197.0, help="... its peak [197, v5e in bfloat16] ...")
    add("--mfu", type=float, default=0.4, help="... and the share of it that is reached [0.4]")


def run(arguments: argparse.Namespace) -> str:
    """Measures, and returns the tables as plain text. Raises UserError for bad flags."""
    rate = _per_chip(arguments)
    work = Work.open(arguments)
    stages = work.stages(arguments.seconds)
    lines = [work.about, "", *_stage_lines(stages), ""]
    rates = work.rates(arguments)
    lines += [*_rate_lines(rates, arguments.batch_size), "", _advice(rates)]
    if work.skipped:
        lines.append(f"{work.skipped} records with an undecodable image were replaced")
    if rate is not None:
        per_core = max(r.per_core for r in rates if not r.workers)
        lines += ["", feed(arguments.chips, arguments.chips_per_host, rate, per_core)]
    return "\n".join(lines)


@dataclass(frozen=True)
class Rate:
    """Samples a second of one setting, and for each second of CPU of this process."""

    workers: int
    threads: int
    per_second: float
    per_core: float


@dataclass
class Work:
    """A data set, and what becomes of a record; `skipped`: records replaced so far."""

    source: Source
    transform: SampleTransform
    about: str
    skipped: int = 0

    @classmethod
    def open(cls, arguments: argparse.Namespace) -> "Work":
        """The split, with the parts that its records have."""
        source = store.load(arguments.name, arguments.data_dir, arguments.split)
        first = source[0]
        image = ImagePart(_augmentation(arguments), patch=1) if first.get("image") else None
        text = None
        if first.get("captions"):
            path = store.artifact(arguments.name, arguments.data_dir, TOKENIZER)
            text = TextPart(SentencePieceTokenizer(path), length=arguments.length)
        if image is None and text is None:
            raise UserError(f"data set {arguments.name!r} has neither images nor captions")
        about = f"{arguments.name}/{arguments.split}: {len(source):,} records"
        if image is not None:
            about += f", the first of {_image_size(first['image'])}; seen at {arguments.size} px"
        return cls(source, SampleTransform(image, text), about)

    def stages(self, seconds: float) -> dict[str, float]:
        """Microseconds of CPU a sample, by stage."""
        rng = np.random.default_rng(0)
        rows = rng.integers(len(self.source), size=_RECORDS).tolist()
        records = [self.source[row] for row in rows]
        stages = {"read a record": _cost(self.source.__getitem__, rows, seconds)}
        if self.transform.image is not None:
            stages |= self._image_stages(records, rng, seconds)
        if self.transform.text is not None:
            text = self.transform.text
            # Once: the tokenizer remembers captions, and a large data set has more than it keeps.
            stages["tokenize"] = _cost(lambda record: text(record, rng), records, 0.0)
        return stages

    def _image_stages(
        self, records: Sequence[Record], rng: np.random.Generator, seconds: float
    ) -> dict[str, float]:
        assert self.transform.image is not None
        augmentation = self.transform.image.augmentation
        images = [record["image"] for record in records if _readable(record["image"])]
        if not images:
            raise UserError(f"none of {len(records)} records has a decodable image")
        size = augmentation.size
        batch = np.empty((16, size, size, 3), np.uint8)
        view = np.zeros((size, size, 3), np.uint8)
        return {
            "(decode it whole)": _cost(decode, images, seconds),
            "decode and augment": _cost(lambda i: look(i, augmentation, rng), images, seconds),
            "copy into the batch": _cost(
                lambda row: batch.__setitem__(row, view), range(16), seconds
            ),
        }

    def rates(self, arguments: argparse.Namespace) -> list[Rate]:
        """The whole pipeline with more and more threads, then worker processes."""
        settings = [(0, threads) for threads in _doubling(1, arguments.cores)]
        settings += [(workers, 1) for workers in _doubling(2, arguments.cores)]
        if arguments.cores >= 2 * _THREADS:
            settings.append((arguments.cores // _THREADS, _THREADS))
        return [self._rate(arguments, *setting) for setting in settings]

    def _rate(self, arguments: argparse.Namespace, workers: int, threads: int) -> Rate:
        batches = pipeline.train_batches(
            self.source,
            self.transform,
            batch_size=arguments.batch_size,
            seed=0,
            workers=workers,
            threads=threads,
            skip_corrupt=True,
        )
        try:
            ahead = 2 * (workers + threads)  # made before anybody looked at the clock
            for _ in range(ahead):
                next(batches)
            samples, clock, cpu = _pace(batches, arguments.seconds, arguments.batch_size)
        finally:
            batches.close()
        self.skipped += len(batches.skipped)
        return Rate(workers, threads, samples / clock, samples / cpu if cpu else math.nan)


def feed(chips: int, chips_per_host: int, rate: float, per_core: float) -> str:
    """One line: the cores that each host needs for `chips` at `rate` samples a second each."""
    hosts = math.ceil(chips / chips_per_host)
    host = rate * min(chips, chips_per_host)
    return (
        f"{chips} chips at {rate:,.0f} samples/s each take {chips * rate:,.0f} samples/s: "
        f"{hosts} hosts of {chips_per_host}, {host:,.0f} samples/s each, "
        f"{host / per_core:.1f} cores like this one's for the input"
    )


def _per_chip(arguments: argparse.Namespace) -> float | None:
    """Samples a second of a chip, as told or from the FLOPs of a sample; None: not asked."""
    if arguments.chips is None:
        return None
    if arguments.chips < 1 or arguments.chips_per_host < 1:
        raise UserError(
            f"--chips={arguments.chips} of --chips_per_host={arguments.chips_per_host}: use 1 or "
            "more"
        )
    if arguments.samples_per_second_per_chip:
        return arguments.samples_per_second_per_chip
    if not arguments.gflops_per_sample:
        raise UserError(
            f"--chips={arguments.chips} needs --samples_per_second_per_chip=, or "
            "--gflops_per_sample= with --chip_tflops= and --mfu="
        )
    return arguments.chip_tflops * 1e3 * arguments.mfu / arguments.gflops_per_sample


def _augmentation(arguments: argparse.Namespace) -> Augmentation:
    longest_side(arguments.decode)  # refuses what is no choice
    try:
        low, high = (float(part) for part in arguments.crop_scale.split(","))
    except ValueError as error:
        raise UserError(
            f"--crop_scale={arguments.crop_scale!r}: use two numbers, such as 0.9,1"
        ) from error
    if not 0 < low <= high <= 1 or arguments.size < 1:
        raise UserError(
            f"--crop_scale={arguments.crop_scale!r}, --size={arguments.size}: use shares in "
            "(0, 1], the smaller first, and 1 pixel or more"
        )
    return Augmentation(arguments.size, (low, high), flip_horizontal=True, decode=arguments.decode)


def _image_size(image: bytes) -> str:
    header = frame(image)
    kind = "JPEG" if header else "PNG"
    rows, columns = header.shape if header else decode(image).shape[:2]
    return f"{columns} x {rows} px, {kind}, {len(image) / 1e3:.0f} kB"


def _readable(image: bytes) -> bool:
    try:
        decode(image)
    except UserError:
        return False
    return True


def _cost(work: Callable[[Any], Any], items: Sequence[Any], seconds: float) -> float:
    """Microseconds of this thread's CPU that a call takes, the median of passes over the items."""
    passes: list[float] = []
    deadline = time.perf_counter() + seconds
    while not passes or time.perf_counter() < deadline:
        start = time.thread_time()
        for item in items:
            work(item)
        passes.append((time.thread_time() - start) / len(items))
    return 1e6 * float(np.median(passes))


def _pace(
    batches: Iterator[Mapping[str, Any]], seconds: float, size: int
) -> tuple[int, float, float]:
    """Samples taken in about so many seconds; the seconds; those of this process's CPU."""
    samples, clock, cpu = 0, time.perf_counter(), time.process_time()
    while not samples or time.perf_counter() - clock < seconds:
        next(batches)
        samples += size
    return samples, time.perf_counter() - clock, time.process_time() - cpu


def _doubling(first: int, last: int) -> list[int]:
    """first, 2 first, 4 first, ... and last; nothing where last is smaller."""
    counts = []
    while first < last:
        counts.append(first)
        first *= 2
    return [*counts, last] if counts or first == last else []


def _stage_lines(stages: Mapping[str, float]) -> list[str]:
    lines = [f"{'stage':24}{'us of CPU':>12}{'samples/s a core':>20}"]
    lines += [
        f"{name:24}{cost:12.1f}{1e6 / max(cost, 1e-3):20,.0f}" for name, cost in stages.items()
    ]
    whole = sum(cost for name, cost in stages.items() if not name.startswith("("))
    return [*lines, f"{'all but the bracketed':24}{whole:12.1f}{1e6 / whole:20,.0f}"]


def _rate_lines(rates: Sequence[Rate], batch_size: int) -> list[str]:
    lines = [f"{f'pipeline, batches of {batch_size}':36}{'samples/s':>12}"]
    return lines + [f"{_setting(rate):36}{rate.per_second:12,.0f}" for rate in rates]


def _setting(rate: Rate) -> str:
    return f"data.workers={rate.workers} data.threads={rate.threads}"


def _advice(rates: Sequence[Rate]) -> str:
    """The first setting that is as good as the best."""
    best = max(rate.per_second for rate in rates)
    chosen = next(rate for rate in rates if rate.per_second >= _ENOUGH * best)
    keys = f"--config.data.workers={chosen.workers} --config.data.threads={chosen.threads}"
    return f"best here: {keys} (which changes no batch)"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
