"""The command line of a main: `--config=FILE[:PRESET] --workdir=DIR --config.key=value`."""

import difflib
import importlib.util
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from absl import flags
from ml_collections import config_dict, config_flags

from rsvl_jax.errors import UserError

UNITS = ("steps", "epochs", "examples", "percent")
_OVERRIDE = re.compile(r"^--?(?:no)?config\.([\w.]+)")


@dataclass(frozen=True)
class Arguments:
    """What a main was asked to do.

    Attributes:
      config: the resolved configuration: file, preset and overrides.
      workdir: the work directory, a local path or an object-store address.
    """

    config: config_dict.ConfigDict
    workdir: str


def parse(argv: Sequence[str]) -> Arguments:
    """Parses a command line, `argv[0]` being the program.

    Raises:
      UserError: a missing or unreadable config file, an unknown flag, preset or key (with the
        nearest one), a value of the wrong type, or no work directory.
    """
    argv = [_shipped(argument) for argument in argv]
    plain = [argument for argument in argv if not _OVERRIDE.match(argument)]
    known = _parse_flags(plain).config
    for argument in argv:
        if match := _OVERRIDE.match(argument):
            _check_key(match.group(1), known)
    values = _parse_flags(argv)
    _replace_other_units(values.config, argv)
    if not values.workdir:
        raise UserError("no work directory: add --workdir=DIR, e.g. --workdir=runs/flavars")
    return Arguments(values.config, values.workdir)


def _shipped(argument: str) -> str:
    """--config=configs/NAME.py means a recipe that is installed where no such file is here."""
    match = re.match(r"^(--?config=)configs/(\w+\.py)(.*)$", argument)
    if match is None or os.path.isfile(os.path.join("configs", match[2])):
        return argument
    spec = importlib.util.find_spec("configs")
    folders = (spec.submodule_search_locations or []) if spec else []
    found = (os.path.join(folder, match[2]) for folder in folders)
    path = next((path for path in found if os.path.isfile(path)), None)
    return argument if path is None else f"{match[1]}{path}{match[3]}"


def _parse_flags(argv: Sequence[str]) -> flags.FlagValues:
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config", None, "config file", flag_values=values, sys_argv=list(argv)
    )
    flags.DEFINE_string("workdir", None, "work directory", flag_values=values)
    _check_config_file(argv)
    try:
        rest = values(list(argv))
    except flags.Error as error:
        raise UserError(_plain(error)) from error
    if len(rest) > 1:
        raise UserError(f"unexpected argument {rest[1]!r}: flags are written --name=value")
    return values


def _replace_other_units(config: config_dict.ConfigDict, argv: Sequence[str]) -> None:
    """A length given in one unit (`_steps`, `_epochs`, ...) takes the place of the recipe's own."""
    given = {match.group(1) for a in argv if (match := _OVERRIDE.match(a))}
    for key in given:
        path, _, leaf = key.rpartition(".")
        name, _, unit = leaf.rpartition("_")
        if unit not in UNITS:
            continue
        stem = f"{name}_" if name else ""
        for other in UNITS:
            sibling = f"{path}.{stem}{other}"
            if sibling not in given and f"{stem}{other}" in config[path]:
                config[path][f"{stem}{other}"] = None


def _plain(error: Exception) -> str:
    """The flag library wraps what a config file raises in a page of traceback: keep its heart."""
    text = str(error)
    own = re.search(r"UserError: (.*)", text)
    return own.group(1) if own else " ".join(text.split())


def _check_config_file(argv: Sequence[str]) -> None:
    """Says in one line what is wrong with --config, which the flag library takes a page to do."""
    chosen = [a.split("=", 1)[1] for a in argv if re.match(r"^--?config=", a)]
    if not chosen:
        raise UserError("no configuration: add --config=FILE[:PRESET], e.g. configs/flavars.py")
    path = chosen[-1].split(":", 1)[0]
    if not os.path.isfile(path):
        here = ", ".join(sorted(_config_files())) or "none here"
        raise UserError(f"no config file {path!r} (configs in this directory: {here})")


def _config_files() -> Iterator[str]:
    if os.path.isdir("configs"):
        for name in os.listdir("configs"):
            if name.endswith(".py") and name != "__init__.py":
                yield os.path.join("configs", name)


def _check_key(key: str, config: config_dict.ConfigDict) -> None:
    keys = sorted(flatten(config))
    if key in keys:
        return
    inside = [k for k in keys if k.startswith(key + ".")]
    if inside:
        raise UserError(f"config.{key} is a section: set one of its keys, e.g. config.{inside[0]}")
    leaf = key.rsplit(".", 1)[-1]
    same_leaf = [k for k in keys if k.rsplit(".", 1)[-1] == leaf]
    near = same_leaf or difflib.get_close_matches(key, keys, n=1, cutoff=0.0)
    raise UserError(f"unknown config key config.{key}: did you mean config.{near[0]}?")


def flatten(config: config_dict.ConfigDict, prefix: str = "") -> dict[str, object]:
    """Returns the leaves of a config by dotted key, in the config's own order."""
    leaves: dict[str, object] = {}
    for key in config:
        value = config[key]
        if isinstance(value, config_dict.ConfigDict):
            leaves.update(flatten(value, f"{prefix}{key}."))
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def arguments() -> Arguments:
    """Parses this process's own command line."""
    return parse(sys.argv)
