"""One collection from beginning to end."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from graft_jax.pairs import (
    blocks,
    cover,
    coverage,
    filters,
    local,
    photos,
    pictures,
    plan,
    rasters,
    summary,
    work,
)
from graft_jax.pairs.counts import Counts
from graft_jax.pairs.settings import Settings
from rsvl_jax.datasets import ground_satellite_pairs
from rsvl_jax.errors import UserError

_PACKAGES = ("rasterio", "pyproj", "pyarrow", "pillow")


def collect(settings: Settings) -> tuple[str, dict[str, Any]]:
    """Makes the data set and returns its directory and its summary.

    Raises UserError for input that cannot be read, or if nothing is left of it.
    """
    if settings.runner == "beam":
        work.require_beam()
    counts = Counts()
    made: dict[str, Any] = {}

    def fill(staging: str) -> str:
        images = rasters.catalogue(settings, counts)
        plans = make_plan(settings, images, staging, counts, made)
        return _write(settings, images, plans, staging, counts, made)

    directory = ground_satellite_pairs.publish(settings.name, settings.data_dir, fill)
    return directory, made["summary"]


def make_plan(
    settings: Settings,
    images: list[rasters.Raster],
    staging: str,
    counts: Counts,
    made: dict[str, Any],
) -> dict[str, str]:
    """Puts the photos onto tiles and writes the plan below `staging`: its file by split.

    What was left out goes into `counts`, the number of tiles and photos into made["planned"].
    """
    texts = os.path.join(staging, "photos.arrow")
    table = filters.apply(photos.read(settings, texts, counts), settings, counts)
    table, may_centre = _on_rasters(table, images, settings, counts)
    split = blocks.split_of_tiles(table.lon, table.lat, settings)
    season = plan.seasons(table.day, settings)
    assigned = cover.assign(table, season, may_centre & (split >= 0), settings)
    counts.skip("photo", "on no tile (edge of a raster or of a split)", assigned.uncovered)
    counts.skip("photo", "over the limits of its tiles", assigned.over_limit)
    counts.skip("tile", "fewer photos than --min_photos", assigned.small)
    if not len(assigned.centre):
        raise UserError(
            f"no tile can be made of {len(table)} photos: all lie within {settings.grid.half:g} m "
            "of the edge of a raster or close to that of a split; try a smaller --size or --gsd, "
            "or a larger --block"
        )
    centre = assigned.centre
    _assert_apart(table, assigned, split[centre], settings)
    lon, lat, day = table.lon[centre], table.lat[centre], table.day[centre]
    tried = coverage.candidates(images, lon, lat, day, settings.grid, settings.max_days)
    made["planned"] = {"tiles": len(centre), "photos": len(np.unique(assigned.photo))}
    reader = photos.TextReader(texts)
    folder = os.path.join(staging, "plan")
    return plan.write(
        folder, table, assigned, season[centre], split[centre], tried, reader, settings
    )


def _on_rasters(table: photos.Photos, images, settings: Settings, counts: Counts):
    point, whole = coverage.reach(images, table.lon, table.lat, settings.grid)
    outside = np.flatnonzero(~point)
    here = (np.abs(table.lon[outside]) <= 90) & (np.abs(table.lat[outside]) <= 90)
    outside = outside[here]
    swapped = coverage.reach(images, table.lat[outside], table.lon[outside], settings.grid)[0]
    counts.skip("photo", photos.SWAPPED, swapped.sum())
    counts.skip("photo", "outside every raster", len(point) - point.sum() - swapped.sum())
    polar = point & (np.abs(table.lat) > coverage.last_latitude(settings.grid))
    counts.skip("photo", "too near a pole", polar.sum())
    kept = point & ~polar
    if not kept.any():
        hint = f" ({swapped.sum()} would be inside with lon and lat swapped)" * bool(swapped.sum())
        raise UserError(
            f"none of {len(table)} photos lies on any of {len(images)} rasters{hint}: check "
            "--photos, --rasters and --columns"
        )
    return table.take(kept), whole[kept]


def _assert_apart(
    table: photos.Photos, assigned: cover.Assignment, split: np.ndarray, settings: Settings
) -> None:
    centre = assigned.centre
    box = local.footprint(lon=table.lon[centre], lat=table.lat[centre], half=settings.grid.half)
    tile_of = np.repeat(np.arange(len(centre)), np.diff(assigned.start))
    photo = table.key[assigned.photo]
    blocks.assert_apart(split=split, box=box, tile_of=tile_of, photo=photo)


def _write(
    settings: Settings,
    images: list[rasters.Raster],
    plans: dict[str, str],
    staging: str,
    counts: Counts,
    made: dict[str, Any],
) -> str:
    def finish(directory: str, records: Mapping[str, int]) -> None:
        if collect_counts is not None:
            collect_counts(counts)
        facts = summary.facts(directory)
        made["summary"] = summary.write(directory, settings, counts, made["planned"], facts, images)
        pictures.write(directory, facts)

    def write(examples: Mapping[str, Any], beam_options: Any = None) -> str:
        return ground_satellite_pairs.write(
            settings.name,
            staging,
            examples,
            content={"settings": settings.recorded()},
            finish=finish,
            packages=_PACKAGES,
            beam_options=beam_options,
        )

    collect_counts: Callable[[Counts], None] | None = None
    if settings.runner == "beam":
        transforms, options, collect_counts = work.beam(plans, images, settings, staging)
        return write(transforms, options)
    with work.local(plans, images, settings, counts) as records:
        return write(records)
