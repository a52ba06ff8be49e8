"""One small collection over four places serves the tests that only look at it."""

import numpy as np
import pairs_world as world
import pytest

from graft_jax.pairs.collect import collect
from graft_jax.pairs.settings import Settings

PLACES = ((-70.3, -33.4), (8.2, 0.3), (18.9, 69.6), (179.99, -17.0))


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    """Rasters and a table of photos at `PLACES`: two hemispheres, and across the antimeridian."""
    folder = tmp_path_factory.mktemp("pairs")
    rng, rows = np.random.default_rng(0), []
    (folder / "rasters").mkdir()
    for number, (lon, lat) in enumerate(PLACES):
        world.write_raster(folder / "rasters" / f"r{number}_20190601.tif", lon=lon, lat=lat)
        x, y = world.scatter(rng, lon=lon, lat=lat, count=60)
        rows += world.photo_rows((x + 180) % 360 - 180, y, prefix=f"a{number}_")
    return world.write_table(folder / "photos.csv", rows), str(folder / "rasters")


@pytest.fixture
def settings(inputs, tmp_path):
    """A function from changes to the settings of a small collection into a fresh directory."""

    def change(**changes):
        base = {
            "photos": (inputs[0],),
            "rasters": (inputs[1],),
            "gsd": 10.0,
            "size": 64,
            "data_dir": str(tmp_path / "data"),
            "block": 0.03,
            "gap": 0.0,
            "fractions": (0.4, 0.3, 0.3),
            "workers": 1,
        }
        return Settings(**(base | changes))

    return change


@pytest.fixture(scope="session")
def collection(inputs, tmp_path_factory):
    """(directory of the data sets, settings, summary) of a collection called `small`."""
    settings = Settings(
        photos=(inputs[0],),
        rasters=(inputs[1],),
        gsd=10.0,
        size=64,
        name="small",
        data_dir=str(tmp_path_factory.mktemp("data")),
        block=0.03,
        gap=0.0,
        fractions=(0.4, 0.3, 0.3),
        workers=1,
    )
    return settings.data_dir, settings, collect(settings)[1]
