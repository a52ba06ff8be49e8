"""Writes weights for others: a Hugging Face or open_clip folder, or plain safetensors."""

import os
import shutil

from rsvl_jax.errors import UserError
from rsvl_jax.weights import families, imports, names, runs, store
from rsvl_jax.weights.account import few, shape_text
from rsvl_jax.weights.family import Family, Json
from rsvl_jax.weights.sources import Arrays
from rsvl_jax.weights.store import Stored

FORMATS = ("huggingface", "open_clip", "safetensors")
_FILES = {
    "huggingface": ("model.safetensors", "config.json"),
    "open_clip": ("open_clip_model.safetensors", "open_clip_config.json"),
}


def export(path: str, out: str, form: str) -> list[str]:
    """Writes the weights of a directory of ours, a source or a run; a line on each file written.

    Raises UserError for a format that cannot hold the model, and where `out` is there already.
    """
    if form not in FORMATS:
        raise UserError(f"unknown format {form!r}: choose one of {', '.join(FORMATS)}")
    local = os.path.expanduser(path)
    if form == "safetensors":
        return _plain(path, local, out)
    if runs.is_run(local):
        raise UserError(f"{path!r} is a run, whose layout {form!r} is not known: use 'safetensors'")
    return _foreign(imports.load(path).stored, out, form)


def _plain(path: str, local: str, out: str) -> list[str]:
    """Our names as they are, and a table of them."""
    if runs.is_run(local):
        run = runs.read(local)
        arrays, config, assets = run.arrays, run.config, run.assets
    else:
        stored = imports.load(path).stored
        arrays, config, assets = stored.arrays, {"kind": stored.model.kind}, {}
        config |= {"settings": stored.model.settings, "source": stored.source}
    with store.new_folder(out) as folder:
        store.save(os.path.join(folder, "model.safetensors"), arrays)
        store.write_json(os.path.join(folder, "config.json"), config)
        for name, content in assets.items():
            with open(os.path.join(folder, name), "wb") as file:
                file.write(content)
        with open(os.path.join(folder, "README.md"), "w", encoding="utf-8") as text:
            text.write(_layout(arrays))
    return [f"{len(arrays)} arrays under our own names, with a README of their layout: {out}"]


def _layout(arrays: Arrays) -> str:
    rows = [f"| {n} | {t.dtype.name} | {shape_text(t.shape)} |" for n, t in arrays.tensors.items()]
    head = "# Layout of model.safetensors\n\n| name | type | shape |\n|---|---|---|\n"
    about = (
        "\nMatrices are [in, out]. `layers` stacks the blocks of a transformer in the first "
        "dimension. `qkv` is [D, heads, 3, D / heads]: queries, keys and values of each head.\n"
    )
    return head + "\n".join(rows) + "\n" + about


def _foreign(stored: Stored, out: str, form: str) -> list[str]:
    """Through the family of that format."""
    model = stored.model
    family = _family(stored, form)
    assert family.config is not None
    settings = model.settings
    if family.name != stored.family:
        # What the names of another layout began with.
        settings = {key: value for key, value in settings.items() if key != "names"}
    entries = family.entries(settings)
    arrays = names.dump(entries, stored.arrays)
    beside = {entry.ours for entry in entries}
    rest = stored.arrays.only(name for name in stored.arrays if name not in beside)
    weights, config = _FILES[form]
    with store.new_folder(out) as folder:
        store.save(os.path.join(folder, weights), arrays)
        store.write_json(os.path.join(folder, config), family.config(settings))
        if form == "huggingface" and model.preprocessing:
            preprocessor = _preprocessor(model.preprocessing)
            store.write_json(os.path.join(folder, "preprocessor_config.json"), preprocessor)
        if rest:
            store.save(os.path.join(folder, "beside.safetensors"), rest)
        for name, path in stored.tokenizer.items():
            shutil.copyfile(path, os.path.join(folder, name))
    lines = [f"{len(arrays)} arrays as {family.name} ({family.title}): {out}"]
    if rest:
        lines.append(f"no place there, kept in beside.safetensors under our names: {few(rest)}")
    return lines


def _family(stored: Stored, form: str) -> Family:
    """The layout "NAME-FORMAT", NAME that of the family it came in, or of its kind.

    Raises UserError where the format cannot hold the model.
    """
    able = {f.name: f for f in families.FAMILIES if f.config is not None}
    for name in (stored.family.partition("-")[0], stored.model.kind):
        if f"{name}-{form}" in able:
            return able[f"{name}-{form}"]
    raise UserError(
        f"{form!r} has no layout for a model of kind {stored.model.kind!r} of family "
        f"{stored.family!r} (there are {', '.join(able)}): use 'safetensors'"
    )


def _preprocessor(own: Json) -> Json:
    """Mean and deviation as an image processor of `transformers` reads them."""
    return {"image_mean": own.get("mean"), "image_std": own.get("std"), "do_normalize": True}
