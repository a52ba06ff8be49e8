"""Shared terms: caption positives, patches of the masked autoencoder, weights and ramps."""

import jax.numpy as jnp
import numpy as np
import pytest

from rsvl_jax.errors import UserError
from rsvl_jax.models.vit import patchify
from rsvl_jax.objectives import contrast, mae, weights


def test_swapped_texts_make_no_positives_of_their_images():
    ids, matches = jnp.array([7, 8, 7, 7]), jnp.array([1, 1, 1, 0])
    got = contrast.caption_positives(text_ids=ids, matches=matches).matrix()
    # Images 0 and 2 match every text 7, also the swapped one; image 3 has no known text.
    np.testing.assert_array_equal(got, [[1, 0, 1, 1], [0, 1, 0, 0], [1, 0, 1, 1], [0, 0, 0, 0]])


def test_term_is_sigmoid_where_a_bias_is_given():
    a = jnp.eye(2)
    softmax = contrast.term(a=a, b=a, scale=jnp.zeros(()))
    sigmoid = contrast.term(a=a, b=a, scale=jnp.zeros(()), bias=jnp.zeros(()))
    assert float(softmax[0]) == pytest.approx(2 * np.log1p(np.exp(-1)), rel=1e-5)
    assert float(sigmoid[0]) == pytest.approx(2 * np.log1p(np.exp(-1)) + 2 * np.log(2), rel=1e-5)


def test_removed_patches_are_the_others():
    keep = jnp.array([[4, 0], [1, 2]])
    np.testing.assert_array_equal(mae.removed(keep, 5), [[1, 2, 3], [0, 3, 4]])
    np.testing.assert_array_equal(mae.is_visible(keep, 5), [[1, 0, 0, 0, 1], [0, 1, 1, 0, 0]])


def test_unpatchify_inverts_patchify():
    images = np.random.default_rng(0).random((2, 12, 8, 3), np.float32)
    np.testing.assert_array_equal(mae.unpatchify(patchify(images, 4), (3, 2)), images)


def test_mae_term_looks_at_its_positions_and_rows():
    patches = jnp.arange(2 * 4 * 3.0).reshape(2, 4, 3)
    positions = jnp.array([[1, 3], [0, 2]])
    predictions = jnp.take_along_axis(patches, positions[..., None], axis=1) + jnp.array(
        [[[1.0], [2.0]], [[3.0], [4.0]]]
    )
    arguments = {"predictions": predictions, "patches": patches, "positions": positions}
    term = mae.term(**arguments, normalize=False)
    np.testing.assert_allclose(term, (1 + 4 + 9 + 16, 4))
    term = mae.term(**arguments, normalize=False, row_weights=jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(term, (9 + 16, 2))


def test_weights_that_are_zero_are_off():
    specs = {"a": 1, "b": 0.0, "c": {"value": 0.5}, "d": {"value": 0}}
    assert weights.active(specs) == {"a": 1.0, "c": 0.5}


def test_ramps_are_linear_between_their_ends():
    ramp = weights.weight("a", {"from": 1.0, "to": 0.0, "start": 10, "end": 20})
    got = [float(ramp(jnp.asarray(step))) for step in (0, 10, 15, 20, 99)]
    np.testing.assert_allclose(got, [1, 1, 0.5, 0, 0])
    assert set(weights.active({"a": {"from": 0, "to": 1, "start": 0, "end": 5}})) == {"a"}


@pytest.mark.parametrize(
    "spec",
    [-1, "much", None, True, float("nan"), {"from": 0}, {"value": "x"},
     {"from": 0, "to": 1, "start": 5, "end": 5}],
)  # fmt: skip
def test_other_weights_are_refused(spec):
    with pytest.raises(UserError, match="weight of mim"):
        weights.weight("mim", spec)
