"""Pairs that are not there, spread over eight devices: as if the batch were without them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_spread import BIAS, SCALE, compiled, pairs, placed, spread

from rsvl_jax.losses import contrastive, relation
from rsvl_jax.losses.distributed import DENSE

SPREADS = {"gather": ("gather", "8"), "ring": ("ring", "2x2x2", ("replica", "fsdp"))}


def term(kind, by=DENSE):
    def loss(varied, ids, weights, present):
        a, b, scale, bias = varied
        extra = {"logit_bias": bias} if kind == "sigmoid" else {}
        return getattr(contrastive, kind)(
            a=a,
            b=b,
            logit_scale=scale,
            positives=None if ids is None else relation.same_id(ids),
            row_weights=weights,
            present=present,
            spread=by,
            **extra,
        )

    return compiled(loss)


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("name", SPREADS)
@pytest.mark.parametrize("kind", ["info_nce", "sigmoid"])
def test_as_if_they_were_left_out(kind, name, repeated):
    a, b, ids, _, weights = pairs()
    present = np.arange(len(a)) % 3 != 1
    ids[1], ids[4] = ids[0], ids[3]  # of the same words, and not there
    ids = ids if repeated else None
    few = [None if x is None else x[present] for x in (ids, weights)]
    (total, count), wanted = term(kind)((a[present], b[present], SCALE, BIAS), *few, None)
    a[~present], b[~present] = 50.0, -70.0
    by = spread(*SPREADS[name])
    a, b, *rows = placed((a, b, ids, weights, present), by)
    run = term(kind, by)
    found, grads = jax.device_get(run((a, b, jnp.float32(SCALE), jnp.float32(BIAS)), *rows))
    np.testing.assert_allclose(found, (total, count), rtol=1e-5)
    for grad, want in zip(grads[:2], wanted[:2], strict=True):
        np.testing.assert_allclose(grad[present], want, rtol=1e-3, atol=2e-5)
        assert not np.any(grad[~present])
    np.testing.assert_allclose(grads[2:], wanted[2:], rtol=1e-4, atol=1e-5)
