"""Captioned images in Karpathy's JSON: RSICD, RSITMD, UCM-captions, Sydney-captions and others.

{"images": [{"filename": ..., "split": "test", "sentences": [{"raw": ...}, ...]}, ...]}
"""

import glob
import json
import os
from collections.abc import Sequence
from typing import Any

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation_sets import splits
from rsvl_jax.evaluation_sets.collection import Collection
from rsvl_jax.evaluation_sets.pictures import RULES, SUFFIXES, Pictures


def read(name: str, root: str, split: str, prefix: str = "") -> Collection:
    """A split of captioned images; `prefix` comes before every caption.

    root: a folder with one JSON file beside or above its images, or that file. Raises UserError,
    one line, for an image without caption or file, a repeated name, a split that is not there.
    """
    path = _file(root)
    split = splits.spelt(split)
    entries = _entries(path, split)
    places = _images(os.path.dirname(path))
    names, captions = [], []
    for entry in entries:
        names.append(_place(places, str(entry.get("filename", "")), path))
        captions.append(tuple(prefix + text for text in _texts(entry, path)))
    if len(set(names)) < len(names):
        again = next(n for place, n in enumerate(names) if n in names[:place])
        raise UserError(f"{path!r} has {again!r} more than once")
    return Collection(
        name=name,
        split=split,
        ids=tuple(names),
        images=Pictures(os.path.dirname(path), names),
        captions=tuple(captions),
        protocol={
            "split_rule": os.path.basename(path),
            "pixels": RULES,
            "caption_prefix": prefix,
        },
    )


def _file(root: str) -> str:
    if os.path.isfile(root):
        return root
    found = sorted(glob.glob(os.path.join(glob.escape(root), "*.json")))
    likely = [p for p in found if os.path.basename(p).lower().startswith("dataset")] or found
    if len(likely) != 1:
        raise UserError(f"{root!r} has {len(likely)} JSON files: give the one with the captions")
    return likely[0]


def _entries(path: str, split: str) -> Sequence[dict[str, Any]]:
    try:
        with open(path, encoding="utf-8") as file:
            images = json.load(file)["images"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path!r} is no JSON with a list 'images' ({error!r})") from error
    known = {str(entry.get("split")) for entry in images}
    found = [e for e in images if split == splits.ALL or e.get("split") == split]
    if not found:
        raise UserError(f"{path!r} has no image in the split {split!r}, but {sorted(known)}")
    return found


def _images(root: str) -> dict[str, list[str]]:
    """Paths below `root` by the names of files."""
    found: dict[str, list[str]] = {}
    for parent, _, names in os.walk(root):
        for name in names:
            if name.lower().endswith(SUFFIXES):
                below = os.path.relpath(os.path.join(parent, name), root)
                found.setdefault(name, []).append(below)
    return found


def _place(places: dict[str, list[str]], name: str, path: str) -> str:
    found = places.get(os.path.basename(name), [])
    exact = [place for place in found if place == os.path.normpath(name)]
    if len(exact or found) != 1:
        what = "is not there" if not found else f"is there {len(found)} times"
        raise UserError(f"{path!r} captions the image {name!r}, which {what}")
    return (exact or found)[0]


def _texts(entry: dict[str, Any], path: str) -> list[str]:
    texts = [str(sentence.get("raw", "")).strip() for sentence in entry.get("sentences", [])]
    found = [text for text in texts if text]
    if not found:
        raise UserError(f"{path!r}: the image {entry.get('filename')!r} has no caption")
    return found
