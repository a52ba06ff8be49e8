"""Answers as RSVQA writes them, and how its accuracies are counted.

RSVQA-LR buckets counts, RSVQA-HR buckets areas (syvlo/RSVQA, VQA_model/VocabEncoder.py): 0 stands
alone, then up to 10, 100, 1,000, and more.
"""

from typing import Any

from rsvl_jax.vqa import grammar

_EDGES = (10, 100, 1000)


def written(value: Any, kind: str, *, bucket_counts: bool = False) -> str:
    """The value of a program as an answer to a question of that kind."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if kind == grammar.AREA:
        return bucket(int(value), "m2")
    return bucket(int(value), "") if bucket_counts else str(int(value))


def bucket(number: int, unit: str) -> str:
    """ "between 10m2 and 100m2" of 57 m2; "0m2" of none."""
    if number == 0:
        return f"0{unit}"
    low = 0
    for high in _EDGES:
        if number <= high:
            return f"between {low}{unit} and {high}{unit}"
        low = high
    return f"more than {low}{unit}"


def normal(answer: str, *, bucket_counts: bool = False) -> str:
    """A data set's own answer in the form of `written`."""
    plain = " ".join(answer.lower().split()).rstrip(".?")
    if plain.endswith("m2") and plain[:-2].isdigit():
        return bucket(int(plain[:-2]), "m2")
    if plain.isdigit():
        return bucket(int(plain), "") if bucket_counts else str(int(plain))
    return plain
