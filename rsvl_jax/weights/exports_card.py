"""README.md of an export: what the weights are, how to use them, and what they score."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rsvl_jax.evaluation import card as cards
from rsvl_jax.evaluation.card import Card
from rsvl_jax.weights import exports_code
from rsvl_jax.weights.account import few, shape_text
from rsvl_jax.weights.exports_runs import Exportable
from rsvl_jax.weights.sources import Arrays

_TAGS = {
    "flava": "zero-shot-image-classification",
    "clip": "zero-shot-image-classification",
    "vit": "image-feature-extraction",
    "text": "feature-extraction",
    "image_tokenizer": "feature-extraction",
}
_LIBRARIES = {"huggingface": "transformers", "open_clip": "open_clip"}
_TRAINING = (
    ("steps", ("training", "steps")),
    ("batch", ("data", "batch_size")),
    ("optimizer", ("optimizer", "name")),
    ("learning rate", ("optimizer", "learning_rate")),
    ("seed", ("seed",)),
)


def card(
    found: Exportable, form: str, written: Arrays, beside: Arrays, missing: Sequence[str]
) -> str:
    """The model card of a folder in format `form`, as the hub reads it."""
    parts = [
        _front(found, form),
        f"# {_title(found)}\n\n{_origin(found)}\n",
        exports_code.use(found, form),
        _left(beside, missing),
        *_about(found, written),
    ]
    return "\n".join(part for part in parts if part)


def layout(found: Exportable, arrays: Arrays) -> str:
    """What the arrays of a plain export are, by name."""
    rows = [f"| {n} | {t.dtype.name} | {shape_text(t.shape)} |" for n, t in arrays.tensors.items()]
    table = "\n".join(["| name | type | shape |", "|---|---|---|", *rows])
    parts = [
        f"# {_title(found)}: layout of model.safetensors\n\n{_origin(found)}\n",
        exports_code.plain(found.own or found.model),
        f"## Arrays\n\n{exports_code.CONVENTIONS}\n\n{table}\n",
        *_about(found, arrays),
    ]
    return "\n".join(parts)


def _front(found: Exportable, form: str) -> str:
    """What the hub reads, between lines of dashes."""
    lines = [
        f"library_name: {_LIBRARIES[form]}",
        f"pipeline_tag: {_TAGS.get(found.model.kind, 'feature-extraction')}",
        f"license: {_licence(found).lower() or 'other'}",
        "tags:",
        "- remote-sensing",
        f"- {found.model.kind}",
    ]
    return "\n".join(["---", *lines, "---", ""])


def _licence(found: Exportable) -> str:
    return str(found.source.get("licence", ""))


def _title(found: Exportable) -> str:
    if found.run is None:
        return f"{found.source.get('name') or found.model.kind}"
    return f"{found.run.model.kind.upper()} trained on {found.run.manifest.get('name', 'images')}"


def _origin(found: Exportable) -> str:
    run = found.run
    if run is None:
        hashes = found.source.get("sha256")
        origin = f"Imported from {found.source.get('name')} as {found.family}"
        return f"{origin}; sha256 {hashes}." if hashes else f"{origin}."
    return (
        f"Written by rsvl_jax from the checkpoint of step {run.step}, code revision "
        f"{run.revision or 'unknown'}."
    )


def _left(beside: Arrays, missing: Sequence[str]) -> str:
    lines = []
    if beside:
        lines.append(
            f"`beside.safetensors` holds, under the names of rsvl_jax, what this class has no "
            f"place for: {few(beside)} ({len(beside)} arrays). `rsvl_jax.load` of an export with "
            "`--format=safetensors` uses them all."
        )
    if missing:
        lines.append(
            f"The run never trained {few(missing)} ({len(missing)} arrays), which are not here: "
            "who loads the model draws them at random."
        )
    return "## What is not in the model\n\n" + "\n\n".join(lines) + "\n" if lines else ""


def _about(found: Exportable, arrays: Arrays) -> list[str]:
    """Sizes, data, training, scores and licence."""
    count = sum(int(np.prod(t.shape, dtype=np.int64)) for t in arrays.tensors.values())
    parts = [f"## Sizes\n\n{count:,} numbers in {len(arrays)} arrays.\n"]
    if found.run is not None:
        parts += [_data(found.run.manifest), _training(found.run.config), _scores(found)]
    return [*parts, _rights(found)]


def _data(manifest: Mapping[str, Any]) -> str:
    splits = ", ".join(f"{name} {count:,}" for name, count in manifest.get("splits", {}).items())
    name = " ".join(str(manifest.get(key, "")) for key in ("name", "version")).strip()
    return f"## Data\n\n{name} (records: {splits}; fingerprint {manifest.get('fingerprint')}).\n"


def _training(config: Mapping[str, Any]) -> str:
    def value(path: Sequence[str]) -> Any:
        node: Any = config
        for key in path:
            node = node.get(key) if isinstance(node, Mapping) else None
        return node

    listed = [f"{title} {value(path)}" for title, path in _TRAINING if value(path) is not None]
    weights = config.get("objective", {}).get("weights", {})
    terms = ", ".join(f"{name} {weight}" for name, weight in weights.items() if weight)
    text = "; ".join(listed) + (f"; weights of the loss terms: {terms}" if terms else "")
    return f"## Training\n\n{text}.\n"


def _scores(found: Exportable) -> str:
    """The scores of this very checkpoint, and the protocol of each."""
    known = _cards(found)
    if not known:
        return "## Scores\n\nNone were written for this checkpoint.\n"
    about = [f"- {each.key}: {_protocol(each)}" for each in known if each.value is not None]
    table = cards.markdown([each for each in known if each.value is not None])
    return f"## Scores\n\n{table}\nProtocol:\n\n" + "\n".join(about) + "\n"


def _cards(found: Exportable) -> list[Card]:
    assert found.run is not None
    path = os.path.join(found.run.folder, "scores.json")
    if not os.path.exists(path):
        return []
    return [each for each in cards.read(path) if each.provenance.step == found.run.step]


def _protocol(each: Card) -> str:
    facts = {"data": each.dataset, "split": each.split, **each.protocol}
    return "; ".join(f"{name}: {value}" for name, value in facts.items())


def _rights(found: Exportable) -> str:
    licence = _licence(found)
    if licence:
        return f"## Licence\n\n{licence}, as those who published the weights say.\n"
    return (
        "## Licence\n\nOf the weights: to be named by who publishes them. The data have licences "
        "of their own.\n"
    )
