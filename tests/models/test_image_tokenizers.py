import build
import jax
import jax.numpy as jnp
import numpy as np

from rsvl_jax.models import dvae, functional
from rsvl_jax.models.image_tokenizer import PatchCodebook

RNG = np.random.default_rng(0)


def silent(make):
    """A frozen tree of zeros."""
    trees = jax.eval_shape(lambda rng: functional.init(make, rng), jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), trees["frozen"])


def test_patch_codebook_finds_the_nearest_centroid():
    images = RNG.integers(0, 256, (2, 8, 12, 3), dtype=np.uint8)
    centroids = RNG.uniform(0, 1, (20, 48)).astype(np.float32)
    graph = functional.structure(lambda r: PatchCodebook(20, 4))
    module = functional.bind(graph, {}, {"centroids": jnp.asarray(centroids)})
    ids = np.asarray(jax.jit(module)(images))
    assert ids.shape == (2, 6)
    np.testing.assert_array_equal(ids, module(jnp.asarray(images / 255, jnp.float32)))
    patch = images[1, 4:8, 8:12].reshape(-1) / 255  # last row and column of the grid
    assert ids[1, 5] == np.argmin(((patch - centroids) ** 2).sum(1))


def test_dalle_encoder_has_the_published_size_and_one_word_for_8_pixels():
    make = lambda r: dvae.DalleEncoder(112, r)  # noqa: E731
    assert build.count(make) == (0, 53_786_240)
    assert round(53_786_240 / 1e6, 2) == 53.79
    frozen = jax.eval_shape(lambda: functional.init(make, jax.random.key(0)))["frozen"]
    graph = functional.structure(make)
    run = lambda frozen, images: functional.bind(graph, {}, frozen)(images)  # noqa: E731
    ids = jax.eval_shape(run, frozen, jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.uint8))
    assert (ids.shape, ids.dtype) == ((2, 196), jnp.int32)


def test_dalle_encoder_with_identity_blocks():
    """With residual paths silent and paths open, a word is the largest of pooled, mapped pixels."""
    make = lambda r: dvae.DalleEncoder(16, r, width=4, vocab_size=3)  # noqa: E731
    frozen = silent(make)
    stem = frozen["stem"]["kernel"].at[3, 3, jnp.arange(3), jnp.arange(3)].set(1.0)
    frozen["stem"]["kernel"] = stem
    for name, part in frozen.items():
        if "identity" in part:
            kernel = part["identity"]["kernel"]
            part["identity"]["kernel"] = kernel.at[0, 0, jnp.arange(4), jnp.arange(4)].set(1.0)
        assert name in ("stem", "out") or {"conv_1", "conv_4"} <= set(part)
    frozen["out"]["kernel"] = frozen["out"]["kernel"].at[0, 0, jnp.arange(3), jnp.arange(3)].set(1)
    module = functional.bind(functional.structure(make), {}, frozen)
    images = RNG.integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)
    pooled = images.reshape(1, 2, 8, 2, 8, 3).max((2, 4)) / 255
    logits, ids = jax.jit(lambda images: (module.logits(images), module(images)))(images)
    np.testing.assert_allclose(logits, 0.8 * pooled + 0.1, atol=1e-6)
    np.testing.assert_array_equal(ids[0], pooled.argmax(-1).reshape(-1))


def test_dalle_block_scales_its_residual_by_the_squared_depth():
    make = lambda r: dvae.Block(8, 8, r)  # noqa: E731
    frozen = silent(make)
    frozen["conv_4"]["bias"] = jnp.full(8, 64.0)
    x = jnp.asarray(RNG.standard_normal((1, 4, 4, 8)), jnp.float32)
    module = functional.bind(functional.structure(make), {}, frozen)
    np.testing.assert_allclose(module(x), x + 1, atol=1e-6)
