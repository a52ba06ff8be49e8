"""FLAVA: the parts of a FLAVARS model by the same names, those that a checkpoint has.

Settings: {"image": VitConfig's fields, "text": TextConfig's fields, "fusion": FusionConfig's
fields, "heads": {"mim_head" and so on: vocabulary}, "head_eps", "itm_head": true, "image_text":
{"embed_dim", "scaled"}, "poolers": of which parts, "tokenizer": see `image_tokenizer`;
"image_pooling": "mean" where the mean of its patches stands for an image}.

A pooler ("image_pooler", ...) is a linear map, then tanh, of a class token. No loss trains it;
it is kept for those who fine-tuned it elsewhere.
"""

from collections.abc import Mapping

from rsvl_jax.models.functional import Make
from rsvl_jax.models.fusion import Fusion, FusionConfig
from rsvl_jax.models.heads import MaskedTokenHead, MatchingHead, PairProjections, Projection
from rsvl_jax.models.text import TextConfig, TextEncoder
from rsvl_jax.models.vit import Vit, VitConfig
from rsvl_jax.weights.family import Json
from rsvl_jax.weights.kinds.fields import build
from rsvl_jax.weights.kinds.image_tokenizer import tokenizer

TOWERS = ("image", "text", "fusion")
# Masked prediction heads, and the part whose tokens they see.
HEADS = {
    "mim_head": "image",
    "mlm_head": "text",
    "mmm_image_head": "fusion",
    "mmm_text_head": "fusion",
}


def parts(settings: Json) -> Mapping[str, Make]:
    """The three encoders, and the heads, projections, poolers and tokenizer that there are."""
    image = build(VitConfig, settings["image"])
    text = build(TextConfig, settings["text"])
    fusion = build(FusionConfig, settings["fusion"])
    stacks = {"image": image.transformer, "text": text.transformer, "fusion": fusion.transformer}
    widths = {name: stack.width for name, stack in stacks.items()}
    found: dict[str, Make] = {
        "image": lambda rngs: Vit(image, rngs),
        "text": lambda rngs: TextEncoder(text, rngs),
        "fusion": lambda rngs: Fusion(fusion, rngs),
    }

    def head(name: str, vocab: int) -> Make:
        stack = stacks[HEADS[name]]
        options = {"activation": stack.activation, "ln_eps": settings["head_eps"]}
        return lambda rngs: MaskedTokenHead(stack.width, vocab, rngs, **options)

    def pooler(name: str) -> Make:
        return lambda rngs: Projection(widths[name], widths[name], rngs)

    found |= {name: head(name, vocab) for name, vocab in settings.get("heads", {}).items()}
    found |= {f"{name}_pooler": pooler(name) for name in settings.get("poolers", ())}
    if settings.get("itm_head"):
        found["itm_head"] = lambda rngs: MatchingHead(widths["fusion"], rngs)
    if pairs := settings.get("image_text"):
        found["image_text"] = lambda rngs: PairProjections(
            widths["image"], widths["text"], pairs["embed_dim"], rngs, scaled=pairs["scaled"]
        )
    if "tokenizer" in settings:
        found["tokenizer"] = tokenizer(settings["tokenizer"])
    return found
