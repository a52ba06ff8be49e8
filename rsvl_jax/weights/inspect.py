"""What is in a file, a folder or a run: names, shapes, types, family, fingerprint."""

import os

import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.weights import imports, runs, store
from rsvl_jax.weights.account import shape_text
from rsvl_jax.weights.sources import Arrays, open_source


def lines(path: str) -> list[str]:
    """A line an array, then totals, family and fingerprint.

    Raises UserError for what cannot be read; names that no family knows are no error.
    """
    arrays, about = _open(path)
    width = max(map(len, arrays), default=0)
    listed = [
        f"{name:<{width}}  {tensor.dtype.name:<8}  {shape_text(tensor.shape)}"
        for name, tensor in arrays.tensors.items()
    ]
    tensors = list(arrays.tensors.values())
    count = sum(int(np.prod(t.shape, dtype=np.int64)) for t in tensors)
    size = sum(int(np.prod(t.shape, dtype=np.int64)) * t.dtype.itemsize for t in tensors)
    listed.append(f"{len(arrays)} arrays, {count:,} numbers, {size / 2**20:,.1f} MiB")
    return [*listed, *about, f"fingerprint: {store.fingerprint(arrays)}"]


def _open(path: str) -> tuple[Arrays, list[str]]:
    local = os.path.expanduser(path)
    if imports.is_ours(path):
        stored = store.read(local)
        return stored.arrays, [f"kind: {stored.model.kind}", f"family: {stored.family}"]
    if runs.is_run(local):
        run = runs.read(local)
        return run.arrays, [f"a run of ours at step {run.step}"]
    source = open_source(path)
    about = [f"note: {remark}" for remark in source.remarks]
    try:
        family, _, remarks = imports.identify(source)
    except UserError as error:
        return source.arrays, [*about, f"family: none ({error})"]
    about += [f"note: {remark}" for remark in remarks]
    return source.arrays, [*about, f"family: {family.name} ({family.title})"]
