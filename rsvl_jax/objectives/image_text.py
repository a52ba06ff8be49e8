"""Contrast of images with their captions (CLIP, arXiv:2103.00020) as an objective of its own.

Config keys that it reads:

| section     | keys                                                                            |
|-------------|---------------------------------------------------------------------------------|
| model.image | size, patch, width, depth, heads, mlp_dim                                       |
| model.text  | vocab_size, length, width, depth, heads, mlp_dim; pool ("last") and eot_id, see |
|             | `clip.ClipTextConfig`                                                           |
| model       | embed_dim, activation, init_std, scan, remat, attention, dtype                  |
| objective   | contrast ("softmax", "sigmoid"), identical_captions, logit_scale_init,          |
|             | logit_scale_max                                                                 |
| contrast    | implementation, inner: see `losses.distributed.Spread`                          |
| data        | mean, std                                                                       |
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from rsvl_jax.losses import contrastive
from rsvl_jax.losses.contrastive import unit
from rsvl_jax.losses.distributed import DENSE
from rsvl_jax.losses.relation import same_id
from rsvl_jax.models import clip, functional
from rsvl_jax.models.architecture import Architecture, architecture
from rsvl_jax.models.clip import Clip, ClipConfig, ClipTextConfig
from rsvl_jax.models.image_tokenizer import unit_range
from rsvl_jax.models.text import TextConfig
from rsvl_jax.objectives import contrast
from rsvl_jax.objectives.settings import channels, choice, positive, spread, transformer
from rsvl_jax.training.objective import Split, Term, Weight

Tree = Any
TERM = "image_text"
CONTRASTS = ("softmax", "sigmoid")


@dataclass(frozen=True)
class Settings:
    """What the objective reads, checked; see the table above. mean, std: of pixels in [0, 1]."""

    clip: ClipConfig
    identical_captions: bool
    logit_scale_max: float | None
    mean: tuple[float, ...]
    std: tuple[float, ...]


def from_config(config: Any) -> Settings:
    """The settings of a config. Raises UserError, one line, for what cannot be."""
    model, objective = config.model, config.objective
    kind = choice("objective.contrast", objective.contrast, CONTRASTS)
    return Settings(
        clip=ClipConfig(
            _vision(model),
            _text(model),
            logit_scale_init=objective.logit_scale_init,
            sigmoid=kind == "sigmoid",
        ),
        identical_captions=objective.identical_captions,
        logit_scale_max=objective.logit_scale_max,
        mean=channels("data.mean", config.data.mean),
        std=channels("data.std", config.data.std),
    )


def _vision(model: Any) -> clip.ClipVisionConfig:
    return clip.vision_config(
        image_size=positive("model.image.size", model.image.size),
        patch_size=positive("model.image.patch", model.image.patch),
        embed_dim=positive("model.embed_dim", model.embed_dim),
        transformer=transformer("model.image", model.image, model, ln_eps=clip.LN_EPS),
    )


def _text(model: Any) -> ClipTextConfig:
    words = TextConfig(
        vocab_size=positive("model.text.vocab_size", model.text.vocab_size),
        max_length=positive("model.text.length", model.text.length),
        transformer=transformer("model.text", model.text, model, ln_eps=clip.LN_EPS),
    )
    pool, eot_id = model.text.get("pool", "last"), model.text.get("eot_id", clip.EOT_ID)
    return ClipTextConfig(words, positive("model.embed_dim", model.embed_dim), pool, eot_id)


class ImageTextObjective(Split):
    """CLIP's two towers as `rsvl_jax.training.objective.Objective`, with both encoders.

    The parameters are those of `clip.Clip`: params["image"] is the image tower (a `ClipVision`),
    params["text"] the text tower. Raises UserError for a config that cannot be.
    """

    weights: Mapping[str, Weight] = {TERM: 1.0}

    def __init__(self, config: Any, mesh: Mesh | None = None):
        """config: see the table above, or Settings, for towers that came from elsewhere. mesh: the
        devices over which contrasts are spread, see `settings.spread`."""
        ready = isinstance(config, Settings)
        self.settings = config if ready else from_config(config)
        self._spread = DENSE if ready else spread(config, mesh)
        self._graph = functional.structure(self._make)

    def init(self, rng: jax.Array) -> dict[str, Tree]:
        """{"params", "frozen"}: fresh parameters; nothing is frozen."""
        return functional.init(self._make, rng)

    def architecture(self) -> Architecture:
        """What the modules compute beside their arrays."""
        return architecture(self._make)

    def logical_axes(self) -> dict[str, Tree]:
        """The structure of `init`, with a tuple of logical axis names for each array."""
        return functional.logical_axes(self._make)

    def embed(self, params: Tree, frozen: Tree, batch: Tree, rng: jax.Array) -> Tree:
        """Of images and of texts, [B, E] each.

        batch["paired"]: image uint8 [B, H, W, 3], text int [B, T], text_mask bool [B, T], text_id
        int [B], equal for identical captions. rng is not used: nothing here is drawn.
        """
        model, pairs = self._bind(params, frozen), batch["paired"]
        images = model.image(self._normalise(pairs["image"])).embedding
        return images, model.text(pairs["text"], pairs["text_mask"])

    def relate(self, params: Tree, frozen: Tree, embeddings: Tree, batch: Tree) -> dict[str, Term]:
        """{"image_text": (sum, count)}."""
        model, positives = self._bind(params, frozen), None
        if self.settings.identical_captions:
            positives = same_id(batch["paired"]["text_id"])
        a, b = embeddings
        return {
            TERM: contrast.term(
                a=a,
                b=b,
                scale=model.scale(),
                bias=None if model.bias is None else model.bias(),
                positives=positives,
                spread=self._spread,
            )
        }

    def project(self, params: Tree) -> Tree:
        """Parameters with the logarithm of the logit scale in [0, logit_scale_max]; None: free."""
        if self.settings.logit_scale_max is None:
            return params
        scale = contrastive.clamp(
            logit_scale=params["scale"]["value"], low=0.0, high=self.settings.logit_scale_max
        )
        return params | {"scale": {"value": scale}}

    def scalars(self, params: Tree) -> dict[str, jax.Array]:
        """logit_scale/image_text: what multiplies the cosines now."""
        return {f"logit_scale/{TERM}": jnp.exp(params["scale"]["value"])}

    def flops_per_sample(self) -> float:
        """Analytic FLOPs of forward and backward for one pair, the contrast's logits left out."""
        cfg = self.settings.clip
        return 3 * (clip.vision_flops(cfg.vision) + clip.text_flops(cfg.text))

    def embed_images(self, params: Tree, frozen: Tree, images: jax.Array) -> dict[str, jax.Array]:
        """Images uint8 [B, H, W, 3] -> unit vectors in the space of texts, float32.

        image [B, E]; pixels [B, N, E], row-major: patch tokens projected as the class token is,
        which the contrast never trained.
        """
        tower = self._bind(params, frozen).image
        out = tower(self._normalise(images))
        return {"image": unit(out.embedding), "pixels": unit(tower.project(out.hidden[:, 1:]))}

    def embed_texts(self, params: Tree, frozen: Tree, ids: jax.Array, mask: jax.Array) -> jax.Array:
        """Token ids int [B, T], mask bool [B, T] -> unit vectors float32 [B, E]."""
        return unit(self._bind(params, frozen).text(ids, mask))

    def _make(self, rngs: Any) -> Clip:
        return Clip(self.settings.clip, rngs)

    def _bind(self, params: Tree, frozen: Tree) -> Clip:
        return functional.bind(self._graph, params, frozen)

    def _normalise(self, images: jax.Array) -> jax.Array:
        mean, std = jnp.asarray(self.settings.mean), jnp.asarray(self.settings.std)
        return (unit_range(images) - mean) / std
