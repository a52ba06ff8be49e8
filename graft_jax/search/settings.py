"""What an index and a search are asked to be, checked before anything is read."""

import datetime
import os
from dataclasses import dataclass, field

from graft_jax.map import geotiff
from graft_jax.map.queries import BARE, check
from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import zeroshot
from rsvl_jax.rasters.footprints import Box
from rsvl_jax.rasters.scene import View

_MOST = 1000  # hits a query


@dataclass(frozen=True)
class Build:
    """One index. `python -m graft_jax.search build --help` says what each is.

    Raises UserError for a value that cannot be meant.
    """

    index: str
    inputs: tuple[str, ...] = ()
    dataset: str = ""
    split: str = ""
    data_dir: str = "data"
    view: View = field(default_factory=View)
    overlap: float = 0.0
    min_valid: float = 0.5
    date: datetime.date | None = None
    batch_size: int = 32

    def __post_init__(self) -> None:
        if bool(self.inputs) == bool(self.dataset):
            raise UserError("give --input=SCENE or --dataset=NAME, one of them")
        if self.dataset and self.view.gsd is not None:
            raise UserError(f"--gsd is of scenes: tiles of {self.dataset!r} have their own")
        if not self.index.endswith(".parquet"):
            raise UserError(f"--index={self.index!r} must end in .parquet")
        geotiff.check_folder(self.index)
        if not 0 <= self.overlap <= 0.9:
            raise UserError(f"overlap {self.overlap:g} is not from 0 to 0.9")
        if not 0 < self.min_valid <= 1:
            raise UserError(f"a least valid share of {self.min_valid:g} is not in (0, 1]")
        if self.batch_size < 1:
            raise UserError(f"batch size {self.batch_size} is below 1")


@dataclass(frozen=True)
class Search:
    """One search. `python -m graft_jax.search --help` says what each is.

    Raises UserError for a value that cannot be meant.
    """

    index: str
    queries: tuple[str, ...]
    templates: tuple[str, ...] = BARE
    top: int = 20
    distinct: bool = False
    bbox: Box | None = None
    after: datetime.date | None = None
    before: datetime.date | None = None
    output: str | None = None
    geojson: str | None = None
    density: str | None = None
    cell: float | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        check(self.queries)
        zeroshot.prompts(list(self.queries), list(self.templates))
        if not 1 <= self.top <= _MOST:
            raise UserError(f"--top={self.top} is not from 1 to {_MOST}")
        if self.bbox is not None:
            _check_box(self.bbox)
        if self.after and self.before and self.after > self.before:
            raise UserError(f"--after={self.after} is later than --before={self.before}")
        self._check_files()
        self._check_density()

    def _check_files(self) -> None:
        for flag, ending, path in (
            ("output", ".html", self.output),
            ("geojson", ".geojson", self.geojson),
        ):
            if path is not None:
                if not path.lower().endswith(ending):
                    raise UserError(f"--{flag}={path!r} must end in {ending}")
                geotiff.check_folder(path)
        if self.density is not None:
            geotiff.check_path(self.density)

    def _check_density(self) -> None:
        for flag, value in (("cell", self.cell), ("threshold", self.threshold)):
            if value is not None and self.density is None:
                raise UserError(f"--{flag}={value:g} is of the density map: add --density=FILE.tif")
        if self.cell is not None and not 0 < self.cell <= 180:
            raise UserError(f"--cell={self.cell:g} is no size in degrees: give 0.1, for example")
        if self.threshold is not None and not -1 < self.threshold < 1:
            raise UserError(f"--threshold={self.threshold:g} is no cosine between -1 and 1")

    @property
    def picture(self) -> str | None:
        """Path of the picture of the density map."""
        return None if self.density is None else os.path.splitext(self.density)[0] + ".png"


def _check_box(box: Box) -> None:
    west, south, east, north = box
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south < north <= 90):
        raise UserError(
            f"--bbox={','.join(f'{edge:g}' for edge in box)} is no W,S,E,N in degrees: "
            "south below north, e.g. -10,35,5,45 (W above E crosses the antimeridian)"
        )
    if west == east:
        raise UserError(f"--bbox starts and ends at longitude {west:g}: it holds nothing")
