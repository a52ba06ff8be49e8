"""What a map is asked to be, checked before anything is read."""

from dataclasses import dataclass, field

from graft_jax.map import geotiff
from graft_jax.map.queries import BARE, check
from graft_jax.map.scene import View
from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import zeroshot

KINDS = ("similarity", "class")


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

    def __post_init__(self) -> None:
        check(self.queries)
        zeroshot.prompts(list(self.queries), list(self.templates))
        if self.kind not in KINDS:
            raise UserError(f"unknown kind {self.kind!r}: choose one of {KINDS}")
        count = len(self.queries)
        if self.kind == "class" and not 2 <= count < geotiff.NO_CLASS:
            raise UserError(
                f"a class map of {count} queries: give 2 to {geotiff.NO_CLASS - 1} of them, or "
                "--kind=similarity"
            )
        geotiff.check_path(self.output)
        if self.output in self.input.split(","):
            raise UserError(f"--output={self.output!r} is the input: choose another name")
