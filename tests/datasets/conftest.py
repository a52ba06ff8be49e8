"""One small build and one reading of the rasters serve every test of this folder."""

import pytest

from rsvl_jax import datasets
from rsvl_jax.datasets.earth_tiles import places, rasters, scene, tiles

MINI = "earth_tiles/mini"


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A directory that holds a freshly built `earth_tiles/mini`."""
    directory = str(tmp_path_factory.mktemp("data"))
    datasets.ensure(MINI, directory)
    return directory


@pytest.fixture(scope="session")
def records(data_dir):
    """All records of the small data set by split."""
    splits = datasets.manifest(MINI, data_dir)["splits"]
    return {split: list(datasets.load(MINI, data_dir, split)) for split in splits}


@pytest.fixture(scope="session")
def world():
    """The rasters."""
    return rasters.load()


@pytest.fixture(scope="session")
def look_at(world):
    """A function from lon, lat to the scene of the tile centred there."""

    def look(*, lon, lat):
        row = round((90 - lat) * rasters.PER_DEGREE) - tiles.SIZE // 2
        col = (round((lon + 180) * rasters.PER_DEGREE) - tiles.SIZE // 2) % rasters.WIDTH
        return scene.look(world, places.load(), row, col)

    return look
