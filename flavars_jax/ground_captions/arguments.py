"""The command line of `python -m flavars_jax.ground_captions`."""

import argparse
import json
from typing import Any, NoReturn

from flavars_jax.ground_captions.costs import ImageTokens, Prices
from flavars_jax.ground_captions.settings import Settings
from rsvl_jax.errors import UserError

_DEFAULT = Settings()


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every command of the project does."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def ask(description: str) -> Parser:
    """Flags of asking."""
    found = _parser("", description)
    _add_rows(found.add_argument_group("rows"))
    found.add_argument("--output", required=True, metavar="DIR", help="folder of the answers")
    found.add_argument("--dry_run", action="store_true", help="tell the cost, send nothing")
    _add_endpoint(found.add_argument_group("endpoint"))
    _add_question(found.add_argument_group("question"))
    _add_speed(found.add_argument_group("speed"))
    _add_costs(found.add_argument_group("costs"))
    return found


def figure(description: str) -> Parser:
    """Flags of `figure`."""
    found = _parser(" figure", description)
    found.add_argument("--answers", metavar="DIR", help="a folder of answers, as --output was")
    _add_records(found)
    found.add_argument("--id", default="", help="of the answer or record [the one with most boxes]")
    found.add_argument("--output", default="figure.png", metavar="FILE.png")
    return found


def settings(given: argparse.Namespace) -> Settings:
    """What the flags of `ask` say. Raises UserError."""
    names = Settings.__dataclass_fields__.keys() - {"image_tokens", "prices", "extra"}
    return Settings(
        image_tokens=ImageTokens(given.image_tokens),
        prices=Prices(given.price_in, given.price_out),
        extra=given.extra,
        **{name: getattr(given, name) for name in names},
    )


def _parser(command: str, description: str) -> Parser:
    return Parser(
        prog=f"python -m flavars_jax.ground_captions{command}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_rows(group: Any) -> None:
    group.add_argument("--input", metavar="TABLE", help="JSON lines, CSV, TSV or Parquet")
    group.add_argument("--images_dir", default="", help="paths are relative to it [the table's]")
    group.add_argument(
        "--columns", type=_pairs, default={}, help="e.g. image=filepath,caption=title"
    )
    _add_records(group)


def _add_records(group: Any) -> None:
    group.add_argument("--name", default="", help="a built data set instead of a table")
    group.add_argument("--data_dir", default="data", help="where data sets lie [data]")
    group.add_argument("--split", default="train", help="[train]")


def _add_endpoint(group: Any) -> None:
    group.add_argument("--url", default="", help="up to /v1 [OPENAI_BASE_URL]")
    group.add_argument("--model", default="", help="[OPENAI_MODEL]")
    group.add_argument("--api_key_file", default="", metavar="FILE", help="that holds the key")
    group.add_argument(
        "--api_key_variable", default="OPENAI_API_KEY", help="that holds it [OPENAI_API_KEY]"
    )
    group.add_argument(
        "--extra", type=_object, default={}, help="""more of a request, e.g. '{"temperature": 0}'"""
    )


def _add_question(group: Any) -> None:
    group.add_argument("--prompt", default="grounded", help="a file, or one of ours [grounded]")
    group.add_argument(
        "--box_units", default="pixels", help="pixels, thousandths or fractions [pixels]"
    )
    group.add_argument(
        "--max_caption", type=int, default=400, help="characters of a caption at most [400]"
    )
    _add(group, "min_side", "pixels: smaller images are sent enlarged")
    _add(group, "max_side", "pixels: larger images are sent reduced")
    _add(group, "max_tokens", "of an answer")
    _add(group, "reask", "times that an invalid answer is asked for again")


def _add_speed(group: Any) -> None:
    _add(group, "in_flight", "requests at a time")
    _add(group, "requests_per_minute", "0: no limit")
    _add(group, "tokens_per_minute", "0: no limit")
    _add(group, "timeout", "seconds for a request")
    _add(group, "attempts", "at a request")
    _add(group, "max_wait", "seconds of back-off at most")
    _add(group, "give_up", "rows in a row without a valid answer")
    _add(group, "grace", "seconds for what is in flight after a signal")


def _add_costs(group: Any) -> None:
    group.add_argument("--price_in", type=float, help="dollars for a million tokens of requests")
    group.add_argument("--price_out", type=float, help="... of answers")
    group.add_argument("--max_cost", type=float, help="dollars, of all starts together [no cap]")
    group.add_argument("--limit", type=int, help="rows to ask about in this start [all]")
    group.add_argument(
        "--image_tokens", default="tiles", help="tiles, patches:SIDE or a number [tiles]"
    )
    _add(group, "typical_tokens", "that an answer is expected to have")


def _add(group: Any, name: str, what: str) -> None:
    value = getattr(_DEFAULT, name)
    group.add_argument(f"--{name}", type=type(value), default=value, help=f"{what} [{value:g}]")


def _pairs(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",")]
    if any(not (name and cut and value) for name, cut, value in pairs):
        raise argparse.ArgumentTypeError(f"{text!r} is not FIELD=COLUMN,...")
    return {name: value for name, _, value in pairs}


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON object")
    return value
