"""A model in use: images, texts and places in, unit vectors out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rsvl_jax.data.tokenizer_files import Tokenizer
from rsvl_jax.data.transforms import check_location
from rsvl_jax.errors import UserError
from rsvl_jax.inference import images as reading
from rsvl_jax.inference import texts as texts_of
from rsvl_jax.inference.batches import Row, Runner
from rsvl_jax.inference.images import Preprocessing
from rsvl_jax.inference.modules import Modules
from rsvl_jax.inference.texts import Open
from rsvl_jax.inference.towers import OWN, SPACES, Towers, towers
from rsvl_jax.losses.contrastive import unit
from rsvl_jax.models.image_tokenizer import unit_range
from rsvl_jax.weights.family import Model

BATCH_SIZE = 64


class Embedder:
    """Embeds with one model, on all devices of this machine.

    Embeddings are float32 rows of length 1, or as the model gives them with `normalize=False`.
    `space` chooses between those of a model: "text" is shared by images and texts, "location" by
    images (and maybe texts) and places, "features" is a tower's own, before any projection. The
    default is the first of these that the input has.
    """

    def __init__(
        self,
        model: Model,
        arrays: Mapping[str, np.ndarray],
        *,
        tokenizer: Open | None = None,
        fingerprint: str = "",
        batch_size: int = BATCH_SIZE,
    ):
        """arrays: by "part/path"; tokenizer: opened when the first text comes, see `texts`.

        Raises UserError for a model of a kind that embeds nothing.
        """
        self.model, self.fingerprint = model, fingerprint
        self._towers: Towers = towers(model.kind, model.settings)
        self._modules = Modules(model, self._towers.parts)
        self._run = Runner(self._modules.arrays(arrays), batch_size)
        self._open_tokenizer = tokenizer or texts_of.of_checkpoint(b"")
        known = model.preprocessing
        self.preprocessing = Preprocessing.of(known) if known else None
        self._compiled = lru_cache(maxsize=None)(self._compile)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return self._open_tokenizer()

    @property
    def batch_size(self) -> int:
        """Rows that pass through the devices at a time."""
        return self._run.batch_size

    @property
    def image_size(self) -> int:
        """Pixels a side of what the model sees. Raises UserError for one without images."""
        self.need("images")
        assert self.preprocessing is not None
        return self.preprocessing.image_size

    def embed_images(
        self, images: Iterable[Any], *, space: str = "", normalize: bool = True
    ) -> np.ndarray:
        """n images -> float32 [n, E].

        images: uint8 [n, H, W, 3], or a list or generator of arrays [H, W, 3] of any sizes, PIL
        images and paths; of a generator no more is read than two batches ahead. Raises UserError
        for what is none of these, and for a model without images.
        """
        return self._images("images", images, space, normalize)

    def patch_embeddings(
        self, images: Iterable[Any], *, space: str = "", normalize: bool = True
    ) -> np.ndarray:
        """As `embed_images`, a vector for each patch, row by row: float32 [n, N, E]."""
        return self._images("patches", images, space, normalize)

    def embed_texts(
        self, texts: Iterable[str], *, space: str = "", normalize: bool = True
    ) -> np.ndarray:
        """n texts -> float32 [n, E]; longer ones are cut to the model's length.

        Raises UserError for a model without a text tower or without the files of its tokenizer.
        """
        self.need("texts")
        if isinstance(texts, str):
            raise UserError(f"one text, {texts[:80]!r}: give a list of texts")
        length, encode = self.model.tokenizer["length"], self._tokenizer.encode
        return self._collected(
            "texts", texts, lambda text: encode(_text(text), length), space, normalize
        )

    def embed_locations(
        self,
        *,
        lon: Sequence[float] | np.ndarray,
        lat: Sequence[float] | np.ndarray,
        space: str = "",
        normalize: bool = True,
    ) -> np.ndarray:
        """Longitudes and latitudes [n], degrees -> float32 [n, E].

        Raises UserError for a place that is not on Earth, and for a model without locations.
        """
        self.need("locations")
        east, north = _degrees(lon, lat)
        places = zip(east, north, strict=True)
        return self._collected("locations", places, lambda place: place, space, normalize)

    @property
    def arrays(self) -> dict[str, jax.Array]:
        """The parameters, whole on every device of this machine."""
        return self._run.arrays

    def modules(self) -> Mapping[str, Any]:
        """The model's modules by the name of their part, with these arrays."""
        return self._modules.bind(self.arrays)

    def features(self, arrays: dict[str, Any], images: jax.Array) -> dict[str, jax.Array]:
        """All that one pass over images uint8 [B, S, S, 3] gives, see `Towers.features`; what is
        shared with texts or places has length 1.

        To be traced; arrays: as `arrays`, wherever they are. Raises UserError for a model without
        images.
        """
        self.need("images")
        tower = self._towers.features
        assert tower is not None
        found = self._vectors(tower, arrays, (images,))
        return {name: value if name in OWN else unit(value) for name, value in found.items()}

    def _images(self, what: str, images: Iterable[Any], space: str, normalize: bool) -> np.ndarray:
        self.need(what)
        prepare = self.preprocessing
        assert prepare is not None
        each = reading.each(images)
        return self._collected(what, each, lambda image: (prepare(image),), space, normalize)

    def _collected(
        self,
        what: str,
        items: Iterable[Any],
        prepare: Callable[[Any], Row],
        space: str,
        normalize: bool,
    ) -> np.ndarray:
        function = self._compiled(what, space, normalize)
        parts = list(self._run(function, items, prepare))
        if not parts:
            shape = self._run.shapes(function, self._empty(what)).shape
            return np.zeros((0, *shape[1:]), np.float32)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _empty(self, what: str) -> Row:
        """A row of what the function takes."""
        if what == "locations":
            return np.float32(0), np.float32(0)
        if what == "texts":
            length = self.model.tokenizer["length"]
            return np.zeros(length, np.int32), np.zeros(length, bool)
        assert self.preprocessing is not None
        side = self.preprocessing.image_size
        return (np.zeros((side, side, 3), np.uint8),)

    def spaces(self, what: str) -> tuple[str, ...]:
        """Spaces of "images", "patches", "texts" or "locations", the default first; () of none."""
        tower = getattr(self._towers, what)
        if tower is None:
            return ()
        empty = self._empty(what)
        found = self._run.shapes(lambda arrays, *row: self._vectors(tower, arrays, row), empty)
        return tuple(name for name in SPACES if name in found)

    def need(self, what: str) -> None:
        """Raises UserError for a model without "images", "patches", "texts" or "locations"."""
        if getattr(self._towers, what) is None:
            inputs = {"patches": "images"}.get(what, what)
            raise UserError(f"this model, of kind {self.model.kind!r}, has no encoder of {inputs}")

    def _compile(self, what: str, space: str, normalize: bool) -> Callable[..., jax.Array]:
        known = self.spaces(what)
        if space and space not in known:
            raise UserError(f"no {what} in the space {space!r}: choose one of {', '.join(known)}")
        tower, chosen = getattr(self._towers, what), space or known[0]

        def run(arrays: dict[str, jax.Array], *row: jax.Array) -> jax.Array:
            found = self._vectors(tower, arrays, row)[chosen]
            return unit(found) if normalize else found.astype(jnp.float32)

        return jax.jit(run)

    def _vectors(self, tower: Any, arrays: dict[str, Any], row: Sequence[jax.Array]) -> Any:
        """What a tower gives for a batch; pixels are less the mean, over the deviation."""
        modules, own = self._modules.bind(arrays), self.preprocessing
        if row[0].dtype == jnp.uint8:
            assert own is not None
            pixels = (unit_range(row[0]) - jnp.asarray(own.mean)) / jnp.asarray(own.std)
            return tower(modules, pixels)
        return tower(modules, *row)


def _text(text: Any) -> str:
    if not isinstance(text, str):
        raise UserError(f"texts must be strings, not {type(text).__name__}: {str(text)[:80]!r}")
    return text


def _degrees(lon: Any, lat: Any) -> tuple[np.ndarray, np.ndarray]:
    """Longitudes and latitudes float32 [n]. Raises UserError where one is none."""
    east, north = (np.asarray(axis, np.float64) for axis in (lon, lat))
    if east.ndim != 1 or east.shape != north.shape:
        raise UserError(
            f"lon of shape {east.shape} and lat of shape {north.shape}: give two lists of the same "
            "length"
        )
    good = (np.abs(north) <= 90) & (np.abs(east) <= 180)
    for row in np.flatnonzero(~good)[:1]:
        check_location(lon=float(east[row]), lat=float(north[row]))
    return east.astype(np.float32), north.astype(np.float32)
