"""Flags that the mains around a text-aligned model share."""

import argparse

from graft_jax.map import queries
from rsvl_jax.rasters.arguments import INPUT, Parser, add_view, view

__all__ = [
    "INPUT",
    "Parser",
    "add_model",
    "add_overlap",
    "add_queries",
    "add_threshold",
    "add_view",
    "templates",
    "view",
]


def add_model(parser: argparse.ArgumentParser) -> None:
    """--workdir and --batch_size."""
    parser.add_argument("--workdir", required=True, help="work directory of the trained model")
    parser.add_argument("--batch_size", type=int, default=32, help="windows at a time [32]")


def add_queries(parser: argparse.ArgumentParser) -> None:
    """--query and --template."""
    parser.add_argument(
        "--query", action="append", default=[], help="what to look for; again for more"
    )
    parser.add_argument(
        "--template",
        action="append",
        help='prompt with {c} for the query, again for more, averaged ["{c}", the bare query]',
    )


def templates(given: argparse.Namespace) -> tuple[str, ...]:
    """Prompt templates of a command line."""
    return tuple(given.template or queries.BARE)


def add_threshold(parser: argparse.ArgumentParser) -> None:
    """--threshold."""
    parser.add_argument(
        "--threshold",
        type=float,
        help="cosine below which a pixel is none of the queries [each is the most similar one]",
    )


def add_overlap(parser: argparse.ArgumentParser) -> None:
    """--overlap."""
    parser.add_argument(
        "--overlap", type=float, default=0.5, help="of windows, share of their side [0.5]"
    )
