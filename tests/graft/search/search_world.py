"""A made-up model and made-up places for tests of search."""

import numpy as np
from colours_model import ColoursModel

from graft_jax.search import index
from graft_jax.search.index import About, Places
from rsvl_jax.rasters import footprints


class Model(ColoursModel):
    """Sees colours, on the host: a tile's embedding does not depend on its batch."""

    def images(self, pixels):
        return super().images(np.asarray(pixels))


def places(boxes, dates=None):
    """Places of tiles with these boxes W, S, E, N (E < W across the antimeridian)."""
    boxes = np.asarray(boxes, float)
    west, south, east, north = boxes.T
    lon = (west + (east - west) % 360 / 2 + 180) % 360 - 180
    none = np.full(len(boxes), "NaT", "datetime64[D]")
    date = none if dates is None else np.array(dates, "datetime64[D]")
    return Places(lon, (south + north) / 2, boxes, date)


def write_index(path, embeddings, boxes, dates=None, model="colours-1"):
    """An index of made-up tiles; rows of float [n, E] are stored as they are."""
    where = places(boxes, dates)
    with index.create(str(path)) as writer:
        for row, (embedding, box) in enumerate(zip(embeddings, boxes, strict=True)):
            west, south, east, north = box
            ring = footprints.rectangle(west, south, east + 360 * (east < west), north)
            day = where.date[row].item()
            writer.add(
                {
                    "id": f"t{row}",
                    "geometry": footprints.well_known_binary(ring),
                    "bbox": footprints.box(ring),
                    "lon": where.lon[row],
                    "lat": where.lat[row],
                    "source": "made up",
                    "source_crs": None,
                    "row": None,
                    "column": None,
                    "gsd": 10.0,
                    "date": day,
                    "valid": 1.0,
                    "embedding": np.asarray(embedding, np.float32),
                    "thumbnail": b"",
                }
            )
        about = About(model, 32, np.shape(embeddings)[1], None, "made up", len(embeddings))
        writer.finish(about)
    return str(path)
