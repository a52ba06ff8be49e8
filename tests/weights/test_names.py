"""The map engine: each kind of entry, both ways, and what a map makes of a checkpoint."""

import numpy as np
import pytest

from rsvl_jax.errors import UserError
from rsvl_jax.weights import names

DRAW = np.random.default_rng(0)
D, HEADS, LAYERS = 8, 2, 3


def draw(*shape):
    return DRAW.normal(size=shape).astype(np.float32)


def loaded(entries, theirs, ours):
    found = names.load(entries, theirs, {path: value.shape for path, value in ours.items()})
    assert not found.missing and not found.mismatched and not found.unused
    assert found.arrays.keys() == ours.keys()
    for path, value in ours.items():
        assert np.array_equal(found.arrays[path], value)
    back = names.dump(entries, found.arrays)
    assert back.keys() == theirs.keys()
    for name, value in theirs.items():
        assert back[name].tobytes() == np.ascontiguousarray(value).tobytes()
        assert back[name].shape == value.shape and back[name].flags.c_contiguous


def test_a_linear_and_a_norm():
    theirs = {"fc.weight": draw(4, D), "fc.bias": draw(4), "ln.weight": draw(D), "ln.bias": draw(D)}
    ours = {
        "fc/kernel": theirs["fc.weight"].T,
        "fc/bias": theirs["fc.bias"],
        "norm/scale": theirs["ln.weight"],
        "norm/bias": theirs["ln.bias"],
    }
    loaded([*names.linear("fc", "fc"), *names.norm("norm", "ln")], theirs, ours)


def test_layers_are_stacked():
    theirs = {f"blocks.{i}.fc.weight": draw(4, D) for i in range(LAYERS)}
    ours = {"layers/fc/kernel": np.stack([w.T for w in theirs.values()])}
    loaded(names.linear("layers/fc", "blocks.{i}.fc", bias=False), theirs, ours)


@pytest.mark.parametrize("fused", [False, True])
def test_queries_keys_and_values_by_head(fused):
    weights, biases = [draw(D, D) for _ in range(3)], [draw(D) for _ in range(3)]
    x = draw(5, D)
    if fused:
        theirs = {"in.weight": np.concatenate(weights), "in.bias": np.concatenate(biases)}
        entries = names.fused_qkv("attention", "in.weight", "in.bias")
    else:
        theirs = dict(zip(("q.weight", "k.weight", "v.weight"), weights, strict=True))
        theirs |= dict(zip(("q.bias", "k.bias", "v.bias"), biases, strict=True))
        entries = names.qkv("attention", "q", "k", "v")
    shapes = {"attention/qkv": (D, HEADS, 3, D // HEADS), "attention/qkv_bias": (HEADS, 3, 4)}
    ours = names.load(entries, theirs, shapes).arrays
    for part, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        by_head = (x @ weight.T + bias).reshape(5, HEADS, -1)
        mine = np.einsum("nd,dhk->nhk", x, ours["attention/qkv"][:, :, part])
        np.testing.assert_allclose(mine + ours["attention/qkv_bias"][:, part], by_head, rtol=1e-5)
    loaded(entries, theirs, ours)


def test_patches_as_a_convolution_sees_them():
    theirs = {"conv.weight": draw(D, 3, 4, 4), "conv.bias": draw(D)}
    entries = names.patches("embed", "conv")
    ours = names.load(entries, theirs, {"embed/kernel": (48, D), "embed/bias": (D,)}).arrays
    patch = draw(4, 4, 3)  # rows, columns, channels
    convolved = np.einsum("hwc,dchw->d", patch, theirs["conv.weight"])
    np.testing.assert_allclose(patch.reshape(-1) @ ours["embed/kernel"], convolved, rtol=1e-5)
    loaded(entries, theirs, ours)


def test_an_array_of_more_dimensions_of_size_one():
    entries = names.with_shape(names.array("token", "cls"), lambda shape: (1, 1, *shape))
    value = draw(D)
    loaded(entries, {"cls": value.reshape(1, 1, D)}, {"token": value})


def test_what_is_missing_mismatched_and_unused():
    entries = names.moved(names.linear("fc", "fc"), ours="image", theirs="visual.")
    source = {"visual.fc.weight": draw(4, D), "other": draw(1)}
    shapes = {"image/fc/kernel": (D, 5), "image/fc/bias": (5,), "image/more": (2,)}
    found = names.load(entries, source, shapes)
    assert found.mismatched == [("image/fc/kernel", (D, 5), (D, 4))]
    assert found.missing == ["image/fc/bias", "image/more"]
    assert found.unused == ["other"] and not found.arrays


def test_a_layer_that_is_missing():
    source = {f"{i}.w": draw(2) for i in (0, 2)}
    found = names.load(names.array("w", "{i}.w"), source, {"w": (3, 2)})
    assert found.missing == ["w"] and not found.unused


def test_dumping_needs_all_that_is_not_optional():
    entries = [*names.array("a", "a"), *names.optional(names.array("b", "b"))]
    assert names.dump(entries, {"a": draw(2)}).keys() == {"a"}
    with pytest.raises(UserError, match="the model has no a, which this format needs"):
        names.dump(entries, {"b": draw(2)})


def test_types_are_kept():
    source = {"w": draw(2, 3).astype(np.float16)}
    found = names.load(names.transposed("w", "w"), source, {"w": (3, 2)})
    assert found.arrays["w"].dtype == np.float16


def test_counting_layers():
    found = ["blocks.0.w", "blocks.10.w", "blocks.x.w", "other.99.w", "blocks.11.w.more"]
    assert names.layers(found, "blocks.{i}.w") == 11
    assert names.layers([], "blocks.{i}.w") == 0
