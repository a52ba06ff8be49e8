"""GeoParquet 1.1: what a file says of its column `geometry`, and files that appear whole."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import pyproj

EDGES = ("xmin", "ymin", "xmax", "ymax")  # of a column `bbox`
AREAS = ("Polygon", "MultiPolygon")


def metadata(
    edges: Sequence[float], *, types: Sequence[str] = AREAS, covering: bool = True
) -> dict[str, Any]:
    """The value of the file's key "geo".

    edges: W, S, E, N of everything; types: of the geometries; covering: whether there is a column
    `bbox` of EDGES. The CRS is written out, since readers differ on the default.
    """
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": list(types),
        "crs": json.loads(pyproj.CRS.from_string("OGC:CRS84").to_json()),
        "edges": "planar",
        "orientation": "counterclockwise",
        "bbox": list(edges),
    }
    if covering:
        column["covering"] = {"bbox": {edge: ["bbox", edge] for edge in EDGES}}
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}


@contextlib.contextmanager
def whole_file(path: str) -> Iterator[str]:
    """A temporary path whose file takes the name `path` when all went well."""
    folder, name = os.path.split(os.path.abspath(path))
    suffix = os.path.splitext(name)[1]
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}-", suffix=suffix)
    os.close(descriptor)
    try:
        yield temporary
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
