"""Writes weights for others: a Hugging Face or open_clip folder, or plain safetensors."""

import os
from collections.abc import Mapping

from rsvl_jax.errors import UserError
from rsvl_jax.weights import exports_card, exports_runs, families, names, store
from rsvl_jax.weights.account import few
from rsvl_jax.weights.exports_runs import Exportable
from rsvl_jax.weights.family import Family, Json
from rsvl_jax.weights.sources import Arrays
from rsvl_jax.weights.store import Stored

FORMATS = ("huggingface", "open_clip", "safetensors")
BESIDE = "beside.safetensors"
_FILES = {
    "huggingface": ("model.safetensors", "config.json"),
    "open_clip": ("open_clip_model.safetensors", "open_clip_config.json"),
}
# Image processors of `transformers`: for images brought to a square, and for those cut out of it.
_PROCESSORS = {
    "clip": ("CLIPImageProcessor", "CLIPImageProcessor"),
    "siglip": ("SiglipImageProcessor", "SiglipImageProcessor"),
    "flava": ("FlavaImageProcessor", "FlavaImageProcessor"),
    "vit": ("ViTImageProcessor", "BitImageProcessor"),
}
_RESAMPLING = {"bilinear": 2, "linear": 2, "bicubic": 3}  # numbers of Pillow's filters


def export(path: str, out: str, form: str) -> list[str]:
    """Writes the weights of a directory of ours, a source or a run; a line on each file written.

    Raises UserError for a format that cannot hold the model, and where `out` is there already.
    """
    if form not in FORMATS:
        raise UserError(f"unknown format {form!r}: choose one of {', '.join(FORMATS)}")
    store.check_free(out)
    plain = form == "safetensors"
    found = exports_runs.find(path, plain=plain)
    return _plain(found, out) if plain else _foreign(found, out, form)


def _plain(found: Exportable, out: str) -> list[str]:
    """Our names as they are, and a table of them; `rsvl_jax.load` reads the folder."""
    arrays = found.arrays if found.run is None else found.run.arrays
    stored = Stored(
        model=found.own or found.model,
        arrays=arrays,
        family=found.family,
        source=found.source or _origin(found),
        fingerprint=store.fingerprint(arrays),
        tokenizer=dict.fromkeys(found.tokenizer, ""),
    )
    with store.new_folder(out) as folder:
        store.save(os.path.join(folder, store.ARRAYS), arrays)
        store.write_json(os.path.join(folder, store.CONFIG), store.describe(stored))
        _write(folder, found.tokenizer)
        _write(folder, {"README.md": exports_card.layout(found, arrays).encode()})
    return [f"{len(arrays)} arrays under our own names, with a README of their layout: {out}"]


def _origin(found: Exportable) -> Json:
    assert found.run is not None
    run = found.run
    return {"name": f"a run at step {run.step}", "files": [], "revision": run.revision}


def _write(folder: str, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        with open(os.path.join(folder, name), "wb") as file:
            file.write(content)


def _foreign(found: Exportable, out: str, form: str) -> list[str]:
    """Through the family of that format."""
    family = _family(found, form)
    assert family.config is not None
    settings = found.model.settings
    if family.name != found.family:
        # What the names of another layout began with.
        settings = {key: value for key, value in settings.items() if key != "names"}
    entries = family.entries(settings)
    missing = [e.ours for e in entries if e.ours not in found.arrays] if found.run else []
    written = names.dump([e for e in entries if e.ours not in missing], found.arrays)
    held = {entry.ours for entry in entries}
    rest = found.arrays.only(name for name in found.arrays if name not in held)
    weights, config = _FILES[form]
    with store.new_folder(out) as folder:
        store.save(os.path.join(folder, weights), written)
        described = _config(found, family.config(settings), form)
        store.write_json(os.path.join(folder, config), described)
        if form == "huggingface" and found.model.preprocessing:
            processor = _preprocessor(family, found.model.preprocessing)
            store.write_json(os.path.join(folder, "preprocessor_config.json"), processor)
        if rest:
            store.save(os.path.join(folder, BESIDE), rest)
        _write(folder, found.tokenizer)
        text = exports_card.card(found, form, Arrays.of(written), rest, missing)
        _write(folder, {"README.md": text.encode()})
    lines = [f"{len(written)} arrays as {family.name} ({family.title}): {out}"]
    if rest:
        lines.append(f"no place there, kept in {BESIDE} under our names: {few(rest)}")
    if missing:
        lines.append(f"never trained here, and left to chance by who loads it: {few(missing)}")
    return lines


def _config(found: Exportable, config: Json, form: str) -> Json:
    """Their config with what its family does not know of this model."""
    own = found.model.preprocessing
    if form == "open_clip" and own:
        mode = "squash" if own.get("resize") == "square" else "shortest"
        pixels = {name: own[name] for name in ("mean", "std")} | {"resize_mode": mode}
        return config | {"preprocess_cfg": {**config.get("preprocess_cfg", {}), **pixels}}
    if pooling := (found.own or found.model).settings.get("image_pooling"):
        return config | {"image_pooling": pooling}
    return config


def _family(found: Exportable, form: str) -> Family:
    """The layout "NAME-FORMAT", NAME that of the family it came in, or of its kind.

    Raises UserError where the format cannot hold the model.
    """
    able = {f.name: f for f in families.FAMILIES if f.config is not None}
    for name in (found.family.partition("-")[0], found.model.kind):
        if f"{name}-{form}" in able:
            return able[f"{name}-{form}"]
    family = f" of family {found.family!r}" if found.family else ""
    raise UserError(
        f"{form!r} has no layout for a model of kind {found.model.kind!r}{family} "
        f"(there are {', '.join(able)}): use 'safetensors'"
    )


def _preprocessor(family: Family, own: Json) -> Json:
    """What an image processor of `transformers` reads."""
    side, square = own["image_size"], own.get("resize") == "square"
    size = {"height": side, "width": side}
    kinds = _PROCESSORS.get(family.name.partition("-")[0], _PROCESSORS["vit"])
    return {
        "image_processor_type": kinds[0 if square else 1],
        "do_convert_rgb": True,
        "do_resize": True,
        "size": size if square else {"shortest_edge": side},
        "resample": _RESAMPLING[own.get("interpolation", "bicubic")],
        "do_center_crop": not square,
        "crop_size": size,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(own["mean"]),
        "image_std": list(own["std"]),
    }
