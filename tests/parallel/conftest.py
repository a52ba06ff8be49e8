"""The tiny runs of both methods are at hand."""

import sys
from pathlib import Path

_TESTS = Path(__file__).parents[1]
sys.path += [str(_TESTS / name) for name in ("flavars", "graft")]
