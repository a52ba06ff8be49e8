"""Small records for the tests: smooth pictures, several captions, boxes, coordinates."""

import cv2
import numpy as np

_KINDS = ("forest", "desert", "snow-covered", "mountains", "croplands", "tundra", "ocean")
_PLACES = ("Kraków", "Lagos", "Nairobi", "Lima", "Quito", "Reykjavík", "Timbuktu")


def picture(rng: np.random.Generator, size: int = 32) -> np.ndarray:
    """Smooth random RGB uint8 [size, size, 3]."""
    coarse = rng.integers(0, 255, (4, 4, 3)).astype(np.uint8)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


class TinySource:
    """`count` records; those in `corrupt` have an image that cannot be decoded."""

    def __init__(self, count: int = 24, size: int = 32, corrupt: tuple[int, ...] = ()):
        self.count, self.size, self.corrupt = count, size, corrupt

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict:
        rng = np.random.default_rng(index)
        png = cv2.imencode(".png", picture(rng, self.size))[1].tobytes()
        place = _PLACES[index % len(_PLACES)]
        return {
            "id": f"tile-{index}",
            "image": png[: len(png) // 2] if index in self.corrupt else png,
            "captions": [
                f"A satellite image of {kind} near {place}, tile number {index}."
                for kind in rng.choice(_KINDS, 3, replace=False)
            ],
            "lon": float(rng.uniform(-180, 180)),
            "lat": float(rng.uniform(-90, 90)),
            "label": index % 5,
        }


def captions() -> list[str]:
    """A training corpus for the tokenizer."""
    return [text for i in range(48) for text in TinySource(48)[i]["captions"]]
