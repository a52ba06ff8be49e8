"""The image-text objective: its term, its devices, its encoders, and what it refuses."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from rsvl_jax.errors import UserError
from rsvl_jax.objectives.image_text import ImageTextObjective
from rsvl_jax.training.objective import Objective, ReportsScalars, total

TOWER = {"width": 16, "depth": 2, "heads": 2, "mlp_dim": 32}
LENGTH = 7


def config(**changes):
    """Tiny sizes; changes by dotted key, dots written as `__`."""
    tiny = ConfigDict(
        {
            "model": {
                "image": {"size": 16, "patch": 4, **TOWER},
                "text": {"vocab_size": 30, "length": LENGTH, **TOWER},
                "embed_dim": 8,
                "activation": "quick_gelu",
                "scan": True,
                "remat": "none",
                "attention": "auto",
                "dtype": "float32",
            },
            "objective": {
                "contrast": "softmax",
                "identical_captions": True,
                "logit_scale_init": 2.6592,
                "logit_scale_max": 4.6052,
            },
            "data": {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)},
        }
    )
    for key, value in changes.items():
        *sections, leaf = key.split("__")
        section = functools.reduce(lambda node, name: node[name], sections, tiny)
        with section.ignore_type(), section.unlocked():
            section[leaf] = value
    return tiny


def pairs(rows=8, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, LENGTH + 1, rows)
    mask = np.arange(LENGTH) < lengths[:, None]
    text = np.where(mask, rng.integers(5, 30, mask.shape), 0).astype(np.int32)
    text_id = np.arange(rows, dtype=np.int32)
    text[1], mask[1], text_id[1] = text[0], mask[0], text_id[0]
    return {
        "image": rng.integers(0, 256, (rows, 16, 16, 3)).astype(np.uint8),
        "text": text,
        "text_mask": mask,
        "text_id": text_id,
    }


@functools.cache
def prepared(contrast="softmax"):
    model = ImageTextObjective(config(objective__contrast=contrast))
    return model, jax.device_get(jax.jit(model.init)(jax.random.key(0)))


def step(model):
    def loss(params, batch):
        terms = model.terms(params, {}, batch, jax.random.key(7))
        return total(terms, model.weights, jnp.zeros((), jnp.int32))[0]

    return jax.jit(jax.value_and_grad(loss))


def loops(model, params, samples, contrast):
    """The loss from the encoders' own vectors, in float64, with identical captions as matches."""
    a = np.asarray(model.embed_images(params, {}, samples["image"])["image"], np.float64)
    b = np.asarray(model.embed_texts(params, {}, samples["text"], samples["text_mask"]), np.float64)
    logits = math.exp(params["scale"]["value"]) * a @ b.T
    same = samples["text_id"][:, None] == samples["text_id"]
    if contrast == "sigmoid":
        logits = logits + params["bias"]["value"]
        return np.log1p(np.exp(np.where(same, -logits, logits))).sum() / len(a)
    costs = []
    for i in range(len(a)):
        for row in (logits[i], logits[:, i]):
            costs.append(np.log(np.exp(row).sum()) - row[same[i]].mean())
    return np.mean(costs)


@pytest.mark.parametrize("contrast", ["softmax", "sigmoid"])
def test_the_term_is_the_contrast_of_the_encoders(contrast):
    model, variables = prepared(contrast)
    assert isinstance(model, ReportsScalars)
    samples = pairs()
    loss, grads = step(model)(variables["params"], {"paired": samples})
    assert float(loss) == pytest.approx(
        loops(model, variables["params"], samples, contrast), rel=1e-4
    )
    assert all(np.any(np.asarray(grad) != 0) for grad in jax.tree.leaves(grads))


def test_identical_captions_are_negatives_only_on_request():
    """By the sigmoid: softmax cannot tell, as equal texts have equal logits."""
    _, variables = prepared("sigmoid")
    apart = {"objective__contrast": "sigmoid", "objective__identical_captions": False}
    model, samples = ImageTextObjective(config(**apart)), pairs()
    loss, _ = step(model)(variables["params"], {"paired": samples})
    distinct = samples | {"text_id": np.arange(8)}
    wanted = loops(model, variables["params"], distinct, "sigmoid")
    assert float(loss) == pytest.approx(wanted, rel=1e-4)
    assert abs(wanted - loops(model, variables["params"], samples, "sigmoid")) > 1e-3


def test_a_few_updates_learn_the_pairs():
    model, variables = prepared()
    params, samples, update = variables["params"], {"paired": pairs()}, step(model)
    first = update(params, samples)[0]
    for _ in range(30):
        loss, grads = update(params, samples)
        params = model.project(jax.tree.map(lambda p, g: p - 0.05 * g, params, grads))
    assert float(loss) < 0.7 * float(first)


def test_eight_devices_give_the_loss_and_gradients_of_one():
    model, variables = prepared()
    results = []
    for devices in (1, 8):
        mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
        rows, whole = (
            NamedSharding(mesh, spec) for spec in (PartitionSpec("data"), PartitionSpec())
        )
        arguments = jax.device_put(variables["params"], whole), jax.device_put(pairs(), rows)
        results.append(jax.device_get(step(model)(arguments[0], {"paired": arguments[1]})))
    (one, one_grads), (eight, eight_grads) = results
    assert float(eight) == pytest.approx(float(one), rel=1e-5)
    for a, b in zip(*map(jax.tree.leaves, (one_grads, eight_grads)), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-5)


def test_the_scale_stays_between_one_and_a_hundred():
    model, variables = prepared()
    for value, wanted in ((-1.0, 1.0), (9.0, 100.0), (3.0, math.exp(3))):
        params = variables["params"] | {"scale": {"value": jnp.float32(value)}}
        params = model.project(params)
        assert float(model.scalars(params)["logit_scale/image_text"]) == pytest.approx(wanted, 1e-3)
    free = ImageTextObjective(config(objective__logit_scale_max=None))
    assert free.project({"scale": {"value": 9.0}}) == {"scale": {"value": 9.0}}


def test_encoders_give_unit_vectors_in_one_space():
    model, variables = prepared()
    out = model.embed_images(**variables, images=pairs()["image"])
    assert out["image"].shape == (8, 8) and out["pixels"].shape == (8, 16, 8)
    for vectors in out.values():
        np.testing.assert_allclose(jnp.linalg.norm(vectors, axis=-1), 1, rtol=1e-5)


def test_logical_axes_have_the_structure_of_the_parameters():
    model: Objective = prepared()[0]
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    axes = model.logical_axes()
    jax.tree.map(
        lambda leaf, names: None if len(names) == len(leaf.shape) else pytest.fail(str(names)),
        shapes,
        axes,
    )


def test_flops_count_both_towers_three_times():
    model, _ = prepared()
    tower = 2 * (4 * 16**2 + 2 * 16 * 32)
    image = 2 * 16 * 48 * 16 + 2 * (17 * tower + 4 * 17**2 * 16) + 2 * 16 * 8
    text = 2 * (7 * tower + 4 * 7**2 * 16) + 2 * 16 * 8
    assert model.flops_per_sample() == 3 * (image + text)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model__image__size": 18}, "18 is not divisible by patch size 4"),
        ({"model__text__heads": 0}, "model.text.heads=0"),
        ({"model__embed_dim": "wide"}, "model.embed_dim='wide'"),
        ({"model__text__pool": "mean"}, "'mean'"),
        ({"objective__contrast": "triplet"}, "objective.contrast='triplet'"),
        ({"data__std": (0.2, 0.0, 0.2)}, "data.std"),
        ({"data__mean": (0.2, 0.2)}, "data.mean"),
    ],
)
def test_impossible_configs_are_refused(changes, words):
    with pytest.raises(UserError) as error:
        ImageTextObjective(config(**changes))
    assert words in str(error.value) and "\n" not in str(error.value)
