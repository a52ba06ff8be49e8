"""Hits as a table for the terminal, and as GeoJSON."""

import json
from typing import Any

from graft_jax.search.ranking import Found, Hit
from rsvl_jax.rasters import footprints
from rsvl_jax.storage import replace_file

_SHOWN = 10  # hits a query


def table(found: Found) -> str:
    """The first hits of each query in lines."""
    parts = []
    for query, hits in zip(found.queries, found.hits, strict=True):
        lines = [f"{query!r}, {len(found.places):,} tiles searched"]
        lines.append(f"{'rank':>4}  {'cosine':>6}  {'lon':>9}  {'lat':>8}  {'date':10}  tile")
        lines += [_line(hit) for hit in hits[:_SHOWN]]
        if len(hits) > _SHOWN:
            lines.append(f"      and {len(hits) - _SHOWN} more")
        parts.append("\n".join(lines))
    if found.undated:
        parts.append(f"{found.undated:,} tiles without a date were left out")
    return "\n\n".join(parts)


def _line(hit: Hit) -> str:
    lon, lat, name = (hit.tile[key] for key in ("lon", "lat", "id"))
    place = f"{lon:9.4f}  {lat:8.4f}  {hit.date:10}  "
    return f"{hit.rank:4}  {hit.score:6.3f}  {place}{name}  {hit.origin}".rstrip()


def write_geojson(path: str, found: Found) -> None:
    """All hits as features: the footprint, with query, rank and cosine."""
    features = [
        _feature(query, hit)
        for query, hits in zip(found.queries, found.hits, strict=True)
        for hit in hits
    ]
    with replace_file(path) as file:
        content = {"type": "FeatureCollection", "features": features}
        file.write(json.dumps(content).encode() + b"\n")


def _feature(query: str, hit: Hit) -> dict[str, Any]:
    tile = hit.tile
    rings = footprints.rings(tile["geometry"])
    kept = ("id", "source", "row", "column", "gsd", "lon", "lat")
    properties = {"query": query, "rank": hit.rank, "cosine": round(hit.score, 6)}
    properties |= {key: tile[key] for key in kept}
    properties["date"] = hit.date or None
    one = len(rings) == 1
    geometry = {
        "type": "Polygon" if one else "MultiPolygon",
        "coordinates": rings if one else [[ring] for ring in rings],
    }
    return {"type": "Feature", "geometry": geometry, "properties": properties}
