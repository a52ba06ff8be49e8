"""GRAFT: satellite images aligned, without any text, to a frozen CLIP through ground photos.

Without a preset it runs anywhere, on zoom pairs, which are no ground photos: coarse satellite tiles
with fine views at known pixels, cut from imagery inside ordinary packages. A small CLIP is trained
on the fine views first; it is the frozen teacher. Presets, joined by commas:

    :naip :sentinel2               the paper's models at 224 px, on pairs of your own, for a pod
    :naip,large :naip,giant        the same with ViT-L/14 and ViT-g/14, these sharded over 16 chips
    :image :pixel :both            the level of the contrast (`level=image` and so on will do, too)

The paper trains four models: `:naip,image`, `:naip,pixel`, `:sentinel2,image`, `:sentinel2,pixel`.
Where it leaves a value open, or is not known to give it, the comment beside it says so.
"""

from ml_collections import config_dict

from configs import common
from configs.common import section

LEVELS = ("image", "pixel", "both")
# The paper's peak rates by level; it has no model of both.
RATES = {"image": 1e-5, "pixel": 5e-5, "both": 1e-5}
_PAPER_WIDTH = 768


def get_config(presets: str = "") -> config_dict.ConfigDict:
    """Returns the recipe, after the comma-separated presets."""
    return common.apply_presets(_embedded(), presets, PRESETS)


def _embedded() -> config_dict.ConfigDict:
    config = common.run(steps=200)
    # One student each: the spread over them is part of every score.
    config.seeds = (0, 1, 2)
    # The directory of a trained teacher, such as runs/graft/teacher; None: train one first. The
    # student starts as its image tower, where `satellite` (or `model`) names no other.
    for part in ("teacher", "satellite", "model"):
        config.init_from[part] = config_dict.placeholder(str)
    config.optimizer.update(learning_rate=5e-4, weight_decay=1e-2)
    config.evaluation.every_steps = 100
    config.data = section(
        name="zoom_pairs",
        dir="data",
        batch_size=64,
        photos=8,  # P: drawn of a tile's photos at each step
        # The frozen embeddings of the photos are computed once ("cached"), or the ground tower
        # runs in every step ("step").
        ground="cached",
        workers=0,  # worker processes; tiles of 32 px are cheaper to read than to pass along
        threads=2,
        # Photos move with the image; those that a crop leaves outside are not drawn. (): no crop.
        crop_scale=(),
        crop_ratio=(0.75, 1.3333),
        flip_horizontal=True,
        flip_vertical=True,
        rotate=True,
        skip_corrupt=False,
        # JPEGs at a half, a quarter or an eighth where the crop allows; "full"; or "320": at most
        # so many pixels long. Decoded images can be kept (see docs/input.md).
        decode="auto",
        cache="none",  # "memory", or "disk:DIR"
        cache_gib=4.0,
        mean=(0.48145466, 0.4578275, 0.40821073),  # CLIP's
        std=(0.26862954, 0.26130258, 0.27577711),
    )
    config.model = section(
        image=section(size=32, patch=4, width=128, depth=4, heads=2, mlp_dim=512),
        text=section(
            vocab_size=2048, length=32, width=128, depth=3, heads=2, mlp_dim=512, pool="last"
        ),
        embed_dim=128,
        activation="gelu",
        init_std=0.05,  # CLIP's 0.02 at 768 wide, and wider for fewer inputs
        scan=True,
        remat="full",  # two cores wait for memory more than for products
        attention="auto",
        dtype="float32",
    )
    config.objective = section(
        level="both",
        weights=section(image_ground=1.0, pixel_ground=1.0),
        contrast="softmax",  # InfoNCE; "sigmoid" is SigLIP's
        # Found on the validation blocks among 0.02 to 1: the colder, the less of what many views
        # show (open water) is left in the students. The paper's presets have 0.07.
        temperature=0.5,
        learn_temperature=False,  # as they hold it fixed, as it seems
        symmetric=False,  # the runs are named "Many to one"
        mask_overlaps=True,  # photos of tiles that show the same ground are no negatives
        block_rows=config_dict.placeholder(int),  # None: the whole matrix of similarities at once
    )
    # The teacher's own run; what is not here it shares with the students.
    config.teacher = section(
        training=section(
            steps=600,
            epochs=config_dict.placeholder(float),
            examples=config_dict.placeholder(int),
        ),
        optimizer=section(learning_rate=2e-3, weight_decay=0.1, warmup_percent=5.0),
        data=section(
            batch_size=64,
            crop_scale=(0.8, 1.0),
            flip_horizontal=False,
            flip_vertical=False,
            rotate=False,
        ),
        objective=section(
            contrast="softmax",
            identical_captions=True,  # are positives of one another
            logit_scale_init=2.6592,  # ln(1 / 0.07)
            logit_scale_max=4.6052,  # ln 100
        ),
    )
    return config


def _paper(name: str) -> common.Preset:
    """CLIP ViT-B/16 on pairs collected under `name`; see `python -m graft_jax.pairs`."""

    def apply(config: config_dict.ConfigDict) -> None:
        config.seeds = (0,)
        config.training.update(steps=None, epochs=10.0)
        # Not given: batch size, length of the warm-up, betas, epsilon, clipping. Betas and epsilon
        # are CLIP's; the warm-up is one epoch of ten.
        config.optimizer.update(weight_decay=1e-2, b1=0.9, b2=0.98, eps=1e-6, clip=1.0)
        config.optimizer.update(warmup_percent=10.0)
        config.data.update(name=f"ground_satellite_pairs/{name}", batch_size=1024, workers=16)
        # At most 25 photos a tile are stored; how many were drawn at a step is not given.
        config.data.photos = 25
        # Not given: augmentation. The released code has none; flips and turns would be sound.
        config.data.update(flip_horizontal=False, flip_vertical=False, rotate=False)
        config.model.image.update(size=224, patch=16, width=768, depth=12, heads=12, mlp_dim=3072)
        config.model.text.update(vocab_size=49_408, length=77, pool="eot")
        config.model.text.update(width=512, depth=12, heads=8, mlp_dim=2048)
        config.model.update(embed_dim=512, activation="quick_gelu", init_std=0.02)
        config.model.dtype = "bfloat16"  # not given
        config.objective.level = "image"
        config.objective.temperature = 0.07  # the released checkpoints hold 1 / 0.07
        config.checkpoint.update(every_steps=1000, keep=3)
        config.metrics.every_steps = 50
        config.evaluation.every_steps = 0
        _set_rate(config)

    return apply


def _large(config: config_dict.ConfigDict) -> None:
    """CLIP ViT-L/14."""
    config.model.image.update(patch=14, width=1024, depth=24, heads=16, mlp_dim=4096)
    config.model.text.update(width=768, depth=12, heads=12, mlp_dim=3072)
    config.model.embed_dim = 768


def _giant(config: config_dict.ConfigDict) -> None:
    """OpenCLIP ViT-g/14, 1.0 G parameters, so they are sharded."""
    config.model.image.update(patch=14, width=1408, depth=40, heads=16, mlp_dim=6144)
    config.model.text.update(width=1024, depth=24, heads=16, mlp_dim=4096)
    config.model.update(embed_dim=1024, activation="gelu")
    config.mesh.fsdp = 16


def _level(name: str) -> common.Preset:
    def apply(config: config_dict.ConfigDict) -> None:
        config.objective.level = name
        _set_rate(config)

    return apply


def _set_rate(config: config_dict.ConfigDict) -> None:
    """The rates of the paper belong to models of its size."""
    if config.model.image.width == _PAPER_WIDTH:
        config.optimizer.learning_rate = RATES[config.objective.level]


PRESETS: dict[str, common.Preset] = {
    "naip": _paper("naip"),
    "sentinel2": _paper("sentinel2"),
    "large": _large,
    "giant": _giant,
    **{name: _level(name) for name in LEVELS},
    **{f"level={name}": _level(name) for name in LEVELS},
}
