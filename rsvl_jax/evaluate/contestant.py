"""From a path to the model under test."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from jax.sharding import Mesh

from rsvl_jax.evaluate.subject import Subject
from rsvl_jax.evaluation import card
from rsvl_jax.evaluation.card import Provenance
from rsvl_jax.evaluation.features import Encoders
from rsvl_jax.inference import opening
from rsvl_jax.inference.backbone import backbone
from rsvl_jax.inference.embedder import Embedder
from rsvl_jax.inference.encoders import encoders
from rsvl_jax.inference.opening import Found
from rsvl_jax.training import arrays, resume
from rsvl_jax.weights import runs

_EARTH = "earth_tiles"


def subject(path: str, *, mesh: Mesh, batch_size: int, seed: int | None, cache: str) -> Subject:
    """The model at a path, see `inference.load`.

    seed: None for that of the run, 0 for imported weights. Raises UserError for what is no model,
    and for a model without images.
    """
    found = opening.find(path)
    embedder = _embedder(found, batch_size)
    embedder.need("images")
    prepare = embedder.preprocessing
    assert prepare is not None
    run = found.run
    return Subject(
        encoders=encoders(embedder, mesh),
        prepare=prepare,
        provenance=_provenance(path, found),
        mesh=mesh,
        batch_size=batch_size,
        cache=cache,
        seed=int(run.config.get("seed", 0) if run else 0) if seed is None else seed,
        untrained=partial(_untrained, found, mesh, batch_size) if run and run.untrained else None,
        backbone=partial(backbone, embedder),
        earth=embedded_data(run.config) if run else None,
    )


def _embedder(found: Found, batch_size: int) -> Embedder:
    return Embedder(
        found.model,
        found.arrays,
        tokenizer=found.tokenizer,
        fingerprint=found.fingerprint,
        batch_size=batch_size,
    )


def _untrained(found: Found, mesh: Mesh, batch_size: int) -> Encoders:
    assert found.run is not None and found.run.untrained is not None
    start = Embedder(
        found.model, found.run.untrained(), tokenizer=found.tokenizer, batch_size=batch_size
    )
    return encoders(start, mesh)


def _provenance(path: str, found: Found) -> Provenance:
    """Of the work directory of a run: as its own scoring has it, of the trained parameters."""
    weights = found.fingerprint
    if runs.has_checkpoints(path):
        weights = card.weights_fingerprint(arrays.read(path)[0]["params"])
    step = found.run.step if found.run else 0
    return Provenance(weights, step, resume.code_revision())


def embedded_data(config: Mapping[str, Any]) -> tuple[str, str] | None:
    """The embedded data of a run, "earth_tiles" or "earth_tiles/mini", and their directory."""
    name = str(config["data"].get("name", ""))
    folder = str(config["data"].get("dir", ""))
    return (name, folder) if name.split("/")[0] == _EARTH and folder else None
