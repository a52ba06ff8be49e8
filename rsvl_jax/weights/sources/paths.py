"""Names that files give of other files: only what lies in the same folder is followed."""

import os

from rsvl_jax.errors import UserError


def inside(folder: str, name: str) -> str:
    """The path of a file of `folder` by the name that another file gave.

    Raises UserError where the name, or a link there, leads out of the folder, and where there is no
    such file. The cache of the Hugging Face hub, whose snapshots are links to its blobs, is let be.
    """
    path = os.path.join(folder, name)
    if not is_plain(name):
        raise UserError(f"{name!r} leads out of {folder!r}: refused")
    if not os.path.isfile(path):
        raise UserError(f"no {name!r} in {folder!r}: the checkpoint is not whole")
    if not is_within(folder, path):
        raise UserError(f"{name!r} in {folder!r} is a link that leads out of it: refused")
    return path


def is_plain(name: str) -> bool:
    """Whether a name is relative and stays below where it starts."""
    parts = name.replace("\\", "/").split("/")
    return bool(name) and not os.path.isabs(name) and ":" not in parts[0] and ".." not in parts


def is_within(folder: str, path: str) -> bool:
    """Whether a path, links followed, lies in the folder or among the hub's blobs beside it."""
    root, real = os.path.realpath(folder), os.path.realpath(path)
    snapshots, _ = os.path.split(os.path.abspath(folder))
    repo, name = os.path.split(snapshots)
    allowed = [root] + ([os.path.realpath(os.path.join(repo, "blobs"))] * (name == "snapshots"))
    return any(os.path.commonpath([each, real]) == each for each in allowed)
