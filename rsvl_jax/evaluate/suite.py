"""Suites: lists of tasks in TOML, in this package by name or in a file of one's own.

title = "..."
[[tasks]]
kind = "knn"          # see `tasks.KINDS`
set = "eurosat"       # a known data set, or any name
data = "EuroSAT"      # its folder below --data [the name of the set]
...                   # options of the kind, and of the reading (rule, layout, sensor, ...)
"""

import difflib
import importlib.resources
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rsvl_jax.errors import UserError

_FOLDER = "suites"


@dataclass(frozen=True)
class Spec:
    """A task.

    Attributes:
      name: of its file of cards; distinct in a suite.
      kind: key of `tasks.KINDS`. set: of the data. data: folder, joined with --data.
      options: of the kind and of the reading.
    """

    name: str
    kind: str
    set: str
    data: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """Tasks under one name."""

    name: str
    title: str
    tasks: tuple[Spec, ...]

    def chosen(self, only: str) -> tuple[Spec, ...]:
        """The tasks of those names (comma-separated, all for ""); UserError for an unknown one."""
        wanted = [name for name in only.split(",") if name]
        known = [spec.name for spec in self.tasks]
        for name in wanted:
            if name not in known:
                raise UserError(f"--only={name!r}: {_nearest(name, known)}")
        return tuple(spec for spec in self.tasks if not wanted or spec.name in wanted)


def names() -> list[str]:
    """Of the suites in this package."""
    folder = importlib.resources.files(__package__).joinpath(_FOLDER)
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir())


def load(
    name: str, data: str, kinds: Mapping[str, frozenset[str]], asked: str = "--suite"
) -> Suite:
    """A suite by name, or of a .toml file.

    data: folder that the tasks' are below. kinds: options that each kind takes. asked: by what the
    name was given.
    Raises UserError for what cannot be read, and for an unknown kind or option.
    """
    if name.endswith(".toml"):
        if not os.path.isfile(name):
            raise UserError(f"no suite file {name!r}")
        with open(name, encoding="utf-8") as file:
            text = file.read()
    elif name in names():
        folder = importlib.resources.files(__package__).joinpath(_FOLDER)
        text = folder.joinpath(f"{name}.toml").read_text()
    else:
        raise UserError(f"{asked}={name!r}: {_nearest(name, names())}; or give a .toml file")
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"suite {name!r} is no TOML: {error}") from error
    entries = content.get("tasks", [])
    if not entries:
        raise UserError(f"suite {name!r} has no [[tasks]]")
    specs = tuple(_spec(entry, data, kinds, name) for entry in entries)
    twice = [spec.name for spec in specs if sum(s.name == spec.name for s in specs) > 1]
    if twice:
        raise UserError(f"suite {name!r} has two tasks {twice[0]!r}: give one of them a name")
    return Suite(name, content.get("title", name), specs)


def _spec(
    entry: Mapping[str, Any], data: str, kinds: Mapping[str, frozenset[str]], suite: str
) -> Spec:
    own = dict(entry)
    kind, of = own.pop("kind", ""), own.pop("set", "")
    if kind not in kinds:
        raise UserError(f"suite {suite!r}: task kind {kind!r}: {_nearest(kind, kinds)}")
    if not of:
        raise UserError(f"suite {suite!r}: a task of kind {kind!r} names no set")
    folder = os.path.join(data, own.pop("data", of))
    name = own.pop("name", f"{of}-{kind}")
    for option in own:
        if option not in kinds[kind]:
            raise UserError(
                f"suite {suite!r}, task {name!r}: option {option!r}: "
                f"{_nearest(option, kinds[kind])}"
            )
    return Spec(name, kind, of, folder, own)


def _nearest(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"use one of {', '.join(sorted(known))}"
