"""Rows, prompts, pictures and costs, before anything is sent."""

import io
import json

import pytest
from PIL import Image

from flavars_jax.ground_captions import pictures, prompt
from flavars_jax.ground_captions.costs import ImageTokens, Prices
from flavars_jax.ground_captions.pictures import Picture, Unfit
from flavars_jax.ground_captions.prompt import Prompt
from flavars_jax.ground_captions.records import Records
from flavars_jax.ground_captions.rows import Row, Unreadable, tags
from flavars_jax.ground_captions.tables import Table
from rsvl_jax.chat import access
from rsvl_jax.chat.access import Access
from rsvl_jax.errors import UserError


def png(width=64, height=64, mode="RGB", **how):
    buffer = io.BytesIO()
    Image.new(mode, (width, height)).save(buffer, how.pop("kind", "PNG"), **how)
    return buffer.getvalue()


def test_tags_in_every_form():
    wanted = ("building=house", "natural=water")
    assert tags(list(wanted)) == wanted
    assert tags({"building": "house", "natural": "water"}) == wanted
    assert tags("building=house; natural=water;building=house") == wanted
    assert tags(json.dumps({"building": "house", "natural": "water"})) == wanted
    nested = {"center_tags": {"building": "house"}, "surrounding_tags": [{"natural": "water"}]}
    assert tags(nested) == wanted
    assert tags(json.dumps(nested)) == wanted
    assert tags({"known": list(wanted), "phrases": [wanted[1]]}) == wanted
    assert tags({"building": ["house", "barn"]}) == ("building=house", "building=barn")
    assert tags(None) == tags("") == tags([]) == ()
    assert tags("[a=b") == ("[a=b",)


FIELDS = ("id", "image", "caption", "tags", "lon", "lat", "split")
LINES = [
    dict(zip(FIELDS, values, strict=True))
    for values in (
        ("a", "a.png", "A house.", ["building=house"], 8.5, 47, "test"),
        ("b", "b.png", "A lake.", None, None, "?", None),
    )
]


def test_tables_of_all_kinds_give_the_same_rows(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, LINES)))
    flat = [line | {"tags": ";".join(line["tags"] or ())} for line in LINES]
    rows = [",".join("" if v is None else str(v) for v in line.values()) for line in flat]
    (tmp_path / "t.csv").write_text("\n".join([",".join(LINES[0]), *rows]))
    (tmp_path / "t.tsv").write_text(
        "\n".join(["\t".join(LINES[0]), *(r.replace(",", "\t") for r in rows)])
    )
    pq.write_table(
        pa.Table.from_pylist([line | {"lat": str(line["lat"])} for line in flat]),
        tmp_path / "t.parquet",
    )
    folder = str(tmp_path)
    wanted = [
        Row("a", {"path": f"{folder}/a.png"}, "A house.", ("building=house",), 8.5, 47.0, "test"),
        Row("b", {"path": f"{folder}/b.png"}, "A lake."),
    ]  # fmt: skip
    for suffix in ("jsonl", "csv", "tsv", "parquet"):
        assert list(Table(f"{folder}/t.{suffix}")) == wanted, suffix


def test_bad_lines_are_told_and_the_rest_is_read(tmp_path):
    lines = [json.dumps(LINES[0]), "{", "[1]", "", json.dumps(LINES[0] | {"caption": " "})]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    found = list(Table(str(tmp_path / "t.jsonl")))
    assert isinstance(found[0], Row)
    assert found[1:] == [
        Unreadable("line 2", "line is no JSON object"),
        Unreadable("line 3", "line is no JSON object"),
        Unreadable("a", "caption is missing", "line 5"),
    ]
    (tmp_path / "t.csv").write_text('image,caption\na.png,"with\0 nul"\n')
    assert [row.caption for row in Table(str(tmp_path / "t.csv"))] == ["with nul"]


def test_skyscripts_columns_are_known_and_others_are_asked_for(tmp_path):
    (tmp_path / "s.csv").write_text("filepath,title,title_multi_objects\ni/a1.jpg,one,many\n")
    (row,) = Table(str(tmp_path / "s.csv"))
    assert (row.id, row.caption) == ("i/a1.jpg", "many")
    (row,) = Table(str(tmp_path / "s.csv"), "/img", {"caption": "title"})
    assert (row.caption, row.image["path"]) == ("one", "/img/i/a1.jpg")
    (tmp_path / "o.csv").write_text("picture,words\na,b\n")
    with pytest.raises(UserError, match="no column 'image'; it has 'picture', 'words': name it"):
        list(Table(str(tmp_path / "o.csv")))
    for path, columns, words in (
        ("o.txt", {}, "o.txt'"),
        ("none.csv", {}, "no such file"),
        ("o.csv", {"picture": "x"}, "--columns=picture"),
    ):
        with pytest.raises(UserError, match=words):
            Table(str(tmp_path / path), "", columns)


def test_records_of_a_data_set(mini_earth_tiles):
    rows = Records("earth_tiles/mini", mini_earth_tiles, "train")
    row = next(row for row in rows if "country=Brazil" in row.tags)
    assert row.image["split"] == row.split == "train"
    assert any(tag.startswith("landcover=") for tag in row.tags)
    assert pictures.size(rows.picture(row)) == (64, 64)
    assert -74 < row.lon < -34


def test_the_prompt_holds_what_is_known():
    words = Prompt(prompt.read("grounded"))
    row = Row("r", {}, "A $5 house.", ("building=house", "natural=water"))
    system, user = words.words(row, 256, 128)
    assert "satellite" in system
    assert "256 x 128" in user and "A $5 house." in user and "building=house\nnatural=water" in user
    first, second = words.messages(row, Picture(b"123", "image/png", 256, 128, 64, 32))
    assert first["role"], second["role"] == ("system", "user")
    assert second["content"][1]["image_url"]["url"] == "data:image/png;base64,MTIz"
    assert Prompt("$caption").words(row, 1, 1) == ("", "A $5 house.")


@pytest.mark.parametrize(
    ("text", "words"),
    [("no place", r"no \$caption"), ("$caption $x", r"has \$x"), ("$caption costs $ 5", "dollar")],
)
def test_impossible_prompts_are_refused(text, words):
    with pytest.raises(UserError, match=words):
        Prompt(text)


def test_pictures_are_sent_as_they_are_or_in_the_right_size():
    plain = png(300, 200)
    assert pictures.prepare(plain, 256, 1024).data is plain
    small = pictures.prepare(png(64, 32), 256, 1024)
    assert (small.width, small.height, small.own_width, small.own_height) == (256, 128, 64, 32)
    assert Image.open(io.BytesIO(small.data)).size == (256, 128)
    large = pictures.prepare(png(3000, 30), 256, 1024)
    assert (large.width, large.height) == (1024, 10)
    turned = Image.Exif()
    turned[0x0112] = 6
    odd = [png(300, 300, "RGBA"), png(300, 300, kind="JPEG", exif=turned)]
    odd += [png(300, 300, "CMYK", kind="JPEG"), png(300, 300, kind="WEBP")]
    for data in odd:
        found = pictures.prepare(data, 256, 1024)
        assert found.data != data and found.mime == "image/jpeg"
        assert not Image.open(io.BytesIO(found.data)).getexif()


def test_unfit_pictures_are_named(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)  # in earnest 89 million
    whole = png(300, 300)
    for data, words in (
        (b"", "empty"),
        (b"<html>", "cannot be decoded"),
        (whole[: len(whole) // 2], "cannot be decoded"),
        (png(400, 400), "too large"),
    ):
        with pytest.raises(Unfit, match=words):
            pictures.prepare(data, 256, 1024)


def test_tokens_of_images_are_openais():
    tiles = ImageTokens("tiles")
    # The examples of OpenAI's page: 1024 x 1024 is reduced to 768 x 768, four tiles; 2048 x 4096
    # to 768 x 1536, six.
    assert (tiles(1024, 1024), tiles(2048, 4096), tiles(512, 512)) == (765, 1105, 255)
    assert ImageTokens("patches:28")(256, 280) == 100
    assert ImageTokens("500")(1, 1) == 500
    for rule in ("tile", "patches:0", "patches", "-1"):
        with pytest.raises(UserError, match="image_tokens"):
            ImageTokens(rule)
    assert Prices(2.5, 10).cost(1_000_000, 100_000) == pytest.approx(3.5)
    for prices in ((1.0, None), (-1.0, 1.0)):
        with pytest.raises(UserError, match="price"):
            Prices(*prices)


def test_the_key_is_shown_to_nobody(tmp_path, monkeypatch):
    (tmp_path / "key").write_text("sk-from-file\n")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-from-environment")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://example.org/v1/")
    found = access.find("", "m", "", "OPENAI_API_KEY")
    assert found.headers == {"Authorization": "Bearer sk-from-environment"}
    assert found.chat == "https://example.org/v1/chat/completions"
    assert "sk-" not in repr(found) and found.hide("bad sk-from-environment!") == "bad ***!"
    assert access.find("", "m", str(tmp_path / "key"), "X").key == "sk-from-file"
    assert access.find("", "m", "", "NOT_SET_ANYWHERE").headers == {}
    with pytest.raises(UserError, match="no model"):
        access.find("", "", "", "X")
    for url in ("https://user:secret@host/v1", "https://host/v1?key=secret"):
        with pytest.raises(UserError, match="host") as error:
            Access(url, "m")
        assert "secret" not in str(error.value)
    with pytest.raises(UserError, match="API key has") as error:
        Access("http://h/v1", "m", "sk-se\ncret")
    assert "cret" not in str(error.value)
    with pytest.raises(UserError, match="no address"):
        Access("localhost:8000", "m")
