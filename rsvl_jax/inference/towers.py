"""What each kind of model computes for an image, its patches, a text and a place.

Vectors come by the space that they lie in: "text" and "location" are shared with texts and places,
"features" is the tower's own. The first space of a function is its default.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from rsvl_jax.errors import UserError
from rsvl_jax.weights.family import Json

TEXT, LOCATION, FEATURES = "text", "location", "features"
SPACES = (TEXT, LOCATION, FEATURES)
OWN = ("cls", "mean", "patches")  # of a tower's features, those before any projection
Modules = Mapping[str, Any]
Vectors = dict[str, jax.Array]


@dataclass(frozen=True)
class Towers:
    """The functions of a kind; None where it has no such tower.

    Attributes:
      parts: of the tree, that they need.
      images: (modules, float [B, H, W, 3], normalised) -> vectors [B, E] by space.
      patches: likewise -> [B, N, E], row-major.
      texts: (modules, ids int [B, T], mask bool [B, T]) -> [B, E].
      locations: (modules, lon [B], lat [B], degrees) -> [B, E].
      features: as `images`, all that one pass gives: "cls" and "mean" [B, D] and "patches" [B, N,
        D] of the tower itself, "text_space", "location_space" [B, E], "text_patches" [B, N, E].
    """

    parts: tuple[str, ...]
    images: Callable[..., Vectors] | None = None
    patches: Callable[..., Vectors] | None = None
    texts: Callable[..., Vectors] | None = None
    locations: Callable[..., Vectors] | None = None
    features: Callable[..., Vectors] | None = None


def towers(kind: str, settings: Json) -> Towers:
    """The functions of a kind of model. Raises UserError where it embeds nothing."""
    if kind not in _KINDS:
        raise UserError(
            f"a model of kind {kind!r} embeds nothing: load one of {', '.join(sorted(_KINDS))}"
        )
    return _KINDS[kind](settings)


def _clip(settings: Json) -> Towers:
    def images(modules: Modules, pixels: jax.Array) -> Vectors:
        out = modules["image"](pixels)
        return {TEXT: out.embedding, FEATURES: _class_token(modules["image"], out.hidden)}

    def patches(modules: Modules, pixels: jax.Array) -> Vectors:
        tower = modules["image"]
        tokens = _patch_tokens(tower.vit, tower.vit.encode(pixels))
        features = tower.vit.norm(tokens).astype(jnp.float32)
        if tower.pool is not None:  # SigLIP's attention makes one vector of all patches, no others
            return {FEATURES: features}
        return {TEXT: tower.project(tokens), FEATURES: features}

    def features(modules: Modules, pixels: jax.Array) -> Vectors:
        tower = modules["image"]
        out = tower(pixels)
        found = _whole(tower.vit, tower.vit.norm(out.hidden)) | {"text_space": out.embedding}
        if tower.pool is None:
            found["text_patches"] = tower.project(_patch_tokens(tower.vit, out.hidden))
        return found

    seen, read = "image" in settings, "text" in settings
    return Towers(
        ("image", "text"),
        images if seen else None,
        patches if seen else None,
        _clip_texts if read else None,
        features=features if seen else None,
    )


def _whole(vit: Any, tokens: jax.Array) -> Vectors:
    """What a ViT's own tokens, after its last norm, give; the mean stands in for a class token."""
    tokens = tokens.astype(jnp.float32)
    patches = _patch_tokens(vit, tokens)
    mean = patches.mean(axis=1)
    return {
        "cls": tokens[:, 0] if vit.cfg.class_token else mean,
        "mean": mean,
        "patches": patches,
    }


def _graft(settings: Json) -> Towers:
    def images(modules: Modules, pixels: jax.Array) -> Vectors:
        out = modules["satellite"](pixels)
        return {TEXT: out.embedding, FEATURES: _class_token(modules["satellite"], out.hidden)}

    def patches(modules: Modules, pixels: jax.Array) -> Vectors:
        vit = modules["satellite"].vit
        tokens = _patch_tokens(vit, vit.encode(pixels))
        return {TEXT: modules["projector"](tokens), FEATURES: vit.norm(tokens).astype(jnp.float32)}

    def features(modules: Modules, pixels: jax.Array) -> Vectors:
        tower = modules["satellite"]
        out = tower(pixels)
        patches = _patch_tokens(tower.vit, out.hidden)
        return {
            **_whole(tower.vit, tower.vit.norm(out.hidden)),
            "text_space": out.embedding,
            "text_patches": modules["projector"](patches),
        }

    texts = _clip_texts if "text" in settings else None
    parts = ("satellite", "projector", "text")
    return Towers(parts, images, patches, texts, features=features)


def _clip_texts(modules: Modules, ids: jax.Array, mask: jax.Array) -> Vectors:
    return {TEXT: modules["text"](ids, mask)}


def _flava(settings: Json) -> Towers:
    mean = settings.get("image_pooling") == "mean"
    seen, read, placed = (name in settings for name in ("image", "text", "location"))
    spaces = {TEXT: "image_text", LOCATION: "image_location"}

    def project(modules: Modules, name: str, tokens: jax.Array) -> Vectors:
        heads = {space: _projection(modules, head, name) for space, head in spaces.items()}
        shared = {space: head(tokens) for space, head in heads.items() if head is not None}
        return {**shared, FEATURES: tokens.astype(jnp.float32)}

    def images(modules: Modules, pixels: jax.Array) -> Vectors:
        tokens = modules["image"](pixels).tokens
        pooled = tokens[:, 1:].mean(axis=1, dtype=jnp.float32) if mean else tokens[:, 0]
        return project(modules, "image", pooled)

    def patches(modules: Modules, pixels: jax.Array) -> Vectors:
        return project(modules, "image", modules["image"](pixels).tokens[:, 1:])

    def features(modules: Modules, pixels: jax.Array) -> Vectors:
        tokens = modules["image"](pixels).tokens
        patches = tokens[:, 1:].astype(jnp.float32)
        found = {"cls": tokens[:, 0].astype(jnp.float32), "patches": patches}
        found["mean"] = patches.mean(axis=1)
        pooled = project(modules, "image", found["mean"] if mean else tokens[:, 0])
        spaces = {f"{s}_space": pooled[s] for s in (TEXT, LOCATION) if s in pooled}
        if TEXT in pooled:
            spaces["text_patches"] = project(modules, "image", tokens[:, 1:])[TEXT]
        return found | spaces

    def texts(modules: Modules, ids: jax.Array, mask: jax.Array) -> Vectors:
        token = modules["text"](ids, mask).tokens[:, 0]
        heads = {TEXT: "image_text", LOCATION: "text_location"}
        shared = {s: _projection(modules, head, "text") for s, head in heads.items()}
        found = {s: head(token) for s, head in shared.items() if head is not None}
        return {**found, FEATURES: token.astype(jnp.float32)}

    heads = ("image_text", "image_location", "text_location")
    inner = tuple(f"{head}/{tower}" for head in heads for tower in ("image", "text"))
    return Towers(
        ("image", "text", "location", *heads, *inner),
        images if seen else None,
        patches if seen else None,
        texts if read else None,
        _locations if placed else None,
        features if seen else None,
    )


def _projection(modules: Modules, head: str, tower: str) -> Any:
    """The projection of a tower into the space of a contrast; None where there is none."""
    if head in modules:
        return getattr(modules[head], tower)
    return modules.get(f"{head}/{tower}")


def _vit(settings: Json) -> Towers:
    def images(modules: Modules, pixels: jax.Array) -> Vectors:
        vit = modules["image"]
        tokens = vit(pixels).tokens
        if vit.cfg.class_token:
            return {FEATURES: tokens[:, 0].astype(jnp.float32)}
        return {FEATURES: tokens.mean(axis=1, dtype=jnp.float32)}

    def patches(modules: Modules, pixels: jax.Array) -> Vectors:
        vit = modules["image"]
        return {FEATURES: _patch_tokens(vit, vit(pixels).tokens).astype(jnp.float32)}

    def features(modules: Modules, pixels: jax.Array) -> Vectors:
        vit = modules["image"]
        return _whole(vit, vit(pixels).tokens)

    return Towers(("image",), images, patches, features=features)


def _text(settings: Json) -> Towers:
    def texts(modules: Modules, ids: jax.Array, mask: jax.Array) -> Vectors:
        return {FEATURES: modules["text"](ids, mask).tokens[:, 0].astype(jnp.float32)}

    return Towers(("text",), texts=texts)


def _location(settings: Json) -> Towers:
    return Towers(("location",), locations=_locations)


def _locations(modules: Modules, lon: jax.Array, lat: jax.Array) -> Vectors:
    return {LOCATION: modules["location"](lon=lon, lat=lat)}


def _patch_tokens(vit: Any, tokens: jax.Array) -> jax.Array:
    return tokens[:, int(vit.cfg.class_token) :]


def _class_token(tower: Any, hidden: jax.Array) -> jax.Array:
    """What the projection of an image sees: the normed class token, or the mean of patches."""
    tokens = tower.vit.norm(hidden)
    if tower.cfg.vit.class_token:
        return tokens[:, 0].astype(jnp.float32)
    return tokens.mean(axis=1, dtype=jnp.float32)


_KINDS: dict[str, Callable[[Json], Towers]] = {
    "clip": _clip,
    "graft": _graft,
    "flava": _flava,
    "flavars": _flava,
    "vit": _vit,
    "text": _text,
    "location": _location,
}
