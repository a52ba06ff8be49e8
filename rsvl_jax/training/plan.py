"""How long a run is, and how often it logs, saves and evaluates."""

from dataclasses import dataclass

from ml_collections import ConfigDict

from rsvl_jax.errors import UserError
from rsvl_jax.training.schedules import Lengths, resolve_length


@dataclass(frozen=True)
class Plan:
    """The lengths of a run in steps; `every` of 0 means only at the end.

    micro_batches: see `accumulate`; max_replicated: see `parallel.table.check_replicated`;
    profile: first step of each trace of `profile_length` steps.
    """

    total: int
    batch_size: int
    save_every: int
    log_every: int
    evaluate_every: int
    suite_every: int
    keep: int
    seed: int
    skip_nonfinite: bool
    micro_batches: int
    max_replicated: float
    profile: tuple[int, ...]
    profile_length: int


def make_plan(config: ConfigDict, manifest: dict) -> tuple[Plan, Lengths]:
    """Reads the keys that `fit` needs. Raises UserError for values that make no sense."""
    batch_size = config.data.batch_size
    sizes = Lengths(batch_size, manifest["splits"]["train"])
    total = resolve_length(config.training, "", sizes)
    lengths = Lengths(batch_size, sizes.dataset_size, total)
    nonfinite = config.training.get("nonfinite", "stop")
    if nonfinite not in ("stop", "skip"):
        raise UserError(f"training.nonfinite={nonfinite!r} is unknown; use 'stop' or 'skip'")
    plan = Plan(
        total=total,
        batch_size=batch_size,
        save_every=resolve_length(config.checkpoint, "every", lengths, default=0),
        log_every=resolve_length(config.metrics, "every", lengths, default=0),
        evaluate_every=resolve_length(config.evaluation, "every", lengths, default=0),
        suite_every=resolve_length(config.evaluation, "suite_every", lengths, default=0),
        keep=config.checkpoint.get("keep", 3),
        seed=config.seed,
        skip_nonfinite=nonfinite == "skip",
        micro_batches=config.training.get("micro_batches", 1),
        max_replicated=config.get("mesh", {}).get("max_replicated", 1.0),
        profile=tuple(config.get("profile", {}).get("steps", ())),
        profile_length=config.get("profile", {}).get("length", 3),
    )
    return plan, lengths
