import re

import agreement
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import stored

from rsvl_jax.errors import UserError
from rsvl_jax.models.positions import sincos_2d
from rsvl_jax.weights.families import dino, mae, timm_vit, vit_huggingface

HF = vit_huggingface.FAMILY
# transformers' names -> timm's, of the tower and of MAE's decoder.
TIMM = (
    (r"^(vit\.)?embeddings\.position_embeddings$", "pos_embed"),
    (r"^(vit\.)?embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
    (r"^(vit\.)?embeddings\.register_tokens$", "register_tokens"),
    (r"^(vit\.)?embeddings\.", ""),
    (r"^(vit\.)?(encoder\.layer|layers)\.", "blocks."),
    (r"^decoder\.decoder_layers\.", "decoder_blocks."),
    (r"^decoder\.", ""),
    (r"^(vit\.)?layernorm\.", "norm."),
    (r"layernorm_before", "norm1"),
    (r"layernorm_after", "norm2"),
    (r"attention\.o_proj", "attn.proj"),
    (r"layer_scale(\d)\.lambda1", r"ls\1.gamma"),
)


def as_timm(weights):
    """The same arrays by timm's names, queries, keys and values joined."""
    found = {}
    for name, value in weights.items():
        for pattern, new in TIMM:
            name = re.sub(pattern, new, name)
        found[name] = value
    for name in [n for n in found if ".attention.q_proj." in n]:
        parts = [found.pop(name.replace("q_proj", f"{p}_proj")) for p in "qkv"]
        found[name.replace("attention.q_proj", "attn.qkv")] = np.concatenate(parts)
    return found


def as_published(weights):
    """By the names of checkpoints, which are longer than those in memory."""
    pairs = [
        (r"^(vit\.)?layers\.", r"\1encoder.layer."),
        (r"attention\.q_proj", "attention.attention.query"),
        (r"attention\.k_proj", "attention.attention.key"),
        (r"attention\.v_proj", "attention.attention.value"),
        (r"attention\.o_proj", "attention.output.dense"),
    ]
    if not any("layer_scale" in name for name in weights):
        pairs += [(r"mlp\.fc1", "intermediate.dense"), (r"mlp\.fc2", "output.dense")]
    found = {}
    for name, value in weights.items():
        for pattern, new in pairs:
            name = re.sub(pattern, new, name)
        found[name] = value
    return found


def tower(model, case, arrays):
    tokens = model.module("image", arrays)(case.inputs["images"]).tokens
    return (tokens * case.inputs["direction"]).sum() / 10, {"tokens": tokens}


def autoencoder(model, case, arrays):
    """MAE's loss: the mean square over the pixels of hidden patches."""
    images, noise = case.inputs["images"], case.inputs["noise"]
    keep = np.argsort(noise, axis=1)[:, : int(noise.shape[1] * (1 - 0.5))]
    tokens = model.module("image", arrays)(images, keep=keep).tokens
    pixels = model.module("decoder", arrays)(tokens, keep)
    side, patch = images.shape[1], round((pixels.shape[-1] / 3) ** 0.5)
    grid = side // patch
    target = images.reshape(-1, grid, patch, grid, patch, 3).swapaxes(2, 3).reshape(pixels.shape)
    hidden = np.ones(noise.shape)
    np.put_along_axis(hidden, keep, 0, axis=1)
    loss = (((pixels - target) ** 2).mean(-1) * hidden).sum() / hidden.sum()
    return loss, {"tokens": tokens, "pixels": pixels}


def check(case, family, run, tolerance, config=None):
    model = agreement.imported(family, case.weights, case.config if config is None else config)
    fixed = {path: jnp.asarray(model.arrays[path]) for path in model.frozen}

    def both(trained):
        return run(model, case, trained | fixed)

    step = jax.jit(jax.value_and_grad(both, has_aux=True))
    (loss, outputs), gradients = step(agreement.trained(model))
    agreement.check_close({**outputs, "loss": loss}, {**case.outputs, **case.losses}, tolerance)
    zeros = {path: np.zeros_like(model.arrays[path]) for path in model.frozen}
    if model.model.settings["names"].get("timm", {}).get("no_class_position"):
        # Ours has a place for the class token's, where theirs has none.
        gradients["image/positions"] = gradients["image/positions"].at[0].set(0)
    theirs = agreement.exported(model, gradients | zeros)
    expected = {k: g for k, g in case.gradients.items() if k in theirs}
    assert set(case.gradients) - set(theirs) <= {"decoder.decoder_pos_embed"}
    agreement.check_gradients({k: theirs[k] for k in expected}, expected, tolerance)
    return model


@pytest.mark.parametrize("name", ["vit", "dinov2"])
def test_tokens_and_gradients_are_the_originals(name):
    model = check(stored.read(name), HF, tower, 1e-5)
    assert set(model.model.parts) == {"image"}


def test_autoencoder_is_the_original():
    case = stored.read("mae")
    model = check(case, HF, autoencoder, 1e-5)
    assert set(model.model.parts) == {"image", "decoder"}
    assert model.frozen == {"image/positions"}
    np.testing.assert_allclose(model.arrays["image/positions"][1:], sincos_2d((3, 3), 16))
    # The decoder computes its own.
    theirs = case.weights["decoder.decoder_pos_embed"][0, 1:]
    np.testing.assert_allclose(theirs, sincos_2d((3, 3), 8), atol=1e-7)


@pytest.mark.parametrize("name", ["vit", "dinov2", "mae"])
def test_round_trip_by_the_names_of_checkpoints(name):
    case = stored.read(name)
    weights = as_published(case.weights)
    model = agreement.imported(HF, weights, case.config)
    short = agreement.imported(HF, case.weights, case.config)
    for path, value in short.arrays.items():
        np.testing.assert_array_equal(model.arrays[path], value)
    agreement.check_round_trip(model, weights)


@pytest.mark.parametrize(
    ("name", "family"),
    [("vit", timm_vit.FAMILY), ("dinov2", dino.DINO_V2), ("mae", mae.MAE), ("mae", mae.SATMAE)],
)
def test_timms_names_hold_the_same(name, family):
    case = stored.read(name)
    weights = as_timm(case.weights)
    model = agreement.imported(family, weights, {"num_heads": 2, "decoder_num_heads": 2})
    other = agreement.imported(HF, case.weights, case.config)
    assert set(model.arrays) == set(other.arrays)
    for path, value in other.arrays.items():
        np.testing.assert_array_equal(model.arrays[path], value)
    back = agreement.exported(model)
    assert set(weights) - set(back) <= {"decoder_pos_embed"}
    for key, value in back.items():
        np.testing.assert_array_equal(value, weights[key], err_msg=key)


def test_positions_without_the_class_tokens():
    weights = as_timm(stored.read("vit").weights)
    table = weights["pos_embed"]
    bare = {**weights, "pos_embed": table[:, 1:]}
    model = agreement.imported(timm_vit.FAMILY, bare, {"num_heads": 2})
    np.testing.assert_array_equal(model.arrays["image/positions"][0], 0)
    np.testing.assert_array_equal(agreement.exported(model)["pos_embed"], table[:, 1:])
    moved = {**model.arrays, "image/positions": model.arrays["image/positions"] + 1}
    with pytest.raises(UserError, match="'pos_embed' has no place for the position of the class"):
        agreement.exported(model, moved)


def test_scale_mae_computes_its_positions():
    weights = as_timm(stored.read("vit").weights)
    weights |= {
        "mask_token_decoder": np.zeros((1, 1, 8), np.float32),
        "fcn_high.pred.0.weight": np.zeros((4, 8, 1, 1), np.float32),
    }
    model = agreement.imported(mae.SCALEMAE, weights, {"num_heads": 2, "gsd": 2.0})
    assert "image/positions" not in model.arrays
    assert not mae.SCALEMAE.recognises({k: v.shape for k, v in stored.read("vit").weights.items()})
    plain = agreement.imported(mae.SCALEMAE, weights, {"num_heads": 2})
    images = stored.read("vit").inputs["images"]
    one, two = (jax.jit(m.module("image"))(images).tokens for m in (plain, model))
    assert np.abs(one - two).max() > 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks.0.mlp.w12.weight": (48, 16)}, "SwiGLU"),
        ({"blocks.0.attn.q_norm.weight": (8,)}, "norm of queries and keys"),
        ({"channel_embed": (1, 3, 8)}, "spectral bands"),
        ({"patch_embed.proj.weight": (16, 9, 4, 4)}, "patches of 9 channels"),
        ({"pos_embed": (1, 10, 8)}, "positions are 8 wide, the tower 16"),
        ({"pos_embed": (1, 11, 16)}, "10 positions of patches are no square"),
        ({"pos_embed": None}, "no 'pos_embed'"),
        ({"norm.weight": None, "fc_norm.weight": (16,)}, "fine-tuned by MAE"),
        ({"blocks.0.attn.qkv.bias": None}, "no 'blocks.0.attn.qkv.bias'"),
    ],
)
def test_towers_that_cannot_be_held_are_refused(change, message):
    shapes = {name: value.shape for name, value in as_timm(stored.read("vit").weights).items()}
    shapes = {name: shape for name, shape in {**shapes, **change}.items() if shape is not None}
    with pytest.raises(UserError, match=message):
        timm_vit.FAMILY.model(shapes, {})


def test_dino_v3_is_refused():
    ours = {"cls_token": (1, 1, 16), "storage_tokens": (1, 4, 16), "rope_embed.periods": (4,)}
    assert dino.DINO_V3.recognises(ours)
    with pytest.raises(UserError, match="RoPE"):
        dino.DINO_V3.model(ours, {})
    known = {name: v.shape for name, v in as_timm(stored.read("dinov2").weights).items()}
    assert not dino.DINO_V3.recognises(known)


def test_vit_model_cannot_hold_computed_positions():
    model = agreement.imported(HF, stored.read("vit").weights, stored.read("vit").config)
    settings = {"image": {**model.model.settings["image"], "positions": "sincos"}}
    with pytest.raises(UserError, match="no place in a ViTModel"):
        HF.config(settings)
