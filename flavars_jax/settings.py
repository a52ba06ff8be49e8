"""From the config to checked, typed settings of the model and the objective."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from rsvl_jax.errors import UserError
from rsvl_jax.models import dvae
from rsvl_jax.models.fusion import FusionConfig
from rsvl_jax.models.heads import MaeDecoderConfig
from rsvl_jax.models.location import LocationConfig
from rsvl_jax.models.text import TextConfig
from rsvl_jax.models.transformer import TransformerConfig
from rsvl_jax.models.vit import CHANNELS, VitConfig
from rsvl_jax.objectives.weights import active
from rsvl_jax.training.objective import Weight

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
CONTRASTS = ("image_text", "image_location", "text_location")
# The first choice is the default of a config without that key.
CHOICES = {
    "mim_design": ("codebook", "mae"),
    "image_tokenizer": ("patches", "dalle"),
    "itm_negatives": ("swap", "hard"),
    "contrast": ("softmax", "sigmoid"),
    "image_pooling": ("cls", "mean"),
}


@dataclass(frozen=True)
class Settings:
    """Everything that the model and the objective read; see the table in `objective`.

    weights: of the terms that are on, the others are not there; mim_design and the following:
    config keys of the same names; masked_patches: patches that MIM hides in each image;
    masked_words: places for hidden tokens in each text; regions: of an image, at the most, and
    phrase_length: tokens of their phrases; streams: share of the batch's rows.
    """

    image: VitConfig
    text: TextConfig
    fusion: FusionConfig
    location: LocationConfig
    decoder: MaeDecoderConfig
    embed_dim: int
    weights: Mapping[str, Weight]
    mim_design: str
    image_tokenizer: str
    codebook_size: int
    masked_patches: int
    masked_words: int
    norm_pixels: bool
    itm_negatives: str
    identical_captions: bool
    contrast: str
    image_pooling: str
    logit_scale_init: float
    logit_scale_max: float | None
    regions: int
    phrase_length: int
    streams: Mapping[str, float]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def on(self) -> frozenset[str]:
        """Names of the terms that are on."""
        return frozenset(self.weights)

    @property
    def patches(self) -> int:
        """Patches of an image."""
        return self.image.grid[0] * self.image.grid[1]

    @property
    def mae(self) -> bool:
        """Whether masked images are encoded without their hidden patches."""
        return self.mim_design == "mae"

    @property
    def hard_itm(self) -> bool:
        """Whether matching draws its negatives inside the batch."""
        return "itm" in self.on and self.itm_negatives == "hard"

    @property
    def fuses_masked(self) -> bool:
        """Whether any term looks at masked image and masked text together."""
        return bool(self.on & {"mmm_image", "mmm_text"}) or ("itm" in self.on and not self.hard_itm)

    @property
    def predicts_codes(self) -> bool:
        """Whether any term predicts visual words."""
        return not self.mae and bool(self.on & {"mim", "mmm_image"})

    @property
    def sees_clean_images(self) -> bool:
        """Whether any term needs the whole image."""
        return bool(self.on & {"image_text", "image_location"}) or self.hard_itm

    @property
    def sees_clean_texts(self) -> bool:
        """Whether any term needs the whole text."""
        return bool(self.on & {"image_text", "text_location"}) or self.hard_itm


def from_config(config: Any) -> Settings:
    """The settings of a config (sections model, objective, data).

    Raises UserError, one line, for sizes that do not fit together and for unknown choices.
    """
    model, objective = config.model, config.objective
    chosen = {key: _choice(objective, key, names) for key, names in CHOICES.items()}
    image = _image(model)
    settings = Settings(
        image=image,
        text=_text(model),
        fusion=FusionConfig(
            image_width=model.image.width,
            text_width=model.text.width,
            transformer=_transformer(model, "fusion"),
            mask_text_pads=model.fusion.mask_text_pads,
        ),
        location=_location(model),
        decoder=_decoder(model, image),
        embed_dim=_positive("model.embed_dim", model.embed_dim),
        weights=_weights(objective.weights),
        codebook_size=_positive("objective.codebook_size", objective.codebook_size),
        masked_patches=_masked_patches(objective.image_mask_ratio, image),
        masked_words=_masked_words(objective.text_mask_ratio, model.text.length),
        norm_pixels=objective.norm_pixels,
        identical_captions=objective.identical_captions,
        logit_scale_init=objective.logit_scale_init,
        logit_scale_max=objective.logit_scale_max,
        regions=_positive("objective.regions", objective.get("regions", 8)),
        phrase_length=_positive("objective.phrase_length", objective.get("phrase_length", 16)),
        streams=_streams(config.data.streams),
        mean=channels("data.mean", config.data.mean),
        std=channels("data.std", config.data.std),
        **chosen,
    )
    _check(settings)
    return settings


def _choice(section: Any, key: str, names: tuple[str, ...]) -> str:
    value = section.get(key, names[0])
    if value not in names:
        raise UserError(f"objective.{key}={value!r} is unknown: choose one of {', '.join(names)}")
    return value


def _positive(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"{key}={value!r} must be a whole number above zero")
    return value


def channels(key: str, values: Any) -> tuple[float, ...]:
    """A number for each channel; UserError for another count, or an `std` of zero or less."""
    numbers = tuple(float(value) for value in values)
    if len(numbers) != CHANNELS:
        raise UserError(f"{key}={values!r} needs one number for each of {CHANNELS} channels")
    if key.endswith("std") and min(numbers) <= 0:
        raise UserError(f"{key}={values!r} must be above zero: images are divided by it")
    return numbers


def _transformer(model: Any, tower: str) -> TransformerConfig:
    sizes: dict[str, Any] = {
        key: _positive(f"model.{tower}.{key}", model[tower][key])
        for key in ("width", "depth", "heads")
    }
    mlp_dim = model[tower].get("mlp_dim", 4 * sizes["width"])
    shared = TransformerConfig(
        **sizes,
        mlp_dim=_positive(f"model.{tower}.mlp_dim", mlp_dim),
        activation=model.activation,
        init_std=model.init_std,
        dropout=model.dropout,
        scan=model.scan,
        remat=model.remat,
        attention=model.attention,
        dtype=model.dtype,
    )
    return replace(shared, **_given(model[tower], "activation", "ln_eps", "norm"))


def _given(section: Any, *keys: str) -> dict[str, Any]:
    """The keys that a section sets."""
    return {key: section[key] for key in keys if section.get(key) is not None}


def _image(model: Any) -> VitConfig:
    return VitConfig(
        image_size=_positive("model.image.size", model.image.size),
        patch_size=_positive("model.image.patch", model.image.patch),
        transformer=_transformer(model, "image"),
        positions=model.image.positions,
        **_given(model.image, "stem_norm"),
    )


def _text(model: Any) -> TextConfig:
    return TextConfig(
        vocab_size=_positive("model.text.vocab_size", model.text.vocab_size),
        max_length=_positive("model.text.length", model.text.length),
        transformer=_transformer(model, "text"),
    )


def _location(model: Any) -> LocationConfig:
    section = dict(model.location.items())
    dim = section.setdefault("dim", model.location_dim)
    if dim != model.location_dim:
        raise UserError(
            f"model.location.dim={dim} differs from model.location_dim={model.location_dim}: "
            "places are compared with images in one space, set both"
        )
    return LocationConfig(**section)


def _decoder(model: Any, image: VitConfig) -> MaeDecoderConfig:
    return MaeDecoderConfig(
        encoder_width=model.image.width,
        grid=image.grid,
        patch_dim=image.patch_size**2 * CHANNELS,
        transformer=_transformer(model, "decoder"),
    )


def _weights(section: Any) -> Mapping[str, Weight]:
    specs = {name: section[name] for name in section}
    unknown = sorted(set(specs) - set(TERMS))
    if unknown:
        raise UserError(f"objective.weights has unknown terms {unknown}: known are {list(TERMS)}")
    weights = active(specs)
    if not weights:
        raise UserError("every weight in objective.weights is 0: there is nothing to train")
    return weights


def _masked_patches(ratio: float, image: VitConfig) -> int:
    patches = image.grid[0] * image.grid[1]
    count = round(ratio * patches)
    if not 0 < count < patches:
        raise UserError(
            f"objective.image_mask_ratio={ratio} hides {count} of {patches} patches: "
            "hide at least one and leave at least one"
        )
    return count


def _masked_words(ratio: float, length: int) -> int:
    """The expected number, and slack for whole words."""
    if not 0 < ratio < 1:
        raise UserError(f"objective.text_mask_ratio={ratio} must lie between 0 and 1")
    return min(math.ceil(ratio * length) + 1, length)


def _streams(section: Any) -> Mapping[str, float]:
    """Shares that add up to one."""
    shares = {name: float(section[name]) for name in section}
    total = sum(shares.values())
    if total <= 0 or min(shares.values()) < 0:
        raise UserError(f"data.streams={shares}: shares must be positive and not all zero")
    return {name: share / total for name, share in shares.items() if share}


def _check(settings: Settings) -> None:
    for name in settings.on:
        own = {"mim": "image", "mlm": "text"}.get(name, "paired")
        if not {own, "paired"} & set(settings.streams):
            raise UserError(
                f"objective.weights.{name} has nothing to learn from: "
                f"give data.streams.paired a share, or the weight 0"
            )
    if settings.hard_itm and "image_text" not in settings.on:
        raise UserError(
            "objective.itm_negatives='hard' draws by image-text similarity: "
            "give objective.weights.image_text a weight, or use 'swap'"
        )
    if "phrase_region" in settings.on:
        _check_regions(settings)
    if settings.mae and settings.image.transformer.width % 4:
        raise UserError(
            f"model.image.width={settings.image.transformer.width} must be divisible by 4 "
            "for the sin-cos positions of objective.mim_design='mae'"
        )
    dalle = settings.predicts_codes and settings.image_tokenizer == "dalle"
    if dalle and settings.codebook_size != dvae.VOCAB:
        raise UserError(
            f"objective.codebook_size={settings.codebook_size}: "
            f"the 'dalle' tokenizer has {dvae.VOCAB} codes"
        )


def _check_regions(settings: Settings) -> None:
    if "image_text" not in settings.on:
        raise UserError(
            "objective.weights.phrase_region compares in the space of image and text: give "
            "objective.weights.image_text a weight, too"
        )
    if not 3 <= settings.phrase_length <= settings.text.max_length:
        raise UserError(
            f"objective.phrase_length={settings.phrase_length} must lie between 3 and "
            f"model.text.length={settings.text.max_length}"
        )
