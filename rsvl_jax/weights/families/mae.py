"""MAE with its decoder (facebookresearch/mae), and satellite images' own: SatMAE and Scale-MAE.

All have timm's names for the encoder; published encoders alone are nothing else, see `timm_vit`.
Name the family to have their positions fixed and their normalisation.
"""

from rsvl_jax.weights import vit_names as v
from rsvl_jax.weights.families import timm_vit as timm
from rsvl_jax.weights.family import Family, Json, Model, Shapes
from rsvl_jax.weights.names import LAYER, Entries, linear, norm

# fMoW's (sustainlab-group/SatMAE, util/datasets.py).
FMOW_MEAN = (0.4182007312774658, 0.4214799106121063, 0.3991275727748871)
FMOW_STD = (0.28774282336235046, 0.27541765570640564, 0.2764017581939697)
_DECODER_BLOCK = f"decoder_blocks.{LAYER}"
_SCALE_MAE = ("fpn.", "fcn.", "fcn_high.", "fcn_low.", "mask_token_decoder")
# Tables of sin-cos positions that the decoder computes, and classifiers.
_IGNORED = ("decoder_pos_embed", *timm.HEADS)


def _settings(shapes: Shapes, config: Json) -> Json:
    found = timm.settings(shapes, config, "table")
    if "decoder_pred.weight" in shapes:
        number = config.get("decoder_num_heads", v.DECODER_HEADS)
        stack = timm.blocks(shapes, config, "decoder_blocks", number)
        found["decoder"] = v.decoder(found["image"], stack)
    return found


def _entries(settings: Json) -> Entries:
    found = timm.entries(settings)
    if "decoder" in settings:
        stack = settings["decoder"]["transformer"]
        found += [
            *linear("decoder/embed", "decoder_embed"),
            *v.token("decoder/mask_token", "mask_token"),
            *timm.block_entries("decoder/stack/layers", _DECODER_BLOCK, stack),
            *norm("decoder/norm", "decoder_norm"),
            *linear("decoder/out", "decoder_pred"),
        ]
    return found


def _mae(shapes: Shapes, config: Json) -> Model:
    return v.model(_settings(shapes, config))


def _satmae(shapes: Shapes, config: Json) -> Model:
    return v.model(_settings(shapes, config), FMOW_MEAN, FMOW_STD)


def _scalemae(shapes: Shapes, config: Json) -> Model:
    """Positions are computed, a patch `gsd` apart: the table in the checkpoint is never used."""
    found = timm.settings(shapes, config, "sincos")
    found["image"] |= {"gsd": float(config.get("gsd", 1.0)), "mask_token": False}
    return v.model(found)


def _is_scalemae(shapes: Shapes) -> bool:
    return timm.recognises(shapes) and any(name.startswith(_SCALE_MAE) for name in shapes)


SCALEMAE = Family(
    name="scalemae",
    title="Scale-MAE encoder",
    recognises=_is_scalemae,
    model=_scalemae,
    entries=timm.entries,
    # Its decoder is a pyramid of its own.
    ignored=(
        "pos_embed",
        "pos_emb_projection.",
        "mask_token",
        "decoder_",
        *_SCALE_MAE,
        *timm.HEADS,
    ),
)
MAE = Family(
    name="mae",
    title="MAE (facebookresearch)",
    recognises=lambda shapes: timm.recognises(shapes) and "decoder_pred.weight" in shapes,
    model=_mae,
    entries=_entries,
    ignored=_IGNORED,
    licence="CC-BY-NC-4.0",
)
# By its names it is MAE: only asked for by name.
SATMAE = Family(
    name="satmae",
    title="SatMAE of RGB images",
    recognises=timm.recognises,
    model=_satmae,
    entries=_entries,
    ignored=_IGNORED,
)
