"""The objective of FLAVARS: what the core trains, and what an evaluation asks of the model.

Config keys that it reads (checked in `settings`, explained beside their values in configs):

| section           | keys                                                                     |
|-------------------|--------------------------------------------------------------------------|
| model.image       | size, patch, width, depth, heads, mlp_dim, positions                     |
| model.text        | vocab_size, length, width, depth, heads, mlp_dim                         |
| model.fusion      | width, depth, heads, mlp_dim, mask_text_pads                             |
| model.location    | kind, width, depth, degree, dropout, sigmas, frequencies                 |
| model.decoder     | width, depth, heads (mlp_dim: 4 times the width)                         |
| model             | embed_dim, location_dim, activation, init_std, dropout, scan, remat,     |
|                   | attention, dtype                                                         |
| objective.weights | mim, mlm, mmm_image, mmm_text, itm, image_text, image_location,          |
|                   | text_location, phrase_region                                             |
| objective         | mim_design, image_tokenizer, codebook_size, image_mask_ratio,            |
|                   | text_mask_ratio, norm_pixels, itm_negatives, identical_captions,         |
|                   | contrast, image_pooling, logit_scale_init, logit_scale_max, regions,     |
|                   | phrase_length                                                            |
| contrast          | implementation, inner: see `losses.distributed.Spread`                   |
| data              | mean, std, streams                                                       |

A term whose weight is the number 0 is off, and the parts that only it would train do not exist.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from flavars_jax import flops, inference, regions, terms
from flavars_jax.model import FlavarsModel
from flavars_jax.settings import CONTRASTS, from_config
from rsvl_jax.errors import UserError
from rsvl_jax.losses import contrastive
from rsvl_jax.models import functional
from rsvl_jax.models.architecture import Architecture, architecture
from rsvl_jax.objectives.settings import spread
from rsvl_jax.training.objective import Split, Term, Weight

Tree = Any


def brings_tokenizer(config: Any) -> bool:
    """Whether the weights that a run starts from bring its image tokenizer: no codebook is needed,
    only a place for it."""
    given = config.get("init_from", {})
    dalle = config.objective.get("image_tokenizer") == "dalle"
    return bool(given.get("tokenizer") or (dalle and given.get("model")))


class FlavarsObjective(Split):
    """FLAVARS as `rsvl_jax.training.objective.Objective`, with the encoders for evaluation.

    config: see the table above. codebook: of the image tokenizer, needed where patches are
    predicted as visual words: centroids float32 [codebook_size, patch*patch*3] for "patches", the
    encoder's parameters as a nested dict for "dalle". mesh: over which contrasts are spread.

    Raises UserError for a config that cannot be, and for a codebook that does not fit it.
    """

    weights: Mapping[str, Weight]

    def __init__(self, config: Any, codebook: Any = None, mesh: Mesh | None = None):
        self.settings = from_config(config)
        self._spread = spread(config, mesh)
        self.weights = self.settings.weights
        self._graph = functional.structure(self._make)
        self._brought = brings_tokenizer(config)
        self._codebook = self._checked(codebook) if self.settings.predicts_codes else None

    def init(self, rng: jax.Array) -> dict[str, Tree]:
        """{"params", "frozen"}: fresh parameters; frozen ones with the codebook in place."""
        if self.settings.predicts_codes and self._codebook is None and not self._brought:
            raise UserError("no codebook: objective.mim_design='codebook' needs one to predict")
        variables = functional.init(self._make, rng)
        if self._codebook is not None:
            variables["frozen"]["tokenizer"] = jax.tree.map(jnp.asarray, self._codebook)
        return variables

    def architecture(self) -> Architecture:
        """What the modules compute beside their arrays."""
        return architecture(self._make)

    def logical_axes(self) -> dict[str, Tree]:
        """The structure of `init`, with a tuple of logical axis names for each array."""
        return functional.logical_axes(self._make)

    @property
    def whole_batch(self) -> Mapping[str, str]:
        """The term that takes other rows whole, see `Split`."""
        if not self.settings.hard_itm:
            return {}
        return {
            "objective.itm_negatives='hard'": "it draws among all pairs, and fuses the tokens of "
            "what it draws ('swap' does not)"
        }

    def prepare(self, batch: Tree) -> Tree:
        """See `terms.prepare`.

        batch: {"paired": sample, "image": sample, "text": sample}, the last two optional; which
        pass feeds which term is told in `terms`.
        """
        return terms.prepare(batch, self.settings.mean, self.settings.std)

    def embed(self, params: Tree, frozen: Tree, batch: Tree, rng: jax.Array) -> Tree:
        """Contrast -> its two embeddings [B, E]. rng: key for dropout."""
        return terms.embed(self._bind(params, frozen), batch, rng)

    def encode(
        self, params: Tree, frozen: Tree, batch: Tree, rng: jax.Array
    ) -> tuple[Tree, dict[str, Term]]:
        """The embeddings, and the other terms. rng: key for dropout and hard negatives."""
        return terms.encode(self._bind(params, frozen), batch, rng)

    def relate(self, params: Tree, frozen: Tree, embeddings: Tree, batch: Tree) -> dict[str, Term]:
        """The contrasts."""
        return terms.relate(self._bind(params, frozen), embeddings, batch, self._spread)

    def project(self, params: Tree) -> Tree:
        """Parameters with the logarithm of each logit scale in [0, logit_scale_max].

        With no maximum, scales are free, as SatCLIP leaves them.
        """
        if self.settings.logit_scale_max is None:
            return params
        limits = {"low": 0.0, "high": self.settings.logit_scale_max}
        clamped = {
            name: {"value": contrastive.clamp(logit_scale=scale, **limits)}
            for name, scale in self._scales(params).items()
        }
        return params | {name: params[name] | {"scale": scale} for name, scale in clamped.items()}

    def scalars(self, params: Tree) -> dict[str, jax.Array]:
        """logit_scale/<contrast>: what multiplies the cosines now."""
        scales = self._scales(params)
        return {f"logit_scale/{name}": jnp.exp(scale) for name, scale in scales.items()}

    def flops_per_sample(self) -> float:
        """Analytic FLOPs of forward and backward for one row of the batch, see `flops`."""
        return flops.per_sample(self.settings)

    @property
    def contrasts(self) -> tuple[str, ...]:
        """The spaces that this model has: those of image_text, image_location, text_location."""
        return tuple(name for name in CONTRASTS if name in self.settings.on)

    @property
    def reconstructs(self) -> bool:
        """Whether `reconstruct` can: a term predicts patches, and what it predicts has pixels."""
        s = self.settings
        words_only = s.predicts_codes and s.image_tokenizer == "dalle"
        return bool(s.on & {"mim", "mmm_image"}) and not words_only

    def embed_images(self, params: Tree, frozen: Tree, images: jax.Array) -> dict[str, jax.Array]:
        """Images uint8 [B, H, W, 3] -> features, float32; see `inference.images`."""
        return inference.images(self._bind(params, frozen), images)

    def embed_texts(
        self, params: Tree, frozen: Tree, ids: jax.Array, mask: jax.Array
    ) -> dict[str, jax.Array]:
        """Token ids int [B, T], mask bool [B, T] -> embeddings; see `inference.texts`."""
        return inference.texts(self._bind(params, frozen), ids, mask)

    def embed_locations(
        self, params: Tree, frozen: Tree, *, lon: jax.Array, lat: jax.Array
    ) -> jax.Array:
        """Degrees [B] -> unit embeddings float32 [B, E] in the space of places."""
        return inference.locations(self._bind(params, frozen), lon=lon, lat=lat)

    def reconstruct(
        self, params: Tree, frozen: Tree, sample: dict[str, jax.Array]
    ) -> dict[str, jax.Array]:
        """What the model fills into masked images; see `inference.reconstruct`."""
        return inference.reconstruct(self._bind(params, frozen), sample)

    def _make(self, rngs: Any) -> FlavarsModel:
        return FlavarsModel(self.settings, rngs)

    def _bind(self, params: Tree, frozen: Tree) -> FlavarsModel:
        return functional.bind(self._graph, params, frozen)

    def _scales(self, params: Tree) -> dict[str, jax.Array]:
        scaled = (*self.contrasts, *(self.settings.on & {regions.NAME}))
        return {name: params[name]["scale"]["value"] for name in scaled}

    def _checked(self, codebook: Any) -> Tree | None:
        """The codebook as the frozen tree of the tokenizer."""
        if codebook is None:
            return None
        tree = codebook if isinstance(codebook, Mapping) else {"centroids": codebook}
        shapes = jax.eval_shape(lambda: functional.init(self._make, jax.random.key(0)))
        wanted = jax.tree.map(jnp.shape, shapes["frozen"]["tokenizer"])
        given = jax.tree.map(jnp.shape, dict(tree))
        if given != wanted:
            raise UserError(
                f"codebook of shape {given} does not fit objective.codebook_size="
                f"{self.settings.codebook_size} and the patch size: it must be {wanted}"
            )
        return tree
