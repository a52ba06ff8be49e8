"""The training loop, with one fixed order: evaluate -> save -> next batch -> step."""

import contextlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from rsvl_jax.errors import NonFiniteLoss, Preempted, UserError
from rsvl_jax.parallel import distributed
from rsvl_jax.training import artifacts, resume
from rsvl_jax.training.checkpoint import Checkpoints, Metadata
from rsvl_jax.training.flops import Chrono, peak_flops
from rsvl_jax.training.goodput import Goodput
from rsvl_jax.training.hosts import Hosts, memory
from rsvl_jax.training.metrics import MetricWriter, truncate
from rsvl_jax.training.objective import Objective
from rsvl_jax.training.parts import Parts
from rsvl_jax.training.plan import Plan
from rsvl_jax.training.profiling import Profiler
from rsvl_jax.training.progress import Progress, say
from rsvl_jax.training.retention import Retention
from rsvl_jax.training.scoring import Evaluate, Scoring
from rsvl_jax.training.signals import StopSignal
from rsvl_jax.training.state import Initial, TrainState
from rsvl_jax.training.step import CompiledStep, Metrics
from rsvl_jax.training.watchdog import Watchdog

Tree = Any
Measures = Mapping[str, float | jax.Array | None]

# Steps that may be under way on the device while the host goes on: enough to keep it busy, few
# enough that batches do not pile up and a stop is noticed at once.
_AHEAD = 2
_WAIT = "perf/input_wait"


def fit(
    *,
    config: ConfigDict,
    objective: Objective,
    make_batches: Callable[[int], Iterator[Tree]],
    manifest: dict,
    workdir: str,
    mesh: Mesh,
    evaluate: Evaluate | None = None,
    suite: Evaluate | None = None,
    assets: Mapping[str, bytes] | None = None,
    initial: Initial | None = None,
) -> TrainState:
    """Trains to `config.training.steps`, from the newest whole checkpoint of `workdir` if any.

    make_batches(k): iterator of batches k, k+1, ... as global arrays on the mesh; batch k must be a
    pure function of (seed, k). evaluate(state, step): name -> number, logged as eval/<name>; called
    at step 0, every `evaluation.every_steps` and at the end. suite: likewise, logged as
    suite/<name>, every `evaluation.suite_every_steps` and at the end. assets: files that the
    parameters are of no use without, such as a tokenizer; kept in every checkpoint's metadata.
    Where the batches have a list `skipped` (ids of unreadable records), its length is logged and
    its ids are told. initial: weights to start from, asked for where there is no checkpoint; their
    origin is kept in the metadata.

    Every step of the run is finished when this returns, its metrics and a last checkpoint are on
    disk. A finished run returns at once. Raises UserError (a work directory of another config or
    data manifest, a full disk, ...), NonFiniteLoss, and Preempted after a complete save.
    """
    parts = Parts.make(config, objective, manifest, mesh)
    plan = parts.plan
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(StopSignal())
        watchdog = stack.enter_context(Watchdog(_patience(config)))
        profiler = stack.enter_context(Profiler(workdir, plan.profile, plan.profile_length))
        checkpoints = stack.enter_context(_open(workdir, plan, config))
        watchdog.now("restoring a checkpoint")
        restored = checkpoints.restore(parts.abstract, parts.checker(workdir))
        watchdog.now("making the state")
        # Before anything is written: weights to start from may be refused.
        state, origin = _resumed(restored) if restored else parts.create(initial)
        _write_config(workdir, parts.metadata["config"])
        step = int(jax.device_get(state.step))
        start = f"restored the checkpoint of step {step}" if restored else "no checkpoint: step 0"
        say(f"{start}, in {workdir}")
        truncate(workdir, step if restored else -1)
        scorings = [
            Scoring(score, kind, every, workdir, step)
            for score, kind, every in (
                (evaluate, "eval", plan.evaluate_every),
                (suite, "suite", plan.suite_every),
            )
            if score is not None
        ]
        if step >= plan.total and all(scoring.done for scoring in scorings):
            say(f"finished: {workdir} stands at step {step} of {plan.total}")
            return state
        loop = _Loop(
            plan=plan,
            step_fn=CompiledStep(
                objective,
                parts.optimizer,
                parts.abstract,
                mesh,
                plan.seed,
                plan.micro_batches,
                artifacts.Programs(workdir),
            ),
            scorings=scorings,
            checkpoints=checkpoints,
            metadata={**parts.metadata, **origin, "assets": resume.pack(assets or {})},
            writer=MetricWriter(workdir, step, config.metrics.get("tensorboard", True)),
            chrono=Chrono(
                plan.batch_size, objective.flops_per_sample(), peak_flops(list(mesh.devices.flat))
            ),
            goodput=Goodput(workdir, step),
            hosts=Hosts(mesh),
            profiler=profiler,
            progress=Progress(plan.total, step, plan.batch_size),
            stop=stop,
            watchdog=watchdog,
            state=state,
            step=step,
            saved=step if restored else None,
        )
        stack.callback(loop.close)
        parts.announce(mesh, workdir)
        return loop.run(make_batches)


def load_state(
    *, config: ConfigDict, objective: Objective, manifest: dict, workdir: str, mesh: Mesh
) -> TrainState:
    """The state of the newest whole checkpoint of a run, for evaluation and export.

    Raises UserError where there is none, or it belongs to another config or manifest.
    """
    parts = Parts.make(config, objective, manifest, mesh)
    checkpoints = Checkpoints(_folder(workdir), read_only=True)
    try:
        restored = checkpoints.restore(parts.abstract, parts.checker(workdir))
    finally:
        checkpoints.close()
    if restored is None:
        raise UserError(f"no checkpoint in {workdir}; train first, or give another --workdir")
    return restored[0]


def initial_state(
    *, config: ConfigDict, objective: Objective, manifest: dict, mesh: Mesh
) -> TrainState:
    """The state before the first step, the same every time: the untrained reference."""
    return Parts.make(config, objective, manifest, mesh).create()[0]


def _resumed(restored: tuple[TrainState, Metadata]) -> tuple[TrainState, Metadata]:
    state, metadata = restored
    return state, {key: metadata[key] for key in ("origin",) if key in metadata}


def _folder(workdir: str) -> str:
    return os.path.join(workdir, "checkpoints")


def _open(workdir: str, plan: Plan, config: ConfigDict) -> Checkpoints:
    """The run's checkpoints."""
    own = config.checkpoint
    kept = Retention(plan.keep, own.get("keep_every", 0), own.get("keep_best", ""))
    return Checkpoints(_folder(workdir), kept)


def _patience(config: ConfigDict) -> float:
    return config.get("watchdog", {}).get("seconds", 0.0)


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _write_config(workdir: str, config: dict[str, Any]) -> None:
    artifacts.write(workdir, "config.json", json.dumps(config, indent=2).encode() + b"\n")


@dataclass
class _Loop:
    """One start of a run, from `step` to the end or to a stop."""

    plan: Plan
    step_fn: CompiledStep
    scorings: list[Scoring]
    checkpoints: Checkpoints
    metadata: Metadata
    writer: MetricWriter
    chrono: Chrono
    goodput: Goodput
    hosts: Hosts
    profiler: Profiler
    progress: Progress
    stop: StopSignal
    watchdog: Watchdog
    state: TrainState
    step: int
    saved: int | None

    def __post_init__(self) -> None:
        self._scores: dict[str, float] = {}  # of this step
        # Steps dispatched and not yet known to be finished, and the line held back for one period.
        self._running: deque[tuple[int, Metrics]] = deque()
        self._held: tuple[int, Metrics, Measures] | None = None

    def run(self, make_batches: Callable[[int], Iterator[Tree]]) -> TrainState:
        batches = make_batches(self.step)
        self._skipped: list[str] = getattr(batches, "skipped", [])
        try:
            while True:
                if self.stop.agreed():
                    self._preempt()
                for scoring in self.scorings:
                    if (
                        self._due(scoring.every, at_start=scoring.kind == "eval")
                        and not scoring.done
                    ):
                        self._take(scoring)
                if self._due(self.plan.save_every):
                    self._save()
                if self.step >= self.plan.total:
                    break
                self.watchdog.now(f"step {self.step + 1}")
                self.profiler.before(self.step + 1, self._settle)
                with self.chrono.waiting():
                    batch = next(batches)
                self._train(batch)
                self.profiler.after(self.step, self._settle)
        finally:
            if hasattr(batches, "close"):
                batches.close()
            if skipped := getattr(batches, "skipped", []):
                say(f"replaced {len(skipped)} records that cannot be decoded: {_few(skipped)}")
        self.watchdog.now("finishing the last save")
        self.checkpoints.wait()
        say(f"finished: step {self.step} of {self.plan.total}")
        return self.state

    def _due(self, every: int, at_start: bool = False) -> bool:
        if self.step == 0:
            return at_start and every > 0
        return self.step >= self.plan.total or (every > 0 and self.step % every == 0)

    def _take(self, scoring: Scoring) -> None:
        if scoring.done or not self._due(scoring.every, at_start=scoring.kind == "eval"):
            return
        self._flush()
        self.watchdog.now(f"the scores {scoring.kind}/ of step {self.step}")
        with self.chrono.pause():
            values = scoring(self.state, self.step)
        self.writer.write(self.step, values)
        self._scores |= values

    def _save(self) -> None:
        """Saves with every metric up to this step on disk, so that a resume lacks none."""
        if self.saved == self.step:
            return
        self._flush()
        productive = self.chrono.productive_seconds
        self.watchdog.now(f"saving step {self.step}")
        with self.chrono.pause():
            self.checkpoints.save(self.step, self.state, self.metadata, self._scores or None)
            self.saved = self.step
            self.goodput.saved(self.step, productive)

    def _train(self, batch: Tree) -> None:
        with self.chrono.pause():
            start = time.perf_counter()
            if self.step_fn.prepare(self.state, batch):
                say(f"compiled the training step in {time.perf_counter() - start:.1f} s")
                distributed.wait_for_all("the training step is compiled")
        with jax.transfer_guard("disallow"), self.profiler.step(self.step + 1):
            self.state, metrics = self.step_fn(self.state, batch)
        self.step += 1
        self._scores = {}
        for scoring in self.scorings:
            scoring.done = False
        self._running.append((self.step, metrics))
        self._settle(_AHEAD)

    def _settle(self, ahead: int = 0) -> None:
        """Waits until at most `ahead` steps are under way, and looks at those that finished."""
        while len(self._running) > ahead:
            step, metrics = self._running.popleft()
            seen = jax.device_get({"loss": metrics["loss"], "finite": metrics["finite"]})
            self.chrono.finished_step()
            self.progress.update(step, float(seen["loss"]), self.chrono.samples_per_second)
            if not seen["finite"]:
                self._nonfinite(step, metrics)
            every = self.plan.log_every
            if step in (1, self.plan.total) or (every and step % every == 0):
                self._write_held()
                self._held = step, metrics, self._measures()

    def _measures(self) -> Measures:
        """What docs/observability.md defines, of the period that ends here."""
        lap = self.chrono.lap()
        own = {_WAIT: lap.pop(_WAIT) or 0.0, **memory(jax.local_devices())}
        goodput = {"perf/goodput": self.goodput.fraction(self.chrono.productive_seconds)}
        return {**lap, **goodput, **self.hosts.together(own), **self._records()}

    def _records(self) -> dict[str, float | None]:
        """Unreadable records so far; as those read ahead count, no function of the step: perf."""
        return {"perf/records_skipped": len(self._skipped)} if self._skipped else {}

    def _write_held(self) -> None:
        """Writes the line of the period before: its values have long been computed."""
        if self._held is None:
            return
        step, metrics, perf = self._held
        self._held = None
        values = jax.device_get(metrics)
        values.pop("finite")
        lines = {f"train/{name}": value.item() for name, value in values.items()}
        measures = {
            name: value.item() if isinstance(value, np.ndarray) else value
            for name, value in jax.device_get(dict(perf)).items()
        }
        self.writer.write(step, {**lines, **measures})

    def _flush(self) -> None:
        """Finishes every step under way and puts its metrics on disk."""
        self._settle()
        self._write_held()
        self.writer.flush()

    def _nonfinite(self, step: int, metrics: Metrics) -> None:
        values = jax.device_get(metrics)
        terms = [
            name.removeprefix("loss/")
            for name, value in values.items()
            if name.startswith("loss/") and not np.isfinite(value)
        ]
        what = f"terms {', '.join(terms)}" if terms else "gradient"
        if self.plan.skip_nonfinite:
            say(f"step {step}: {what} not finite, update skipped ({values['skipped']} so far)")
            return
        self._write_held()
        self.checkpoints.wait()
        good = self.checkpoints.path(self.saved) if self.saved is not None else "none yet"
        raise NonFiniteLoss(
            f"loss not finite at step {step}: {what}; last good checkpoint: {good}; "
            "lower optimizer.learning_rate, or set training.nonfinite='skip'"
        )

    def _preempt(self) -> None:
        self._save()
        self.checkpoints.wait()
        raise Preempted(f"saved step {self.step}; run the same command again to go on")

    def close(self) -> None:
        self.progress.close()
        self.writer.close()
