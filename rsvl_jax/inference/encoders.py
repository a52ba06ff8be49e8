"""A model as the encoders that the evaluation asks for, on all devices of a mesh."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from rsvl_jax.evaluation import placing
from rsvl_jax.evaluation.features import Encoders
from rsvl_jax.inference.embedder import Embedder


def encoders(embedder: Embedder, mesh: Mesh) -> Encoders:
    """The encoders of a model; those that it does not have are None.

    Images come in batches over the mesh, best at the model's size (see `Embedder.preprocessing`);
    those of another size are resized whole.
    """
    arrays = jax.tree.map(
        lambda value: placing.put(np.asarray(value), mesh, split=False), embedder.arrays
    )
    run = jax.jit(
        lambda arrays, images: embedder.features(arrays, fitted(images, embedder.image_size))
    )
    return Encoders(
        images=partial(run, arrays),
        texts=partial(_texts, embedder) if _has(embedder, "texts", "text") else None,
        locations=_places(embedder) if _has(embedder, "locations", "location") else None,
        image_size=embedder.image_size,
        protocol=_protocol(embedder),
    )


def fitted(images: jax.Array, size: int) -> jax.Array:
    """Images uint8 [B,H,W,3], resized linearly to [B,size,size,3] where they are not so large."""
    if images.shape[1:3] == (size, size):
        return images
    shape = (len(images), size, size, images.shape[-1])
    resized = jax.image.resize(images.astype(jnp.float32), shape, "linear")
    return jnp.clip(jnp.round(resized), 0, 255).astype(jnp.uint8)


def _has(embedder: Embedder, what: str, space: str) -> bool:
    return space in embedder.spaces(what) and space in embedder.spaces("images")


def _texts(embedder: Embedder, texts: list[str]) -> Any:
    return embedder.embed_texts(texts, space="text")


def _places(embedder: Embedder) -> Callable[..., Any]:
    return partial(embedder.embed_locations, space="location")


def _protocol(embedder: Embedder) -> Mapping[str, str]:
    own = embedder.preprocessing
    assert own is not None
    size, how = own.image_size, own.interpolation
    square = f"whole tile resized to {size} x {size}" + ("" if how == "linear" else f" ({how})")
    crop = f"shorter side resized to {size} ({how}), the middle {size} x {size} cut out"
    found = {
        "image": f"{square}, no crop" if own.resize == "square" else crop,
        "normalisation": f"mean {own.mean}, std {own.std} of pixels in [0, 1]",
    }
    length = (embedder.model.tokenizer or {}).get("length")
    return found | ({"text": f"cut to {length} tokens"} if length else {})
