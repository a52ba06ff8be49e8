"""Contrast of two towers' embeddings as a loss term, with identical captions as positives."""

import jax

from rsvl_jax.losses import contrastive
from rsvl_jax.losses.distributed import DENSE, Spread
from rsvl_jax.losses.relation import Relation, same_id
from rsvl_jax.training.objective import Term


def term(
    *,
    a: jax.Array,
    b: jax.Array,
    scale: jax.Array,
    bias: jax.Array | None = None,
    positives: jax.Array | Relation | None = None,
    row_weights: jax.Array | None = None,
    present: jax.Array | None = None,
    spread: Spread = DENSE,
) -> Term:
    """Contrast of embeddings a, b [B, E] by cosine: softmax (CLIP), or sigmoid given a bias.

    scale: logarithm of the logit scale []; bias: SigLIP's logit bias []; positives [B, B],
    row_weights [B], present [B] and spread as in `contrastive.info_nce`.
    """
    if bias is None:
        return contrastive.info_nce(
            a=a,
            b=b,
            logit_scale=scale,
            positives=positives,
            row_weights=row_weights,
            present=present,
            spread=spread,
        )
    return contrastive.sigmoid(
        a=a,
        b=b,
        logit_scale=scale,
        logit_bias=bias,
        positives=positives,
        row_weights=row_weights,
        present=present,
        spread=spread,
    )


def caption_positives(*, text_ids: jax.Array, matches: jax.Array) -> Relation:
    """[B, B]: True where text j has the words of text i, and text i describes sample i.

    text_ids int [B]: equal for identical captions; matches [B]: nonzero where the text belongs to
    its sample. A swapped text makes no positive of the sample that it landed on; as a text it is
    as good a match as its twin.
    """
    return same_id(text_ids, a=matches)
