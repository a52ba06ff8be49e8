"""Brings weights in, takes them out, and looks at them.

python -m rsvl_jax.weights import SOURCE --out=DIR [--family=NAME]
python -m rsvl_jax.weights export DIR|WORKDIR --format=huggingface|open_clip|safetensors --out=DIR
python -m rsvl_jax.weights inspect PATH
python -m rsvl_jax.weights verify DIR --against=SOURCE

A SOURCE is a file (.safetensors, .npz, .bin, .pt, .pth, .ckpt), an index of shards, a folder of
Hugging Face or open_clip, a directory of ours, or a name of the hub (org/name).
"""

import argparse
import sys

from rsvl_jax import runtime
from rsvl_jax.errors import UserError
from rsvl_jax.weights import exports, imports, inspect, store, verify


def main() -> None:
    """Parses the command line and runs one of the commands."""
    given = _parser().parse_args()
    {"import": _import, "export": _export, "inspect": _inspect, "verify": _verify}[given.command](
        given
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rsvl_jax.weights",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    into = commands.add_parser("import", help="into a directory of ours")
    into.add_argument("source", metavar="SOURCE")
    into.add_argument("--out", required=True, metavar="DIR", help="to be made")
    into.add_argument("--family", help="layout of the names [recognised from them]")
    into.add_argument("--allow_nonfinite", action="store_true", help="take NaN and infinity too")
    out = commands.add_parser("export", help="for others")
    out.add_argument("path", metavar="DIR|WORKDIR")
    out.add_argument("--format", required=True, metavar="|".join(exports.FORMATS))
    out.add_argument("--out", required=True, metavar="DIR", help="to be made")
    look = commands.add_parser("inspect", help="names, shapes, types, family, fingerprint")
    look.add_argument("path", metavar="PATH")
    check = commands.add_parser("verify", help="are these the same numbers, bit by bit?")
    check.add_argument("path", metavar="DIR")
    check.add_argument("--against", required=True, metavar="SOURCE")
    return parser


def _import(given: argparse.Namespace) -> None:
    store.check_free(given.out)
    imported = imports.load(
        given.source, family=given.family, allow_nonfinite=given.allow_nonfinite
    )
    _print(imported.account.lines())
    store.write(given.out, imported.stored)
    print(f"{imported.stored.model.kind} of {imported.stored.family}: {given.out}")


def _export(given: argparse.Namespace) -> None:
    _print(exports.export(given.path, given.out, given.format))


def _inspect(given: argparse.Namespace) -> None:
    _print(inspect.lines(given.path))


def _verify(given: argparse.Namespace) -> None:
    count, found = verify.differences(given.path, given.against)
    _print(found)
    if found:
        raise UserError(f"{given.path!r} is not {given.against!r}: {len(found)} differences, above")
    print(f"{count} arrays are equal to those of {given.against}, bit by bit")


def _print(lines: list[str]) -> None:
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    sys.exit(runtime.exit_status(main))
