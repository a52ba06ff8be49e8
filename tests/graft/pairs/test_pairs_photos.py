"""Reading photo metadata: layouts, dates, EXIF, filters, and everything that can be wrong."""

import io

import numpy as np
import pairs_world as world
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import ExifTags, Image

from graft_jax.pairs import columns, filters, photos
from graft_jax.pairs.counts import Counts
from graft_jax.pairs.hashing import hash_texts
from graft_jax.pairs.settings import Settings
from rsvl_jax.errors import UserError


def read(tmp_path, *paths, limits=True, **changes):
    """(photos, their ids, skipped by reason, rows read)."""
    settings = Settings(photos=paths, rasters=("r",), gsd=10.0, **changes)
    counts = Counts()
    texts = str(tmp_path / "staging" / "texts.arrow")
    found = photos.read(settings, texts, counts)
    found = filters.apply(found, settings, counts) if limits else found
    ids = photos.TextReader(texts).take(found.row)["id"].to_pylist()
    assert len(found) + sum(counts.skipped("photo").values()) == counts.photos_read
    return found, ids, counts.skipped("photo"), counts.photos_read


def row(**changes):
    base = {"id": "1", "owner": "o", "datetaken": "2019-05-04 10:00:00", "accuracy": 16}
    return base | {"longitude": 10.0, "latitude": 50.0} | changes


BAD = {
    "no coordinates": [{"longitude": "", "latitude": ""}, {"longitude": "x"}, {"latitude": "nan"}]
    + [{"longitude": 0, "latitude": 0}],
    photos.SWAPPED: [{"longitude": -33.4, "latitude": 151.2}],
    "coordinates out of range": [{"longitude": 200}, {"longitude": 100, "latitude": -91}],
    "impossible date": [{"datetaken": d} for d in ("2019-02-30", "0000-00-00 00:00:00", "soon")]
    + [{"datetaken": d} for d in ("2019-13-01", "2999-01-01", "9999-12-31 00:00:00")],
    "no date": [{"datetaken": ""}],
    "outside the dates wanted": [{"datetaken": "2001-01-01"}],
    "geolocation not accurate enough": [{"accuracy": 11}, {"accuracy": ""}],
    "no id": [{"id": ""}],
}


def test_every_bad_row_is_counted(tmp_path):
    rows = [row(id=f"good{i}", owner=f"o{i}", longitude=10 + i) for i in range(20)]
    rows += [row(**{"id": f"bad{r}{i}"} | b) for r, bad in BAD.items() for i, b in enumerate(bad)]
    rows += [row(id="good1", longitude=11.5)]
    path = world.write_table(tmp_path / "p.csv", rows)
    _, ids, skipped, total = read(tmp_path, path, since="2013-01-01")
    assert ids == [f"good{i}" for i in range(20)]
    assert skipped == {reason: len(bad) for reason, bad in BAD.items()} | {"id comes again": 1}
    assert total == len(rows)


def test_malformed_lines_are_counted(tmp_path):
    path = world.write_table(tmp_path / "p.csv", [row(), row(id="2", owner="b")])
    with open(path, "a", encoding="utf-8") as file:
        file.write("3,only,three\n")
    assert read(tmp_path, path)[2] == {"malformed line": 1}


def test_tables_of_every_kind_are_one(tmp_path):
    rows = [row(id=str(i), owner=f"o{i}", longitude=i / 7, latitude=-i / 3) for i in range(1, 90)]
    paths = [world.write_table(tmp_path / "p.csv", rows)]
    table = pa.Table.from_pylist(rows)
    pyarrow.parquet.write_table(table, tmp_path / "texts.parquet")
    typed = {"id": pa.int64(), "datetaken": pa.timestamp("us")}
    for name, kind in typed.items():
        column = table.column(name).cast(kind)
        table = table.set_column(table.schema.names.index(name), name, column)
    pyarrow.parquet.write_table(table, tmp_path / "typed.parquet")
    fields = columns.HEADERLESS[23]
    renamed = {"photoid": "id", "uid": "owner", "marker": "m", "title": "t"}
    lines = []
    for one in rows:
        values = one | {"m": "0", "t": 'a "quote, and more'}
        lines.append("\t".join(str(values.get(renamed.get(f, f), "")) for f in fields))
    video = lines[0].split("\t")
    video[0], video[-1] = "777", "1"
    (tmp_path / "yfcc").write_text("\n".join([*lines, "\t".join(video)]) + "\n", encoding="utf-8")
    paths += [str(tmp_path / f) for f in ("texts.parquet", "typed.parquet", "yfcc")]
    found = [read(tmp_path, path) for path in paths]
    for other, ids, _, _ in found:
        assert ids == found[0][1] and len(ids) == 89
        for name in ("lon", "lat", "day", "key", "owner"):
            np.testing.assert_array_equal(getattr(other, name), getattr(found[0][0], name))
    assert found[-1][2] == {"a video": 1}
    assert found[0][0].day[0] == (np.datetime64("2019-05-04") - np.datetime64("1970-01-01")).astype(
        int
    )


def test_dates_of_every_kind():
    texts = ["2012-02-29", "2013-02-29", "2013:05:04 1:2:3", "1367668800", "1367668800000", " "]
    day = (np.datetime64("2013-05-04") - np.datetime64("1970-01-01")).astype(int)
    leap = (np.datetime64("2012-02-29") - np.datetime64("1970-01-01")).astype(int)
    expected = [leap, columns.IMPOSSIBLE, day, day, day, columns.NO_DATE]
    np.testing.assert_array_equal(columns.days(pa.array(texts)), expected)
    days = np.arange(-200, 20000, 37)
    quarter = [(d.year - 1970) * 4 + (d.month - 1) // 3 for d in days.astype("M8[D]").tolist()]
    np.testing.assert_array_equal(columns.quarter(days), quarter)


def test_limits(tmp_path):
    rows = [
        row(id=str(i), longitude=10 + (i % 3) * 1e-6, datetaken=f"2019-05-0{i % 2 + 1}")
        for i in range(12)
    ]  # one owner, one spot, two days
    rows += [row(id=f"x{i}", owner="busy", longitude=20 + i) for i in range(9)]
    rows += [row(id=f"a{i}", owner="") for i in range(3)]  # nobody's: no limit can be told
    path = world.write_table(tmp_path / "p.csv", rows)
    _, ids, skipped, _ = read(tmp_path, path, per_owner=4)
    assert skipped == {"one owner's, same spot and day": 10, "over the limit of its owner": 5}
    assert len(ids) == 2 + 4 + 3
    shuffled = world.write_table(tmp_path / "q.csv", rows[::-1])
    assert set(read(tmp_path, shuffled, per_owner=4)[1]) == set(ids)


def in_the_open(chunk):
    """An outdoor classifier that the tests name on the command line."""
    return np.array([float(text.endswith("5")) for text in chunk["id"].to_pylist()])


def too_few(chunk):
    return np.ones(1)


def test_outdoor_scores(tmp_path):
    rows = [row(id=str(i), owner=f"o{i}", sky=i / 20) for i in range(20)]
    path = world.write_table(tmp_path / "p.csv", rows)
    _, ids, skipped, _ = read(tmp_path, path, outdoor="sky", outdoor_min=0.5)
    assert ids == [str(i) for i in range(10, 20)] and skipped == {"indoors": 10}
    assert read(tmp_path, path, outdoor="test_pairs_photos:in_the_open")[1] == ["5", "15"]
    for name, words in (("nowhere:f", "cannot be loaded"), ("test_pairs_photos:too_few", "shape")):
        with pytest.raises(UserError, match=words):
            read(tmp_path, path, outdoor=name)
    with pytest.raises(UserError, match="has no column 'clouds'"):
        read(tmp_path, path, outdoor="clouds")


def jpeg(path, *, lon=None, lat=None, date="2018:07:01 12:00:00", side=40):
    image, exif = Image.new("RGB", (side + 20, side), (9, 99, 9)), Image.Exif()
    if lon is not None:
        parts = [(int(v), int(v % 1 * 60), v % 1 * 60 % 1 * 60) for v in (abs(lon), abs(lat))]
        gps = ExifTags.GPS
        exif.get_ifd(ExifTags.IFD.GPSInfo).update(
            {
                gps.GPSLongitudeRef: "W" if lon < 0 else "E",
                gps.GPSLongitude: parts[0],
                gps.GPSLatitudeRef: "S" if lat < 0 else "N",
                gps.GPSLatitude: parts[1],
            }
        )
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = date
    image.save(path, exif=exif)


def test_a_folder_of_jpegs(tmp_path):
    folder = tmp_path / "jpegs"
    (folder / "deep").mkdir(parents=True)
    jpeg(folder / "deep" / "a.jpg", lon=-70.123456, lat=-33.5)
    jpeg(folder / "b.JPG", lon=12.25, lat=41.75, date="2018:02:31 00:00:00")
    jpeg(folder / "c.jpg")
    jpeg(folder / "e.jpeg", lon=1.5, lat=2.5, side=10)
    (folder / "d.jpg").write_bytes(b"\xff\xd8 no picture")
    found, ids, skipped, total = read(tmp_path, str(folder), min_side=20)
    assert ids == ["deep/a.jpg"] and total == 5
    assert (found.lon[0], found.lat[0]) == pytest.approx((-70.123456, -33.5), abs=1e-6)
    assert skipped == dict.fromkeys(
        ("not a readable image", "no coordinates", "impossible date", "too small"), 1
    )


def test_tables_that_cannot_serve(tmp_path):
    good = world.write_table(tmp_path / "p.csv", [row()])
    other = world.write_table(tmp_path / "q.csv", [{"key": 1, "x": 10, "y": 50}])
    swapped = [row(id=str(i), longitude=-33.0, latitude=151.0) for i in range(4)]
    cases = {
        "no column for 'id': name it with --columns=id=NAME": (other, {}),
        "no column 'lng'": (good, {"columns": {"lon": "lng"}}),
        "no photo metadata at": (str(tmp_path / "missing.csv"), {}),
        "have a latitude beyond 90: swap": (world.write_table(tmp_path / "s.csv", swapped), {}),
        "no photo is left of 1: 1 geolocation": (good, {"min_accuracy": 17}),
        "no column of paths": (good, {"photos_dir": str(tmp_path)}),
    }
    for name, content in (("e.csv", b""), ("b.parquet", b"PAR1 nonsense"), ("g.csv.gz", b"no gz")):
        (tmp_path / name).write_bytes(content)
    cases |= {"is empty": (str(tmp_path / "e.csv"), {})}
    cases |= {"not a readable Parquet": (str(tmp_path / "b.parquet"), {})}
    cases |= {"cannot be read": (str(tmp_path / "g.csv.gz"), {})}
    (tmp_path / "empty").mkdir()
    cases |= {"holds no CSV, no Parquet and no JPEG": (str(tmp_path / "empty"), {})}
    for words, (path, changes) in cases.items():
        with pytest.raises(UserError, match=words) as caught:
            read(tmp_path, path, **changes)
        assert "\n" not in str(caught.value)
    mapped = {"columns": {"id": "key", "lon": "x", "lat": "y"}, "season": "none"}
    assert read(tmp_path, other, **mapped)[1] == ["1"]


def test_hashes_tell_texts_apart():
    words = [f"{i}" for i in range(20000)] + [f"{i}a" for i in range(20000)] + ["", "aa", "aaa"]
    hashes = hash_texts(pa.array(words))
    assert len(np.unique(hashes)) == len(words)
    assert hashes[-3] == 0
    np.testing.assert_array_equal(hash_texts(pa.array(words)[7:99]), hashes[7:99])


def test_texts_are_found_again_over_many_batches(tmp_path):
    count = 150_000
    rows = pa.table(
        {
            "id": [f"id{i}" for i in range(count)],
            "lon": np.linspace(-170, 170, count),
            "lat": np.linspace(-80, 80, count),
        }
    )
    buffer = io.BytesIO()
    pa.csv.write_csv(rows, buffer)
    (tmp_path / "p.csv").write_bytes(buffer.getvalue())
    _, ids, _, _ = read(tmp_path, str(tmp_path / "p.csv"), season="none")
    assert ids == [f"id{i}" for i in range(count)]
