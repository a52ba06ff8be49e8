"""Which images are in a split, by a stated rule and never by chance.

Rules: "own", folders train, val and test; "all", everything; "remoteclip", of the sorted names of
each class the first 80 % train, the rest test; a name of the data set's table, lists as they are
published; or a file of one's own, "{split}" standing for the split.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation_sets.known import Known

SPLITS = ("train", "val", "test")
OWN, ALL, REMOTECLIP = "own", "all", "remoteclip"
SPELT = {"validation": "val", "valid": "val"}
_SHARE = 0.8


def spelt(split: str) -> str:
    """ "val" for "validation". Raises UserError for what is no split."""
    found = SPELT.get(split, split)
    if found not in (*SPLITS, ALL):
        raise UserError(f"split {split!r}: use train, val, test or all")
    return found


def rule_of(known: Known, root: str, has_own: bool, split: str, rule: str) -> str:
    """The rule to split by: as asked, or the one whose folders or lists are there.

    Raises UserError where none is, and for a rule that the data set does not have.
    """
    if rule:
        if rule not in (OWN, ALL, REMOTECLIP, *known.lists) and not rule.endswith(".txt"):
            names = ", ".join((OWN, ALL, REMOTECLIP, *known.lists))
            raise UserError(f"split rule {rule!r}: {known.name} has {names}; or give a .txt file")
        return rule
    if split == ALL:
        return ALL
    if has_own:
        return OWN
    for name, lists in known.lists.items():
        if _find(root, lists.file, split):
            return name
    raise UserError(_missing(known, root, split))


def _missing(known: Known, root: str, split: str) -> str:
    lists = "; ".join(
        f"{entry.file.format(split=split)!r} ({rule}: {entry.published})"
        for rule, entry in known.lists.items()
    )
    wanted = f"put one of its lists there: {lists}" if lists else "it has no published lists"
    return (
        f"{root!r} has no folders train, val and test, and no list of the {split} split of "
        f"{known.title}: {wanted}; or ask for the split rule 'all' or 'remoteclip'"
    )


def chosen(
    names: Sequence[str], labels: Sequence[str], known: Known, root: str, split: str, rule: str
) -> list[int]:
    """Rows of a split, in the order of the list or else of the names.

    names: paths below `root`; labels: class of each. Raises UserError for a list that is missing,
    repeats itself, or names what is not there, and where no image is chosen.
    """
    found = _chosen(names, labels, known, root, split, rule)
    if not found:
        raise UserError(f"{root!r}: no image is in the {split} split by the rule {rule!r}")
    return found


def _chosen(
    names: Sequence[str], labels: Sequence[str], known: Known, root: str, split: str, rule: str
) -> list[int]:
    if rule == ALL or (rule == OWN and split == ALL):
        return list(range(len(names)))
    if rule == REMOTECLIP:
        return _by_share(names, labels, split)
    if rule == OWN:
        return [row for row, name in enumerate(names) if _folder(name) == split]
    path = _list_file(known, root, split, rule)
    return _listed(names, path)


def _folder(name: str) -> str:
    first = name.split(os.sep, 1)[0].lower()
    return SPELT.get(first, first)


def _by_share(names: Sequence[str], labels: Sequence[str], split: str) -> list[int]:
    if split == "val":
        raise UserError("the split rule 'remoteclip' has train and test, no val")
    rows: dict[str, list[int]] = {}
    for row, label in sorted(enumerate(labels), key=lambda pair: names[pair[0]]):
        rows.setdefault(label, []).append(row)
    found = []
    for own in rows.values():
        cut = int(_SHARE * len(own))
        found += own[:cut] if split == "train" else own[cut:]
    return sorted(found)


def told(known: Known, root: str, split: str, rule: str) -> dict[str, str]:
    """What a card says of the rule: its name, and whether the list is the published one."""
    if rule in (OWN, ALL, REMOTECLIP):
        return {"split_rule": rule}
    with open(_list_file(known, root, split, rule), "rb") as file:
        digest = hashlib.md5(file.read(), usedforsecurity=False).hexdigest()[:8]
    published = known.lists[rule].md5.get(split) if rule in known.lists else None
    same = {None: "", digest: ", as published"}.get(published, f", not the published {published}")
    return {"split_rule": rule, "split_list": f"md5 {digest}{same}"}


def _list_file(known: Known, root: str, split: str, rule: str) -> str:
    if rule in known.lists:
        path = _find(root, known.lists[rule].file, split)
        if path is None:
            name = known.lists[rule].file.format(split=split)
            raise UserError(f"no {name!r} in {root!r}: get it from {known.lists[rule].published}")
        return path
    path = rule.replace("{split}", split)
    if not os.path.isfile(path):
        raise UserError(f"no list of the {split} split at {path!r}")
    return path


def _find(root: str, pattern: str, split: str) -> str | None:
    name = pattern.format(split=split)
    for folder in (root, os.path.join(root, "splits"), os.path.dirname(os.path.abspath(root))):
        if os.path.isfile(os.path.join(folder, name)):
            return os.path.join(folder, name)
    return None


def _listed(names: Sequence[str], path: str) -> list[int]:
    """Lines are paths, whatever they begin with, or names of files, whatever their ending."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.strip() for line in file if line.strip()]
            if path.endswith(".csv"):
                lines = [line.split(",")[0].strip() for line in lines]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the list {path!r}: {error}") from error
    places = _places(names)
    found, lost = [], []
    for line in lines:
        rows = _rows(places, _stem(line))
        if len(rows) == 1:
            found.append(rows[0])
        else:
            lost.append((line, len(rows)))
    if lost:
        line, count = lost[0]
        what = "which is not there" if not count else f"which {count} images are called"
        raise UserError(f"{path!r} lists {line!r}, {what} ({len(lost)} of {len(lines)} lines)")
    if len(set(found)) < len(found):
        again = next(row for place, row in enumerate(found) if row in found[:place])
        raise UserError(f"{path!r} lists {names[again]!r} more than once")
    return found


def _rows(places: Mapping[str, list[int]], stem: str) -> Sequence[int]:
    """Rows of the longest end of a path that is known."""
    while stem not in places and "/" in stem:
        stem = stem.split("/", 1)[1]
    return places.get(stem, ())


def _places(names: Sequence[str]) -> Mapping[str, list[int]]:
    """Rows by all ends of their paths, without the ending of the file."""
    found: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        parts = _stem(name).split("/")
        for start in range(len(parts)):
            found.setdefault("/".join(parts[start:]), []).append(row)
    return found


def _stem(path: str) -> str:
    return os.path.splitext(path.replace("\\", "/").removeprefix("./"))[0]
