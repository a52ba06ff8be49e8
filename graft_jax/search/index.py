"""The index: GeoParquet of tiles with footprint, source, date, embedding and a small picture.

One row a tile: id · geometry (WKB, longitude and latitude) · bbox (W, S, E, N) · lon, lat of the
centre · source, source_crs, row, column (its upper left pixel at the index's resolution) · gsd (m)
· date (null where unknown) · valid (share) · embedding float16 [E], unit · thumbnail (JPEG).
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj

from graft_jax.towers import TextImageModel
from rsvl_jax.errors import UserError

_KEY = b"graft_jax.search"
_ROWS = 4096  # of a row group
_CHUNK = 65_536  # rows scored at a time
_EDGES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class About:
    """What an index says of itself.

    Attributes:
      model: fingerprint of the model that made it · image_size: pixels of a tile's side.
      embed_dim: of the embeddings · gsd: metres a pixel that was asked for, None the scenes' own.
      tiles, scenes: how many.
    """

    model: str
    image_size: int
    embed_dim: int
    gsd: float | None
    tiles: int = 0
    scenes: int = 0


@dataclass(frozen=True)
class Places:
    """Where the tiles of an index lie: degrees, float64 [n] each; bbox [n, 4] is W, S, E, N."""

    lon: np.ndarray
    lat: np.ndarray
    bbox: np.ndarray

    def inside(self, box: tuple[float, float, float, float]) -> np.ndarray:
        """Whether a centre is in W, S, E, N (E < W: across the antimeridian), bool [n]."""
        west, south, east, north = box
        along = (self.lon - west) % 360 <= (east - west) % 360 if east - west < 360 else True
        return along & (self.lat >= south) & (self.lat <= north)


def schema(embed_dim: int) -> pa.Schema:
    """Columns of an index."""
    return pa.schema(
        {
            "id": pa.string(),
            "geometry": pa.binary(),
            "bbox": pa.struct([(edge, pa.float64()) for edge in _EDGES]),
            "lon": pa.float64(),
            "lat": pa.float64(),
            "source": pa.string(),
            "source_crs": pa.string(),
            "row": pa.int32(),
            "column": pa.int32(),
            "gsd": pa.float32(),
            "date": pa.date32(),
            "valid": pa.float32(),
            "embedding": pa.list_(pa.float16(), embed_dim),
            "thumbnail": pa.binary(),
        }
    )


class Writer:
    """Takes tiles one by one and writes them in row groups."""

    def __init__(self, path: str, embed_dim: int):
        self._columns = schema(embed_dim)
        self._file = pq.ParquetWriter(path, self._columns, compression="zstd")
        self._rows: list[Mapping[str, Any]] = []
        self.tiles = 0
        self._edges = np.array([np.inf, np.inf, -np.inf, -np.inf])

    def add(self, tile: Mapping[str, Any]) -> None:
        """One tile, see `schema`; its bbox as four numbers."""
        box = tile["bbox"]
        across = box[2] < box[0]  # the antimeridian: then the whole circle bounds it
        west, east = (-180.0, 180.0) if across else (box[0], box[2])
        self._edges[:2] = np.minimum(self._edges[:2], (west, box[1]))
        self._edges[2:] = np.maximum(self._edges[2:], (east, box[3]))
        self._rows.append(dict(tile) | {"bbox": dict(zip(_EDGES, box, strict=True))})
        self.tiles += 1
        if len(self._rows) == _ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._file.write_table(pa.Table.from_pylist(self._rows, schema=self._columns))
            self._rows = []

    def finish(self, about: About) -> None:
        """Writes what is left, and what the index says of itself."""
        self._flush()
        geo = json.dumps(_geo(self._edges.tolist()))
        self._file.add_key_value_metadata({_KEY: json.dumps(asdict(about)), "geo": geo})
        self.close()

    def close(self) -> None:
        """Closes the file, whole or not."""
        self._file.close()


def _geo(edges: Sequence[float]) -> dict[str, Any]:
    """GeoParquet 1.1 metadata; the CRS is written out, since readers differ on the default."""
    column = {
        "encoding": "WKB",
        "geometry_types": ["Polygon", "MultiPolygon"],
        "crs": json.loads(pyproj.CRS.from_string("OGC:CRS84").to_json()),
        "edges": "planar",
        "orientation": "counterclockwise",
        "bbox": list(edges),
        "covering": {"bbox": {edge: ["bbox", edge] for edge in _EDGES}},
    }
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}


@contextlib.contextmanager
def create(path: str, embed_dim: int) -> Iterator[Writer]:
    """A writer whose file takes the place of `path` when all went well."""
    folder = os.path.dirname(os.path.abspath(path))
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".index-", suffix=".parquet")
    os.close(descriptor)
    try:
        writer = Writer(temporary, embed_dim)
        try:
            yield writer
        finally:
            writer.close()
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


class Index:
    """An index on disk; embeddings and pictures are read as they are needed."""

    def __init__(self, path: str):
        """Opens it. Raises UserError for what is no index."""
        self.path = path
        try:
            self._file = pq.ParquetFile(path)
        except (OSError, pa.ArrowException) as error:
            words = " ".join(str(error).split())[:200]
            raise UserError(f"cannot open --index={path!r}: {words}") from error
        own = (self._file.schema_arrow.metadata or {}).get(_KEY)
        if own is None:
            raise UserError(f"{path!r} is no index: make one with python -m graft_jax.search build")
        self.about = About(**json.loads(own))

    def check_model(self, model: TextImageModel) -> None:
        """Raises UserError for a model that did not make the index."""
        if model.fingerprint != self.about.model:
            raise UserError(
                f"{self.path!r} was made with model {self.about.model!r}, this one is "
                f"{model.fingerprint!r}: open that model, or build the index again"
            )

    def places(self) -> Places:
        """Where the tiles lie."""
        table = self._file.read(columns=["lon", "lat", "bbox"])
        lon, lat = (table[name].to_numpy() for name in ("lon", "lat"))
        box = table["bbox"].combine_chunks()
        return Places(lon, lat, np.stack([box.field(e).to_numpy() for e in _EDGES], axis=1))

    def scores(self, vectors: np.ndarray) -> np.ndarray:
        """Cosines of all tiles with unit vectors [Q, E], float32 [n, Q]."""
        found = np.empty((self.about.tiles, len(vectors)), np.float32)
        start = 0
        for batch in self._file.iter_batches(_CHUNK, columns=["embedding"]):
            values = batch["embedding"].flatten().to_numpy(zero_copy_only=False)
            rows = values.reshape(len(batch), -1).astype(np.float32)
            found[start : start + len(rows)] = rows @ vectors.T
            start += len(rows)
        return found

    def tiles(self, rows: np.ndarray) -> list[dict[str, Any]]:
        """These tiles without their embeddings, in the order asked for."""
        wanted = [name for name in self._file.schema_arrow.names if name not in _HEAVY]
        found: dict[int, dict[str, Any]] = {}
        start = 0
        for group in range(self._file.num_row_groups):
            size = self._file.metadata.row_group(group).num_rows
            here = np.unique(rows[(rows >= start) & (rows < start + size)])
            if len(here):
                part = self._file.read_row_group(group, columns=wanted).take(here - start)
                found |= dict(zip(here.tolist(), part.to_pylist(), strict=True))
            start += size
        return [found[row] for row in rows.tolist()]


_HEAVY = ("embedding", "geometry", "bbox")
