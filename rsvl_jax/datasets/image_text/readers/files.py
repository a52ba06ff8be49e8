"""Image files by the paths that a table gives."""

import hashlib
import os

from rsvl_jax.datasets.image_text.reader import Drop


def read(root: str, path: str) -> bytes:
    """Bytes of the file at `path`, below `root` unless it is absolute.

    Raises Drop where there is none, or it cannot be read.
    """
    if not path:
        raise Drop("image is missing", "no path")
    try:
        with open(os.path.join(root, path), "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Drop("image is missing", path) from error
    except (OSError, ValueError) as error:  # a path with NUL is a ValueError
        raise Drop("image cannot be read", f"{path}: {error}") from error


def hashed(name: str) -> int:
    """64 bits that stand for a name; lone surrogates are taken as they are."""
    data = name.encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
