"""What a segmentation is asked to be, checked before anything is read."""

import os
from dataclasses import dataclass, field

from graft_jax.map.geotiff import check_folder
from graft_jax.map.queries import BARE, check
from graft_jax.map.settings import Settings as MapSettings
from graft_jax.map.settings import check_classes
from graft_jax.segment.regions import Regions, superpixels
from graft_jax.segment.sam import POINTS, SegmentAnything
from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import zeroshot
from rsvl_jax.rasters.scene import View

REFINEMENTS = ("none", "superpixels", "sam")
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


@dataclass(frozen=True)
class Settings:
    """One segmentation. `python -m graft_jax.segment --help` says what each is.

    Raises UserError for a value that cannot be meant.
    """

    input: str
    output: str
    queries: tuple[str, ...]
    templates: tuple[str, ...] = BARE
    threshold: float | None = None
    refine: str = "none"
    superpixel: int | None = None
    sam: str | None = None
    sam_points: int = POINTS
    view: View = field(default_factory=View)
    overlap: float = 0.5
    batch_size: int = 32

    def __post_init__(self) -> None:
        if self.refine not in REFINEMENTS:
            raise UserError(f"unknown --refine={self.refine!r}: choose one of {REFINEMENTS}")
        if self.sam is None and self.refine == "sam":
            raise UserError("--refine=sam needs --sam=DIR, a folder with Segment Anything weights")
        if self.sam is not None and self.refine != "sam":
            raise UserError(f"--sam={self.sam!r} is for --refine=sam: add it")
        if self.superpixel is not None and self.refine != "superpixels":
            raise UserError(f"--superpixel={self.superpixel} is for --refine=superpixels: add it")
        if not self.is_picture:
            _ = self.map
            return
        check(self.queries)
        zeroshot.prompts(list(self.queries), list(self.templates))
        check_classes(self.queries, self.threshold)
        if not self.output.lower().endswith(".png"):
            raise UserError(f"labels of a picture are a PNG: --output={self.output!r} must end so")
        check_folder(self.output)
        if self.output == self.input:
            raise UserError(f"--output={self.output!r} is the input: choose another name")
        if self.view != View():
            raise UserError(
                f"{self.input!r} has no ground: --gsd, --bands, --scale and --percentiles are for "
                "scenes"
            )

    @property
    def is_picture(self) -> bool:
        """Whether the input is an image without a place, by its name."""
        return os.path.splitext(self.input)[1].lower() in _PICTURES

    @property
    def map(self) -> MapSettings:
        """The same as a class map of a scene."""
        return MapSettings(
            input=self.input,
            output=self.output,
            queries=self.queries,
            templates=self.templates,
            kind="class",
            view=self.view,
            overlap=self.overlap,
            batch_size=self.batch_size,
            threshold=self.threshold,
        )

    def regions(self, patch_size: int) -> Regions | None:
        """What refines; superpixels are as large as a patch unless something else was asked."""
        if self.refine == "superpixels":
            return superpixels(patch_size if self.superpixel is None else self.superpixel)
        if self.refine == "sam":
            assert self.sam is not None
            return SegmentAnything(self.sam, self.sam_points)
        return None

    def tags(self, patch_size: int) -> dict[str, str]:
        """How it was refined, for the file."""
        if self.refine == "superpixels":
            return {"refine": f"SLIC superpixels of {self.superpixel or patch_size} pixels"}
        if self.refine == "sam":
            name = os.path.basename(os.path.normpath(self.sam or ""))
            return {"refine": f"Segment Anything {name}, {self.sam_points} points a side"}
        return {"refine": "none"}
