"""What a map is asked to be, checked before anything is read."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from graft_jax.map import geotiff
from graft_jax.map.queries import BARE, check
from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import zeroshot
from rsvl_jax.rasters.scene import View

KINDS = ("similarity", "class")


def check_classes(queries: Sequence[str], threshold: float | None) -> None:
    """Raises UserError for more classes than 8 bits hold, a single one, or no cosine."""
    count, most = len(queries), geotiff.NO_CLASS - 1
    if count > most or (count < 2 and threshold is None):
        raise UserError(
            f"classes of {count} queries: give 2 to {most} of them, or one and a --threshold"
        )
    if threshold is not None and not -1 <= threshold <= 1:
        raise UserError(f"--threshold={threshold:g} is no cosine: give one from -1 to 1")


@dataclass(frozen=True)
class Settings:
    """One map. `python -m graft_jax.map --help` says what each is.

    Raises UserError for a value that cannot be meant.
    """

    input: str
    output: str
    queries: tuple[str, ...]
    templates: tuple[str, ...] = BARE
    kind: str = "similarity"
    level: str = "pixels"
    view: View = field(default_factory=View)
    overlap: float = 0.5
    batch_size: int = 32
    threshold: float | None = None

    def __post_init__(self) -> None:
        check(self.queries)
        zeroshot.prompts(list(self.queries), list(self.templates))
        if self.kind not in KINDS:
            raise UserError(f"unknown kind {self.kind!r}: choose one of {KINDS}")
        if self.kind == "class":
            check_classes(self.queries, self.threshold)
        elif self.threshold is not None:
            raise UserError(f"--threshold={self.threshold:g} is for --kind=class: leave it out")
        geotiff.check_path(self.output)
        if self.output in self.input.split(","):
            raise UserError(f"--output={self.output!r} is the input: choose another name")
