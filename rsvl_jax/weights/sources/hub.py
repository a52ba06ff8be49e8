"""Names of the Hugging Face hub, where `huggingface_hub` is installed and the network allows."""

import logging
import os
import re

from rsvl_jax.errors import UserError

_NAME = re.compile(r"[\w.-]+/[\w.-]+(/[\w./-]+)?")
_BESIDE = ["*.json", "*.txt", "*.model", "*.txt.gz"]
_SAFE = ["*.safetensors", *_BESIDE]
_ALL = ["*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.npz", *_BESIDE]


def fetch(name: str) -> str:
    """The local path of `org/name`, a folder, or of `org/name/file`.

    Raises UserError for what is neither a path nor such a name, and where it cannot be fetched.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise UserError(f"no file or folder {name!r}, nor is it a name of the hub, as org/name")
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError(
            f"no file or folder {name!r}; to fetch it from the hub install huggingface_hub "
            "(pip install 'rsvl-jax[hub]'), or download it and give its folder"
        ) from error
    # It tells of every time that it tries again; what came of it is told below, in one line.
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    owner, repo, *rest = name.split("/", 2)
    try:
        if rest:
            return huggingface_hub.hf_hub_download(f"{owner}/{repo}", rest[0])
        wanted = _ALL
        if any(f.endswith(".safetensors") for f in huggingface_hub.list_repo_files(name)):
            wanted = _SAFE
        return huggingface_hub.snapshot_download(name, allow_patterns=wanted)
    except Exception as error:  # the library passes on whatever its transports raise
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"no file or folder {name!r}, and the hub does not give it: {text}; download it "
            f"otherwise and give its folder{_offline()}"
        ) from error


def _offline() -> str:
    return " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
