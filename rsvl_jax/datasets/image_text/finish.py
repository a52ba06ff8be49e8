"""What stands beside the shards: tokenizer, metadata of TFDS, dropped.csv, provenance, manifest."""

import csv
import hashlib
import importlib.metadata
import os
from collections import Counter
from typing import Any

from rsvl_jax.data.tokenizer import train_tokenizer
from rsvl_jax.datasets import registry, store
from rsvl_jax.datasets.image_text import metadata, scan
from rsvl_jax.datasets.image_text.reader import SPLITS
from rsvl_jax.datasets.image_text.scan import Job
from rsvl_jax.datasets.image_text.staging import replaced, write_json

TOKENIZER_FILE = "tokenizer.model"
DROPPED_FILE = "dropped.csv"
# SkyScript's two, the second without a full stop as there: for zero-shot where there are labels.
PROMPTS = ("a satellite photo of {c}.", "a satellite image of {c}")
_PACKAGES = ("numpy", "pillow", "opencv-python-headless", "array_record", "sentencepiece")


def finish(job: Job, entry: registry.Entry, found: Any, build: str) -> None:
    """Completes the directory `job.staging.whole`.

    found: a `build.Found`. build: fingerprint of source and options.
    """
    directory = job.staging.whole
    job.staging.sweep()
    captions = [text for facts in found.facts.get("train", ()) for text in facts["captions"]]
    if captions:
        train_tokenizer(captions, os.path.join(directory, TOKENIZER_FILE), job.options.vocabulary)
    metadata.write(
        directory,
        name=entry.config,
        data_dir=job.staging.root,
        images="image" in job.reader.parts,
        shards=found.facts,
    )
    dropped, changed = _write_dropped(job, found, os.path.join(directory, DROPPED_FILE))
    write_json(os.path.join(directory, store.PROVENANCE), _provenance(directory, found))
    head = {"name": entry.name, "version": entry.version}
    body = _manifest(job, found, build)
    counts = {"dropped": dropped, "changed": changed}
    write_json(os.path.join(directory, store.MANIFEST), head | body | counts)


def _manifest(job: Job, found: Any, build: str) -> dict[str, Any]:
    digest = hashlib.sha256()
    for split in SPLITS:
        for facts in found.facts.get(split, ()):
            digest.update(f"{split} {facts['records']} {facts['sha256']}\n".encode())
    classes = list(job.reader.classes)
    return {
        "splits": {split: len(order) for split, order in found.plan.orders.items()},
        "fingerprint": digest.hexdigest(),
        "classes": classes,
        "prompts": list(PROMPTS) if classes else [],
        "parts": sorted(job.reader.parts),
        "has": found.plan.counts,
        "held_out": found.plan.held_out,
        "layout": job.reader.layout,
        "source": job.reader.describe(),
        "options": job.options.identity(),
        "build": build,
    }


def _write_dropped(job: Job, found: Any, path: str) -> tuple[dict[str, int], dict[str, int]]:
    """Writes a line for every row that was left out; counts by reason, and of changes."""
    dropped, changed = Counter(found.prepared), Counter[str]()
    with (
        replaced(path) as temporary,
        open(temporary, "w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("row", "key", "reason", "detail"))
        for notes in scan.notes(job):
            writer.writerows(notes["dropped"])
            dropped.update(reason for _, _, reason, _ in notes["dropped"])
            changed.update(notes["changes"])
        for reason, pairs in found.plan.duplicates.items():
            writer.writerows((row, "", reason, f"of row {stays}") for row, stays in pairs.tolist())
            dropped[reason] += len(pairs)
    return _sorted(dropped), _sorted(changed)


def why_none(job: Job, prepared: dict[str, int]) -> str:
    """Counts of what was dropped, most frequent first, for an error."""
    dropped = Counter(prepared)
    for notes in scan.notes(job):
        dropped.update(reason for _, _, reason, _ in notes["dropped"])
    listed = ", ".join(f"{reason} {count}" for reason, count in dropped.most_common(5))
    return listed or "the source has no rows"


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return {reason: count for reason, count in sorted(counts.items()) if count}


def _provenance(directory: str, found: Any) -> dict[str, Any]:
    known = {
        metadata.filename(split, number, len(facts)): fact
        for split, facts in found.facts.items()
        for number, fact in enumerate(facts)
    }
    files = {}
    for name in sorted(os.listdir(directory)):
        if name in (store.MANIFEST, store.PROVENANCE):
            continue  # left by a build that was stopped right here
        path = os.path.join(directory, name)
        digest = known[name]["sha256"] if name in known else _sha256(path)
        files[name] = {"bytes": os.path.getsize(path), "sha256": digest}
    return {"files": files, "packages": {p: importlib.metadata.version(p) for p in _PACKAGES}}


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
