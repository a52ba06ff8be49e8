"""What layouts of image towers share: stems, tables of positions, and the model that they make."""

from collections.abc import Sequence

import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.weights import conventions as c
from rsvl_jax.weights.family import Json, Model, Shapes
from rsvl_jax.weights.kinds import vit
from rsvl_jax.weights.names import Entries, Entry, Shape, array, with_shape

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LN_EPS = 1e-6
DECODER_HEADS = 16  # MAE's


def image(transformer: Json, patches: Shape, positions: Shape, *, kind: str = "learned") -> Json:
    """Fields of a VitConfig. patches: shape of the convolution's weight; positions: of their table.

    Raises UserError for a tower that does not take square RGB images.
    """
    width, channels, patch, other = patches
    if channels != 3 or patch != other:
        raise UserError(
            f"patches of {channels} channels and {patch} x {other} pixels: only square ones of "
            "RGB can be held"
        )
    if positions[-1] != width:
        raise UserError(
            f"positions are {positions[-1]} wide, the tower {width}: it adds more than positions"
        )
    rows = positions[-2]
    # Newer towers of timm have no position for the class token.
    side = c.side(rows if has_no_class(rows) else rows - 1)
    return {
        "image_size": side * patch,
        "patch_size": patch,
        "positions": kind,
        "mask_token": False,
        "transformer": transformer,
    }


def has_no_class(rows: int) -> bool:
    """Whether a table of so many positions leaves out the class token."""
    return round(rows**0.5) ** 2 == rows


def decoder(own: Json, transformer: Json) -> Json:
    """Fields of the MaeDecoderConfig of an encoder with these fields."""
    side = own["image_size"] // own["patch_size"]
    return {
        "encoder_width": own["transformer"]["width"],
        "grid": [side, side],
        "patch_dim": 3 * own["patch_size"] ** 2,
        "transformer": transformer,
    }


def model(
    settings: Json, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> Model:
    """The model, its images normalised as ImageNet's unless another mean and std are given."""
    size = settings["image"]["image_size"]
    preprocessing = c.preprocessing(size, mean, std)
    return Model("vit", settings, vit.parts(settings), preprocessing)


def token(ours: str, theirs: str, dimensions: int = 3) -> Entries:
    """A vector of ours that is [1, 1, D] there, or [1, D]."""
    return with_shape(array(ours, theirs), lambda shape: (1,) * (dimensions - 1) + shape)


def table(ours: str, theirs: str, *, with_class: bool = True) -> Entries:
    """Positions [1+N, D] of ours, [1, 1+N, D] there, or [1, N, D] without the class token's."""
    if with_class:
        return with_shape(array(ours, theirs), lambda shape: (1, *shape))

    def read(given: Sequence[np.ndarray], shape: Shape) -> np.ndarray:
        return np.pad(given[0].reshape(-1, given[0].shape[-1]), ((1, 0), (0, 0)))

    def write(value: np.ndarray) -> Sequence[np.ndarray]:
        if value[0].any():
            raise UserError(f"{theirs!r} has no place for the position of the class token")
        return [value[None, 1:]]

    return [Entry(ours, (theirs,), read, write)]


def refuse(shapes: Shapes, endings: dict[str, str]) -> None:
    """Raises UserError for names that end in a key; its value says what that is."""
    for ending, what in endings.items():
        found = next((name for name in shapes if name.endswith(ending)), None)
        if found is not None:
            raise UserError(f"{found!r}: {what} cannot be held by the towers here")
