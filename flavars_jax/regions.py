"""The contrast of phrases with the regions of the image that they stand for.

FLAVARS leaves training on SkyScript-Grounded's boxes to others (arXiv:2501.08490), so it is off in
the paper's recipe. A region is the mean of the patches in its box, a phrase the class token of the
text tower on the phrase alone; both go through the projections of the image-text contrast, whose
space they share, at a scale of their own. All regions of the global batch are compared; those with
the same words are positives of one another.
"""

import jax

from flavars_jax.model import FlavarsModel
from rsvl_jax.losses.distributed import Spread
from rsvl_jax.losses.relation import same_id
from rsvl_jax.models import regions
from rsvl_jax.models.transformer import Encoded
from rsvl_jax.objectives import contrast
from rsvl_jax.training.objective import Term

NAME = "phrase_region"
Sample = dict[str, jax.Array]


def embed(
    model: FlavarsModel, pairs: Sample, image: Encoded, rng: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """Regions and phrases in the space of image and text, float32 [B, R, E] each.

    pairs: "region_boxes" [B, R, 4] in pixels, "region_text" and "region_text_mask" [B, R, T].
    image: of the whole images; rng: key for dropout, None for none.
    """
    s, head = model.settings, model.image_text
    pooled = regions.pool(
        image.tokens[:, 1:],
        pairs["region_boxes"],
        grid=s.image.grid,
        patch_size=s.image.patch_size,
    )
    # [B, R, T] -> [B R, T]: the phrases of a row stay on its device.
    ids, mask = (pairs[f"region_{key}"] for key in ("text", "text_mask"))
    texts = model.text(*(x.reshape(-1, x.shape[-1]) for x in (ids, mask)), rng=rng)
    phrases = head.text(texts.tokens[:, 0])
    return head.image(pooled), phrases.reshape(*ids.shape[:2], -1)


def relate(
    model: FlavarsModel, embedded: tuple[jax.Array, jax.Array], pairs: Sample, spread: Spread
) -> Term:
    """(sum, number of regions) of the contrast of `embed`'s results.

    pairs: "region_mask" bool [B, R], False where there is no region; "region_id" int [B, R], equal
    for phrases of the same words.
    """
    head = getattr(model, NAME)
    a, b = (x.reshape(-1, x.shape[-1]) for x in embedded)
    return contrast.term(
        a=a,
        b=b,
        scale=head.scale(),
        bias=None if head.bias is None else head.bias[...],
        positives=same_id(pairs["region_id"].reshape(-1)),
        present=pairs["region_mask"].reshape(-1),
        spread=spread,
    )
