"""The objective of GRAFT: what the core trains, and what the uses of a trained student ask for.

Config keys that it reads (checked in `settings`, explained beside their values in configs):

| section           | keys                                                                     |
|-------------------|--------------------------------------------------------------------------|
| model.image       | size, patch, width, depth, heads, mlp_dim                                |
| model             | embed_dim, activation, init_std, scan, remat, attention, dtype           |
| objective         | level ("image", "pixel", "both"), contrast ("softmax", "sigmoid"),       |
|                   | temperature, learn_temperature, symmetric, mask_overlaps, block_rows     |
| objective.weights | image_ground, pixel_ground: of the terms of the level                    |
| contrast          | implementation, inner: see `losses.distributed.Spread`                   |
| data              | photos (slots of a tile), mean, std                                      |
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from graft_jax import terms
from graft_jax.model import Student, normalise
from graft_jax.settings import PIXEL, from_config
from rsvl_jax.errors import UserError
from rsvl_jax.inference.towers import OWN, towers
from rsvl_jax.losses import contrastive
from rsvl_jax.losses.contrastive import unit
from rsvl_jax.models import clip, functional
from rsvl_jax.models.architecture import Architecture, architecture
from rsvl_jax.models.clip import ClipVision, ClipVisionConfig
from rsvl_jax.objectives.settings import spread
from rsvl_jax.training.objective import Split, Term, Weight

Tree = Any
MAX_LOGIT_SCALE = math.log(100)  # CLIP's


@dataclass(frozen=True)
class GroundTower:
    """A frozen image tower that embeds ground photos inside the training step.

    params: of a `ClipVision` built by `config`, such as params["image"] of a trained
    `ImageTextObjective`; mean, std: of pixels in [0, 1], as it was trained.
    """

    config: ClipVisionConfig
    params: Tree
    mean: tuple[float, ...]
    std: tuple[float, ...]


class GraftObjective(Split):
    """GRAFT as `rsvl_jax.training.objective.Objective`, with the student's encoder.

    config: see the table above. start: parameters of an image tower (a `ClipVision` of the
    student's sizes) that the student starts from; None: random ones. ground: needed where batches
    hold photos instead of their embeddings. mesh: over which contrasts are spread.

    Raises UserError for a config that cannot be, and for towers that do not fit it.
    """

    weights: Mapping[str, Weight]

    def __init__(
        self,
        config: Any,
        start: Tree | None = None,
        ground: GroundTower | None = None,
        mesh: Mesh | None = None,
    ):
        self.settings = from_config(config)
        self._spread = spread(config, mesh)
        self.weights = self.settings.weights
        self._graph = functional.structure(self._make)
        self._ground = ground
        if ground is not None:
            self._ground_graph = functional.structure(self._make_ground)
            _check("ground tower", ground.params, self._make_ground)
        if start is not None:
            _check("tower to start from", start, lambda r: ClipVision(self.settings.satellite, r))
        self._start = start

    def init(self, rng: jax.Array) -> dict[str, Tree]:
        """{"params": the student, "frozen": {"ground": tower} or {}}.

        The satellite tower is the one to start from, or fresh. The projector begins as that
        tower's own final norm and projection, so that at first a patch is projected as the class
        token is (the released runs are named "fixed_projector_initialization").
        """
        params = functional.init(self._make, rng)["params"]
        if self._start is not None:
            params["satellite"] = jax.tree.map(jnp.asarray, self._start)
        satellite = params["satellite"]
        params["projector"] = {"norm": satellite["vit"]["norm"], "linear": satellite["projection"]}
        if self._ground is None:
            return {"params": params, "frozen": {}}
        return {
            "params": params,
            "frozen": {"ground": jax.tree.map(jnp.asarray, self._ground.params)},
        }

    def architecture(self) -> Architecture:
        """What the modules compute beside their arrays."""
        return architecture(self._make)

    def logical_axes(self) -> dict[str, Tree]:
        """The structure of `init`, with a tuple of logical axis names for each array."""
        axes = functional.logical_axes(self._make)
        if self._ground is not None:
            axes["frozen"] = {"ground": functional.logical_axes(self._make_ground)["params"]}
        return axes

    def embed(self, params: Tree, frozen: Tree, batch: Tree, rng: jax.Array) -> Tree:
        """{"anchors": see `terms.embed`, "photos": [B, P, E], frozen}.

        batch["pairs"]: image uint8 [B, H, W, 3]; tile_id int [B]; footprint float32 [B, 4], see
        `terms.overlaps`; photo_mask bool [B, P]; photo_id int [B, P]; photo_xy float32 [B, P, 2],
        see `terms.patch_of`; and photos float [B, P, E], frozen embeddings, or photo_image uint8
        [B, P, h, w, 3]. rng is not used: nothing here is drawn.
        """
        sample = batch["pairs"]
        photos = self._photos(frozen, sample)
        return {"anchors": terms.embed(self._bind(params), sample), "photos": photos}

    def relate(self, params: Tree, frozen: Tree, embeddings: Tree, batch: Tree) -> dict[str, Term]:
        """The terms of the level, over the tiles of the whole batch."""
        anchors, photos = embeddings["anchors"], jax.lax.stop_gradient(embeddings["photos"])
        return terms.relate(self._bind(params), anchors, photos, batch["pairs"], self._spread)

    def project(self, params: Tree) -> Tree:
        """Parameters with the logarithm of a learned logit scale in [0, ln 100]."""
        if "scale" not in params:
            return params
        scale = contrastive.clamp(
            logit_scale=params["scale"]["value"], low=0.0, high=MAX_LOGIT_SCALE
        )
        return params | {"scale": {"value": scale}}

    def scalars(self, params: Tree) -> dict[str, jax.Array]:
        """logit_scale/ground: what multiplies the cosines now; logit_bias/ground with sigmoid."""
        student = self._bind(params)
        found = {"logit_scale/ground": jnp.exp(student.logit_scale())}
        if student.bias is not None:
            found["logit_bias/ground"] = student.bias[...]
        return found

    def flops_per_sample(self) -> float:
        """Analytic FLOPs of forward and backward for one tile, and of its photos where the ground
        tower runs in the step (forward alone). The contrast's logits are left out."""
        s, photos = self.settings, self.settings.photos
        forward = clip.vision_flops(s.satellite)
        if PIXEL in s.weights:
            forward += 2 * photos * s.satellite.vit.transformer.width * s.satellite.embed_dim
        ground = 0.0 if self._ground is None else clip.vision_flops(self._ground.config)
        return 3 * forward + photos * ground

    def embed_images(self, params: Tree, frozen: Tree, images: jax.Array) -> dict[str, jax.Array]:
        """Images uint8 [B, H, W, 3] -> unit vectors "image" [B, E] and "pixels" [B, N, E].

        In the space of the frozen towers, of its texts too; patches row-major; float32.
        """
        return self._bind(params).embed(images)

    def features(self, params: Tree, frozen: Tree, images: jax.Array) -> dict[str, jax.Array]:
        """Images uint8 [B, H, W, 3] -> all that one pass gives, see `inference.towers.Towers`.

        What lies in the space of texts has length 1.
        """
        student = self._bind(params)
        parts = {"satellite": student.satellite, "projector": student.projector}
        see = towers("graft", {}).features
        assert see is not None
        found = see(parts, normalise(images, self.settings.mean, self.settings.std))
        return {name: value if name in OWN else unit(value) for name, value in found.items()}

    def _photos(self, frozen: Tree, sample: dict[str, jax.Array]) -> jax.Array:
        """Embeddings [B, P, E] of the photos, as given or by the ground tower."""
        if "photos" in sample:
            return sample["photos"]
        if self._ground is None:
            raise UserError(
                "the batch holds ground photos, not their embeddings, and there is no ground tower "
                "to embed them: set data.ground='cached'"
            )
        images = sample["photo_image"]
        tower = functional.bind(self._ground_graph, frozen["ground"])
        # Rows of one tile stay beside each other, and so on the device that holds it.
        flat = images.reshape(-1, *images.shape[2:])
        out = tower(normalise(flat, self._ground.mean, self._ground.std))
        return unit(out.embedding).reshape(*images.shape[:2], -1)

    def _make(self, rngs: Any) -> Student:
        return Student(self.settings, rngs)

    def _make_ground(self, rngs: Any) -> ClipVision:
        assert self._ground is not None
        return ClipVision(self._ground.config, rngs)

    def _bind(self, params: Tree) -> Student:
        return functional.bind(self._graph, params)


def _check(what: str, given: Tree, make: functional.Make) -> None:
    """Raises UserError for parameters that are not those of the module, naming the first."""
    shapes = jax.eval_shape(lambda rng: functional.init(make, rng), jax.random.key(0))["params"]
    wanted, found = _shapes(shapes), _shapes(given)
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise UserError(
                f"{what} does not fit the config: {name} is {found.get(name, 'missing')}, it must "
                f"be {wanted.get(name, 'left out')}"
            )


def _shapes(tree: Tree) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): jnp.shape(leaf)
        for path, leaf in leaves
    }
