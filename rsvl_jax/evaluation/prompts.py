"""Prompt sets by name or from a file, and the class names that go into them.

The sets are those of the projects that they are named after, word for word: a published number
belongs to its prompts.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import zeroshot
from rsvl_jax.evaluation_sets import known
from rsvl_jax.evaluation_sets.names import words


def _georsclip() -> tuple[str, ...]:
    """The 105 of RS5M: three kinds of image, 35 phrases each."""
    adjectives = ["low resolution", "bad", "cropped", "bright", "dark", "close-up"]
    adjectives += ["black and white", "jpeg corrupted", "blurry", "good"]
    found = []
    for kind in ("remote sensing image", "aerial image", "satellite image"):
        plain = f"an {kind}" if kind[0] == "a" else f"a {kind}"
        found += [f"{plain} of {word} {{c}}." for word in ("many", "a", "the")]
        found += [f"{plain} of {word} hard to see {{c}}." for word in ("the", "a")]
        found += [f"a {a} {kind} of {word} {{c}}." for a in adjectives for word in ("the", "a")]
        found += [
            f"{plain} of {word} {size} {{c}}."
            for size in ("large", "nice", "small", "weird", "cool")
            for word in ("the", "a")
        ]
    return tuple(found)


SETS: dict[str, tuple[str, ...]] = {
    "bare": ("{c}",),  # GRAFT's demo
    "graft": ("A satellite image of {c}.",),
    "skyscript": ("a satellite photo of {c}.", "a satellite image of {c}"),
    "remoteclip": ("a satellite photo of {c}.",),
    "openai_eurosat": (
        "a centered satellite photo of {c}.",
        "a centered satellite photo of a {c}.",
        "a centered satellite photo of the {c}.",
    ),
    "openai_resisc45": tuple(
        f"{view} of {article}{{c}}."
        for view in (
            "satellite imagery",
            "aerial imagery",
            "satellite photo",
            "aerial photo",
            "satellite view",
            "aerial view",
        )
        for article in ("", "a ", "the ")
    ),
    # The spelling is theirs.
    "clip_benchmark_resisc45": (
        "a sattelite image of {c}",
        "an aerial view of {c}",
        "a sattelite photo of {c}",
        "{c} from above",
    ),
    "georsclip": _georsclip(),
}
# Averages its embeddings as they are, and normalises the mean alone.
_NOT_NORMALISED = ("georsclip",)
NAMES = ("words", "raw")


@dataclass(frozen=True)
class Prompts:
    """What is asked for each class, in their order: names, and prompts with nothing to fill in."""

    names: tuple[str, ...]
    texts: tuple[tuple[str, ...], ...]
    source: str
    normalize_before_mean: bool = True

    def describe(self) -> str:
        """How a class's prompts become its vector, for a card."""
        each = "each prompt normalised" if self.normalize_before_mean else "prompts as they are"
        return f"{each}, mean, normalised"


def load(classes: Sequence[str], *, prompts: str, names: str, of: str = "") -> Prompts:
    """Prompts of the classes (folder names); `of`: the known data set that they are of, if any.

    prompts: one of `SETS`, a text file with a template a line, or a JSON file {class: [prompt,
    ...]} of finished prompts (as SenCLIP's). names: "words" (see `folder.words`), "raw" (the
    folder's own), a spelling of the data set's (see `evaluation_sets.known`), or a JSON file
    {class: name or [synonym, ...]}. Raises UserError for what cannot be read, and for a class that
    a file leaves out.
    """
    named = _names(classes, names, of)
    if prompts.endswith(".json"):
        written = _json(prompts, "--prompts")
        texts = [_listed(_of(written, name, prompts), prompts) for name in classes]
    else:
        texts = zeroshot.prompts(named, _templates(prompts))
    return Prompts(
        tuple(zeroshot.names_of(each)[0] for each in named),
        tuple(map(tuple, texts)),
        prompts,
        prompts not in _NOT_NORMALISED,
    )


def vectors(prompts: Prompts, encode: Callable[[list[str]], object]):
    """Unit class vectors float32 [C, E]: the mean of each class's prompts, normalised."""
    return zeroshot.class_vectors(
        encode,  # type: ignore[arg-type]
        prompts.texts,
        ("{c}",),
        normalize_before_mean=prompts.normalize_before_mean,
    )


def _names(classes: Sequence[str], names: str, of: str) -> list[zeroshot.Class]:
    if names == "words":
        return [words(name) for name in classes]
    if names == "raw":
        return list(classes)
    entry = known.table().get(of)
    if entry is not None and names in entry.spellings and tuple(classes) == entry.classes:
        return list(entry.spellings[names])
    if not names.endswith(".json"):
        raise UserError(f"unknown --names={names!r}: choose {', '.join(NAMES)} or a .json file")
    written = _json(names, "--names")
    return [_of(written, name, names) for name in classes]


def _templates(prompts: str) -> Sequence[str]:
    if prompts in SETS:
        return SETS[prompts]
    if not prompts.endswith(".txt"):
        known = ", ".join(SETS)
        raise UserError(f"unknown --prompts={prompts!r}: choose {known}, a .txt or a .json file")
    try:
        with open(prompts, encoding="utf-8") as file:
            return [line.strip() for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read --prompts={prompts!r}: {error}") from error


def _json(path: str, flag: str) -> Mapping[str, object]:
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {flag}={path!r}: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{flag}={path!r} is no JSON object of classes")
    return found


def _of(written: Mapping[str, object], name: str, path: str) -> zeroshot.Class:
    for key in (name, words(name)):
        if key in written:
            value = written[key]
            texts = [value] if isinstance(value, str) else value
            if isinstance(texts, list) and texts and all(isinstance(t, str) and t for t in texts):
                return texts[0] if len(texts) == 1 else texts
            raise UserError(f"{path!r}: {key!r} must be a text or a list of texts")
    raise UserError(f"{path!r} does not have the class {name!r}")


def _listed(texts: zeroshot.Class, path: str) -> list[str]:
    found = zeroshot.names_of(texts)
    if any("{" in text for text in found):
        raise UserError(f"{path!r} holds finished prompts: {found[0]!r} has a brace in it")
    return found
