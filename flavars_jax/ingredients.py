"""The data sets that a config names: one, or several by weight, each prepared in its own way."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ml_collections import ConfigDict

from rsvl_jax import datasets
from rsvl_jax.data import mixtures, pairs
from rsvl_jax.errors import UserError

MIXTURE = "mixture"  # the value of data.name that asks for data.mixture
# Keys of `config.data` that a part of a mixture may have of its own.
OWN = (
    "crop_scale",
    "crop_ratio",
    "flip_horizontal",
    "flip_vertical",
    "rotate",
    "captions",
    "jitter_degrees",
    "jitter_symmetric",
    "mean",
    "std",
)
_FORM = "(('NAME', WEIGHT), ('NAME', WEIGHT, {'crop_scale': (0.5, 1.0)}), ...)"


@dataclass(frozen=True)
class Ingredient:
    """A data set of a run. own: values of the keys `OWN` that differ from the run's."""

    name: str
    weight: float = 1.0
    own: Mapping[str, Any] = field(default_factory=dict)

    def data(self, config: ConfigDict) -> ConfigDict:
        """The section `data` of the config, with what is this data set's own."""
        data = config.data.copy_and_resolve_references()
        for key, value in self.own.items():
            try:
                data[key] = value
            except TypeError as error:
                raise UserError(
                    f"data.mixture: {self.name!r} has {key}={value!r}: {error}"
                ) from error
        return data


def ingredients(data: ConfigDict) -> tuple[Ingredient, ...]:
    """`data.name` alone, or the parts of `data.mixture` where it is "mixture".

    Raises UserError for a mixture that is not written as told in configs/flavars.py.
    """
    given = data.get("mixture")
    if data.name != MIXTURE:
        if given:
            raise UserError(
                f"data.mixture is given but data.name={data.name!r}: set it to 'mixture'"
            )
        return (Ingredient(data.name),)
    if not given:
        raise UserError(f"data.name='mixture' needs data.mixture, written {_FORM}")
    found = tuple(_ingredient(part) for part in given)
    if {"mean", "std"} & set(found[0].own):
        raise UserError(
            f"data.mixture: its first part, {found[0].name!r}, is what the run is scored on: "
            "set data.mean and data.std instead of its own"
        )
    return found


def _ingredient(part: Any) -> Ingredient:
    match part:
        case (str(name), int() | float() as weight):
            return Ingredient(name, float(weight))
        case (str(name), int() | float() as weight, Mapping() as own):
            unknown = sorted(set(own) - set(OWN))
            if unknown:
                raise UserError(
                    f"data.mixture: {name!r} has {unknown[0]!r} of its own: use {', '.join(OWN)}"
                )
            return Ingredient(name, float(weight), dict(own))
    raise UserError(f"data.mixture: {part!r} is no part of a mixture, which is written {_FORM}")


def unimodal(data: ConfigDict) -> dict[str, str]:
    """Stream -> the data set of its own, of the streams "image" and "text" that are on."""
    given = data.get("unimodal", {})
    return {
        stream: given[stream]
        for stream in ("image", "text")
        if given.get(stream) and data.streams.get(stream)
    }


def manifests(
    parts: Sequence[Ingredient], others: Mapping[str, str], directory: str
) -> dict[str, Any]:
    """The manifest of a run on these data sets: that of the only one, or of all of them.

    Of a mixture: "splits" and "has" are sums, "mixture" has name, version, fingerprint and weight
    of each by its number, and all else is that of the first. others: stream -> data set, which are
    told under "unimodal".
    """
    found = [datasets.manifest(part.name, directory) for part in parts]
    manifest = found[0] if len(parts) == 1 else _mixed(parts, found)
    if others:
        told = {key: _identity(datasets.manifest(name, directory)) for key, name in others.items()}
        manifest = manifest | {"unimodal": told}
    return manifest


def _identity(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {key: manifest[key] for key in ("name", "version", "fingerprint", "splits")}


def _mixed(parts: Sequence[Ingredient], found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    told = {
        str(number): _identity(manifest) | {"weight": part.weight}
        for number, (part, manifest) in enumerate(zip(parts, found, strict=True))
    }
    text = json.dumps(told, sort_keys=True)
    return found[0] | {
        "name": MIXTURE,
        "fingerprint": hashlib.sha256(text.encode()).hexdigest(),
        "splits": {
            split: sum(manifest["splits"].get(split, 0) for manifest in found)
            for split in found[0]["splits"]
        },
        "has": {"train": {"located": sum(map(_located, found))}},
        MIXTURE: told,
    }


def _located(manifest: Mapping[str, Any]) -> int:
    """Training records with a place: all of them where the manifest does not count."""
    counts = manifest.get("has", {}).get("train", {})
    return counts.get("located", manifest["splits"]["train"])


def load(parts: Sequence[Ingredient], directory: str) -> pairs.Source:
    """The training split: of the only data set, or the mixture."""
    sources = [datasets.load(part.name, directory, "train") for part in parts]
    if len(sources) == 1:
        return sources[0]
    needed = ("image", "captions") if _has(sources[0], "captions") else ("image",)
    for part, source in zip(parts, sources, strict=True):
        _check_fields(part.name, source, needed)
    return mixtures.Mixture(sources, [part.weight for part in parts])


def _check_fields(name: str, source: pairs.Source, needed: Sequence[str]) -> None:
    """UserError where a part has not what all rows of a batch must have; places may be missing."""
    missing = [what for what in needed if not _has(source, what)]
    if missing:
        raise UserError(
            f"data.mixture: the records of {name!r} have no {' and no '.join(missing)}: leave it "
            "out, or feed it to data.unimodal.image or data.unimodal.text"
        )


def _has(source: pairs.Source, what: str) -> bool:
    return bool(len(source) and source[0].get(what))
