import jax.numpy as jnp
import numpy as np
import pytest
from training.toy import config

from rsvl_jax.errors import UserError
from rsvl_jax.training.optimizer import decay_mask, make_optimizer
from rsvl_jax.training.schedules import Lengths

LENGTHS = Lengths(batch_size=16, dataset_size=320, total_steps=100)


def test_decay_mask_goes_by_rank_and_name():
    axes = {
        "kernel": ("embed", "mlp"),
        "stack": {
            "qkv": ("layers", "embed", None, "heads", "head_dim"),
            "qkv_bias": ("layers", None, "heads", "head_dim"),
            "norm": {"scale": ("layers", None)},
        },
        "logit_scale": (),
        "class_token": (None, None, "embed"),
        "mask_token": (None, "embed"),
        "positions": ("positions", "embed"),
        "position_embed": ("positions", "embed"),
        "pos_embedding": ("positions", "embed"),
        "token_embed": ("vocab", "embed"),
        "composition": ("embed", "mlp"),
    }
    assert decay_mask(axes) == {
        "kernel": True,
        "stack": {"qkv": True, "qkv_bias": False, "norm": {"scale": False}},
        "logit_scale": False,
        "class_token": False,
        "mask_token": False,
        "positions": False,
        "position_embed": False,
        "pos_embedding": False,
        "token_embed": True,
        "composition": True,
    }


def test_zero_gradient_moves_only_decayed_parameters():
    section = config().optimizer
    optimizer = make_optimizer(section, {"w": ("embed", "mlp"), "b": ("mlp",)}, LENGTHS)
    params = {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}
    zeros = {"w": jnp.zeros((2, 2)), "b": jnp.zeros(2)}
    updates, _ = optimizer.transform.update(zeros, optimizer.transform.init(params), params)
    np.testing.assert_allclose(updates["w"], section.weight_decay, rtol=1e-6)
    np.testing.assert_array_equal(updates["b"], 0)


def test_clipping_can_be_switched_off():
    params = {"w": jnp.ones((2, 2))}
    axes = {"w": ("embed", "mlp")}
    on, off = config().optimizer, config(optimizer__clip=0.0).optimizer
    states = [
        make_optimizer(section, axes, LENGTHS).transform.init(params) for section in (on, off)
    ]
    assert len(states[0]) == len(states[1]) + 1


@pytest.mark.parametrize(
    ("key", "value", "quoted"),
    [
        ("name", "sgd", "'sgd'"),
        ("b2", 1.0, "b2=1.0"),
        ("ema", -0.1, "ema=-0.1"),
        ("learning_rate", -1.0, "learning_rate=-1.0"),
        ("warmup_steps", 101, "101 steps is longer"),
        ("schedule", "steps", "'steps'"),
    ],
)
def test_bad_values_are_quoted(key, value, quoted):
    section = config().optimizer
    section[key] = value
    with pytest.raises(UserError, match=quoted):
        make_optimizer(section, {"w": ("embed", "mlp")}, LENGTHS)
