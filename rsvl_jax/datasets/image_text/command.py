"""Flags of `build LAYOUT --source=...`: those of all layouts, and what becomes of them."""

import argparse

from rsvl_jax.datasets import store
from rsvl_jax.datasets.image_text import beam
from rsvl_jax.datasets.image_text.options import DUPLICATES, RUNNERS, Options
from rsvl_jax.datasets.image_text.readers import LAYOUTS, find
from rsvl_jax.errors import UserError

_MEGABYTE = 1_000_000
_OPTIONS = ("seed", "min_side", "max_pixels", "max_side", "quality", "max_caption", "workers")


def add_layouts(parser: argparse.ArgumentParser) -> None:
    """Adds a subcommand a layout."""
    layouts = parser.add_subparsers(dest="layout", metavar="LAYOUT")
    for layout in LAYOUTS:
        reader = find(layout)
        command = layouts.add_parser(layout, help=reader.help, description=reader.__doc__)
        command.add_argument("--source", required=True, help="the download: a file or folder")
        command.add_argument("--name", default=layout, help=f"of the data set [{layout}]")
        command.add_argument("--data_dir", default="data", help="where data sets lie [data]")
        _add_options(command)
        reader.add_arguments(command)


def _add_options(parser: argparse.ArgumentParser) -> None:
    default = Options()
    add = parser.add_argument
    for name, what in (
        ("seed", "of the order and of what is held out"),
        ("min_side", "shorter images are dropped, pixels"),
        ("max_pixels", "larger images are dropped"),
        ("max_side", "larger images are made smaller, to this longest side"),
        ("quality", "JPEG quality to encode every image anew"),
        ("max_caption", "longer captions are left out, characters"),
        ("vocabulary", "pieces of the tokenizer"),
        ("workers", "processes, 0: one a core"),
    ):
        value = getattr(default, name)
        add(f"--{name}", type=int, default=value, help=f"{what} [{value}]")
    add("--dedupe", default="", help=f"drop repeats, of {', '.join(DUPLICATES)}, joined by commas")
    for name in ("validation", "test"):
        value = getattr(default, name)
        add(f"--{name}", type=float, default=value, help=f"share to hold out [{value}]")
    add("--shard_mb", type=float, default=default.shard_bytes / _MEGABYTE, help="of a shard")
    add("--runner", choices=RUNNERS, default=default.runner, help="beam: on a cluster [local]")
    add("--beam_options", action="append", default=[], help="such as --runner=DataflowRunner")
    add("--restart", action="store_true", help="begin anew where a build was stopped")


def build(arguments: argparse.Namespace) -> dict:
    """Builds what the flags ask for and returns its manifest."""
    from rsvl_jax.datasets.image_text.build import build

    shard_bytes = arguments.shard_mb * _MEGABYTE
    if not shard_bytes >= 1:
        raise UserError(f"--shard_mb={arguments.shard_mb}: give a size such as 200")
    options = Options(
        **{name: getattr(arguments, name) for name in (*_OPTIONS, "vocabulary")},
        dedupe=tuple(filter(None, arguments.dedupe.split(","))),
        validation=arguments.validation,
        test=arguments.test,
        shard_bytes=int(shard_bytes),
        runner=arguments.runner,
        beam_options=tuple(arguments.beam_options),
    )
    if options.runner == "beam":
        beam.require()
    reader = find(arguments.layout).from_arguments(arguments)
    name, data_dir = arguments.name, arguments.data_dir
    build(reader, name=name, data_dir=data_dir, options=options, restart=arguments.restart)
    return store.manifest(f"image_text/{name}", data_dir)


def describe(manifest: dict) -> str:
    """Lines for people: what was built, what was left out and why, what was changed."""
    lines = []
    for title, counts in (("dropped", manifest["dropped"]), ("changed", manifest["changed"])):
        lines += [f"{title}: {count:>9} {reason}" for reason, count in counts.items()]
    has = ", ".join(f"{count} {name}" for name, count in manifest["has"]["train"].items())
    return "\n".join([*lines, f"train: {has}"])
