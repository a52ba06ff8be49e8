"""What config files of image-text models call things: activations, preprocessing, tokenizers."""

from collections.abc import Sequence

from rsvl_jax.errors import UserError
from rsvl_jax.weights.family import Json

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

# Names in `transformers` -> ours. Of those that mean the same, the first is written.
_ACTIVATIONS = {
    "gelu": "gelu",
    "quick_gelu": "quick_gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
}


def activation(name: str) -> str:
    """Our name of an activation of `transformers`. Raises UserError for one that we have not."""
    if name not in _ACTIVATIONS:
        raise UserError(f"unknown activation {name!r}: one of {', '.join(_ACTIVATIONS)} is needed")
    return _ACTIVATIONS[name]


def activation_name(ours: str) -> str:
    """The name in `transformers`."""
    return next(theirs for theirs, known in _ACTIVATIONS.items() if known == ours)


def preprocessing(
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    resize: str = "shortest",
    interpolation: str = "bicubic",
) -> Json:
    """How images become inputs: of pixels in [0, 1], size x size, less the mean, over the std.

    resize: "shortest", that edge to `size` and the middle cut out, or "square", both edges.
    """
    return {
        "image_size": size,
        "mean": list(mean),
        "std": list(std),
        "resize": resize,
        "crop": "center" if resize == "shortest" else "none",
        "interpolation": interpolation,
    }


def side(patches: int) -> int:
    """Patches along each side of a square image. Raises UserError where there is no such square."""
    found = round(patches**0.5)
    if found**2 != patches:
        raise UserError(f"{patches} positions of patches are no square: other images than square?")
    return found


def transformer(
    *, width: int, depth: int, heads: int, mlp_dim: int, activation: str, ln_eps: float
) -> Json:
    """Fields of a TransformerConfig, those that weights decide."""
    return {
        "width": width,
        "depth": depth,
        "heads": heads,
        "mlp_dim": mlp_dim,
        "activation": activation,
        "ln_eps": ln_eps,
    }
