"""A build: rows of a source become shuffled shards with a manifest; whole, or not there at all.

    scan    every row is read and judged once (`scan`), chunk by chunk, on all cores
    plan    duplicates, splits, order and shards of all rows, from a few dozen bytes a row (`plan`)
    shards  the records of each shard, on all cores (`shards`)
    finish  tokenizer, metadata of TFDS, dropped.csv, provenance and manifest; then the final name

A build that was stopped is gone on with by the same command: chunks and shards that are finished
stay, and the bytes are those of a build that was never stopped.
"""

import os
import sys
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from rsvl_jax.datasets import registry, store
from rsvl_jax.datasets.image_text import finish, metadata, scan, scratch, shards
from rsvl_jax.datasets.image_text.beam import Beam
from rsvl_jax.datasets.image_text.options import Options
from rsvl_jax.datasets.image_text.plan import Plan, plan
from rsvl_jax.datasets.image_text.reader import Reader
from rsvl_jax.datasets.image_text.scan import Job
from rsvl_jax.datasets.image_text.staging import Staging, fingerprint, identity
from rsvl_jax.datasets.image_text.workers import Crew, crew
from rsvl_jax.errors import UserError

_SAMPLE = 100_000  # records whose captions the tokenizer learns from


@dataclass(frozen=True)
class Found:
    """What the passes gave to `finish`.

    Attributes:
      prepared: rows that the reader left out, by reason.
      plan: what was written. facts: by split, those of each shard, see `shards.write`.
    """

    prepared: dict[str, int]
    plan: Plan
    facts: dict[str, list[dict]]


def build(
    reader: Reader,
    *,
    name: str,
    data_dir: str,
    options: Options | None = None,
    restart: bool = False,
) -> str:
    """Builds `image_text/NAME` below `data_dir`, unless it is there, and returns its directory.

    restart: begins anew where a build of this name was stopped. Raises UserError for a source that
    cannot be read, no row left, a name that is taken by other rows, a build of this name that runs
    elsewhere or was stopped with other options, a full disk, a dead worker.
    """
    options, entry = options or Options(), registry.image_text(name)
    final = entry.directory(data_dir)
    staging = Staging(store.hidden(entry, data_dir, "building"))
    lock = store.hidden(entry, data_dir, "lock")
    with store.disk_errors(final), store.lock(lock, wait=False):
        rows = identity(reader, options)
        if store.is_whole(final):
            _check_same(entry, data_dir, fingerprint(rows))
        else:
            stopped = staging.begin(rows, restart=restart)
            how = "going on with" if stopped else "building"
            print(f"{how} {entry.name} {entry.version} in {final}", file=sys.stderr)
            _build(Job(reader, options, staging), entry, data_dir, fingerprint(rows))
        staging.remove()
    return final


def _check_same(entry: registry.Entry, data_dir: str, asked: str) -> None:
    if store.manifest(entry.name, data_dir).get("build") != asked:
        raise UserError(
            f"{entry.directory(data_dir)!r} was built from other rows or with other options: "
            "delete it, or choose another --name"
        )


def _build(job: Job, entry: registry.Entry, data_dir: str, build_fingerprint: str) -> None:
    final = entry.directory(data_dir)
    prepared = _prepare(job)
    with crew(job, job.options) as workers:
        _scan(job, workers)
        rows = scan.load(job)
        chosen = _plan(job, rows, prepared)
        facts = _write(job, workers, chosen, rows)
    found = Found(prepared, chosen, facts)
    finish.finish(job, entry, found, build_fingerprint)
    os.makedirs(os.path.dirname(final), exist_ok=True)
    os.replace(job.staging.whole, final)


def _prepare(job: Job) -> dict[str, int]:
    try:
        return job.staging.prepare(job.reader)
    except UserError:
        job.staging.remove()  # of this source nothing can come: it must not stand in another's way
        raise


def _plan(job: Job, rows: np.ndarray, prepared: dict[str, int]) -> Plan:
    try:
        return plan(rows, job.options, job.staging.root)
    except UserError as error:
        why = finish.why_none(job, prepared)
        job.staging.remove()  # as above
        raise UserError(f"{error}: {why}") from error


def _scan(job: Job, workers: Crew | Beam) -> None:
    with tqdm(total=len(job.reader), desc="checking rows", unit="row", leave=False) as bar:
        for count in workers.run(scan.scan, range(job.chunks)):
            bar.update(count)


def _write(job: Job, workers: Crew | Beam, chosen: Plan, rows: np.ndarray) -> dict[str, list[dict]]:
    tasks = chosen.shards()
    facts: dict[str, list[dict]] = {split: [] for split, _, _ in tasks}
    offsets = None if job.reader.random_access else _offsets(job, rows)
    made = (_shard(chosen, rows, offsets, *task) for task in tasks)
    bar = tqdm(total=sum(map(len, chosen.orders.values())), desc="writing", unit="row", leave=False)
    with bar:
        for (split, _, _), fact in zip(tasks, workers.run(shards.write, made), strict=True):
            facts[split].append(fact)
            bar.update(fact["records"])
    return facts


def _shard(
    chosen: Plan,
    rows: np.ndarray,
    offsets: np.ndarray | None,
    split: str,
    number: int,
    count: int,
) -> shards.Shard:
    begin, end = chosen.bounds[split][number : number + 2]
    order = chosen.orders[split][begin:end]
    sampled = -(-_SAMPLE // count) if split == "train" else 0
    return shards.Shard(
        filename=metadata.filename(split, number, count),
        rows=order,
        sizes=rows["size"][order],
        offsets=None if offsets is None else offsets[order],
        sampled=sampled,
    )


def _offsets(job: Job, rows: np.ndarray) -> np.ndarray:
    """Where each row's record lies in its chunk's file, int64 [n]; dropped rows have none there."""
    offsets = scratch.array(job.staging.root, np.int64, len(rows))
    for number in range(job.chunks):
        chunk = slice(number * job.reader.chunk, (number + 1) * job.reader.chunk)
        sizes = rows["size"][chunk].astype(np.int64)
        offsets[chunk] = np.cumsum(sizes) - sizes
    return offsets
