"""A text-aligned satellite model as its users see it: what it does, and how one is opened."""

from collections.abc import Mapping
from typing import Any, Protocol


class TextImageModel(Protocol):
    """Images and texts in one space. Map, search and segmentation need no more of a model."""

    @property
    def image_size(self) -> int:
        """Side of the input, pixels."""

    @property
    def patch_size(self) -> int:
        """Side of a patch, pixels; it divides `image_size`."""

    @property
    def fingerprint(self) -> str:
        """Names the weights of both towers: embeddings of two fingerprints are not comparable."""

    def images(self, pixels: Any) -> Mapping[str, Any]:
        """uint8 [B, H, W, 3] -> unit vectors {"image": [B, E], "pixels": [B, N, E]}.

        N patches in row-major order. Normalisation is the model's own affair.
        """

    def texts(self, texts: list[str]) -> Any:
        """n texts -> unit vectors float32 [n, E]."""


def open_model(workdir: str) -> TextImageModel:
    """The trained model of a work directory, with the text tower of its frozen teacher."""
    from graft_jax.experiment import Experiment  # training and its imports: only when needed

    return Experiment.reopen(workdir).model()
