"""Names of classes as words."""

import re


def words(name: str) -> str:
    """A folder's name as words: "AnnualCrop" -> "annual crop", "sea_lake" -> "sea lake"."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return " ".join(re.split(r"[_/\s]+", apart)).lower()
