"""Teaches the pinned Orbax to write arrays to s3:// addresses.

Orbax 0.12 knows disks, where a save is finished by renaming its folder, and gs://, where it is
finished by an object `commit_success.txt`. All that it does for gs:// is right for S3, too, which
has no renaming either; and TensorStore, which carries its arrays, has a driver for S3. What lacks
is that Orbax tells an s3:// address from a directory, and writes a specification for that driver.
So the five functions and names of `_lesson` are replaced; gs:// and disks take their old ways.

When Orbax is upgraded: `teach` does nothing once Orbax writes such specifications by itself, and
this file can go; where a name has changed it says so in one line. `tests/training/test_s3.py` runs
against a real server.
"""

import os
from collections.abc import Callable
from importlib.metadata import version
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from etils import epath

from rsvl_jax.errors import UserError
from rsvl_jax.storage import s3_server

Spec = dict[str, Any]

_PREFIX = "s3://"
_PROBE = "s3://bucket/run/checkpoints/1/state"


def teach() -> None:
    """Makes Orbax of this process write and read s3:// addresses; again, it does nothing.

    Raises UserError where this Orbax is built otherwise than the one that is known here.
    """
    try:
        from orbax.checkpoint._src.path import gcs_utils
        from orbax.checkpoint._src.serialization import tensorstore_utils

        if not _knows(gcs_utils, tensorstore_utils):
            for module, name, value in _lesson(gcs_utils, tensorstore_utils):
                setattr(module, name, value)
        learnt = _knows(gcs_utils, tensorstore_utils)
    except (ImportError, AttributeError):
        learnt = False
    if not learnt:
        raise UserError(
            f"orbax-checkpoint {version('orbax-checkpoint')} cannot be taught s3:// addresses: "
            "install the version of requirements.txt, or give a directory or gs:// as --workdir"
        )


def _knows(gcs_utils: ModuleType, tensorstore_utils: ModuleType) -> bool:
    """Whether an s3:// address gets TensorStore's driver, and a save the end that S3 can have."""
    try:
        base = tensorstore_utils.build_kvstore_tspec(_PROBE, use_ocdbt=True)["base"]
    except ValueError:  # taken for a directory: "should be absolute"
        return False
    place = base.get("driver"), base.get("bucket"), base.get("path", "").rstrip("/")
    return place == ("s3", "bucket", "run/checkpoints/1/state") and gcs_utils.is_gcs_path(
        epath.Path(_PROBE)
    )


def _lesson(
    gcs_utils: ModuleType, tensorstore_utils: ModuleType
) -> list[tuple[ModuleType, str, Any]]:
    """What takes the place of what: module, name, new value."""
    spec = gcs_utils.get_kvstore_for_gcs
    driver = tensorstore_utils._use_gcs_driver
    normal = tensorstore_utils._normalize_path
    size = tensorstore_utils._get_backend_ocdbt_target_data_file_size
    # Orbax's own size of files in a bucket: S3 takes a file in one piece, of 5 GiB at most, and a
    # piece that fails is sent again whole.
    bucket_size = tensorstore_utils._GCS_OCDBT_TARGET_DATA_FILE_SIZE
    return [
        (gcs_utils, "_GCS_PATH_PREFIX", (*gcs_utils._GCS_PATH_PREFIX, _PREFIX)),
        (gcs_utils, "get_kvstore_for_gcs", _for_s3(specification, spec)),
        (tensorstore_utils, "_use_gcs_driver", _for_s3(lambda path: True, driver)),
        (tensorstore_utils, "_normalize_path", _for_s3(_normalized, normal)),
        (
            tensorstore_utils,
            "_get_backend_ocdbt_target_data_file_size",
            lambda found: bucket_size if _is_in_s3(found) else size(found),
        ),
    ]


def _for_s3(ours: Callable[[str], Any], theirs: Callable[[str], Any]) -> Callable[[str], Any]:
    """A function of an address that is `ours` for s3:// and `theirs` for all others."""
    return lambda path: (ours if str(path).startswith(_PREFIX) else theirs)(path)


def _normalized(path: str) -> str:
    return _PREFIX + os.path.normpath(path.removeprefix(_PREFIX))


def _is_in_s3(found: Spec | None) -> bool:
    base = (found or {}).get("base")
    return isinstance(base, dict) and base.get("driver") == "s3"


def specification(path: str) -> Spec:
    """TensorStore's specification of s3://BUCKET/KEY, at the server that the client of files uses.

    On AWS TensorStore finds the region, and writes under conditions. Other stores answer those as
    they like, some with an error: there it looks before it writes, which is enough, as Orbax never
    writes one database from two processes at once.
    """
    parts = urlsplit(path)
    spec = {"driver": "s3", "bucket": parts.netloc, "path": parts.path.lstrip("/")}
    server = s3_server()
    if server is None:
        return spec
    where = {"endpoint": server.endpoint, "aws_region": server.region}
    return {**spec, **where, "use_conditional_write": False}
