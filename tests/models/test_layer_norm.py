"""Layer norm and its hand-written gradient against finite differences in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from rsvl_jax.models.layers import layer_norm

RNG = np.random.default_rng(0)
X, DY = RNG.standard_normal((2, 3, 5, 8))
SCALE, BIAS = RNG.standard_normal((2, 8))
EPS = 1e-6


def loss(x, scale, bias):
    return float(np.sum(reference.layer_norm(x, scale, bias, EPS) * DY))


def slope(argument, step=1e-5):
    """Central differences of `loss` in one of its arguments."""
    values = [X, SCALE, BIAS]
    found = np.zeros_like(values[argument])
    for index in np.ndindex(found.shape):
        sides = []
        for sign in (1, -1):
            moved = [value.copy() for value in values]
            moved[argument][index] += sign * step
            sides.append(loss(*moved))
        found[index] = (sides[0] - sides[1]) / (2 * step)
    return found


def test_gradient_is_that_of_the_formula():
    def total(x, scale, bias):
        return jnp.sum(layer_norm(x, scale, bias, EPS) * DY)

    arrays = [np.asarray(a, np.float32) for a in (X, SCALE, BIAS)]
    gradients = jax.jit(jax.grad(total, argnums=(0, 1, 2)))(*arrays)
    for argument, gradient in enumerate(gradients):
        np.testing.assert_allclose(gradient, slope(argument), atol=2e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_output_and_gradient_keep_the_dtype_of_the_input(dtype):
    x = jnp.asarray(X, dtype)
    y, back = jax.vjp(
        lambda x, s, b: layer_norm(x, s, b, EPS), x, jnp.asarray(SCALE), jnp.asarray(BIAS)
    )
    dx, dscale, dbias = back(jnp.ones_like(y))
    assert (y.dtype, dx.dtype) == (dtype, dtype)
    assert (dscale.dtype, dbias.dtype) == (jnp.float32, jnp.float32)
