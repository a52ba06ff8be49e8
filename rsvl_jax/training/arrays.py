"""The arrays of a run on the host, without its objective. With `checkpoint`, this knows Orbax."""

import os
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from rsvl_jax.errors import UserError
from rsvl_jax.storage import is_remote
from rsvl_jax.training import saved
from rsvl_jax.training.checkpoint import Metadata

Tree = Any
_LEAF = re.compile(r"(\w+)\[([\d,]*)\]")


def read(workdir: str) -> tuple[dict[str, Tree], Metadata]:
    """{"params", "frozen"} of the newest whole checkpoint as NumPy arrays, and its metadata.

    The parameters are their moving average, where one is kept: what is to be used. Raises UserError
    where there is no whole checkpoint.
    """
    found = saved.metadata(workdir)
    layout = {path: _shape(text) for path, text in found["layout"].items()}
    params = _below(layout, "params")
    average = found["config"]["optimizer"].get("ema") is not None
    wanted = {"frozen": _below(layout, "frozen"), ("ema" if average else "params"): params}
    folder = workdir if is_remote(workdir) else os.path.abspath(workdir)  # as Orbax asks
    path = f"{folder}/checkpoints/{found['step']}/state"
    arguments = ocp.args.PyTreeRestore(
        item=wanted,
        partial_restore=True,
        restore_args=jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted),
    )
    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
            trees = reader.restore(path, args=arguments)
    except Exception as error:  # Orbax raises whatever its storage layers raise.
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"the checkpoint {path!r} is damaged: {text}") from error
    return {"params": trees["ema" if average else "params"], "frozen": trees["frozen"]}, found


def _shape(text: str) -> jax.ShapeDtypeStruct:
    """Of "float32[12,64]", see `resume.layout`."""
    match = _LEAF.fullmatch(text)
    if match is None:
        raise UserError(f"{text!r} in a checkpoint's layout is not a type and a shape")
    shape = tuple(int(size) for size in match[2].split(",") if size)
    return jax.ShapeDtypeStruct(shape, jnp.dtype(match[1]))


def _below(layout: dict[str, jax.ShapeDtypeStruct], name: str) -> Tree:
    tree: Tree = {}
    for path, leaf in layout.items():
        first, *parents, last = path.split("/")
        if first != name:
            continue
        inner = tree
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = leaf
    return tree
