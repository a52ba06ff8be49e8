"""Class vectors against a computation by hand."""

import numpy as np
import pytest

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import zeroshot

TABLE = {
    "a photo of sea": [2.0, 0.0],
    "sea from above": [0.0, 8.0],
    "a photo of woods": [0.0, -3.0],
    "woods from above": [0.0, -1.0],
    "a photo of forest": [-5.0, 0.0],
    "forest from above": [-1.0, 0.0],
}
TEMPLATES = ["a photo of {c}", "{c} from above"]
CLASSES = ["sea", ["woods", "forest"]]


def encode(texts):
    return np.array([TABLE[text] for text in texts])


def test_prompts_are_normalised_then_averaged_over_templates_and_synonyms():
    vectors = zeroshot.class_vectors(encode, CLASSES, TEMPLATES)
    half = np.sqrt(0.5)
    np.testing.assert_allclose(vectors, [[half, half], [-half, -half]], atol=1e-6)


def test_averaging_raw_prompts_is_another_protocol():
    vectors = zeroshot.class_vectors(encode, CLASSES, TEMPLATES, normalize_before_mean=False)
    expected = np.array([[2.0, 8.0], [-6.0, -4.0]])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_prediction_is_by_cosine_and_ties_take_the_lowest_class():
    vectors = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    images = np.array([[10.0, 1.0], [0.1, 0.2], [3.0, 3.0]])
    assert zeroshot.predict(images, vectors).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("classes", "templates", "message"),
    [
        (["sea"], [], "no prompt templates"),
        (["sea"], ["a photo"], r"'a photo' has no \{c\}"),
        (["sea", []], ["{c}"], r"class \[\] has no name"),
    ],
)
def test_bad_prompts_are_errors(classes, templates, message):
    with pytest.raises(UserError, match=message):
        zeroshot.prompts(classes, templates)
