"""From an index and queries to a table, a gallery, footprints and a density map."""

from collections.abc import Callable

from graft_jax.search import density, gallery, listing, picture
from graft_jax.search.index import Index
from graft_jax.search.ranking import Found, search
from graft_jax.search.settings import Search
from graft_jax.towers import TextImageModel


def find(settings: Search, open_model: Callable[[], TextImageModel]) -> Found:
    """Searches, prints the first hits, and writes the files that are asked for.

    Raises UserError for bad settings, index or model, before anything is written.
    """
    index = Index(settings.index)
    found = search(index, open_model(), settings)
    map_ = density.compute(found, settings) if settings.density else None
    print(listing.table(found), flush=True)
    written = []
    if settings.output:
        gallery.write(settings.output, found, index.about, settings)
        written.append(settings.output)
    if settings.geojson:
        listing.write_geojson(settings.geojson, found)
        written.append(settings.geojson)
    if map_ is not None and settings.density and settings.picture:
        density.write(settings.density, map_, found, index, settings)
        picture.write(settings.picture, map_.bands, map_.cells, settings)
        written += [settings.density, settings.picture]
    if written:
        print("\nwritten: " + ", ".join(written))
    return found
