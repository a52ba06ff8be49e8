"""GRAFT's tower beside CLIP's of `transformers` with a projector, as its users build it."""

import pytest
import run_graft

pytest.importorskip("torch")
pytest.importorskip("transformers")

from originals import graft  # noqa: E402

from rsvl_jax.weights.families import graft as family  # noqa: E402

pytestmark = pytest.mark.parity


def test_tiny_models_agree():
    made = graft.model(graft.VISION, seed=1)
    run_graft.check(family.FAMILY, graft.case(made, seed=1), 1e-5)


def test_the_released_size_agrees():
    made = graft.model(graft.BASE, std=0.03)
    run_graft.check(family.FAMILY, graft.case(made, batch=2), 1e-4)
