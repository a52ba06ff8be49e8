"""The frozen teacher: CLIP's two towers, trained on captioned views where none are given.

In the paper it is OpenAI's CLIP. The embedded default trains a small one on the fine views of the
zoom pairs with their captions; the student sees its image embeddings and never a text.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from graft_jax.inputs import Inputs
from graft_jax.objective import GroundTower
from rsvl_jax.data import pipeline, prefetch
from rsvl_jax.data.pairs import ImagePart, Record, SampleTransform, Source, TextPart
from rsvl_jax.data.tokenizer import SentencePieceTokenizer, Tokenizer
from rsvl_jax.data.transforms import Augmentation
from rsvl_jax.errors import UserError
from rsvl_jax.evaluation.card import weights_fingerprint
from rsvl_jax.evaluation.features import in_batches
from rsvl_jax.inference import texts
from rsvl_jax.models.clip import ClipConfig, ClipTextConfig, ClipVisionConfig
from rsvl_jax.objectives.image_text import ImageTextObjective, Settings
from rsvl_jax.parallel.sharding import batch_sharding, tree_shardings
from rsvl_jax.training import loop, resume, saved
from rsvl_jax.training.state import TrainState
from rsvl_jax.weights import imports, trees
from rsvl_jax.weights.family import Model
from rsvl_jax.weights.kinds import fields

Tree = Any
Evaluate = Callable[[TrainState, int], dict[str, float]]
TOKENIZER = "tokenizer.model"
TEXTS = 64  # encoded at a time: one shape, one compilation
# What of the run's data section is the teacher's affair too.
_DATA = ("name", "dir", "batch_size", "workers", "threads", "skip_corrupt", "mean", "std")
_RUN = ("training", "optimizer", "checkpoint", "metrics", "evaluation", "mesh", "watchdog", "model")
_CROPS = ("crop_scale", "crop_ratio", "flip_horizontal", "flip_vertical", "rotate")


@dataclass(frozen=True)
class TextImage:
    """Two towers with one space: the `towers.TextImageModel` of teacher and students."""

    image_size: int
    patch_size: int
    fingerprint: str
    see: Callable[[jax.Array], Mapping[str, jax.Array]]
    read: Callable[[list[str]], np.ndarray]

    def images(self, pixels: Any) -> Mapping[str, jax.Array]:
        """uint8 [B, H, W, 3] -> unit vectors {"image": [B, E], "pixels": [B, N, E]}."""
        return self.see(pixels)

    def texts(self, texts: list[str]) -> np.ndarray:
        """n texts -> unit vectors float32 [n, E]."""
        return self.read(texts)


class Teacher:
    """A trained pair of towers, its parameters on the mesh."""

    def __init__(
        self,
        objective: ImageTextObjective,
        params: Tree,
        mesh: Mesh,
        *,
        step: int,
        start: Callable[[], Tree],
        tokenizer: Callable[[], Tokenizer],
    ):
        """start: the parameters before the first step; tokenizer: opens that of its texts."""
        self.objective, self.params, self.step = objective, params, step
        self._mesh, self._start, self._open = mesh, start, tokenizer
        self.fingerprint = weights_fingerprint(self.params)
        self._see = jax.jit(self.objective.embed_images)
        self._read = jax.jit(self.objective.embed_texts)

    @classmethod
    def of_run(cls, directory: str, mesh: Mesh) -> "Teacher":
        """The newest checkpoint of a directory. Raises UserError where there is none."""
        found = saved.metadata(directory)
        config = ConfigDict(found["config"])
        objective = ImageTextObjective(config, mesh)
        run: dict[str, Any] = {"config": config, "objective": objective, "mesh": mesh}
        run["manifest"] = found["manifest"]
        state = loop.load_state(workdir=directory, **run)
        return cls(
            objective,
            state.params if state.ema is None else state.ema,
            mesh,
            step=int(jax.device_get(state.step)),
            start=lambda: loop.initial_state(**run).params,
            tokenizer=texts.of_checkpoint(resume.unpack(found)[TOKENIZER]),
        )

    @classmethod
    def of_source(cls, name: str, mesh: Mesh) -> "Teacher":
        """Weights of CLIP from elsewhere: a file, a folder or a name of the hub.

        Raises UserError for what cannot be read, and for what is not two towers of CLIP.
        """
        stored = imports.load(name).stored
        objective = ImageTextObjective(_settings(stored.model, name))
        # Parameters are float32 whatever the file has: what is smaller fits into it exactly.
        arrays = {path: np.asarray(x, np.float32) for path, x in stored.arrays.items()}
        params = trees.nested(arrays)
        places = tree_shardings(objective.logical_axes()["params"], params, mesh)
        fresh = jax.jit(lambda rng: objective.init(rng)["params"], out_shardings=places)
        return cls(
            objective,
            jax.device_put(params, places),
            mesh,
            step=0,
            start=lambda: fresh(jax.random.key(0)),
            tokenizer=texts.of_files(stored.model.tokenizer, stored.tokenizer),
        )

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Of the text tower. Raises UserError where its files are not beside the weights."""
        try:
            return self._open()
        except UserError as error:
            raise UserError(
                f"the teacher cannot read texts, only see photos and teach: {error}"
            ) from error

    def model(self) -> TextImage:
        """Both towers."""
        return self.beside(partial(self._see, self.params, {}), self.fingerprint)

    def ground_tower(self) -> GroundTower:
        """The image tower for use in a training step, its parameters on the host."""
        s = self.objective.settings
        params = jax.device_get(self.params["image"])
        return GroundTower(s.clip.vision, params, mean=s.mean, std=s.std)

    def untrained(self) -> TextImage:
        """The image tower as it was before its first step, beside the trained text tower."""
        start = self._start()
        return self.beside(partial(self._see, start, {}), weights_fingerprint(start))

    def beside(
        self, see: Callable[[jax.Array], Mapping[str, jax.Array]], fingerprint: str
    ) -> TextImage:
        """The text tower beside another image tower of the same sizes."""
        vision = self.objective.settings.clip.vision.vit
        return TextImage(vision.image_size, vision.patch_size, fingerprint, see, self._encode_texts)

    def _encode_texts(self, texts: list[str]) -> np.ndarray:
        length = self.objective.settings.clip.text.text.max_length

        def encode(part: list[str]) -> jax.Array:
            rows = [self.tokenizer.encode(text, length) for text in part]
            ids, masks = (np.stack(column) for column in zip(*rows, strict=True))
            return self._read(self.params, {}, ids, masks)

        return in_batches(encode, [texts], batch_size=TEXTS, mesh=self._mesh)


def _settings(model: Model, name: str) -> Settings:
    """The objective's settings of imported towers. Raises UserError for another kind."""
    own = model.settings
    if model.kind != "clip" or not {"image", "text", "scale"} <= own.keys():
        raise UserError(f"{name!r} holds a model of kind {model.kind!r}: a teacher is a CLIP")
    mean, std = model.preprocessing.get("mean"), model.preprocessing.get("std")
    if not mean or not std:
        raise UserError(f"{name!r} does not say how pixels are normalised: import it first")
    towers = ClipConfig(
        fields.build(ClipVisionConfig, own["image"]),
        fields.build(ClipTextConfig, own["text"]),
        sigmoid=bool(own.get("bias")),
    )
    return Settings(towers, False, None, tuple(mean), tuple(std))


def train(config: ConfigDict, inputs: Inputs, directory: str, mesh: Mesh) -> None:
    """Trains the towers on the fine views; goes on from where `directory` stands."""
    own = recipe(config)
    views = Views(inputs.train)
    tokenizer = SentencePieceTokenizer(inputs.artifact(TOKENIZER))
    manifest = inputs.manifest | {"splits": {"train": len(views)}, "of": "fine views"}
    loop.fit(
        config=own,
        objective=ImageTextObjective(own, mesh),
        make_batches=lambda step: _batches(own, views, tokenizer, mesh, step),
        manifest=manifest,
        workdir=directory,
        mesh=mesh,
        assets={TOKENIZER: tokenizer.model},
    )


def recipe(config: ConfigDict) -> ConfigDict:
    """The teacher's own run: the sections of the config, with the values of `teacher` in them."""
    whole = config.copy_and_resolve_references()
    own = ConfigDict({"seed": whole.seed})
    for name in _RUN:
        own[name] = whole[name]
    own.data = {key: whole.data[key] for key in (*_DATA, *_CROPS)}
    own.objective = whole.teacher.objective
    for name in ("training", "optimizer", "data"):
        with own[name].ignore_type():
            own[name].update(whole.teacher[name])
    return own


def _batches(
    config: ConfigDict, views: Source, tokenizer: SentencePieceTokenizer, mesh: Mesh, step: int
) -> prefetch.DevicePrefetch:
    data, model = config.data, config.model
    transform = SampleTransform(
        image=ImagePart(
            Augmentation(
                model.image.size,
                crop_scale=tuple(data.crop_scale) or None,
                crop_ratio=tuple(data.crop_ratio),
                flip_horizontal=data.flip_horizontal,
                flip_vertical=data.flip_vertical,
                rotate=data.rotate,
            ),
            patch=model.image.patch,
        ),
        text=TextPart(tokenizer, length=model.text.length),
    )
    host = pipeline.mixed_batches(
        {"paired": pipeline.Stream(views, transform, data.batch_size)},
        seed=config.seed,
        start_step=step,
        workers=data.workers,
        threads=data.threads,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        skip_corrupt=data.skip_corrupt,
    )
    return prefetch.to_device(host, batch_sharding(mesh))


class Views:
    """Each fine view of a split of zoom pairs once: id, image, captions, label, block."""

    def __init__(self, source: Source):
        self._source = source
        found: dict[str, tuple[int, int]] = {}
        for tile in range(len(source)):
            for slot, name in enumerate(source[tile]["photo_ids"]):
                found.setdefault(name, (tile, slot))
        self._places = np.array(list(found.values()), np.int32).reshape(-1, 2)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Record:
        tile, slot = self._places[index].tolist()
        record = self._source[tile]
        return {
            "id": record["photo_ids"][slot],
            "image": record["photos"][slot],
            "captions": record["photo_captions"][slot],
            "label": int(record["photo_labels"][slot]),
            "block": record["block"],
        }
