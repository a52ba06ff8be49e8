"""The ViT of a model by itself is the one that its features come from."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import tiny_runs

import rsvl_jax
from rsvl_jax.inference.backbone import backbone
from rsvl_jax.models import functional
from rsvl_jax.models.image_tokenizer import unit_range
from rsvl_jax.models.vit import Vit


@pytest.mark.parametrize("kind", ["flavars", "graft", "clip"])
def test_the_last_state_after_its_norm_are_the_patches(tmp_path, kind):
    if kind == "flavars":
        path = tiny_runs.flavars(tmp_path)[0]
    else:
        path = Path(tiny_runs.graft(tmp_path)) / ("seed0" if kind == "graft" else "teacher")
    embedder = rsvl_jax.load(path)
    found = backbone(embedder)
    shape = (3, tiny_runs.SIZE, tiny_runs.SIZE, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    graph = functional.structure(lambda rngs: Vit(found.cfg, rngs))
    vit = functional.bind(graph, found.params, found.frozen)
    pixels = (unit_range(jnp.asarray(images)) - jnp.asarray(found.mean)) / jnp.asarray(found.std)
    state = vit.hidden_states(pixels, (found.cfg.transformer.depth,))[0]
    expected = embedder.patch_embeddings(images, space="features", normalize=False)
    np.testing.assert_allclose(vit.norm(state).reshape(expected.shape), expected, atol=2e-5)
