"""An object store for tests: gs:// on a local folder, with what object stores lack.

There are no directories but those that hold something, no appending, and an object appears when it
is written whole. TensorStore reads and writes the same folder through its driver for files.
"""

import io
import os

import pytest
from fsspec.registry import _registry
from fsspec.spec import AbstractFileSystem
from orbax.checkpoint._src.path import gcs_utils


class Bucket(AbstractFileSystem):
    """The client, as gcsfs is one."""

    protocol = ("gs", "gcs")
    cachable = False
    root = ""
    writes = 0

    def _place(self, path):
        return os.path.join(self.root, self._strip_protocol(path))

    def info(self, path, **options):
        path, place = self._strip_protocol(path), self._place(path)
        if os.path.isfile(place):
            seen = os.stat(place)
            return {"name": path, "size": seen.st_size, "mtime": seen.st_mtime, "type": "file"}
        if any(names for _, _, names in os.walk(place)):
            return {"name": path, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    def ls(self, path, detail=True, **options):
        path, found = self._strip_protocol(path), self.info(path)
        if found["type"] == "directory":
            names = [f"{path}/{name}" for name in sorted(os.listdir(self._place(path)))]
            entries = [self.info(name) for name in names if self.exists(name)]
        else:
            entries = [found]
        return entries if detail else [entry["name"] for entry in entries]

    def listdir(self, path, detail=True, **options):
        return self.ls(path, detail=detail)

    def mkdir(self, path, create_parents=True, **options):
        pass

    def makedirs(self, path, exist_ok=False):
        pass

    def rmdir(self, path):
        pass

    def rm_file(self, path):
        if os.path.isfile(self._place(path)):  # `rm` names folders, too
            os.unlink(self._place(path))

    def cp_file(self, path1, path2, **options):
        if not self.isdir(path1):
            self.pipe_file(path2, self.cat_file(path1))

    def _open(self, path, mode="rb", **options):
        if mode == "rb":
            return open(self._place(path), "rb")
        assert mode == "wb", f"object stores have no mode {mode!r}"
        return _Upload(self._place(path))


class _Upload(io.BytesIO):
    """An object that appears when it is closed."""

    def __init__(self, place):
        super().__init__()
        self._place = place

    def close(self):
        if not self.closed:
            Bucket.writes += 1
            os.makedirs(os.path.dirname(self._place), exist_ok=True)
            with open(self._place, "wb") as file:
                file.write(self.getvalue())
        super().close()


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """The folder whose content is that of gs://bucket."""
    for name in Bucket.protocol:
        monkeypatch.setitem(_registry, name, Bucket)
    monkeypatch.setattr(Bucket, "root", str(tmp_path / "stores"))
    monkeypatch.setattr(Bucket, "writes", 0)
    monkeypatch.setattr(gcs_utils, "is_hierarchical_namespace_enabled", lambda path: False)
    monkeypatch.setattr(
        gcs_utils,
        "get_kvstore_for_gcs",
        lambda path: {"driver": "file", "path": f"{Bucket.root}/{path.partition('://')[2]}"},
    )
    folder = tmp_path / "stores" / "bucket"
    folder.mkdir(parents=True)
    return folder
