"""Photo metadata as a stream of tables: CSV, TSV, Parquet, or a folder of geotagged JPEGs."""

import glob
import os
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from graft_jax.pairs import columns, exif
from graft_jax.pairs.counts import Counts
from rsvl_jax.errors import UserError

_BLOCK = 32 << 20  # bytes of CSV in a chunk
_ROWS = 1 << 18  # rows of Parquet in a chunk
_TABLES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".csv.bz2", ".parquet")


def sources(paths: Sequence[str]) -> list[str]:
    """Files and JPEG folders behind paths, patterns and folders of tables, sorted; UserError."""
    found: list[str] = []
    for path in paths:
        matches = sorted(glob.glob(path)) if glob.has_magic(path) else [path]
        if not matches or not all(os.path.exists(match) for match in matches):
            raise UserError(f"no photo metadata at --photos={path!r}: check the path")
        for match in matches:
            found += _inside(match) if os.path.isdir(match) else [match]
    return found


def _inside(folder: str) -> list[str]:
    tables = [os.path.join(folder, f) for f in sorted(os.listdir(folder)) if f.endswith(_TABLES)]
    if tables:
        return tables
    if exif.jpegs(folder):
        return [folder]
    raise UserError(f"--photos={folder!r} holds no CSV, no Parquet and no JPEG files")


def read(
    source: str, given: Mapping[str, str], extra: Sequence[str], counts: Counts
) -> Iterator[dict[str, pa.Array]]:
    """Chunks of one source: arrays by our column name (see `columns.NAMES`), all of one length.

    given: the user's own names for some columns · extra: further columns of the table to keep.
    Malformed lines are counted. Raises UserError for a table that cannot be read.
    """
    if os.path.isdir(source):
        tables: Iterator[pa.Table | pa.RecordBatch] = exif.read(source, counts)
        given = {}
    elif source.endswith(".parquet"):
        tables = _parquet(source, given, extra)
    else:
        tables = _csv(source, given, extra, counts)
    for table in tables:
        chosen = columns.choose(table.schema.names, given, source)
        counts.read(table.num_rows)
        chunk = {ours: _whole(table.column(theirs)) for ours, theirs in chosen.items()}
        yield chunk | {name: _whole(table.column(name)) for name in extra}


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _parquet(source: str, given: Mapping[str, str], extra: Sequence[str]):
    try:
        file = pyarrow.parquet.ParquetFile(source)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{source!r} is not a readable Parquet file ({_line(error)})") from error
    with file:
        names = file.schema_arrow.names
        wanted = _wanted(names, given, extra, source)
        yield from file.iter_batches(_ROWS, columns=wanted)


def _csv(source: str, given: Mapping[str, str], extra: Sequence[str], counts: Counts):
    names, delimiter, skip = _header(source)
    wanted = _wanted(names, given, extra, source)

    def malformed(row: pyarrow.csv.InvalidRow) -> str:
        counts.read(1)
        counts.skip("photo", "malformed line", 1)
        return "skip"

    # YFCC100M writes URL-encoded text without quotes; with a header, quotes mean quotes.
    quoting: dict = {"quote_char": '"', "newlines_in_values": True} if skip else {}
    try:
        reader = pyarrow.csv.open_csv(
            source,
            pyarrow.csv.ReadOptions(block_size=_BLOCK, column_names=names, skip_rows=skip),
            pyarrow.csv.ParseOptions(
                delimiter=delimiter,
                invalid_row_handler=malformed,
                **(quoting or {"quote_char": False}),
            ),
            pyarrow.csv.ConvertOptions(
                include_columns=wanted, column_types=dict.fromkeys(wanted, pa.string())
            ),
        )
        yield from reader
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        if "Empty CSV" in str(error):
            return
        raise UserError(f"{source!r} is not a readable table ({_line(error)})") from error


def _wanted(names: list[str], given: Mapping[str, str], extra: Sequence[str], source: str):
    if missing := [name for name in extra if name not in names]:
        raise UserError(f"{source!r} has no column {missing[0]!r}: it has {', '.join(names[:30])}")
    return list(dict.fromkeys([*columns.choose(names, given, source).values(), *extra]))


def _header(source: str) -> tuple[list[str], str, int]:
    """Column names, delimiter and the number of header lines of a text table."""
    try:
        with pa.input_stream(source, compression="detect") as file:
            head = file.read(1 << 16)
        line = head.decode("utf-8-sig", errors="replace").splitlines()[0]
    except IndexError as error:
        raise UserError(f"{source!r} is empty") from error
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{source!r} cannot be read ({_line(error)})") from error
    delimiter = max(("\t", ",", ";", "|"), key=line.count)
    names = [name.strip().strip('"') for name in line.split(delimiter)]
    known = {name for group in columns.NAMES.values() for name in group}
    headed = any(name.lower() in known for name in names)
    if not headed and len(names) in columns.HEADERLESS:
        return list(columns.HEADERLESS[len(names)]), delimiter, 0
    return names, delimiter, 1


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
