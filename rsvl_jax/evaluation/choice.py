"""Which suite scores a data set."""

from collections.abc import Callable, Mapping
from typing import Any

from rsvl_jax.evaluation import earth_tiles, image_text
from rsvl_jax.evaluation.card import Card


def suite_of(manifest: Mapping[str, Any]) -> Callable[..., list[Card]]:
    """`evaluate` of the suite that fits: built from a download, or tiles with masks and labels."""
    return image_text.evaluate if "layout" in manifest else earth_tiles.evaluate
