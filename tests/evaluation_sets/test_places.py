"""Tables of places beside images."""

import made_sets
import numpy as np
import pytest

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation_sets import places
from rsvl_jax.evaluation_sets.opening import open_collection


@pytest.fixture
def root(tmp_path):
    for name in ("a/1", "a/2", "b/3"):
        made_sets.image(tmp_path / f"{name}.png")
    return tmp_path


def opened(root):
    return open_collection("mine", str(root), "all")


def test_images_are_found_by_path_or_name(root):
    assert opened(root).lon is None
    text = "Filename,Latitude,Longitude\na/1.png,-60,179.5\n3.png,1,2\nother.png,0,0\n"
    (root / "places.csv").write_text(text)
    found = opened(root)
    np.testing.assert_array_equal(found.lon, [179.5, np.nan, 2])
    np.testing.assert_array_equal(found.lat, [-60, np.nan, 1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,x,y\n1.png,0,0", "has the columns image, x, y: none is 'lon'"),
        ("image,lon,lat\n", "has no rows"),
        ("image,lon,lat\n1.png,east,0", "places.csv:2: no longitude and latitude in '1.png,east"),
        ("image,lon,lat\n1.png,0", "places.csv:2: no longitude"),
        ("image,lon,lat\n1.png,10,120", "places.csv:2: lat=120.0 .* swapped"),
        ("image,lon,lat\n1.png,0,0\n1.png,1,1", "has '1.png' twice"),
    ],
)
def test_tables_that_are_wrong(root, text, message):
    (root / "places.csv").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        opened(root)
    assert "\n" not in str(error.value)


def test_a_split_may_have_no_places(root):
    (root / "places.csv").write_text("image,lon,lat\nz.png,0,0")
    assert np.isnan(opened(root).lon).all()


def test_a_gallery_has_no_names(tmp_path):
    (tmp_path / "gallery.csv").write_text("LAT,LON\n48.1,11.5\n-33.9,151.2\n")
    _, lon, lat = places.read(str(tmp_path / "gallery.csv"))
    assert lon.tolist() == [11.5, 151.2] and lat.tolist() == [48.1, -33.9]
    with pytest.raises(UserError, match="no .*nowhere.csv"):
        places.read(str(tmp_path / "nowhere.csv"))
