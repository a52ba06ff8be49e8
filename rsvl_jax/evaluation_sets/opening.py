"""One function that opens a split of any data set to evaluate on, whatever its layout."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation_sets import (
    arrays,
    bigearthnet,
    bigearthnet_v2,
    captions,
    fmow,
    folders,
    known,
    label_csv,
    masks,
    places,
    prepared,
    rsvqa,
    skyscript_csv,
    spacenet1,
    splits,
    tars,
)
from rsvl_jax.evaluation_sets.collection import Collection
from rsvl_jax.evaluation_sets.known import Known


@dataclass(frozen=True)
class Options:
    """How a data set is to be read, where its layout leaves a choice.

    Attributes:
      layout: one of LAYOUTS; "" finds out.
      rule: of the split, see `splits`; "" takes the folders or lists that are there.
      sensor: of files with more than 8 bits or 4 bands. added: to all of its values.
      prefix: before every caption. crop: to the object, where the data set has boxes (fMoW).
    """

    layout: str = ""
    rule: str = ""
    sensor: str = ""
    added: int = 0
    prefix: str = ""
    crop: bool = False


Reader = Callable[[Known, str, str, Options], Collection]

LAYOUTS: dict[str, Reader] = {
    "folders": lambda of, root, split, o: folders.read(of, root, split, o.rule, o.added),
    "label_csv": lambda of, root, split, o: label_csv.read(of, root, split, o.rule),
    "bigearthnet": lambda of, root, split, o: bigearthnet.read(of, root, split, o.rule, o.added),
    "bigearthnet_v2": lambda of, root, split, o: bigearthnet_v2.read(
        of, root, split, o.rule, o.added
    ),
    "fmow": lambda of, root, split, o: fmow.read(of, root, split, o.rule, o.crop),
    "tfds": lambda of, root, split, o: prepared.read(of, root, split, o.rule, o.added),
    "arrays": lambda of, root, split, o: arrays.read(of, root, split),
    "skyscript_csv": lambda of, root, split, o: skyscript_csv.read(of.name, root, split),
    "tars": lambda of, root, split, o: tars.read(of.name, root, split),
    "captions": lambda of, root, split, o: captions.read(of.name, root, split, o.prefix),
    "masks": lambda of, root, split, o: masks.read(of.name, root, split),
    "spacenet1": lambda of, root, split, o: spacenet1.read(of, root, split, o.rule),
    "rsvqa": lambda of, root, split, o: rsvqa.read(of.name, root, split),
}


def open_collection(name: str, root: str, split: str, options: Options | None = None) -> Collection:
    """A split of a data set, its pixels left where they are.

    name: of the table, see `known`, or any other one for a data set of one's own. root: its folder.
    split: "train", "val", "test" or "all".

    Raises UserError, one line that says how to mend it, for what is not there or not right.
    """
    options = options or Options()
    if options.layout and options.layout not in LAYOUTS:
        raise UserError(f"layout {options.layout!r}: use one of {', '.join(LAYOUTS)}")
    if not os.path.exists(root):
        raise UserError(f"no {root!r}: the folder of the data set {name}")
    of = known.table().get(name) or Known(name, name, "")
    if options.sensor:
        of = Known(**{**vars(of), "sensor": options.sensor})
    layout = options.layout or _layout(of, root)
    known_split = split if layout == "rsvqa" else splits.spelt(split)
    return places.beside(LAYOUTS[layout](of, root, known_split, options), root)


def _layout(of: Known, root: str) -> str:
    """What the folder looks like, or what the table says."""
    if skyscript_csv.is_there(root):
        return "skyscript_csv"
    if tars.is_there(root):
        return "tars"
    if rsvqa.is_there(root):
        return "rsvqa"
    if prepared.is_there(root):
        return "tfds"
    if of.layout:
        return of.layout
    if root.endswith(".json") or any(name.endswith(".json") for name in os.listdir(root)):
        return "captions"
    if masks.is_there(root):
        return "masks"
    return "folders"
