"""Pickles of plain values: dicts, lists, tuples, strings, numbers. Nothing in them is ever run.

The reader is the interpreter's in Python: that in C reserves as much memory as a pickle claims to
need for its memo.
"""

import io
import pickle
from typing import Any, NoReturn

from rsvl_jax.datasets.image_text.reader import Drop

_Reader: Any = pickle._Unpickler  # the one in Python


class _Plain(_Reader):
    def find_class(self, module: str, name: str) -> NoReturn:
        raise Drop("metadata is refused", f"its pickle asks for {module}.{name}")

    def get_extension(self, code: int) -> NoReturn:
        raise Drop("metadata is refused", f"its pickle asks for extension {code}")

    def persistent_load(self, given: Any) -> NoReturn:
        raise Drop("metadata is refused", "its pickle refers to something outside of it")


def loads(data: bytes) -> Any:
    """The value. Raises Drop for a pickle that asks for more than plain values, or is damaged."""
    try:
        return _Plain(io.BytesIO(data)).load()
    except Drop:
        raise
    except Exception as error:  # a damaged pickle fails in every way there is
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise Drop("metadata cannot be read", text) from error
