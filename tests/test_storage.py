import os

import numpy as np
import pytest

from rsvl_jax import report, storage
from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import card


@pytest.fixture(params=["disk", "gs", "s3"])
def workdir(request, tmp_path, bucket):
    if request.param == "gs":
        return "gs://bucket/run"
    if request.param == "s3":
        request.getfixturevalue("s3_endpoint")
        return f"s3://bucket/{request.node.originalname}"
    (tmp_path / "run").mkdir()
    return str(tmp_path / "run")


def test_a_file_is_replaced_whole_or_not_at_all(workdir):
    path = storage.locate(workdir) / "name"
    for content in (b"first", b"second"):
        with storage.replace_file(path) as file:
            file.write(content)
    with pytest.raises(ZeroDivisionError), storage.replace_file(path) as file:
        file.write(b"third")
        raise ZeroDivisionError
    assert path.read_bytes() == b"second"
    assert [each.name for each in storage.locate(workdir).iterdir()] == ["name"]


def test_folders_are_measured_and_moved(workdir):
    source, target = (storage.locate(workdir) / name for name in ("12", "damaged/12"))
    contents = {"meta/metadata": b"{}", "state/d/0": b"12345", "top": b""}
    for folder, name, content in ((source, *each) for each in contents.items()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    target.mkdir(parents=True, exist_ok=True)
    (target / "old").write_bytes(b"of an earlier move")
    measured = {name: len(content) for name, content in contents.items()}
    assert storage.sizes(source) == measured
    storage.move_folder(source, target)
    assert not source.exists()
    assert storage.sizes(target) == measured
    assert (target / "state/d/0").read_bytes() == b"12345"


def test_a_local_copy_is_made_once_and_follows_the_original(workdir, tmp_path, monkeypatch):
    monkeypatch.setattr(storage.tempfile, "gettempdir", lambda: str(tmp_path / "scratch"))
    path = f"{workdir}/part.npy"
    for values in (np.arange(3), np.arange(5)):
        with storage.replace_file(path) as file:
            np.save(file, values)
        first, second = storage.local_copy(path), storage.local_copy(path)
        assert first == second
        np.testing.assert_array_equal(np.load(first, mmap_mode="r"), values)
    assert (first == path) == os.path.isabs(workdir)


def test_scores_and_report(workdir):
    cards = [card.Card("knn/l2", "accuracy", value=12.5, n=4)]
    for name, text in (
        ("config.json", '{"seed": 3}'),
        ("metrics.jsonl", '{"step": 1, "train/loss": 2.0}\n{"step": 2, "train/loss": 1.0}\n'),
    ):
        (storage.locate(workdir) / name).write_text(text)
    card.write(f"{workdir}/scores.json", cards)
    assert card.read(f"{workdir}/scores.json") == cards
    path = report.write(workdir, report.Illustrations())
    assert path == f"{workdir}/report.html"
    page = storage.locate(path).read_text()
    assert "Trained for 2 steps" in page
    assert report.write(workdir) == path  # from the illustrations that were kept
    assert storage.locate(path).read_text() == page


def test_a_store_that_cannot_hold_checkpoints_is_refused_with_the_way_out():
    with pytest.raises(UserError, match="'az://bucket/run'.* mount az:// as a directory"):
        storage.locate("az://bucket/run")


@pytest.mark.parametrize("name", ["run*", "run?", "run[1]"])
def test_a_name_that_would_be_a_pattern_is_refused(name, bucket):
    """Deleting gs://bucket/run* would delete gs://bucket/run2."""
    with pytest.raises(UserError, match="as patterns, .*choose another name"):
        storage.locate(f"gs://bucket/{name}")


@pytest.mark.parametrize(("scheme", "client"), [("gs", "gcsfs"), ("s3", "s3fs")])
def test_a_missing_client_is_named(scheme, client, monkeypatch):
    def missing(scheme):
        raise ImportError(f"Please install {client}")

    monkeypatch.setattr("fsspec.get_filesystem_class", missing)
    expected = f"'{scheme}://bucket/run' cannot be opened .*pip install {client}"
    with pytest.raises(UserError, match=expected):
        storage.locate(f"{scheme}://bucket/run")


def test_a_missing_bucket_is_not_made(s3_endpoint):
    for _ in range(2):
        with pytest.raises(UserError, match="no bucket 's3://buckte': make it, or mend"):
            storage.locate("s3://buckte/run")


def test_missing_credentials_are_said_at_once(s3_endpoint, monkeypatch):
    from s3fs import S3FileSystem

    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    S3FileSystem.clear_instance_cache()
    with pytest.raises(UserError, match="'s3://other' cannot be opened .*check the credentials"):
        storage.locate("s3://other/run")
    S3FileSystem.clear_instance_cache()
