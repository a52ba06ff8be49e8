"""Cutting all tiles of a plan: on this machine's cores, or as an Apache Beam pipeline.

Both run `cut.cut` on every tile, so both give the same records.
"""

import collections
import concurrent.futures
import contextlib
import importlib.util
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tqdm import tqdm

from graft_jax.pairs import plan
from graft_jax.pairs.counts import Counts
from graft_jax.pairs.cut import Cut, cut_group
from graft_jax.pairs.rasters import Raster
from graft_jax.pairs.settings import Settings
from rsvl_jax.errors import UserError

Job = tuple[str, Sequence[Raster], Settings]  # plan file, catalogue, settings
_AHEAD = 4  # pieces of work in flight a worker: enough to keep them busy, few to hold in memory


@contextlib.contextmanager
def local(
    plans: Mapping[str, str], rasters: Sequence[Raster], settings: Settings, counts: Counts
) -> Iterator[dict[str, Iterator[dict[str, Any]]]]:
    """The records of each split, in the order of the plan, whatever the number of workers.

    Raises UserError if a worker dies.
    """
    workers = settings.workers or len(os.sched_getaffinity(0))
    total = sum(plan.tiles(path) for path in plans.values())
    with tqdm(total=total, desc="cutting tiles", unit="tile") as bar, _pool(workers) as pool:
        yield {
            split: _records(_in_order(pool, workers, (path, tuple(rasters), settings)), counts, bar)
            for split, path in plans.items()
        }


def _records(pieces: Iterator[list[Cut]], counts: Counts, bar: tqdm) -> Iterator[dict[str, Any]]:
    for cuts in pieces:
        for done in cuts:
            for (kind, reason), number in done.skips.items():
                counts.skip(kind, reason, number)
            bar.update()
            if done.record is not None:
                yield done.record
    if bar.n == bar.total:
        bar.close()


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[concurrent.futures.Executor | None]:
    """Worker processes, or None for this process alone."""
    if workers == 1:
        yield None
        return
    # a fork would copy the locks of Arrow's threads
    pool = concurrent.futures.ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
    try:
        yield pool
    except concurrent.futures.process.BrokenProcessPool as error:
        raise UserError(
            "a worker died, most likely for want of memory: use fewer --workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(
    pool: concurrent.futures.Executor | None, workers: int, job: Job
) -> Iterator[list[Cut]]:
    groups = range(plan.groups(job[0]))
    if pool is None:
        yield from (cut_group(group, *job) for group in groups)
        return
    waiting: collections.deque[concurrent.futures.Future] = collections.deque()
    for group in groups:
        waiting.append(pool.submit(cut_group, group, *job))
        if len(waiting) == _AHEAD * workers:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def require_beam() -> None:
    """Raises UserError if apache-beam is not installed."""
    if importlib.util.find_spec("apache_beam") is None:
        raise UserError(
            "--runner=beam needs apache-beam: docs/pairs.md says how to install it beside the pins"
        )


def beam(
    plans: Mapping[str, str], rasters: Sequence[Raster], settings: Settings, directory: str
) -> tuple[dict[str, Any], Any, Callable[[Counts], None]]:
    """The same as Beam transforms by split, the pipeline options, and what collects the counts.

    directory: where the counts are written; like the plan, rasters and photos it must be one that
    every Beam worker sees.
    """
    require_beam()
    import apache_beam
    from apache_beam.options.pipeline_options import PipelineOptions

    def transform(path: str, split: str):
        @apache_beam.ptransform_fn
        def records(pipeline):
            cuts = (
                pipeline
                | "Groups" >> apache_beam.Create(list(range(plan.groups(path))))
                | "Spread" >> apache_beam.Reshuffle()
                | "Cut" >> apache_beam.FlatMap(cut_group, path, tuple(rasters), settings)
            )
            _ = (
                cuts
                | "Skips" >> apache_beam.FlatMap(lambda done: list(done.skips.items()))
                | "Sum" >> apache_beam.CombinePerKey(sum)
                | "Line" >> apache_beam.Map(json.dumps)
                | "Keep" >> apache_beam.io.WriteToText(os.path.join(directory, f"skips-{split}"))
            )
            return cuts | "Records" >> apache_beam.FlatMap(_beam_record)

        return records()

    def collect(counts: Counts) -> None:
        for name in sorted(os.listdir(directory)):
            if name.startswith("skips-"):
                with open(os.path.join(directory, name), encoding="utf-8") as file:
                    for line in file:
                        (kind, reason), number = json.loads(line)
                        counts.skip(kind, reason, number)

    transforms = {split: transform(path, split) for split, path in plans.items()}
    return transforms, PipelineOptions(list(settings.beam_options)), collect


def _beam_record(done: Cut):
    from rsvl_jax.datasets.ground_satellite_pairs.builder import example

    if done.record is not None:
        yield done.record["id"], example(done.record)
