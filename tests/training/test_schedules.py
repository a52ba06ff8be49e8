import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from rsvl_jax.errors import UserError
from rsvl_jax.training.schedules import Lengths, learning_rate, resolve_length

LENGTHS = Lengths(batch_size=100, dataset_size=1050, total_steps=200)


@pytest.mark.parametrize(
    ("key", "value", "steps"),
    [
        ("warmup_steps", 7, 7),
        ("warmup_epochs", 2, 21),
        ("warmup_examples", 1_000, 10),
        ("warmup_percent", 2.5, 5),
        ("warmup_steps", 0, 0),
    ],
)
def test_units(key, value, steps):
    assert resolve_length({key: value}, "warmup", LENGTHS) == steps


def test_length_of_the_run_has_no_prefix():
    lengths = Lengths(batch_size=100, dataset_size=1050)
    assert resolve_length({"epochs": 2, "nonfinite": "stop"}, "", lengths) == 21
    with pytest.raises(UserError, match="percent has nothing"):
        resolve_length({"percent": 10}, "", lengths)


def test_none_counts_as_not_given():
    section = ConfigDict({"every_steps": None, "every_epochs": 1})
    assert resolve_length(section, "every", LENGTHS) == 10
    assert resolve_length({"every_steps": None}, "every", LENGTHS, default=3) == 3


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, "exactly one of warmup_steps"),
        ({"warmup_steps": 1, "warmup_percent": 2}, "warmup_steps=1, warmup_percent=2"),
        ({"warmup_steps": -1}, "warmup_steps=-1"),
        ({"warmup_steps": "ten"}, "warmup_steps='ten'"),
        ({"warmup_steps": float("nan")}, "warmup_steps=nan"),
    ],
)
def test_bad_lengths_are_quoted(section, message):
    with pytest.raises(UserError, match=message):
        resolve_length(section, "warmup", LENGTHS)


def test_cosine_equals_optax_after_the_warm_up():
    rate = learning_rate("cosine", 0.3, 10, 110)
    expected = optax.cosine_decay_schedule(0.3, 100)
    for step in (10, 11, 50, 109, 110, 200):
        np.testing.assert_allclose(rate(jnp.int32(step)), expected(step - 10), atol=1e-7)


def test_warm_up_is_linear_and_starts_above_zero():
    for kind in ("cosine", "constant"):
        rate = learning_rate(kind, 0.5, 10, 100)
        values = [float(rate(jnp.int32(step))) for step in range(10)]
        np.testing.assert_allclose(values, 0.05 * np.arange(1, 11), rtol=1e-6)
    assert float(rate(jnp.int32(99))) == 0.5


def test_bad_schedules():
    with pytest.raises(UserError, match="'linear'"):
        learning_rate("linear", 0.1, 0, 10)
    with pytest.raises(UserError, match="warm-up of 20 steps is longer than the run of 10"):
        learning_rate("cosine", 0.1, 20, 10)
