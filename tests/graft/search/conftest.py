"""Search looks through the eyes of the maps' made-up model, on the maps' made-up scenes."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "map"))
