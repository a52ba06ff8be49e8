"""Analytic FLOPs against the matrix products that the traced forward pass really has."""

import math

import jax
import pytest
import tiny
from jax.extend import core

MAE = {
    "objective__mim_design": "mae",
    "objective__image_mask_ratio": 1 - tiny.KEEP / tiny.N,
    "model__image__positions": "sincos",
}
CASES = {
    **{preset: (preset, {}) for preset in tiny.PRESETS},
    "mae with everything": ("flavars", MAE),
    "hard negatives": ("flavars", {"objective__itm_negatives": "hard"}),
    "phrases and regions": ("clip", {"objective__weights__phrase_region": 1.0}),
    "fourier": ("satclip", {"model__location__kind": "fourier"}),
}


def products(jaxpr):
    """FLOPs of the dot_generals of a jaxpr, a loop's body as often as it runs."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            contracted = equation.params["dimension_numbers"][0][0]
            shape = equation.invars[0].aval.shape
            depth = math.prod(shape[axis] for axis in contracted)
            total += 2 * depth * math.prod(equation.outvars[0].aval.shape)
        times = equation.params.get("length", 1)
        total += times * sum(products(inner) for inner in core.jaxprs_in_params(equation.params))
    return total


def traced(model, batch):
    variables = jax.eval_shape(model.init, jax.random.key(0))
    jaxpr = jax.make_jaxpr(model.terms)(*variables.values(), batch, jax.random.key(0))
    return products(jaxpr.jaxpr)


@pytest.mark.parametrize("case", CASES)
def test_analytic_flops_are_those_of_the_program(case):
    preset, changes = CASES[case]
    model = tiny.objective(preset, **changes)
    forward = traced(model, {"paired": tiny.sample()}) / 16
    # Left out of the count: what is frozen, and the contrasts' logits.
    codes = 2 * tiny.N * 48 * tiny.CODES if model.settings.predicts_codes else 0
    logits = 2 * 16 * sum({"image_text": 8}.get(name, 12) for name in model.contrasts)
    logits += 2 * 16 * 8 * model.settings.hard_itm
    regions = model.settings.regions * ("phrase_region" in model.settings.on)
    logits += 2 * 16 * regions * regions * 8
    assert model.flops_per_sample() == pytest.approx(3 * (forward - codes - logits), rel=1e-3)


def test_streams_share_the_cost():
    changes = {
        "data__streams__paired": 1.0,
        "data__streams__image": 2.0,
        "data__streams__text": 1.0,
    }
    model = tiny.objective("flavars", **changes)
    s = {key: value[:8] for key, value in tiny.sample().items()}
    streams = {
        "paired": {k: v[:4] for k, v in s.items()},
        "image": s,
        "text": {k: v[:4] for k, v in s.items() if k.startswith(("text", "mlm"))},
    }
    forward = traced(model, streams) / 16
    codes = 2 * tiny.N * 48 * tiny.CODES * (4 + 8) / 16
    logits = 2 * 4 * (8 + 12) * 4 / 16
    assert model.flops_per_sample() == pytest.approx(3 * (forward - codes - logits), rel=1e-3)
