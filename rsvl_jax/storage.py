"""Files of a work directory, on a disk or in an object store.

An object store (gs://...) has no directories, no appending and no renaming; but what is written
there is seen whole or not at all. All that a run writes goes through here or through Orbax.
"""

import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from etils import epath

from rsvl_jax.errors import UserError

# Those that Orbax writes checkpoints to, too.
_STORES = ("gs",)


def is_remote(path: str | os.PathLike) -> bool:
    """Whether a path lies in an object store."""
    return "://" in os.fspath(path)


def locate(path: str | os.PathLike) -> epath.Path:
    """A path as an object with `exists`, `read_text`, `iterdir`, ... wherever it lies.

    Raises UserError for a kind of store that cannot hold checkpoints, or whose client is missing.
    """
    if is_remote(path):
        _check_store(os.fspath(path))
    return epath.Path(path)


def _check_store(path: str) -> None:
    scheme = path.partition("://")[0]
    if scheme not in _STORES:
        raise UserError(
            f"{path!r}: Orbax writes checkpoints to disks and gs:// only; mount {scheme}:// as a "
            "directory, and give that"
        )
    import fsspec

    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise UserError(f"{path!r} cannot be opened ({error}): pip install gcsfs") from error


@contextmanager
def replace_file(path: str | os.PathLike) -> Iterator[IO[bytes]]:
    """A file to write to that takes the place of `path` when all went well."""
    if is_remote(path):
        buffer = io.BytesIO()
        yield buffer
        locate(path).write_bytes(buffer.getvalue())
        return
    folder, name = os.path.split(os.path.abspath(path))
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def sizes(folder: epath.Path) -> dict[str, int]:
    """Bytes of every file below a folder, by its name relative to it."""
    if is_remote(folder):
        return _listed_sizes(str(folder))
    found: dict[str, int] = {}
    for base, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(base, name)
            found[os.path.relpath(path, folder)] = os.path.getsize(path)
    return found


def _listed_sizes(folder: str) -> dict[str, int]:
    """From one listing: a question for each object would take minutes on a pod."""
    import fsspec

    files, root = fsspec.core.url_to_fs(folder)
    files.invalidate_cache()  # others write there, too
    found = files.find(root, detail=True)
    return {os.path.relpath(path, root): entry["size"] for path, entry in found.items()}


def move_folder(source: epath.Path, target: epath.Path) -> None:
    """Moves a folder with all that is in it; what is at `target` goes."""
    if target.exists():
        target.rmtree()
    if not is_remote(source):
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
        return
    for name in sizes(source):
        (source / name).copy(target / name, overwrite=True)
    source.rmtree()


def local_copy(path: str) -> str:
    """A path on this machine's disk with the content of `path`: itself, or a copy made once.

    Copies lie in the folder of temporary files, where all processes of the machine share them.
    """
    if not is_remote(path):
        return path
    remote = locate(path)
    seen = remote.stat()
    name = hashlib.sha256(f"{path} {seen.length} {seen.mtime}".encode()).hexdigest()[:32]
    folder = os.path.join(tempfile.gettempdir(), "rsvl_jax")
    os.makedirs(folder, exist_ok=True)
    copy = os.path.join(folder, name + os.path.splitext(path)[1])
    if not os.path.exists(copy):
        with replace_file(copy) as file:
            file.write(remote.read_bytes())
    return copy
