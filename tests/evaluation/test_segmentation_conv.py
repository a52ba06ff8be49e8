"""The convolutional head on frozen tokens: what it adds, what it ignores, and that it repeats."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import segmentation as seg
from rsvl_jax.evaluation import segmentation_conv as conv
from rsvl_jax.evaluation import segmentation_training as training
from rsvl_jax.parallel.mesh import make_mesh

SMALL = conv.ConvTraining(width=16, stages=1, steps=60, batch=8, learning_rate=0.01)
ONE = make_mesh(devices=jax.devices()[:1])


def neighbours(count, seed=0):
    """Tokens of signs, and masks of two classes: the sign of the token to the left."""
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1.0, 1.0], (count, 6, 6))
    classes = (np.roll(signs, 1, axis=2) > 0).astype(np.uint8)
    masks = np.kron(classes, np.ones((1, 4, 4), np.uint8))
    masks[:, :, :4] = 255  # there is nothing to the left
    tokens = np.stack([signs, rng.normal(size=signs.shape)], axis=-1)
    return tokens.reshape(count, 36, 2).astype(np.float32), masks


def miou(found, masks):
    return seg.mean_iou(seg.confusion(found, masks, 2).sum(axis=0))


def test_it_sees_the_tokens_around_which_a_linear_head_does_not():
    (train, truth), (test, wanted) = neighbours(48), neighbours(16, seed=1)
    linear = seg.fit_head(train, truth, 2, seed=0)
    head = conv.fit_head(train, truth, 2, seed=0, mesh=ONE, how=SMALL)
    by_linear = miou(seg.predict(linear, test, (24, 24)), wanted)
    by_conv = miou(conv.predict(head, test, (24, 24), ONE), wanted)
    assert by_linear < 0.5 < 0.8 < by_conv
    assert head.losses[-10:].mean() < 0.5 * head.losses[:3].mean()


def test_the_same_seed_gives_the_same_head_on_any_mesh():
    tokens, masks = neighbours(12)
    how = conv.ConvTraining(width=8, stages=1, steps=3, batch=6)  # 6 rows on 8 devices
    heads = [
        conv.fit_head(tokens, masks, 2, seed=seed, mesh=mesh, how=how)
        for seed, mesh in ((0, ONE), (0, ONE), (1, ONE), (0, make_mesh()))
    ]
    leaves = [np.concatenate([x.ravel() for x in jax.tree.leaves(h.params)]) for h in heads]
    np.testing.assert_array_equal(leaves[0], leaves[1])
    assert np.abs(leaves[0] - leaves[2]).max() > 0.1
    np.testing.assert_allclose(leaves[0], leaves[3], atol=2e-4)
    one, eight = (conv.predict(heads[0], tokens, (24, 24), mesh) for mesh in (ONE, make_mesh()))
    np.testing.assert_array_equal(one, eight)


def test_pixels_without_a_label_give_no_gradient():
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(2, 3, 4, 5)), jnp.float32)
    masks = rng.integers(0, 5, (2, 3, 4)).astype(np.uint8)
    masks[0, :, 1] = 255
    value, gradient = jax.value_and_grad(training.pixel_loss)(logits, jnp.asarray(masks))
    known = masks != 255
    plain = optax.softmax_cross_entropy_with_integer_labels(logits[known], masks[known])
    assert float(value) == pytest.approx(float(plain.mean()), rel=1e-6)
    assert not np.asarray(gradient)[~known].any() and np.asarray(gradient)[known].all()
    nothing = training.pixel_loss(logits, jnp.full_like(masks, 255))
    assert float(nothing) == 0


def test_rates_rise_and_fall():
    rate = training.rates("poly", 2.0, warmup=4, steps=8)
    np.testing.assert_allclose([rate(n) for n in range(9)], [0, 0.5, 1, 1.5, 2, 1.5, 1, 0.5, 0])
    rate = training.rates("cosine", 2.0, warmup=0, steps=8)
    np.testing.assert_allclose([rate(n) for n in (0, 4, 8)], [2, 1, 0], atol=1e-6)
    with pytest.raises(UserError, match="schedule 'step': use cosine or poly"):
        training.rates("step", 1.0, warmup=0, steps=1)
    with pytest.raises(UserError, match="warm-up of 8 steps does not fit into 8 steps"):
        training.rates("poly", 1.0, warmup=8, steps=8)


def test_decay_leaves_vectors_alone():
    params = {
        "conv": {"kernel": jnp.ones((1, 1, 2, 2)), "bias": jnp.ones(2)},
        "stack": {"layers": {"kernel": jnp.ones((3, 2, 2)), "scale": jnp.ones((3, 2))}},
        "positions": jnp.ones((4, 2)),
    }
    transform = training.adamw(lambda _: 0.5, weight_decay=0.1)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = transform.update(zeros, transform.init(params), params)
    assert float(updates["conv"]["kernel"].min()) == pytest.approx(-0.05)
    assert float(updates["stack"]["layers"]["kernel"].min()) == pytest.approx(-0.05)
    for still in (updates["conv"]["bias"], updates["stack"]["layers"]["scale"]):
        assert not still.any()
    assert not updates["positions"].any()


def test_bad_settings_and_masks_are_errors():
    tokens, masks = neighbours(2)
    for wrong, what in (({"stages": 0}, "stages=0"), ({"learning_rate": -1.0}, "learning_rate=-1")):
        with pytest.raises(UserError, match=what):
            conv.ConvTraining(**wrong)
    with pytest.raises(UserError, match="no labelled pixel"):
        conv.fit_head(tokens, np.full_like(masks, 255), 2, seed=0, mesh=ONE, how=SMALL)
    with pytest.raises(UserError, match="mask holds class 1: classes are 0..0"):
        conv.fit_head(tokens, masks, 1, seed=0, mesh=ONE, how=SMALL)
    tokens[0, 0] = np.nan
    with pytest.raises(UserError, match="loss of segmentation is nan at step"):
        conv.fit_head(tokens, masks, 2, seed=0, mesh=ONE, how=SMALL)
