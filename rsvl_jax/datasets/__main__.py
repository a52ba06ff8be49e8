"""`python -m rsvl_jax.datasets build|check|list|show [NAME] --data_dir=DIR`.

`build LAYOUT --source=DOWNLOAD --name=NAME` makes a data set `image_text/NAME` of a download;
`bench NAME` measures the input.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from rsvl_jax.datasets import bench, registry, store
from rsvl_jax.datasets.image_text import command as image_text
from rsvl_jax.errors import UserError
from rsvl_jax.runtime import exit_status


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every command of the project does."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def run(argv: Sequence[str]) -> None:
    """Carries out a command line (without the program's name)."""
    arguments = _parse(argv)
    _COMMANDS[arguments.command](arguments)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="python -m rsvl_jax.datasets", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (
        ("build", "build a data set where it is missing"),
        ("check", "verify every file and record"),
        ("list", "show what is there"),
        ("show", "write a page about it: counts, words, map, pictures, repeats, what was left out"),
    ):
        command = commands.add_parser(name, help=what, description=what)
        command.add_argument("--data_dir", default="data", help="where data sets lie [data]")
        if name != "list":
            known = ", ".join(entry.name for entry in registry.entries())
            command.add_argument("--name", default="earth_tiles", help=f"one of: {known}")
        if name == "build":
            image_text.add_layouts(command)
        if name in ("check", "show"):
            command.add_argument("given", nargs="?", metavar="NAME", help="the same as --name=NAME")
        if name == "show":
            command.add_argument("--output", default="page.html", help="file to write [page.html]")
            command.add_argument("--records", type=int, default=20_000, help="to read [20000]")
            command.add_argument("--pictures", type=int, default=24, help="to show [24]")
    bench.add_arguments(commands.add_parser("bench", help="measure the input by stage"))
    arguments = parser.parse_args(argv)
    arguments.name = getattr(arguments, "given", None) or getattr(arguments, "name", "")
    return arguments


def _build(arguments: argparse.Namespace) -> None:
    if arguments.layout:
        manifest = image_text.build(arguments)
        print(f"{_describe(manifest)}\n{image_text.describe(manifest)}")
        return
    store.ensure(arguments.name, arguments.data_dir)
    print(_describe(store.manifest(arguments.name, arguments.data_dir)))


def _check(arguments: argparse.Namespace) -> None:
    from rsvl_jax.datasets.check import check

    manifest = check(arguments.name, arguments.data_dir)
    print(f"every record is good: {_describe(manifest)}")


def _list(arguments: argparse.Namespace) -> None:
    if not os.path.isdir(registry.local(arguments.data_dir)):
        raise UserError(f"no directory {arguments.data_dir!r}: choose another --data_dir")
    for entry in [*registry.entries(), *registry.built(arguments.data_dir)]:
        directory = entry.directory(arguments.data_dir)
        if os.path.isfile(os.path.join(directory, store.MANIFEST)):
            print(_describe(store.manifest(entry.name, arguments.data_dir)))
        else:
            state = "half built" if os.path.isdir(directory) else "not built"
            print(f"{entry.name} {entry.version}: {state}")


def _show(arguments: argparse.Namespace) -> None:
    from rsvl_jax.report import dataset

    for flag in ("records", "pictures"):
        if getattr(arguments, flag) < 1:
            raise UserError(f"--{flag}={getattr(arguments, flag)} shows nothing: give 1 or more")
    name, data_dir, output = arguments.name, arguments.data_dir, arguments.output
    how = {"most": arguments.records, "pictures": arguments.pictures}
    found = dataset.write(name, data_dir, output, **how)
    print(f"{sum(found.read.values())} records of {name} in {output}")


def _bench(arguments: argparse.Namespace) -> None:
    print(bench.run(arguments))


def _describe(manifest: dict) -> str:
    splits = ", ".join(f"{split} {count}" for split, count in manifest["splits"].items())
    classes = f"; {len(manifest['classes'])} classes" if "classes" in manifest else ""
    head = f"{manifest['name']} {manifest['version']}: {splits}{classes}"
    return f"{head}; fingerprint {manifest['fingerprint'][:12]}"


_COMMANDS = {"build": _build, "check": _check, "list": _list, "show": _show, "bench": _bench}


if __name__ == "__main__":
    sys.exit(exit_status(lambda: run(sys.argv[1:])))
