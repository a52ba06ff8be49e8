"""A model that sees nothing but colour, so that maps of it are known exactly.

The embedding of pixels is their mean colour and a one, at unit length; that of a text is the colour
that it names. What it says of a patch depends on that patch alone.
"""

import numpy as np

COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "black": (0, 0, 0),
    "white": (255, 255, 255),
}


def embed(colour):
    """RGB of 0 to 255 [..., 3] -> unit vectors float32 [..., 4]."""
    found = np.asarray(colour, np.float64) / 127.5 - 1
    found = np.concatenate([found, np.ones_like(found[..., :1])], axis=-1)
    return (found / np.linalg.norm(found, axis=-1, keepdims=True)).astype(np.float32)


class ColoursModel:
    """See above; `seen` counts the images that it was shown."""

    def __init__(self, image_size=32, patch_size=8, words=COLOURS, fingerprint="colours-1"):
        self.image_size, self.patch_size = image_size, patch_size
        self.words, self.fingerprint, self.seen = words, fingerprint, 0

    def images(self, pixels):
        batch, height, width, _ = pixels.shape
        assert (height, width) == (self.image_size,) * 2 and pixels.dtype == np.uint8
        self.seen += batch
        side = self.patch_size
        grid = pixels.reshape(batch, height // side, side, width // side, side, 3)
        patches = grid.mean(axis=(2, 4)).reshape(batch, -1, 3)
        return {"image": embed(pixels.mean(axis=(1, 2))), "pixels": embed(patches)}

    def texts(self, texts):
        return np.stack([embed(self.words[text.split()[-1]]) for text in texts])


def cosine(colour, word):
    """What the model says of a plain colour and a colour word."""
    return float(embed(colour) @ embed(COLOURS[word]))
