"""What a build is asked to do with the rows of its source."""

from dataclasses import asdict, dataclass
from typing import Any

from rsvl_jax.errors import UserError

DUPLICATES = ("image", "caption")
RUNNERS = ("local", "beam")


@dataclass(frozen=True)
class Options:
    """All but the last three decide what the data set is.

    Attributes:
      seed: of the order of the records and of what is held out.
      min_side, max_pixels: images with a shorter side, or more pixels, are dropped.
      max_side: larger images are made smaller, to this longest side in pixels; None: none is.
      quality: JPEG quality to which every image is encoded anew; None: bytes stay as they are,
        but for formats that training does not read (see `images`).
      max_caption: longer captions are left out, in characters.
      dedupe: of "image" (perceptual hash) and "caption" (the same words): later rows are dropped.
      validation, test: shares of the rows to hold out where the source names none.
      shard_bytes: size to aim at.
      vocabulary: pieces of the tokenizer that is trained on the captions.
      workers: processes; 0: one a core.
      runner: "local", or "beam": the work is done by Beam pipelines, see `beam`.
      beam_options: such as "--runner=DataflowRunner".
    """

    seed: int = 0
    min_side: int = 16
    max_pixels: int = 2**26
    max_side: int | None = None
    quality: int | None = None
    max_caption: int = 4096
    dedupe: tuple[str, ...] = ()
    validation: float = 0.01
    test: float = 0.01
    shard_bytes: int = 200_000_000
    vocabulary: int = 32_000
    workers: int = 0
    runner: str = "local"
    beam_options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.dedupe if kind not in DUPLICATES]
        if unknown:
            raise UserError(f"--dedupe={unknown[0]}: choose from {', '.join(DUPLICATES)}")
        if not (self.validation >= 0 and self.test >= 0 and self.validation + self.test < 1):
            raise UserError(
                f"--validation={self.validation} and --test={self.test} leave nothing to train on: "
                "give shares such as 0.01"
            )
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise UserError(f"--{name}={value} is not between {low} and {high}")

    def identity(self) -> dict[str, Any]:
        """What decides the bytes of the data set, for JSON."""
        found = asdict(self) | {"dedupe": sorted(self.dedupe)}
        return {name: value for name, value in found.items() if name not in _FREE}


_FREE = ("workers", "runner", "beam_options")
_RANGES = (
    ("seed", 0, 2**63 - 1),
    ("min_side", 1, 2**16),
    ("max_pixels", 1, 2**31),
    ("max_side", 8, 2**16),
    ("quality", 1, 100),
    ("max_caption", 1, 2**20),
    ("shard_bytes", 1, 2**40),
    ("vocabulary", 300, 2**20),
    ("workers", 0, 4096),
)
