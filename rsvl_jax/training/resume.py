"""What a checkpoint says about its run, and whether a run may go on from it."""

import base64
import fnmatch
import json
import os
import subprocess
from collections.abc import Mapping
from typing import Any

import jax

import rsvl_jax
from rsvl_jax.errors import UserError
from rsvl_jax.training.checkpoint import Metadata
from rsvl_jax.training.state import TrainState

# Config keys that may change between two starts of a run: its length, how often things happen,
# where data lies and how it is read, the topology, and how the same sums are computed. Every other
# key changes the computation.
FREE_KEYS = (
    "training.steps",
    "training.epochs",
    "training.examples",
    "training.nonfinite",
    "init_from.expect",
    "training.micro_batches",
    "checkpoint.*",
    "metrics.*",
    "evaluation.*",
    "report.*",
    "mesh.*",
    "contrast.*",
    "model.scan",
    "model.remat",
    "model.attention",
    "distributed.*",
    "watchdog.*",
    "profile.*",
    "data.dir",
    "data.workers",
    "data.threads",
    "data.cache",
    "data.cache_gib",
    "data.prefetch",
)


def describe(config: Mapping[str, Any], manifest: Mapping[str, Any], state: TrainState) -> Metadata:
    """The JSON kept with every checkpoint of a run.

    config (resolved), manifest (of the data), seed, global_batch, code_revision, layout (name ->
    type and shape of every parameter).
    """
    return {
        "config": as_json(config),
        "manifest": as_json(manifest),
        "seed": config["seed"],
        "global_batch": config["data"]["batch_size"],
        "code_revision": code_revision(),
        "layout": layout(state),
    }


def pack(assets: Mapping[str, bytes]) -> dict[str, str]:
    """Files as text for the metadata, name -> base64."""
    return {name: base64.b64encode(content).decode() for name, content in assets.items()}


def unpack(metadata: Metadata) -> dict[str, bytes]:
    """The files that a checkpoint carries, name -> content; see `pack`."""
    packed = metadata.get("assets", {})
    return {name: base64.b64decode(content) for name, content in packed.items()}


def check(metadata: Metadata, expected: Metadata, workdir: str) -> None:
    """Refuses a checkpoint of another run: UserError, one line that names the differing keys."""
    keys = [key for key in differing(metadata["config"], expected["config"]) if not _is_free(key)]
    if keys:
        _refuse(workdir, "config", keys, metadata["config"], expected["config"])
    keys = differing(metadata["manifest"], expected["manifest"])
    if keys:
        _refuse(workdir, "data manifest", keys, metadata["manifest"], expected["manifest"])
    keys = differing(metadata["layout"], expected["layout"])
    if keys:
        _refuse(workdir, "parameters", keys, metadata["layout"], expected["layout"])


def _refuse(workdir: str, what: str, keys: list[str], old: Any, new: Any) -> None:
    old, new = flatten(old), flatten(new)
    shown = [f"{key} (there {old.get(key)!r}, here {new.get(key)!r})" for key in keys[:6]]
    more = f" and {len(keys) - 6} more" if len(keys) > 6 else ""
    raise UserError(
        f"work directory {workdir} holds a run of another {what}: {', '.join(shown)}{more}; "
        "use the same values, or another --workdir"
    )


def _is_free(key: str) -> bool:
    return any(fnmatch.fnmatchcase(key, pattern) for pattern in FREE_KEYS)


def differing(old: Any, new: Any) -> list[str]:
    """Dotted keys whose values differ, sorted; a key with the value None counts as missing."""
    old, new = flatten(old), flatten(new)
    return sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}; lists are leaves."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            leaves.update(flatten(value, f"{prefix}{key}."))
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def as_json(value: Any) -> Any:
    """A config or manifest as plain JSON values (tuples become lists)."""
    plain = value.to_dict() if hasattr(value, "to_dict") else value
    return json.loads(json.dumps(plain, default=_plain))


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def layout(state: TrainState) -> dict[str, str]:
    """name -> "float32[12,64,64]" of every parameter and frozen array."""
    trees = {"params": state.params, "frozen": state.frozen}
    leaves, _ = jax.tree_util.tree_flatten_with_path(trees)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): (
            f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
        )
        for path, leaf in leaves
    }


def code_revision() -> str:
    """The git commit of the code, "+changes" if files differ; the version outside a checkout."""
    git = ["git", "-C", os.path.dirname(rsvl_jax.__file__)]
    try:
        # Installed packages may lie inside a checkout of something else.
        _output([*git, "ls-files", "--error-unmatch", os.path.basename(rsvl_jax.__file__)])
        commit = _output([*git, "rev-parse", "HEAD"])
        changed = _output([*git, "status", "--porcelain", "--untracked-files=no"])
    except (OSError, subprocess.SubprocessError):
        return rsvl_jax.__version__
    return commit + ("+changes" if changed else "")


def _output(command: list[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    return result.stdout.strip()
