"""The table of embeddings: (Geo)Parquet or NPZ, written part by part, whole or not at all."""

import json
import os
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from rsvl_jax.embed.items import Row
from rsvl_jax.embed.parts import Part
from rsvl_jax.errors import UserError
from rsvl_jax.storage import replace_file

PARQUET, NPZ = (".parquet", ".geoparquet"), (".npz",)
Parts = Callable[[], Iterator[Part]]
_TYPES = {
    "id": "string",
    "source": "string",
    "lon": "float64",
    "lat": "float64",
    "row": "int32",
    "column": "int32",
}


def check(path: str, *, columns: Sequence[str] | None = None) -> None:
    """Raises UserError for a path that cannot be written, or cannot hold these columns."""
    if not path.endswith(PARQUET + NPZ):
        raise UserError(f"--output={path!r} must end in .parquet, .geoparquet or .npz")
    if os.path.exists(path):
        raise UserError(f"--output={path!r} is there already: give another, or move it away")
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise UserError(f"--output={path!r}: there is no folder {folder!r}")
    if path.endswith(PARQUET):
        try:
            import pyarrow  # noqa: F401
            import pyproj  # noqa: F401
        except ImportError as error:
            text = "pip install 'rsvl-jax[geo]', or give an .npz"
            raise UserError(f"--output={path!r} needs {error.name}: {text}") from error
    if columns is not None and path.endswith(".geoparquet") and "lon" not in columns:
        raise UserError(
            f"--output={path!r}: the input says of no item where it lies; give a .parquet"
        )


def write(path: str, parts: Parts, columns: Sequence[str], about: dict[str, Any]) -> None:
    """Writes all parts, which are read twice; columns: those beside id, source and embedding.

    about: what the file says of itself: model, space.
    """
    sizes = [part.embeddings.shape for part in parts() if part.rows]
    shape = sum(rows for rows, _ in sizes), sizes[0][1]
    if path.endswith(NPZ):
        _write_npz(path, parts, shape, columns, about)
    else:
        _write_parquet(path, parts, shape[1], columns, about)


def _write_npz(
    path: str, parts: Parts, shape: tuple[int, int], columns: Sequence[str], about: dict[str, Any]
) -> None:
    """`embedding` float32 [n, E], `id`, `source`, and those of `columns` that are numbers."""
    rows = [row for part in parts() for row in part.rows]
    named = [name for name in ("id", "source", *columns) if name not in ("bbox", "geometry")]
    with replace_file(path) as file, zipfile.ZipFile(file, "w", allowZip64=True) as archive:
        with archive.open("embedding.npy", "w", force_zip64=True) as entry:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(entry, header)
            for part in parts():
                entry.write(part.embeddings.astype("<f4").tobytes())
        for name in named:
            kind = np.str_ if _TYPES[name] == "string" else _TYPES[name]
            _add(archive, name, np.array([row[name] for row in rows], kind))
        _add(archive, "about", np.array(json.dumps(about)))


def _add(archive: zipfile.ZipFile, name: str, value: np.ndarray) -> None:
    with archive.open(f"{name}.npy", "w") as entry:
        np.lib.format.write_array(entry, value, allow_pickle=False)


def _write_parquet(
    path: str, parts: Parts, dim: int, columns: Sequence[str], about: dict[str, Any]
) -> None:
    """A row group a part; with a geometry, GeoParquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from rsvl_jax.rasters import geoparquet

    areas = "geometry" in columns
    fields: dict[str, Any] = {name: pa.type_for_alias(kind) for name, kind in _TYPES.items()}
    fields["bbox"] = pa.struct([(edge, pa.float64()) for edge in geoparquet.EDGES])
    named = ["id", "source", *(name for name in columns if name in fields)]
    schema = {name: fields[name] for name in named}
    if "lon" in columns:
        schema["geometry"] = pa.binary()
    whole = pa.schema({**schema, "embedding": pa.list_(pa.float32(), dim)})
    edges = np.array([np.inf, np.inf, -np.inf, -np.inf])
    with (
        geoparquet.whole_file(path) as temporary,
        pq.ParquetWriter(temporary, whole, compression="zstd", use_dictionary=["source"]) as writer,
    ):
        for part in parts():
            if part.rows:
                columns_of = {name: [row.get(name) for row in part.rows] for name in schema}
                _geometries(columns_of, part.rows, edges)
                arrays = [pa.array(columns_of[n], kind) for n, kind in schema.items()]
                flat = pa.array(part.embeddings.reshape(-1))
                arrays.append(pa.FixedSizeListArray.from_arrays(flat, dim))
                writer.write_table(pa.Table.from_arrays(arrays, schema=whole))
        told = {"rsvl_jax.embed": json.dumps(about)}
        if "geometry" in schema:
            types = geoparquet.AREAS if areas else ("Point",)
            geo = geoparquet.metadata(edges.tolist(), types=types, covering=areas)
            told["geo"] = json.dumps(geo)
        writer.add_key_value_metadata(told)


def _geometries(columns: dict[str, list[Any]], rows: list[Row], edges: np.ndarray) -> None:
    """Well-known binary and boxes in place of what the rows have; widens `edges` (W, S, E, N)."""
    if "geometry" not in columns:
        return
    if "bbox" in columns:
        boxes = np.array(columns["bbox"])
        across = boxes[:, 2] < boxes[:, 0]  # the antimeridian: then the whole circle bounds it
        columns["geometry"] = [bytes.fromhex(row["geometry"]) for row in rows]
        columns["bbox"] = [
            dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)) for box in columns["bbox"]
        ]
        west, east = (np.where(across, side, boxes[:, n]) for side, n in ((-180, 0), (180, 2)))
        bounds = np.stack([west, boxes[:, 1], east, boxes[:, 3]])
    else:
        lon, lat = np.array(columns["lon"]), np.array(columns["lat"])
        points = zip(lon, lat, strict=True)
        columns["geometry"] = [struct.pack("<BIdd", 1, 1, *point) for point in points]
        bounds = np.stack([lon, lat, lon, lat])
    edges[:2] = np.minimum(edges[:2], bounds[:2].min(axis=1))
    edges[2:] = np.maximum(edges[2:], bounds[2:].max(axis=1))
