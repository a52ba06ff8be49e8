"""What the options of a task say of the reading of its data."""

from collections.abc import Sequence
from typing import Any

from rsvl_jax.errors import UserError
from rsvl_jax.evaluate.subject import KEPT, MODEL, Subject
from rsvl_jax.evaluate.suite import Spec
from rsvl_jax.evaluation_sets.collection import Collection
from rsvl_jax.evaluation_sets.opening import Options, open_collection

OPTIONS = frozenset({"layout", "rule", "sensor", "added", "crop", "fit"})


def split(spec: Spec, which: str, default: str) -> Collection:
    """A split of the task's data; `which`: the option that names it."""
    own = {
        name: spec.options[name] for name in Options.__dataclass_fields__ if name in spec.options
    }
    name = spec.options.get(which, default)
    return open_collection(spec.set, spec.data, name, Options(**own))


def fit(spec: Spec) -> str:
    """How images become the model's size."""
    return spec.options.get("fit", MODEL)


def poolings(subject: Subject, spec: Spec, found: Any, default: Sequence[str]) -> list[str]:
    """Features to probe, of those that the model has. Raises UserError for an unknown name."""
    wanted = spec.options.get("pooling", list(default))
    wanted = [wanted] if isinstance(wanted, str) else list(wanted)
    for name in wanted:
        if name not in KEPT:
            raise UserError(f"task {spec.name!r}: pooling {name!r}: use {', '.join(KEPT)}")
    return [name for name in wanted if name in found]


def labelled(of: Collection, spec: Spec) -> Any:
    """The labels. Raises UserError where the data have none."""
    if of.labels is None:
        raise UserError(f"task {spec.name!r} needs labels, and {of.name} {of.split} has none")
    return of.labels
