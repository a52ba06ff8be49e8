"""Downloads in their published layouts, small and made up."""

import csv
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

THINGS = ("building", "farmland", "forest", "harbour", "parking lot", "river", "road", "school")


def picture(seed: int, size: tuple[int, int] = (48, 40), **how: Any) -> bytes:
    """An encoded image (JPEG unless `format` says otherwise) with features of its own."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (6, 6, 3), np.uint8)
    buffer = io.BytesIO()
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    image.convert(how.pop("mode", "RGB")).save(buffer, **{"format": "JPEG", **how})
    return buffer.getvalue()


def metadata(number: int) -> dict[str, Any]:
    """What SkyScript's pickles hold, of a place of its own."""
    lon, lat = -120 + 7.3 * (number % 30), -40 + 4.1 * (number % 20)
    return {
        "box": (lon, lat, lon + 0.004, lat + 0.003),
        "time": (2019, 7, 1 + number % 28, 10, 30),
        "center_tags": {"building": THINGS[number % len(THINGS)], "levels": 3},
        "surrounding_tags": [{"highway": "residential"}],
    }


class SkyScript:
    """A made-up SkyScript below `root`; change its tables, images and pickles, then `write`."""

    def __init__(self, root: Path, rows: int = 24, held: int = 4):
        self.root = root
        self.images = {f"images{2 + i % 2}/a{i}_US_19.jpg": picture(i) for i in range(rows)}
        self.metas = {path: pickle.dumps(metadata(i)) for i, path in enumerate(self.images)}
        lines = [
            (path, THINGS[i % 8], f"{THINGS[i % 8]} {i}, surrounded by {THINGS[i % 7]}")
            for i, path in enumerate(self.images)
        ]
        self.tables = {
            "train_top30pct_filtered_by_CLIP_openai": lines[: rows - 2 * held],
            "val_5K_filtered_by_CLIP_openai": lines[rows - 2 * held : rows - held],
            "test_30K_filtered_by_CLIP_openai": lines[rows - held :],
        }

    def write(self, compression: int = zipfile.ZIP_DEFLATED) -> Path:
        """As it is published."""
        self.root.mkdir(parents=True, exist_ok=True)
        for number in (2, 3):
            own = [path for path in self.images if path.startswith(f"images{number}/")]
            with zipfile.ZipFile(self.root / f"images{number}.zip", "w", compression) as archive:
                for path in own:
                    archive.writestr(path, self.images[path])
            with zipfile.ZipFile(self.root / f"meta{number}.zip", "w", compression) as archive:
                for path in self.metas:
                    if path.startswith(f"images{number}/"):
                        name = path.replace("images", "meta").replace(".jpg", ".pickle")
                        archive.writestr(name, self.metas[path])
        self.write_tables()
        return self.root

    def unpack(self) -> Path:
        """As folders instead of zips."""
        self.write()
        for path in sorted(self.root.glob("*.zip")):
            with zipfile.ZipFile(path) as archive:
                archive.extractall(self.root)
            path.unlink()
        return self.root

    def write_tables(self) -> None:
        """The CSVs."""
        for name, lines in self.tables.items():
            with open(self.root / f"SkyScript_{name}.csv", "w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(("filepath", "title", "title_multi_objects"))
                writer.writerows(lines)
