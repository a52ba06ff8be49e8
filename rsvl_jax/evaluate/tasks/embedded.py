"""The embedded Earth tiles: what a run's own scoring does, for any model."""

import os
from dataclasses import replace

import jax

from rsvl_jax import datasets
from rsvl_jax.evaluate.subject import Subject
from rsvl_jax.evaluate.suite import Spec
from rsvl_jax.evaluation import earth_tiles
from rsvl_jax.evaluation.card import Card
from rsvl_jax.evaluation.features import Encoders
from rsvl_jax.parallel import distributed


def score(subject: Subject, spec: Spec) -> list[Card]:
    """Options: split, "test" or "validation". The data set is built where it is not there.

    A run trained on the embedded data is scored on the held-out blocks of these, from where they
    are, beside its untrained self: as when it ended.
    """
    name, folder = _place(subject, spec)
    if jax.process_index() == 0:
        datasets.ensure(name, folder)
    distributed.wait_for_all("the embedded data are built")
    split = spec.options.get("split", "test")
    return earth_tiles.evaluate(
        _whole(subject.encoders),
        None if subject.untrained is None else subject.untrained(),
        datasets.load(name, folder, "train"),
        datasets.load(name, folder, split),
        datasets.manifest(name, folder),
        batch_size=subject.batch_size,
        mesh=subject.mesh,
        seed=subject.seed,
        split=split,
        provenance=subject.provenance,
        keep=subject.kept,
    )


def _place(subject: Subject, spec: Spec) -> tuple[str, str]:
    if subject.earth is None:
        return spec.set, spec.data
    name, folder = subject.earth
    return name, folder if os.path.isdir(folder) else spec.data


def _whole(encoders: Encoders) -> Encoders:
    """With what is done to tiles of 64 pixels: they are resized on the device, none is cropped."""
    size = encoders.image_size
    image = f"whole tile resized to {size} x {size}, no crop"
    return replace(encoders, protocol={**encoders.protocol, "image": image})
