"""The index: GeoParquet of tiles with footprint, source, date, embedding and a small picture.

One row a tile: id · geometry (WKB, longitude and latitude) · bbox (W, S, E, N) · lon, lat of the
centre · source (scene or data set), source_crs, row, column (its upper left pixel at the resolution
of the index; null where unknown) · gsd (m) · date (null where unknown) · valid (share of its
pixels) · embedding float16 [E], unit · thumbnail (JPEG).
"""

import contextlib
import datetime
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from graft_jax.towers import TextImageModel
from rsvl_jax.errors import UserError
from rsvl_jax.rasters import geoparquet
from rsvl_jax.rasters.footprints import Box

_KEY = b"graft_jax.search"
_ROWS = 4096  # of a row group
_CHUNK = 16_384  # rows scored at a time
_HEAVY = ("embedding", "bbox")


@dataclass(frozen=True)
class About:
    """What an index says of itself.

    Attributes:
      model: fingerprint of the model that made it · image_size: pixels of a tile's side.
      embed_dim: of the embeddings · gsd: metres a pixel that was asked for, None the scenes' own.
      made_of: the data set, or how many scenes · tiles: how many.
    """

    model: str
    image_size: int
    embed_dim: int
    gsd: float | None
    made_of: str
    tiles: int = 0


@dataclass(frozen=True)
class Places:
    """Where and when the tiles of an index are.

    Attributes:
      lon, lat: of the centre, degrees, float64 [n] · bbox: W, S, E, N, float64 [n, 4], E < W across
        the antimeridian · date: datetime64[D] [n], NaT where unknown.
    """

    lon: np.ndarray
    lat: np.ndarray
    bbox: np.ndarray
    date: np.ndarray

    def __len__(self) -> int:
        return len(self.lon)

    def take(self, rows: np.ndarray) -> "Places":
        """The tiles at `rows`, indices or a mask."""
        return Places(self.lon[rows], self.lat[rows], self.bbox[rows], self.date[rows])

    def inside(self, box: Box) -> np.ndarray:
        """Whether a centre is in W, S, E, N (E < W: across the antimeridian), bool [n]."""
        west, south, east, north = box
        found = (self.lat >= south) & (self.lat <= north)
        if east - west < 360:
            found &= (self.lon - west) % 360 <= (east - west) % 360
        return found

    def between(self, after: datetime.date | None, before: datetime.date | None) -> np.ndarray:
        """Whether a date is known and neither before `after` nor after `before`, bool [n]."""
        found = ~np.isnat(self.date)
        if after is not None:
            found &= self.date >= np.datetime64(after)
        if before is not None:
            found &= self.date <= np.datetime64(before)
        return found


def schema(embed_dim: int) -> pa.Schema:
    """Columns of an index."""
    return pa.schema(
        {
            "id": pa.string(),
            "geometry": pa.binary(),
            "bbox": pa.struct([(edge, pa.float64()) for edge in geoparquet.EDGES]),
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

    def __init__(self, path: str):
        self._path = path
        self._file: pq.ParquetWriter | None = None  # opened when the embeddings' length is known
        self._rows: list[Mapping[str, Any]] = []
        self.tiles = self.embed_dim = 0
        self._edges = np.array([np.inf, np.inf, -np.inf, -np.inf])

    def add(self, tile: Mapping[str, Any]) -> None:
        """One tile, by the names of `schema`; its bbox as four numbers."""
        box = tile["bbox"]
        across = box[2] < box[0]  # the antimeridian: then the whole circle bounds it
        west, east = (-180.0, 180.0) if across else (box[0], box[2])
        self._edges[:2] = np.minimum(self._edges[:2], (west, box[1]))
        self._edges[2:] = np.maximum(self._edges[2:], (east, box[3]))
        self._rows.append(dict(tile) | {"bbox": dict(zip(geoparquet.EDGES, box, strict=True))})
        self.tiles, self.embed_dim = self.tiles + 1, len(tile["embedding"])
        if len(self._rows) == _ROWS:
            self._flush()

    def _flush(self) -> pq.ParquetWriter:
        fields = schema(self.embed_dim)
        if self._file is None:
            # A dictionary of embeddings would make them twice as slow to read, and no smaller.
            self._file = pq.ParquetWriter(
                self._path, fields, compression="zstd", use_dictionary=["source", "source_crs"]
            )
        if self._rows:
            columns = [self._column(field) for field in fields]
            self._file.write_table(pa.Table.from_arrays(columns, schema=fields))
            self._rows = []
        return self._file

    def _column(self, field: pa.Field) -> pa.Array:
        values = [row[field.name] for row in self._rows]
        if field.name != "embedding":
            return pa.array(values, field.type)
        flat = pa.array(np.concatenate(values).astype(np.float16))
        return pa.FixedSizeListArray.from_arrays(flat, field.type.list_size)

    def finish(self, about: About) -> None:
        """Writes what is left, and what the index says of itself."""
        file = self._flush()
        geo = json.dumps(geoparquet.metadata(self._edges.tolist()))
        file.add_key_value_metadata({_KEY: json.dumps(asdict(about)), "geo": geo})
        self.close()

    def close(self) -> None:
        """Closes the file, whole or not."""
        if self._file is not None:
            self._file.close()


@contextlib.contextmanager
def create(path: str) -> Iterator[Writer]:
    """A writer whose file takes the place of `path` when all went well."""
    with geoparquet.whole_file(path) as temporary:
        writer = Writer(temporary)
        try:
            yield writer
        finally:
            writer.close()


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
        own = (self._file.metadata.metadata or {}).get(_KEY)
        if own is None:
            raise UserError(
                f"--index={path!r} is no index of tiles: make one with "
                "'python -m graft_jax.search build'"
            )
        self.about = About(**json.loads(own))

    def check_model(self, model: TextImageModel) -> None:
        """Raises UserError for a model that did not make the index."""
        if model.fingerprint != self.about.model:
            raise UserError(
                f"{self.path!r} was made with model {self.about.model!r}, this one is "
                f"{model.fingerprint!r}: open that model, or build the index again"
            )

    def places(self) -> Places:
        """Where and when the tiles are."""
        table = self._file.read(columns=["lon", "lat", "date", "bbox"])
        lon, lat, date = (table[name].to_numpy() for name in ("lon", "lat", "date"))
        box = table["bbox"].combine_chunks()
        edges = np.stack([box.field(edge).to_numpy() for edge in geoparquet.EDGES], axis=1)
        return Places(lon, lat, edges, date.astype("datetime64[D]"))

    def scores(self, vectors: np.ndarray) -> np.ndarray:
        """Cosines of all tiles with unit vectors [Q, E], float64 [n, Q]."""
        found = np.empty((self.about.tiles, len(vectors)))
        start = 0
        for batch in self._file.iter_batches(_CHUNK, columns=["embedding"]):
            flat = batch["embedding"].flatten().to_numpy(zero_copy_only=False)
            rows = flat.reshape(len(batch), -1).astype(np.float64)
            # Rounding to float16 has left lengths of 1 +- 0.0003, which cosines must not tell of.
            lengths = np.sqrt(np.einsum("ne,ne->n", rows, rows))[:, None]
            found[start : start + len(rows)] = rows @ vectors.astype(np.float64).T / lengths
            start += len(rows)
        return found

    def tiles(self, rows: np.ndarray) -> list[dict[str, Any]]:
        """These tiles without embedding and bbox, in the order asked for."""
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
