"""What is to be exported: a directory of ours, a source, or a run in terms of a published kind."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.models.positions import sincos_2d
from rsvl_jax.weights import exports_tokenizer, imports, kinds, methods, runs
from rsvl_jax.weights.family import Json, Model
from rsvl_jax.weights.methods import Opened
from rsvl_jax.weights.sources import Arrays
from rsvl_jax.weights.store import Stored

END = 3  # id of [SEP], with which our SentencePiece tokenizer ends every text
_HEAD_EPS = 1e-12  # of a MaskedTokenHead
_HEADS = ("mim_head", "mlm_head", "mmm_image_head", "mmm_text_head")


@dataclass(frozen=True)
class Exportable:
    """A model with its arrays and what is told of it.

    Attributes:
      model, arrays: in terms of the kinds that families know · family: the one it came in, "" of a
        run · tokenizer: files by name.
      own: the model as `rsvl_jax.load` has it, where `model` says less of it.
      source: where the weights are from, as `store.Stored` has it; of a run {}.
      run: the run, None of others.
    """

    model: Model
    arrays: Arrays
    family: str = ""
    tokenizer: Mapping[str, bytes] = field(default_factory=dict)
    own: Model | None = None
    source: Json = field(default_factory=dict)
    run: Opened | None = None


def find(path: str, *, plain: bool) -> Exportable:
    """A path as `python -m rsvl_jax.weights export` takes it. Raises UserError for what is none.

    plain: a run as it is, not in terms of a published kind.
    """
    local = os.path.expanduser(path)
    if runs.is_run(local):
        return of_run(methods.open_run(local), plain=plain)
    return _of_stored(imports.load(path).stored)


def _of_stored(stored: Stored) -> Exportable:
    files = {}
    for name, path in stored.tokenizer.items():
        with open(path, "rb") as file:
            files[name] = file.read()
    return Exportable(
        stored.model, stored.arrays, stored.family, files, None, stored.source, run=None
    )


def of_run(run: Opened, *, plain: bool) -> Exportable:
    """A FLAVARS run as FLAVA, or as a ViT where it has no other tower; GRAFT's as CLIP."""
    files: dict[str, bytes] = {}
    if run.model.tokenizer and run.tokenizer:
        files = exports_tokenizer.files(run.tokenizer, run.model.tokenizer["length"])
    found = Exportable(run.model, run.arrays, tokenizer=files, own=run.model, run=run)
    if plain:
        return found
    if run.model.kind == "flavars":
        return _with_positions(_flava(found))
    return _clip(found)


def _clip(found: Exportable) -> Exportable:
    """CLIP's two towers, GRAFT's satellite tower as that of images; our texts end with [SEP]."""
    settings = {key: value for key, value in found.model.settings.items() if key != "projector"}
    tensors = dict(found.arrays.tensors)
    if "satellite" in settings:
        settings["image"] = settings.pop("satellite")
        for name in found.arrays.below("satellite/"):
            tensors[f"image/{name}"] = tensors.pop(f"satellite/{name}")
    if "text" in settings:
        if settings["text"]["pool"] == "last":
            settings["text"] = settings["text"] | {"pool": "eot", "eot_id": END}
        # Two towers without a scale are no CLIPModel; a fixed one is put where a learned one is.
        scale = found.run.logit_scale if found.run else None
        if "scale/value" not in tensors and scale is not None:
            tensors |= Arrays.of({"scale/value": np.asarray(scale, np.float32)}).tensors
        settings["scale"] = "scale/value" in tensors
    model = replace(
        found.model, kind="clip", settings=settings, parts=kinds.parts("clip", settings)
    )
    return replace(found, model=model, arrays=Arrays(tensors))


def _flava(found: Exportable) -> Exportable:
    own = found.model.settings
    if "text" not in own:
        if "image" not in own:
            raise UserError("a run without towers of images and texts: use --format=safetensors")
        settings: Json = {"image": own["image"]}
        return replace(found, model=_changed(found.model, "vit", settings))
    if "image" not in own:
        raise UserError("FLAVA has no place for a run without images: use --format=safetensors")
    _check_flava(own)
    words = {name: f"{name}/decoder/kernel" for name in _HEADS}
    shapes = found.arrays.shapes
    settings = {
        "image": own["image"],
        "text": own["text"],
        "fusion": own.get("fusion") or _blank_fusion(own),
        "heads": {name: shapes[path][1] for name, path in words.items() if path in shapes},
        "head_eps": _HEAD_EPS,
        "itm_head": "itm_head/classifier/kernel" in shapes,
    }
    if "image_text" in own["contrasts"]:
        dim = own["contrasts"]["image_text"]["dim"]
        settings["image_text"] = {"embed_dim": dim, "scaled": True}
    return replace(found, model=_changed(found.model, "flava", settings))


def _check_flava(own: Json) -> None:
    """Raises UserError for towers that FLAVA would run otherwise, as those of CLIP and BERT."""
    switches = {
        "model.image.stem_norm": (own["image"].get("stem_norm", False), False),
        "model.image.norm": (own["image"]["transformer"]["norm"], "pre"),
        "model.text.norm": (own["text"]["transformer"]["norm"], "pre"),
    }
    other = [f"{key}={value!r}" for key, (value, flava) in switches.items() if value != flava]
    if other:
        raise UserError(
            f"FLAVA has no place for a tower of {' and '.join(other)}, it would compute otherwise: "
            "use --format=safetensors"
        )


def _changed(model: Model, kind: str, settings: Json) -> Model:
    return replace(model, kind=kind, settings=settings, parts=kinds.parts(kind, settings))


def _blank_fusion(own: Json) -> Json:
    """A fusion encoder that FLAVA needs and the run has not: one block, never trained."""
    transformer = own["image"]["transformer"] | {"depth": 1}
    widths = {f"{name}_width": own[name]["transformer"]["width"] for name in ("image", "text")}
    return {**widths, "transformer": transformer}


def _with_positions(found: Exportable) -> Exportable:
    """Computed positions as an array: other libraries hold no others."""
    image = found.model.settings["image"]
    if image["positions"] != "sincos":
        return found
    side = image["image_size"] // image["patch_size"]
    table = np.asarray(sincos_2d((side, side), image["transformer"]["width"]), np.float32)
    padded = Arrays.of({"image/positions": np.pad(table, ((1, 0), (0, 0)))})
    settings = found.model.settings | {"image": image | {"positions": "learned"}}
    model = _changed(found.model, found.model.kind, settings)
    return replace(found, model=model, arrays=Arrays(found.arrays.tensors | padded.tensors))
