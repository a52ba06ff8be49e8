"""`python -m graft_jax.map` from scene to files, and what it says of bad input."""

import os

import made_scenes as made
import numpy as np
import pytest
import rasterio
from colours_model import ColoursModel, cosine
from PIL import Image

from graft_jax.map.__main__ import run
from graft_jax.map.quicklook import round_length
from graft_jax.map.similarity import Scan, dense
from rsvl_jax.errors import UserError
from rsvl_jax.rasters.scene import View, open_scene
from rsvl_jax.runtime import exit_status


def command(source, output, *flags, model=None, words=("red", "green")):
    asked = [f"--query={word}" for word in words]
    argv = ["--workdir=none", f"--input={source}", f"--output={output}", *asked, *flags]
    run(argv, lambda workdir: model or ColoursModel())


def refused(capsys, source, output, *flags, **changes):
    """Exit status 2, one line, and nothing written; the line."""
    before = sorted(os.listdir(os.path.dirname(str(output))))
    assert exit_status(lambda: command(source, output, *flags, **changes)) == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith("error: ") and "\n" not in line
    assert sorted(os.listdir(os.path.dirname(str(output)))) == before
    return line


@pytest.fixture
def scene(tmp_path):
    return made.write(tmp_path / "scene.tif", made.patchwork(300, 620))


@pytest.fixture
def output(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "map.tif"


def test_similarity_map(scene, output, capsys):
    command(scene, output)
    assert "images/s" in capsys.readouterr().out
    assert sorted(os.listdir(output.parent)) == ["map.png", "map.tif"]
    with rasterio.open(output) as file, rasterio.open(scene) as source:
        assert file.crs == source.crs and file.transform == source.transform
        assert file.shape == source.shape and file.dtypes == ("float32",) * 2
        assert file.descriptions == ("red", "green") and np.isnan(file.nodata)
        assert file.profile["tiled"] and file.compression.name == "deflate"
        assert file.overviews(1) == [2]
        tags, values = file.tags(), file.read()
    assert tags["model"] == "colours-1" and tags["query_1"] == "green"
    assert tags["scale"] == "none" and tags["bands"] == "1,2,3" and tags["gsd"] == "10 x 10 m"
    model = ColoursModel()
    vectors = model.texts(["red", "green"])
    wanted = dense(model, made.Array(made.patchwork(300, 620)), Scan(vectors))
    np.testing.assert_allclose(values, wanted, atol=1e-6)
    with Image.open(output.with_suffix(".png")) as picture:
        assert min(picture.size) > 200


def test_class_map(tmp_path, output):
    pixels = made.plain((255, 0, 0), 96, 128)
    pixels[:, 64:] = (0, 255, 0)
    pixels[64:] = 7  # nodata
    command(made.write(tmp_path / "s.tif", pixels, nodata=7), output, "--kind=class")
    with rasterio.open(output) as file:
        found = file.read(1)
        assert file.dtypes == ("uint8",) and file.nodata == 255
        assert file.tags()["class_0"] == "red" and file.tags()["class_1"] == "green"
        assert file.descriptions == ("red | green",) and len(set(file.colormap(1).values())) > 2
    assert (
        (found[:64, :64] == 0).all() and (found[:64, 64:] == 1).all() and (found[64:] == 255).all()
    )


def test_pixels_below_a_threshold_are_none_of_the_classes(tmp_path, output):
    pixels = made.plain((255, 0, 0), 64, 128)
    pixels[:, 64:] = (0, 0, 255)
    pixels[48:] = 7  # nodata
    source = made.write(tmp_path / "s.tif", pixels, nodata=7)
    between = (cosine((255, 0, 0), "red") + cosine((0, 0, 255), "red")) / 2
    command(source, output, "--kind=class", f"--threshold={between}", words=("red",))
    with rasterio.open(output) as file:
        found, tags = file.read(1), file.tags()
    assert (found[:48, :48] == 0).all() and (found[:48, 80:] == 1).all()
    assert (found[48:] == 255).all()
    assert tags["class_1"] == "none of these" and float(tags["threshold"]) == pytest.approx(between)


def test_gsd_resamples_to_what_the_model_was_trained_at(tmp_path, output):
    """Squares of 40 m: at 40 m a pixel sees one colour, at the scene's 10 m four by four."""
    cells = np.random.default_rng(1).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    source = made.write(tmp_path / "s.tif", cells.repeat(4, axis=0).repeat(4, axis=1))
    command(source, output, "--gsd=40")
    with rasterio.open(output) as file, rasterio.open(source) as original:
        assert file.shape == (50, 60) and file.crs == original.crs
        assert file.transform == original.transform @ rasterio.Affine.scale(4)
        assert file.bounds == original.bounds
        found = file.read()
    model = ColoursModel()
    wanted = dense(model, made.Array(cells), Scan(model.texts(["red", "green"])))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_gsd_in_degrees_is_square_on_the_ground(tmp_path):
    step = 10 / 111_320
    grid = rasterio.Affine(step, 0, 20.0, 0, -step, 60.0)  # half as wide as high in metres
    source = made.write(
        tmp_path / "s.tif", made.plain((9, 9, 9), 200, 200), crs="EPSG:4326", transform=grid
    )
    with open_scene(source, View(gsd=20.0)) as scene:
        assert scene.width == pytest.approx(50, abs=1) and scene.height == pytest.approx(100, abs=1)
        assert scene.ground == (20.0, 20.0)


def test_sixteen_bits_are_scaled_and_say_so(tmp_path, output):
    pixels = made.patchwork(64, 64).astype(np.uint16) * 10 + 100
    source = made.write(tmp_path / "s.tif", pixels)
    command(source, output, "--scale=100,2650")
    with rasterio.open(output) as file:
        assert file.tags()["scale"] == "100,2650"
        found = file.read()
    model = ColoursModel()
    wanted = dense(model, made.Array(made.patchwork(64, 64)), Scan(model.texts(["red", "green"])))
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    command(source, output, "--percentiles=0,100")
    with rasterio.open(output) as file:
        assert file.tags()["scale"] == f"{pixels.min()},{pixels.max()}"


def test_bands_may_have_a_scale_each(tmp_path):
    eight = made.patchwork(64, 64)
    eight[0, 0], eight[0, 1] = 0, 255  # so that every band reaches from black to white
    hazy = eight.astype(np.uint16) * (2, 3, 4) + np.uint16((100, 300, 900))
    source = made.write(tmp_path / "s.tif", hazy)
    scale = (100, 610, 300, 1065, 900, 1920)
    for view in (View(scale=scale), View(percentiles=(0, 100), per_band=True)):
        with open_scene(source, view) as scene:
            assert scene.scale == scale
            np.testing.assert_array_equal(scene.read(0, 0, 64)[0], eight)
    with open_scene(source, View(percentiles=(0, 100))) as scene:
        assert scene.scale == (100, 1920)
    with (
        pytest.raises(UserError, match="three bands for the one"),
        open_scene(source, View(bands=(1,), scale=scale)),
    ):
        pass


def test_bands_are_chosen_and_one_is_grey(tmp_path):
    pixels = np.concatenate([made.patchwork(40, 40), made.patchwork(40, 40, seed=1)], axis=2)
    source = made.write(tmp_path / "s.tif", pixels)
    for bands, columns in (((6, 5, 4), [5, 4, 3]), ((2,), [1, 1, 1]), ((), [0, 1, 2])):
        with open_scene(source, View(bands=bands)) as scene:
            np.testing.assert_array_equal(scene.read(3, 5, 32)[0], pixels[3:35, 5:37][..., columns])


def test_three_files_are_one_scene(tmp_path, output):
    pixels = made.patchwork(64, 64)
    parts = [made.write(tmp_path / f"{n}.tif", pixels[..., n : n + 1]) for n in range(3)]
    with open_scene(",".join(parts), View()) as scene:
        np.testing.assert_array_equal(scene.read(0, 0, 64)[0], pixels)
    command(",".join(parts), output)
    other = made.write(tmp_path / "other.tif", pixels[:50, :, :1])
    with pytest.raises(Exception, match="different grids"):
        command(",".join([*parts[:2], other]), output)


def test_nan_and_alpha_are_no_data(tmp_path):
    values = made.patchwork(40, 40).astype(np.float32)
    values[:10, :, 1] = np.nan
    with open_scene(made.write(tmp_path / "f.tif", values), View(scale=(0, 255))) as scene:
        pixels, valid = scene.read(0, 0, 40)
    assert not valid[:10].any() and valid[10:].all() and (pixels[:10] == 0).all()
    alpha = np.full((40, 40, 1), 255, np.uint8)
    alpha[:, 30:] = 0
    rgba = np.concatenate([made.patchwork(40, 40), alpha], axis=2)
    source = made.write(tmp_path / "a.tif", rgba, photometric="rgb", alpha="yes")
    with open_scene(source, View()) as scene:
        assert scene.bands == (1, 2, 3)
        assert not scene.read(0, 0, 40)[1][:, 30:].any()


def test_a_broken_off_map_leaves_nothing(scene, output):
    class Fails(ColoursModel):
        def images(self, pixels):
            raise RuntimeError("out of memory")

    output.write_bytes(b"older")
    with pytest.raises(RuntimeError):
        command(scene, output, model=Fails())
    assert os.listdir(output.parent) == ["map.tif"] and output.read_bytes() == b"older"


@pytest.mark.parametrize(
    ("flags", "words", "said"),
    [
        ((), (), "no query"),
        ((), ("",), "query '' is empty"),
        ((), ("red", "red"), "twice"),
        (("--kind=class",), ("red",), "2 to 254"),
        (("--kind=class", "--threshold=2"), ("red",), "--threshold=2 is no cosine"),
        (("--threshold=0.2",), ("red",), "is for --kind=class"),
        (("--kind=classes",), ("red",), "'classes'"),
        (("--template=a photo",), ("red",), "{c}"),
        (("--bands=1,2",), ("red",), "'1,2'"),
        (("--bands=9,8,7",), ("red",), "3 bands, not 9"),
        (("--scale=5,5",), ("red",), "(5.0, 5.0)"),
        (("--scale=0,5,3,2,0,5",), ("red",), "pairs of rising values"),
        (("--scale=0,5", "--per_band"), ("red",), "leave one out"),
        (("--percentiles=60,40",), ("red",), "60"),
        (("--gsd=-1",), ("red",), "-1"),
        (("--gsd=500",), ("red",), "12 x 6 pixels"),
        (("--overlap=1",), ("red",), "overlap 1"),
        (("--level=patches",), ("red",), "'patches'"),
        (("--batch_size=0",), ("red",), "batch size 0"),
        (("--colour=1",), ("red",), "--colour"),
    ],
)
def test_flags_that_cannot_be_meant(scene, output, capsys, flags, words, said):
    assert said in refused(capsys, scene, output, *flags, words=words)


def test_scenes_that_cannot_serve(tmp_path, output, capsys):
    small = made.write(tmp_path / "small.tif", made.plain((1, 1, 1), 20, 90))
    assert "90 x 20 pixels" in refused(capsys, small, output)
    lost = made.write(tmp_path / "lost.tif", made.plain((1, 1, 1), 64, 64), crs=None)
    assert "no CRS" in refused(capsys, lost, output)
    empty = np.zeros((64, 64, 3), np.uint16)
    nothing = made.write(tmp_path / "empty.tif", empty, nodata=0)
    assert "no valid pixel" in refused(capsys, nothing, output)
    flat = made.write(tmp_path / "flat.tif", empty + np.uint16(5))
    assert "all 5" in refused(capsys, flat, output)
    text = tmp_path / "text.tif"
    text.write_text("not a raster")
    assert "text.tif" in refused(capsys, text, output)
    assert "missing.tif" in refused(capsys, tmp_path / "missing.tif", output)
    assert "must end in .tif" in refused(capsys, small, output.with_suffix(".jpg"))
    assert "is the input" in refused(capsys, small, small)


def test_a_truncated_scene_is_one_line(tmp_path, output, capsys):
    source = made.write(tmp_path / "s.tif", made.patchwork(300, 300), compress="deflate")
    os.truncate(source, os.path.getsize(source) // 2)
    assert "s.tif" in refused(capsys, source, output)


def test_scale_bars_are_round():
    assert [round_length(m) for m in (1.0, 1.9, 5.2, 4999, 20000)] == [1, 1, 5, 2000, 20000]


def test_a_plain_scene_maps_to_its_cosine(tmp_path, output):
    command(made.write(tmp_path / "s.tif", made.plain((10, 200, 40), 70, 81)), output)
    with rasterio.open(output) as file:
        for band, word in zip(file.read(), ("red", "green"), strict=True):
            np.testing.assert_allclose(band, cosine((10, 200, 40), word), atol=1e-6)
