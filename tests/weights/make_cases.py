"""Makes the stored cases again: `python tests/weights/make_cases.py [NAME ...]`, all by default.

Needs torch, transformers and open_clip, which the suite does not. A file of `originals` lists its
cases in CASES, {name: function without arguments -> Case}: tiny models with random weights.
"""

import importlib
import pkgutil
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2])]  # the repository, for what originals may need of it

import originals  # noqa: E402
import stored  # noqa: E402


def main(wanted: list[str]) -> None:
    stored.FOLDER.mkdir(exist_ok=True)
    for found in pkgutil.iter_modules(originals.__path__):
        module = importlib.import_module(f"originals.{found.name}")
        for name, make in getattr(module, "CASES", {}).items():
            if not wanted or name in wanted:
                path = stored.write(name, make())
                print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
