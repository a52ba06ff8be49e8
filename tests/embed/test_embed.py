"""The command, in one process: what goes in and what stands in the table."""

import io
import json
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import tiny_runs
from PIL import Image
from rasterio.transform import from_origin

import rsvl_jax
from rsvl_jax.embed import __main__ as command
from rsvl_jax.embed import files, inputs, scenes
from rsvl_jax.embed import run as running
from rsvl_jax.errors import UserError
from rsvl_jax.rasters.scene import View

geopandas = pytest.importorskip("geopandas")
COUNT = 11


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    return rsvl_jax.load(tiny_runs.flavars(tmp_path_factory.mktemp("run"))[0], batch_size=8)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of images, one of them damaged, and the images by name."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    (folder / "a").mkdir()
    images = {}
    for number in range(COUNT):
        images[f"a/{number:02d}.png"] = rng.integers(0, 256, (20, 24 + number, 3), np.uint8)
    for name, image in images.items():
        Image.fromarray(image).save(folder / name)
    (folder / "bad.jpg").write_bytes(b"not an image")
    return folder, images


def embed(embedder, given, output, **options):
    return running.run(embedder, inputs.find([str(given)], _scenes), str(output), **options)


def _scenes(paths):
    return scenes.scenes(paths, View(), size=tiny_runs.SIZE, overlap=0.5, min_valid=0.5)


def matrix(path):
    column = pq.read_table(path, columns=["embedding"])["embedding"].combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), -1)


def test_a_folder(embedder, photos, tmp_path):
    folder, images = photos
    made = embed(embedder, folder, tmp_path / "a.parquet")
    assert (made.rows, made.skipped) == (COUNT, {"no image that can be read": 1})
    assert "left out, no image that can be read: 1" in str(made)
    table = pq.read_table(tmp_path / "a.parquet")
    assert table["id"].to_pylist() == sorted(images)
    told = pq.ParquetFile(tmp_path / "a.parquet").metadata.metadata
    assert b"geo" not in told
    expected = embedder.embed_images([images[name] for name in sorted(images)])
    np.testing.assert_allclose(matrix(tmp_path / "a.parquet"), expected, atol=1e-6)
    about = json.loads(told[b"rsvl_jax.embed"])
    assert about["weights"] == embedder.fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet"]


def test_a_table_of_images_with_places(embedder, photos, tmp_path):
    folder, images = photos
    rows = [f"{n},{i},{-2 * i}" for i, n in enumerate(images)]
    rows += [f"{next(iter(images))},0,95", "a/none.png,0,0", f"{next(iter(images))},,"]
    table = folder / "table.csv"
    table.write_text("\n".join(["filepath,longitude,latitude", *rows]))
    made = embed(embedder, table, tmp_path / "a.geoparquet")
    assert made.skipped == {"no place on Earth": 2, "no image that can be read": 1}
    assert any("lat=95.0 is outside" in line for line in made.problems)
    found = geopandas.read_parquet(tmp_path / "a.geoparquet")
    assert found.crs == "OGC:CRS84"
    assert found["id"].tolist() == list(images)
    assert found.geometry.x.tolist() == list(range(COUNT))
    assert found.geometry.y.tolist() == [-2 * i for i in range(COUNT)]
    assert found.total_bounds.tolist() == [0, 2 - 2 * COUNT, COUNT - 1, 0]


def test_a_table_of_places(embedder, tmp_path):
    table = tmp_path / "places.tsv"
    table.write_text("id\tlat\tlon\nnorth\t90\t0\nhere\t45.5\t-12\n")
    made = embed(embedder, table, tmp_path / "a.npz")
    assert made.dim == tiny_runs.PLACES
    with np.load(tmp_path / "a.npz") as found:
        assert found["id"].tolist() == ["north", "here"]
        expected = embedder.embed_locations(lon=[0, -12], lat=[90, 45.5])
        np.testing.assert_allclose(found["embedding"], expected, atol=1e-6)
        assert found["lat"].tolist() == [90, 45.5]


def add(tar, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def test_shards(embedder, photos, tmp_path):
    folder, images = photos
    names = sorted(images)
    for shard in range(2):
        with tarfile.open(tmp_path / f"s-{shard:04d}.tar", "w") as tar:
            for number in range(4):
                content = (folder / names[4 * shard + number]).read_bytes()
                add(tar, f"k{shard}{number}.png", content)
                place = {"lon": number, "lat": shard}
                add(tar, f"k{shard}{number}.json", json.dumps(place).encode())
            add(tar, f"text{shard}.txt", b"no image here")
    damaged = (tmp_path / "s-0001.tar").read_bytes()
    (tmp_path / "s-0002.tar").write_bytes(damaged[:700])
    made = embed(embedder, tmp_path / "s-{0000..0002}.tar", tmp_path / "a.parquet")
    assert made.skipped == {"no image in the sample": 2, "a damaged shard": 1}
    found = geopandas.read_parquet(tmp_path / "a.parquet")
    assert found["id"].tolist() == [f"k{s}{n}" for s in range(2) for n in range(4)]
    assert found.geometry.y.tolist() == [0] * 4 + [1] * 4
    expected = embedder.embed_images([images[name] for name in names[:8]])
    np.testing.assert_allclose(matrix(tmp_path / "a.parquet"), expected, atol=1e-6)


@pytest.fixture
def scene(tmp_path):
    pixels = np.random.default_rng(1).integers(1, 256, (3, 40, 50), np.uint8)
    pixels[:, :16, :16] = 0
    options = {"driver": "GTiff", "count": 3, "dtype": "uint8", "nodata": 0, "crs": "EPSG:32633"}
    place = from_origin(500_000, 5_000_000, 10, 10)
    path = tmp_path / "scene.tif"
    with rasterio.open(path, "w", width=50, height=40, transform=place, **options) as file:
        file.write(pixels)
    return path, pixels


def test_windows_of_scenes(embedder, scene, tmp_path):
    path, pixels = scene
    (tmp_path / "other.tif").write_bytes(b"no raster")
    made = embed(embedder, tmp_path / "*.tif", tmp_path / "a.parquet")
    assert made.skipped == {"a scene that cannot be used": 1, "too few valid pixels": 1}
    found = geopandas.read_parquet(tmp_path / "a.parquet")
    corners = [(r, c) for r in (0, 8, 16, 24) for c in (0, 8, 16, 24, 32, 34)][1:]
    assert list(zip(found["row"], found["column"], strict=True)) == corners
    cut = [pixels[:, r : r + 16, c : c + 16].transpose(1, 2, 0) for r, c in corners]
    np.testing.assert_allclose(
        matrix(tmp_path / "a.parquet"), embedder.embed_images(cut), atol=1e-6
    )
    metres = found.to_crs("EPSG:32633")
    west, south, east, north = metres.geometry.iloc[-1].bounds
    np.testing.assert_allclose((west, east), (500_340, 500_500), atol=0.01)
    np.testing.assert_allclose((south, north), (4_999_600, 4_999_760), atol=0.01)
    assert metres.geometry.iloc[0].contains(
        geopandas.GeoSeries.from_xy([found["lon"][0]], [found["lat"][0]], crs=4326)
        .to_crs("EPSG:32633")
        .iloc[0]
    )


def test_a_stopped_job_goes_on_and_ends_as_a_whole_one(embedder, photos, tmp_path, monkeypatch):
    folder, _ = photos
    embed(embedder, folder, tmp_path / "whole.parquet", part=5)
    calls = []
    whole = running._embedded

    def dies(*arguments):
        calls.append(len(arguments[2]))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(running, "_embedded", dies)
    with pytest.raises(KeyboardInterrupt):
        embed(embedder, folder, tmp_path / "a.parquet", part=5)
    assert not (tmp_path / "a.parquet").exists()
    assert (tmp_path / "a.parquet.parts" / "part-000000.npz").exists()
    made = embed(embedder, folder, tmp_path / "a.parquet", part=5)
    assert calls == [5, 5, 5, 1]  # the second once more, the first not
    assert made.skipped == {"no image that can be read": 1}
    first, second = (pq.read_table(tmp_path / f"{n}.parquet") for n in ("whole", "a"))
    assert first.equals(second)
    assert not (tmp_path / "a.parquet.parts").exists()


def test_parts_of_another_job_are_refused(embedder, photos, tmp_path, monkeypatch):
    folder, _ = photos
    with monkeypatch.context() as patch:
        patch.setattr(running.outputs, "write", lambda *_: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            embed(embedder, folder, tmp_path / "a.parquet", part=5)
    with pytest.raises(UserError, match="parts of a job with other space"):
        embed(embedder, folder, tmp_path / "a.parquet", part=5, space="location")
    part = tmp_path / "a.parquet.parts" / "part-000001.npz"
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(UserError, match=r"part-000001.npz' is damaged"):
        embed(embedder, folder, tmp_path / "a.parquet", part=5)


def test_the_same_files_mean_the_same_job(photos):
    folder, _ = photos
    first = files.folder(str(folder))
    assert files.folder(str(folder)).identity == first.identity
    assert [item.name for item in first.items(9)] == [
        item.name for item in list(first.items(0))[9:]
    ]
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(folder / "z.png")
    assert files.folder(str(folder)).identity != first.identity
    (folder / "z.png").unlink()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "title,label\nx,y\n", "has the columns title, label: it needs 'path'"),
        ("a.csv", "", "has the columns none"),
        ("folder/a.txt", "", "holds no images"),
        ("empty.csv", "path\n", "nothing could be embedded .the input is empty"),
        ("bad.csv", "path\nnone.png\n", "no image that can be read: 1, as cannot read the image"),
    ],
)
def test_inputs_without_anything_are_refused(embedder, tmp_path, name, content, message):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    given = path.parent if "/" in name else path
    with pytest.raises(UserError, match=message):
        embed(embedder, given, tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("a.csv", "must end in .parquet"),
        ("there.npz", "is there already"),
        ("none/a.npz", "there is no folder"),
        ("a.geoparquet", "says of no item where it lies"),
    ],
)
def test_outputs_that_cannot_be_are_refused(embedder, photos, tmp_path, output, message):
    (tmp_path / "there.npz").touch()
    with pytest.raises(UserError, match=message):
        embed(embedder, photos[0], tmp_path / output)


def test_inputs_of_several_kinds_are_refused(photos, tmp_path):
    (tmp_path / "a.tar").touch()
    with pytest.raises(UserError, match="give one folder or one table"):
        inputs.find([str(photos[0]), str(tmp_path / "a.tar")], _scenes)
    with pytest.raises(UserError, match="nothing at --input"):
        inputs.find([str(tmp_path / "none-*.tif")], _scenes)


def test_the_command(photos, tmp_path, capsys, tmp_path_factory):
    run = tiny_runs.flavars(tmp_path_factory.mktemp("satclip"), "satclip")[0]
    output = tmp_path / "a.parquet"
    command.run([f"--weights={run}", f"--input={photos[0]}", f"--output={output}"])
    assert f"{COUNT} rows of {tiny_runs.PLACES} numbers" in capsys.readouterr().out
    with pytest.raises(UserError, match="is there already"):
        command.run([f"--weights={run}", f"--input={photos[0]}", f"--output={output}"])
    with pytest.raises(UserError, match="see python -m rsvl_jax.embed --help"):
        command.run([f"--weights={run}"])
