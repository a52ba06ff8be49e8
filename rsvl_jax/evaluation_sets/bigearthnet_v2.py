"""BigEarthNet v2 (reBEN): a folder a patch below one a product, and one table of all patches.

    metadata.parquet                       patch_id, labels (of 19 classes), split, country, ...
    BigEarthNet-S2/PRODUCT/PATCH/PATCH_B01.tif ... PATCH_B12.tif

Splits are the table's own. Source: Clasen et al. 2024, and torchgeo's reader of it.
"""

import os
from typing import Any

import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation_sets import splits
from rsvl_jax.evaluation_sets.bigearthnet import Patches, Shown, scenes
from rsvl_jax.evaluation_sets.collection import Collection
from rsvl_jax.evaluation_sets.known import Known

_TABLE, _FOLDER = "metadata.parquet", "BigEarthNet-S2"
_COLUMNS = ("patch_id", "labels", "split")
_SPELT = {"val": "validation"}


def read(known: Known, root: str, split: str, rule: str = "", added: int = 0) -> Collection:
    """A split by the table, or all patches.

    Patches of the table whose folder is not there are left out and counted, as of those who have a
    part of the data; a split without any is an error. Raises UserError for a table that is not
    there or not right, and a label that there is not.
    """
    split = splits.spelt(split)
    if rule not in ("", splits.OWN):
        raise UserError(f"split rule {rule!r}: {known.name} has its own splits alone")
    table = _table(os.path.join(root, _TABLE))
    wanted = _SPELT.get(split, split)
    rows = [row for row in table if split == splits.ALL or row["split"] == wanted]
    folder = os.path.join(root, _FOLDER)
    if not os.path.isdir(folder):
        raise UserError(f"no {folder!r}: the folder of the Sentinel-2 patches")
    there = [row for row in rows if os.path.isdir(os.path.join(folder, _place(row["patch_id"])))]
    if not there:
        raise UserError(f"none of the {len(rows)} patches of the {split} split is in {folder!r}")
    names = tuple(_place(row["patch_id"]) for row in there)
    absent = len(rows) - len(there)
    return Collection(
        name=known.name,
        split=split,
        ids=names,
        images=Shown(Patches(folder, names, ("B04", "B03", "B02")), known.sensor, added),
        labels=np.array([_labels(known, row) for row in there], bool),
        classes=known.classes,
        blocks=scenes(names),
        bands=Patches(folder, names, known.bands),
        band_names=known.bands,
        dropped={"patches of the table that are not there": absent} if absent else {},
        protocol={
            "split_rule": f"the table's own ({_TABLE})",
            "bands": "B04, B03, B02 by the sensor table",
            "added": added,
        },
    )


def _table(path: str) -> list[dict[str, Any]]:
    """Its rows, sorted by patch."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError("reading Parquet needs pyarrow: pip install pyarrow") from error
    if not os.path.isfile(path):
        raise UserError(f"no {path!r}: the table of all patches, published with the data set")
    try:
        found = pyarrow.parquet.read_table(path, columns=list(_COLUMNS)).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        line = str(error).splitlines()[0]
        raise UserError(
            f"{path!r} is no Parquet with {', '.join(_COLUMNS)} ({line}): get it again"
        ) from error
    if len({row["patch_id"] for row in found}) < len(found):
        raise UserError(f"{path!r} has patches that are there twice: get it again")
    return sorted(found, key=lambda row: row["patch_id"])


def _place(patch: str) -> str:
    """PRODUCT/PATCH; a patch is called PRODUCT_COLUMN_ROW."""
    return f"{patch.rsplit('_', 2)[0]}/{patch}"


def _labels(known: Known, row: dict[str, Any]) -> np.ndarray:
    """bool [C]."""
    strange = [label for label in row["labels"] or () if label not in known.classes]
    if strange:
        raise UserError(
            f"{row['patch_id']!r}: {strange[0]!r} is none of the {len(known.classes)} labels"
        )
    return np.isin(known.classes, row["labels"] or ())
