"""The ViT of a model's image tower by itself, to be trained further."""

import jax
import numpy as np

from rsvl_jax.evaluation.segmentation_upernet import Backbone
from rsvl_jax.inference.embedder import Embedder
from rsvl_jax.models import functional
from rsvl_jax.models.vit import Vit
from rsvl_jax.weights import trees

# Where it is, by kind of model.
_PLACES = {
    "clip": "image/vit",
    "graft": "satellite/vit",
    "flava": "image",
    "flavars": "image",
    "vit": "image",
}


def backbone(embedder: Embedder) -> Backbone:
    """The ViT and a copy of its arrays on the host. Raises UserError for a model without images."""
    embedder.need("images")
    own, place = embedder.preprocessing, _PLACES[embedder.model.kind]
    assert own is not None
    part, *inside = place.split("/")
    vit = embedder.modules()[part]
    for name in inside:
        vit = getattr(vit, name)
    cfg = vit.cfg
    shapes = jax.eval_shape(
        lambda key: functional.init(lambda rngs: Vit(cfg, rngs), key), jax.random.key(0)
    )
    found = {
        kind: trees.nested(
            {
                path: np.asarray(embedder.arrays[trees.join(place, path)])
                for path in trees.flat(tree)
            }
        )
        for kind, tree in shapes.items()
    }
    return Backbone(cfg, found["params"], found["frozen"], tuple(own.mean), tuple(own.std))
