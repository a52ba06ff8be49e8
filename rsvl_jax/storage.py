"""Files of a work directory, on a disk or in an object store.

An object store (gs://..., s3://...) has no directories, no appending and no renaming; but what is
written there is seen whole or not at all. All that a run writes goes through here or Orbax.
"""

import functools
import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

from etils import epath

from rsvl_jax.errors import UserError

# Scheme -> package of the client of files. Orbax writes checkpoints to these, too.
_CLIENTS = {"gs": "gcsfs", "s3": "s3fs"}
_PATTERNS = "*?["
_AWS = ("amazonaws.com", "amazonaws.com.cn")


class S3Server(NamedTuple):
    """An S3-compatible server other than Amazon's: its URL, and the region that signatures name."""

    endpoint: str
    region: str


def is_remote(path: str | os.PathLike) -> bool:
    """Whether a path lies in an object store."""
    return "://" in os.fspath(path)


def locate(path: str | os.PathLike) -> epath.Path:
    """A path as an object with `exists`, `read_text`, `iterdir`, ... wherever it lies.

    Raises UserError for a kind of store that cannot hold checkpoints, whose client is missing, or
    that cannot be opened, and for a name that a client would take for a pattern.
    """
    if is_remote(path):
        _check_store(os.fspath(path))
    return epath.Path(path)


def _check_store(path: str) -> None:
    scheme, _, rest = path.partition("://")
    if scheme not in _CLIENTS:
        raise UserError(
            f"{path!r}: a run is written to a directory, gs:// or s3://; mount {scheme}:// as a "
            "directory, and give that"
        )
    if any(sign in path for sign in _PATTERNS):
        raise UserError(
            f"{path!r}: clients of object stores read {_PATTERNS} as patterns, and would delete "
            "what fits them; choose another name"
        )
    import fsspec

    _set_up_clients(fsspec.config.conf)
    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        client = _CLIENTS[scheme]
        raise UserError(f"{path!r} cannot be opened ({error}): pip install {client}") from error
    if scheme == "s3":
        _check_bucket(rest.partition("/")[0])


def _set_up_clients(options: dict[str, dict[str, Any]]) -> None:
    """Sets what a client must do differently here, unless the user's fsspec settings name it."""
    for name in ("gs", "gcs", "s3"):
        # TensorStore and other processes write there, too: a remembered listing would be wrong.
        options.setdefault(name, {}).setdefault("use_listings_cache", False)
    region = os.environ.get("AWS_REGION")
    if region and "AWS_DEFAULT_REGION" not in os.environ:  # the only one that this client reads
        options["s3"].setdefault("client_kwargs", {}).setdefault("region_name", region)


@functools.cache
def _check_bucket(bucket: str) -> None:
    """Says at once what else would fail later in a library's words, or make a bucket by mistake."""
    import fsspec
    from botocore.exceptions import BotoCoreError

    try:
        fsspec.filesystem("s3").call_s3("head_bucket", Bucket=bucket)
    except FileNotFoundError as error:
        raise UserError(f"no bucket 's3://{bucket}': make it, or mend the address") from error
    except (OSError, BotoCoreError) as error:
        raise UserError(
            f"'s3://{bucket}' cannot be opened ({error}): check the credentials, AWS_ENDPOINT_URL "
            "and AWS_REGION"
        ) from error


def s3_server() -> S3Server | None:
    """The server that s3:// addresses lead to, None for Amazon's own.

    The client of files knows, from AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL or the user's AWS files.
    """
    import fsspec

    seen = fsspec.filesystem("s3").s3.meta
    endpoint = seen.endpoint_url.rstrip("/")
    if endpoint.partition("://")[2].endswith(_AWS):
        return None
    region = seen.region_name
    return S3Server(endpoint, "us-east-1" if region in (None, "aws-global") else region)


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
    import fsspec

    remote = locate(path)
    files, name = fsspec.core.url_to_fs(path)
    name = hashlib.sha256(f"{path} {files.ukey(name)}".encode()).hexdigest()[:32]
    folder = os.path.join(tempfile.gettempdir(), "rsvl_jax")
    os.makedirs(folder, exist_ok=True)
    copy = os.path.join(folder, name + os.path.splitext(path)[1])
    if not os.path.exists(copy):
        with replace_file(copy) as file:
            file.write(remote.read_bytes())
    return copy
