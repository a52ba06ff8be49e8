"""What a collection is asked to do, checked before anything is read."""

import dataclasses
import datetime
import re
from dataclasses import dataclass, field

from graft_jax.pairs.local import Grid
from rsvl_jax.errors import UserError

SEASONS = ("quarter", "year", "none")
RESAMPLING = ("bilinear", "cubic", "average", "nearest")
SPLITS = ("train", "validation", "test")
LAST_LATITUDE = 88.0  # beyond it a lon/lat box around a tile means little


@dataclass(frozen=True)
class Settings:
    """One collection. `python -m graft_jax.pairs --help` says what each is; lengths in metres.

    Raises UserError for a value that cannot be meant.
    """

    photos: tuple[str, ...]
    rasters: tuple[str, ...]
    gsd: float
    size: int = 224
    name: str = "pairs"
    data_dir: str = "data"
    # photos
    columns: dict[str, str] = field(default_factory=dict)
    photos_dir: str = ""
    photo_size: int = 256
    min_accuracy: float = 15
    max_error: float = 100
    since: str = ""
    until: str = ""
    min_side: int = 0
    per_spot: int = 1
    per_owner: int = 0
    outdoor: str = ""
    outdoor_min: float = 0.5
    # tiles
    season: str = "quarter"
    spacing: float = 0.5
    share_photos: bool = True
    max_photos: int = 25
    min_photos: int = 1
    per_owner_per_tile: int = 0
    seed: int = 0
    # splits
    block: float = 0.5
    gap: float | None = None
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    # rasters
    bands: tuple[int, ...] = ()
    assets: tuple[str, ...] = ()
    stretch: tuple[float, float] | None = None
    sensor: str = ""
    max_cloud: float = 100
    max_days: int = 0
    min_valid: float = 0.95
    resampling: str = "bilinear"
    image_format: str = "png"
    # running
    workers: int = 0
    runner: str = "local"
    beam_options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._check_choices()
        self._check_numbers()
        since, until = self.days
        if since > until:
            raise UserError(f"--since={self.since} is after --until={self.until or 'today'}")

    @property
    def grid(self) -> Grid:
        """The pixel grid of the tiles."""
        return Grid(self.size, self.gsd)

    @property
    def gap_metres(self) -> float:
        """Least distance between the grounds of two splits: one tile, unless told."""
        return 2 * self.grid.half if self.gap is None else self.gap

    @property
    def days(self) -> tuple[int, int]:
        """First and last day wanted, days since 1970; until today unless told."""
        last = _day(self.until, "until") if self.until else self.today()
        return _day(self.since or "1826-01-01", "since"), last

    @staticmethod
    def today() -> int:
        """The day of the run, days since 1970: no photo is from later."""
        return _day(datetime.date.today().isoformat(), "until")

    def _check_choices(self) -> None:
        for value, flag, known in (
            (self.season, "season", SEASONS),
            (self.resampling, "resampling", RESAMPLING),
            (self.image_format, "image_format", ("png", "jpeg")),
            (self.runner, "runner", ("local", "beam")),
        ):
            if value not in known:
                raise UserError(f"--{flag}={value} is unknown: it is one of {', '.join(known)}")
        if not re.fullmatch(r"[A-Za-z0-9_-]+", self.name):
            raise UserError(f"--name={self.name!r}: use letters, digits, '-' and '_'")
        for paths, flag in ((self.photos, "photos"), (self.rasters, "rasters")):
            if not paths:
                raise UserError(f"nothing to read: add --{flag}=PATH")

    def _check_numbers(self) -> None:
        least = {"size": 1, "photo_size": 0, "min_side": 0, "per_spot": 0, "per_owner": 0}
        least |= {"per_owner_per_tile": 0, "max_days": 0, "workers": 0}
        least |= {"max_photos": 1, "min_photos": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise UserError(f"--{name}={getattr(self, name)} must be at least {low}")
        if not 0 < self.gsd < 1e6:
            raise UserError(f"--gsd={self.gsd} is not metres a pixel, such as 1 or 10")
        for name, low_, high in (("spacing", 0.5, 1.0), ("min_valid", 0.0, 1.0)):
            if not low_ <= getattr(self, name) <= high:
                raise UserError(f"--{name}={getattr(self, name)} is not in [{low_}, {high}]")
        if min(self.fractions) < 0 or abs(sum(self.fractions) - 1) > 1e-6:
            raise UserError(f"--fractions={self.fractions} must be three shares that add up to 1")
        if self.stretch and self.stretch[0] >= self.stretch[1]:
            raise UserError(f"--stretch={self.stretch}: the first value (black) must be the lower")
        if len(self.bands) not in (0, 1, 3) or min(self.bands, default=1) < 1:
            raise UserError(f"--bands={self.bands}: give one band or three, counted from 1")
        if len(self.assets) not in (0, 1, 3):
            raise UserError(f"--assets={self.assets}: give one asset or three (red, green, blue)")
        self._check_blocks()

    def _check_blocks(self) -> None:
        needed = (2 * self.grid.half + self.gap_metres) / 110_000
        if not 2 * needed <= self.block <= 90:
            raise UserError(
                f"--block={self.block} degrees is too small for tiles of {2 * self.grid.half:g} m "
                f"{self.gap_metres:g} m apart: it must be {2 * needed:.4g} to 90"
            )

    def recorded(self) -> dict:
        """What decides the content of the data set, for its manifest."""
        free = ("workers", "runner", "beam_options", "data_dir", "photos", "rasters", "photos_dir")
        values = {k: v for k, v in dataclasses.asdict(self).items() if k not in free}
        days = [datetime.date(1970, 1, 1) + datetime.timedelta(day) for day in self.days]
        return values | {"since": str(days[0]), "until": str(days[1]), "gap": self.gap_metres}


def _day(text: str, flag: str) -> int:
    try:
        return (datetime.date.fromisoformat(text) - datetime.date(1970, 1, 1)).days
    except ValueError as error:
        raise UserError(f"--{flag}={text!r} is not a date: write YYYY-MM-DD") from error
