"""The embedded Earth tiles: what a run's own scoring does, for any model."""

from rsvl_jax import datasets
from rsvl_jax.evaluate.subject import Subject
from rsvl_jax.evaluate.suite import Spec
from rsvl_jax.evaluation import earth_tiles
from rsvl_jax.evaluation.card import Card


def score(subject: Subject, spec: Spec) -> list[Card]:
    """Options: split, "test" or "validation". The data set is built where it is not there."""
    datasets.ensure(spec.set, spec.data)
    split = spec.options.get("split", "test")
    return earth_tiles.evaluate(
        subject.encoders,
        None,
        datasets.load(spec.set, spec.data, "train"),
        datasets.load(spec.set, spec.data, split),
        datasets.manifest(spec.set, spec.data),
        batch_size=subject.batch_size,
        mesh=subject.mesh,
        seed=subject.seed,
        split=split,
        provenance=subject.provenance,
    )
