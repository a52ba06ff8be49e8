"""Synthetic tiles in the record schema of `rsvl_jax.datasets`, and encoders that can read them."""

from functools import partial

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from rsvl_jax.evaluation.features import Encoders

SIZE, PATCH = 16, 4
NAMES = ["water", "forest", "desert", "ice", "city"]
COLOURS = np.array([[10, 20, 120], [20, 90, 30], [200, 170, 110], [240, 240, 250], [90, 80, 85]])
MANIFEST = {
    "name": "synthetic",
    "version": "1.0.0",
    "fingerprint": "f00d",
    "classes": ["water", ["forest", "trees"], "desert", "ice", "city"],
    "prompts": ["a satellite image of {c}", "{c} from above"],
}


def png(pixels):
    return cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1].tobytes()


def records(n, seed):
    """Tiles of one main class each, with a strip of another; captions tell the main class."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        main, other = rng.choice(5, 2, replace=False)
        mask = np.full((SIZE, SIZE), main, np.uint8)
        ambiguous = i % 10 == 9
        mask[: 8 if ambiguous else rng.choice([0, 4, 5])] = other
        noise = rng.normal(0, 12, (SIZE, SIZE, 3))
        image = np.clip(COLOURS[mask] + noise, 0, 255).astype(np.uint8)
        mask[-1, -1] = 255
        shares = np.bincount(mask[mask != 255], minlength=17) / (mask != 255).sum()
        found.append(
            {
                "id": f"{seed}-{i}",
                "image": png(image),
                "mask": png(mask),
                "captions": [f"a tile of {NAMES[main]}", "another caption"],
                "lon": float(rng.uniform(-180, 180)),
                "lat": float(rng.uniform(-70, 70)),
                "landcover": shares.astype(np.float32),
                "dominant": int(shares.argmax()),
                "label": -1 if ambiguous else int(main),
                "block": i % 6,
            }
        )
    return found


@partial(jax.jit, static_argnames="blind")
def encode_images(images, blind=False):
    x = images.astype(jnp.float32).reshape(-1, SIZE // PATCH, PATCH, SIZE // PATCH, PATCH, 3)
    patches = x.mean(axis=(2, 4)).reshape(len(images), -1, 3) / 255
    mean = patches.mean(axis=1)
    if blind:
        patches, mean = jnp.ones_like(patches), jnp.ones_like(mean)
    # The class whose colour is nearest, softly: a space that texts can share.
    distance = ((patches[:, :, None] - COLOURS / 255) ** 2).sum(axis=-1)
    space = jax.nn.softmax(-200 * distance, axis=-1).mean(axis=1)
    return {"cls": mean, "mean": mean, "patches": patches, "text_space": space}


def encode_texts(texts):
    synonyms = {"trees": "forest"}
    rows = [[float(n in t.replace("trees", synonyms["trees"])) for n in NAMES] for t in texts]
    return jnp.array(rows)


SEEING = Encoders(encode_images, texts=encode_texts, protocol={"resize": "none"})
BLIND = Encoders(partial(encode_images, blind=True), texts=encode_texts)
