"""Which column is which, and whole columns of text made into numbers and days."""

import datetime
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rsvl_jax.errors import UserError

NO_DATE = -(2**31)  # a day that is not known
IMPOSSIBLE = -(2**31) + 1  # a date that no calendar has

# YFCC100M as released has no header: 23 columns, or 25 with a line number and a hash. The names
# are those of its SQL edition.
_YFCC = (
    *("photoid", "uid", "unickname", "datetaken", "dateuploaded", "capturedevice", "title"),
    *("description", "usertags", "machinetags", "longitude", "latitude", "accuracy", "pageurl"),
    *("downloadurl", "licensename", "licenseurl", "serverid", "farmid", "secret"),
    *("secretoriginal", "ext", "marker"),
)
HEADERLESS = {23: _YFCC, 25: ("line", _YFCC[0], "hash", *_YFCC[1:])}

# Ours first, then those of YFCC100M, of Flickr's API and of common exports.
NAMES = {
    "id": ("id", "photoid", "photo_id", "image_id"),
    "lon": ("lon", "longitude", "lng", "long", "gpslongitude"),
    "lat": ("lat", "latitude", "gpslatitude"),
    "date": ("date", "datetaken", "date_taken", "taken", "datetime", "captured_at"),
    "owner": ("owner", "uid", "nsid", "user_id", "userid", "owner_id", "user_nsid"),
    "accuracy": ("accuracy", "geo_accuracy"),
    "error": ("error_m", "gps_error", "gpshpositioningerror", "horizontal_error"),
    "width": ("width", "o_width", "image_width"),
    "height": ("height", "o_height", "image_height"),
    "path": ("path", "filepath", "file", "filename", "image_path", "relative_path"),
    "marker": ("marker", "pv_marker"),
}
REQUIRED = ("id", "lon", "lat")
_NUMBER = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"
_DATE = r"^\s*\d{4}[-:/.]\d{2}[-:/.]\d{2}"
_EPOCH = r"^\s*\d{9,13}\s*$"


def choose(present: Sequence[str], given: Mapping[str, str], where: str) -> dict[str, str]:
    """Our column name to that of the table, for those it has; UserError if one is missing.

    given: the user's own choice for some of ours, which wins over the known names.
    """
    lower = {name.strip().lower(): name for name in reversed(list(present))}
    chosen = {}
    for ours, names in NAMES.items():
        if ours in given:
            if given[ours] not in present:
                raise UserError(f"{where!r} has no column {given[ours]!r}: {_have(present)}")
            chosen[ours] = given[ours]
        elif found := [lower[name] for name in names if name in lower]:
            chosen[ours] = found[0]
    if missing := [name for name in REQUIRED if name not in chosen]:
        raise UserError(
            f"{where!r} has no column for {missing[0]!r}: name it with "
            f"--columns={missing[0]}=NAME ({_have(present)})"
        )
    return chosen


def _have(present: Sequence[str]) -> str:
    shown = ", ".join(present[:30])
    return f"it has {shown}{', ...' if len(present) > 30 else ''}"


def texts(values: pa.Array) -> pa.Array:
    """Any column as text; null becomes empty."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_floating(values.type):  # an id column with a gap is read as floats elsewhere
        values = pc.if_else(pc.is_finite(values), values, None).cast(pa.int64(), safe=False)
    return pc.fill_null(values.cast(pa.large_string()), "")


def numbers(values: pa.Array) -> np.ndarray:
    """Any column as float64 [n]; NaN where there is no number."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        values = pc.utf8_trim_whitespace(
            pc.if_else(pc.match_substring_regex(values, _NUMBER), values, None)
        )
    return pc.fill_null(values.cast(pa.float64()), float("nan")).to_numpy(zero_copy_only=False)


def days(values: pa.Array) -> np.ndarray:
    """Any column of dates as days since 1970, int32 [n]; NO_DATE where empty, else IMPOSSIBLE.

    Understood: date and time types, "YYYY-MM-DD..." with '-', ':', '/' or '.', and seconds or
    milliseconds since 1970.
    """
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_temporal(values.type):
        return _filled(values.cast(pa.date32(), safe=False).cast(pa.int32()), NO_DATE)
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        return _from_epoch(numbers(values))
    values = pc.utf8_trim_whitespace(pc.fill_null(values, ""))
    result = np.full(len(values), IMPOSSIBLE, np.int32)
    result[pc.equal(values, "").to_numpy(zero_copy_only=False)] = NO_DATE
    dated = pc.match_substring_regex(values, _DATE).to_numpy(zero_copy_only=False)
    result[dated] = _from_calendar(values.filter(pa.array(dated)))
    epoch = pc.match_substring_regex(values, _EPOCH).to_numpy(zero_copy_only=False)
    result[epoch] = _from_epoch(numbers(values.filter(pa.array(epoch))))
    return result


def quarter(day: np.ndarray) -> np.ndarray:
    """Calendar quarters since the first of 1970, int32."""
    months = day.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    return (months // 3).astype(np.int32)


def year(day: np.ndarray) -> np.ndarray:
    """Calendar years since 1970, int32."""
    return day.astype("datetime64[D]").astype("datetime64[Y]").astype(np.int32)


def iso(day: int) -> str:
    """A day as YYYY-MM-DD; "" if it is not known."""
    if day <= IMPOSSIBLE:
        return ""
    return (datetime.date(1970, 1, 1) + datetime.timedelta(int(day))).isoformat()


def _from_calendar(values: pa.Array) -> np.ndarray:
    part = [
        pc.utf8_slice_codeunits(values, start, stop).cast(pa.int32()).to_numpy()
        for start, stop in ((0, 4), (5, 7), (8, 10))
    ]
    y, m, d = part
    real = (y >= 1) & (m >= 1) & (m <= 12) & (d >= 1)
    month = (np.where(real, y, 1970) - 1970) * 12 + np.where(real, m, 1) - 1
    first = month.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    after = (month + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    real &= first + d <= after
    return np.where(real, first + d - 1, IMPOSSIBLE).astype(np.int32)


def _from_epoch(seconds: np.ndarray) -> np.ndarray:
    known = np.isfinite(seconds)
    value = np.where(known, seconds, 0)
    value = np.where(np.abs(value) > 1e11, value / 1000, value)
    sensible = np.abs(value) < 1e11
    day = np.floor(np.where(sensible, value, 0) / 86400).astype(np.int32)
    return np.where(known, np.where(sensible, day, IMPOSSIBLE), NO_DATE).astype(np.int32)


def _filled(values: pa.Array, missing: int) -> np.ndarray:
    return pc.fill_null(values, missing).to_numpy(zero_copy_only=False).astype(np.int32)
