"""Records to batches with Grain: the batch of step k is a pure function of (seed, k).

Row r of step k is global draw i = k * batch_size + r. Its record is the i-th of an endless
sequence of shuffled epochs (see `order`), and its generator is keyed by (seed, stream, i).
Processes, worker processes, threads and restarts only decide who computes a row, never what is in
it.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grain
import numpy as np
from absl import flags

from rsvl_jax.data import mixtures
from rsvl_jax.data.pairs import Record, Sample, Source
from rsvl_jax.data.transforms import CorruptImage
from rsvl_jax.data.workers import live_with_parent
from rsvl_jax.errors import UserError

Transform = Callable[[Record, np.random.Generator], Sample]
Batch = dict[str, Any]
Finish = Callable[[Batch], Batch]

_STEPS = 2**40  # of an endless stream
_REPLACEMENTS = 16
_ONLY = ""  # the stream whose batch is yielded without a dict around it
_TEXT_KEYS = ("text", "text_mask", "text_masked")


@dataclass(frozen=True)
class Stream:
    """Where the rows of one kind of batch come from; `size` rows a step, over all processes.

    source: a `mixtures.Mixture` is drawn from by weight, any other in shuffled epochs.
    """

    source: Source
    transform: Transform
    size: int


@dataclass(frozen=True)
class Options:
    """How batches are made; none of these changes what is in them, except the last three.

    workers: processes (0: none, threads alone: most of the work is in OpenCV, which lets other
    threads run). threads: per process, each on a batch of its own.
    text_buckets: lengths to which the text of a batch is cut, the smallest that holds its longest
    caption; ignored with several processes, whose shapes must agree. skip_corrupt: replace a
    record with an undecodable image, and count it, instead of stopping. finish: batch to
    batch, run beside the transforms.
    """

    workers: int = 0
    threads: int = 1
    process_index: int = 0
    process_count: int = 1
    text_buckets: Sequence[int] = ()
    skip_corrupt: bool = False
    finish: Finish | None = None

    def __post_init__(self) -> None:
        if self.workers < 0 or self.threads < 1:
            raise UserError(f"workers={self.workers}, threads={self.threads}: use >= 0 and >= 1")


class Batches(Iterator[Batch]):
    """Iterator over batches; `skipped`: ids of the records that were replaced, each once."""

    def __init__(self, steps: "_Steps | _EvalSteps", start: int, options: Options):
        self.skipped: list[str] = []
        self._seen: set[str] = set()  # a record is replaced every epoch: it is told once
        dataset = grain.MapDataset.source(steps)[start:].to_iter_dataset(
            grain.ReadOptions(options.threads, prefetch_buffer_size=2 * options.threads)
        )
        if options.workers:
            if not flags.FLAGS.is_parsed():  # Grain reads its own, also where no main parsed any
                flags.FLAGS.mark_as_parsed()
            dataset = dataset.mp_prefetch(
                grain.MultiprocessingOptions(options.workers, per_worker_buffer_size=2),
                worker_init_fn=_start_worker,
            )
        self._iterator: Any = iter(dataset)

    def __next__(self) -> Batch:
        try:
            batch, skipped = next(self._iterator)
        except BaseException:  # the end included: nothing is left running
            self.close()
            raise
        self.skipped += [name for name in dict.fromkeys(skipped) if name not in self._seen]
        self._seen.update(skipped)
        return batch

    def close(self) -> None:
        """Ends the threads and worker processes."""
        iterator, self._iterator = self._iterator, iter(())
        if hasattr(iterator, "close"):
            iterator.close()


def _start_worker(index: int, count: int) -> None:
    del index, count
    live_with_parent()


def train_batches(
    source: Source,
    transform: Transform,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    **how: Any,
) -> Batches:
    """Endless shuffled batches from step `start_step` on; `batch_size` is global.

    Yields dicts of arrays [batch_size / process_count, ...], this process's share of the rows in
    order. `how`: the fields of `Options`.
    """
    streams = {_ONLY: Stream(source, transform, batch_size)}
    options = Options(**how)
    return Batches(_Steps(streams, seed, options), start_step, options)


def mixed_batches(
    streams: Mapping[str, Stream], *, seed: int, start_step: int = 0, **how: Any
) -> Batches:
    """As `train_batches`, but yields {name: batch of that stream}, without streams of size 0."""
    options = Options(**how)
    return Batches(_Steps(streams, seed, options), start_step, options)


def eval_batches(source: Source, transform: Transform, *, batch_size: int, **how: Any) -> Batches:
    """Every record once and in order; the last batch is filled up with its last record.

    Adds `_mask` bool [B]: False for rows that fill up or, with `skip_corrupt`, whose image cannot
    be decoded. All processes yield equally many batches.
    """
    options = Options(**how)
    return Batches(_EvalSteps(Stream(source, transform, batch_size), options), 0, options)


def text_bucket(batch: Batch, buckets: Sequence[int]) -> Batch:
    """Cuts the text arrays [B, T] to the smallest of `buckets` that holds the longest caption."""
    if "text_mask" not in batch:
        return batch
    longest = int(batch["text_mask"].sum(1).max())
    length = min((b for b in buckets if b >= longest), default=batch["text_mask"].shape[1])
    cut = {k: np.ascontiguousarray(batch[k][:, :length]) for k in _TEXT_KEYS if k in batch}
    return batch | cut


class _Rows:
    """One stream: the sample of a global draw."""

    def __init__(self, name: str, stream: Stream, seed: int, options: Options):
        if seed < 0:
            raise UserError(f"seed {seed} is negative; use 0 or more")
        if not len(stream.source):
            raise UserError(f"the data of stream {name!r} has no records")
        if stream.size % options.process_count:
            raise UserError(
                f"batch size {stream.size} is not divisible by {options.process_count} processes"
            )
        self.stream, self.options = stream, options
        entropy = (seed, zlib.crc32(name.encode()))
        self.key = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])
        self.shuffled = mixtures.order(stream.source, entropy)  # global draw -> record

    @property
    def rows(self) -> range:
        """This process's rows of the global batch."""
        share = self.stream.size // self.options.process_count
        start = self.options.process_index * share
        return range(start, start + share)

    def sample(self, index: int, rng: np.random.Generator) -> tuple[Sample, list[str]]:
        """The sample of record `index`, and the ids of the unreadable records it replaces."""
        skipped: list[str] = []
        while len(skipped) < _REPLACEMENTS:
            record = self.stream.source[index]
            try:
                return self.stream.transform(record, rng), skipped
            except CorruptImage:
                if not self.options.skip_corrupt:
                    raise
                skipped.append(str(record.get("id", index)))
                index = mixtures.another(self.stream.source, index, rng)
        raise UserError(f"{_REPLACEMENTS} undecodable images in a row: {skipped}; check the data")


class _Generator:
    """The generator of a draw, Philox keyed by (key, draw); the next call takes it back.

    Setting a new key costs a tenth of making a new generator, which would be seen in the speed.
    """

    def __init__(self, key: int):
        self._bits = np.random.Philox(key=(key, 0))
        self._state = self._bits.state
        self._generator = np.random.Generator(self._bits)

    def __call__(self, draw: int) -> np.random.Generator:
        self._state["state"]["key"][1] = draw
        self._bits.state = self._state
        return self._generator


class _Steps:
    """Random access to the local batches of an endless stream, for Grain."""

    def __init__(self, streams: Mapping[str, Stream], seed: int, options: Options):
        self._rows = {
            name: _Rows(name, stream, seed, options)
            for name, stream in streams.items()
            if stream.size
        }
        self._options = options

    def __len__(self) -> int:
        return _STEPS

    def __getitem__(self, step: int) -> tuple[Batch, list[str]]:
        skipped: list[str] = []
        batch = {name: self._batch(rows, step, skipped) for name, rows in self._rows.items()}
        return batch.get(_ONLY, batch), skipped

    def _batch(self, rows: _Rows, step: int, skipped: list[str]) -> Batch:
        generator = _Generator(rows.key)

        def samples() -> Iterator[Sample]:
            for row in rows.rows:
                draw = step * rows.stream.size + row
                sample, bad = rows.sample(rows.shuffled(draw), generator(draw))
                skipped.extend(bad)
                yield sample

        return _finish(_stack(samples(), len(rows.rows)), self._options)


class _EvalSteps:
    """Random access to the local batches of one pass in order, for Grain."""

    def __init__(self, stream: Stream, options: Options):
        self._rows = _Rows("evaluation", stream, 0, options)
        self._options = options

    def __len__(self) -> int:
        return -(-len(self._rows.stream.source) // self._rows.stream.size)

    def __getitem__(self, step: int) -> tuple[Batch, list[str]]:
        rows = self._rows
        skipped: list[str] = []
        real = np.ones(len(rows.rows), bool)
        last = len(rows.stream.source) - 1
        generator = _Generator(rows.key)

        def samples() -> Iterator[Sample]:
            for place, row in enumerate(rows.rows):
                draw = step * rows.stream.size + row
                sample, bad = rows.sample(min(draw, last), generator(draw))
                real[place] = draw <= last and not bad
                skipped.extend(bad if draw <= last else ())
                yield sample

        batch = _stack(samples(), len(real))
        return _finish(batch | {"_mask": real}, self._options), skipped


def _stack(samples: Iterator[Sample], count: int) -> Batch:
    """Writes each sample straight into its row of the batch."""
    batch: Batch = {}
    for row, sample in enumerate(samples):
        if not batch:
            arrays = {key: np.asarray(value) for key, value in sample.items()}
            batch = {k: np.empty((count, *a.shape), a.dtype) for k, a in arrays.items()}
        for key, value in sample.items():
            batch[key][row] = value
    return batch


def _finish(batch: Batch, options: Options) -> Batch:
    if options.text_buckets and options.process_count == 1:
        batch = text_bucket(batch, options.text_buckets)
    return options.finish(batch) if options.finish else batch
