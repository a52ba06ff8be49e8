"""CLIP's towers: sizes of the published models, float64 formulas, and Hugging Face's own."""

import dataclasses
import math

import build
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from jax.extend import core

from rsvl_jax.errors import UserError
from rsvl_jax.models import clip, functional
from rsvl_jax.models.clip import Clip, ClipConfig, ClipText, ClipTextConfig, ClipVision
from rsvl_jax.models.text import TextConfig
from rsvl_jax.models.transformer import TransformerConfig
from rsvl_jax.models.vit import patchify

STACK = TransformerConfig(width=16, depth=1, heads=2, mlp_dim=24, ln_eps=1e-5)
VISION = clip.vision_config(image_size=12, patch_size=4, embed_dim=6, transformer=STACK)
TEXT = ClipTextConfig(TextConfig(20, 9, STACK), 6)
IMAGES = np.random.default_rng(0).standard_normal((3, 12, 12, 3)).astype(np.float32)
LENGTHS = np.array([7, 2, 4])
MASK = np.arange(7) < LENGTHS[:, None]
EOT = 19
IDS = np.where(MASK, np.random.default_rng(0).integers(1, EOT, MASK.shape), 0)
np.put_along_axis(IDS, LENGTHS[:, None] - 1, EOT, axis=1)


def vision(cfg=VISION):
    return build.randomised(lambda r: ClipVision(cfg, r))


def text(**changes):
    cfg = dataclasses.replace(TEXT, **changes)
    return build.randomised(lambda r: ClipText(cfg, r))


def layer(params):
    return jax.tree.map(lambda leaf: leaf[0].astype(np.float64), params["stack"]["layers"])


@pytest.mark.parametrize(
    ("name", "image", "words"),
    [("B/16", 86_192_640, 63_428_096), ("B/32", 87_849_216, 63_428_096)],
)
def test_parameters_are_those_of_the_published_models(name, image, words):
    cfg = clip.preset(name)
    assert build.count(lambda r: ClipVision(cfg.vision, r)) == (image, 0)
    assert build.count(lambda r: ClipText(cfg.text, r)) == (words, 0)
    assert build.count(lambda r: Clip(cfg, r)) == (image + words + 1, 0)


def test_the_large_preset_is_that_of_openai():
    cfg = clip.preset("L/14", remat="full")
    assert build.count(lambda r: Clip(cfg, r)) == (427_616_513, 0)
    assert cfg.vision.vit.transformer.remat == cfg.text.text.transformer.remat == "full"


def test_image_tower_is_the_formula_in_float64():
    bind, params = vision()
    p = jax.tree.map(lambda leaf: leaf.astype(np.float64), params["vit"])
    assert set(p["patch_embed"]) == {"kernel"}  # no bias
    x = np.asarray(patchify(IMAGES, 4), np.float64) @ p["patch_embed"]["kernel"]
    x = np.concatenate([np.broadcast_to(p["class_token"], (3, 1, 16)), x], axis=1) + p["positions"]
    x = reference.layer_norm(x, **p["stem_norm"], eps=1e-5)
    hidden = reference.block(x, layer(p), np.ones((3, 10), bool), 1e-5)
    out = jax.jit(bind(params))(IMAGES)
    build.close(out.hidden, hidden, 3e-6)
    tokens = reference.layer_norm(hidden, **p["norm"], eps=1e-5)
    build.close(out.embedding, tokens[:, 0] @ params["projection"]["kernel"], 3e-6)


@pytest.mark.parametrize("attention", ["dot", "xla"])
@pytest.mark.parametrize("pool", ["last", "eot"])
def test_text_tower_is_the_formula_in_float64(pool, attention):
    stack = dataclasses.replace(STACK, attention=attention)
    bind, params = text(pool=pool, eot_id=EOT, text=TextConfig(20, 9, stack))
    out = jax.jit(bind(params))(IDS, MASK)
    for row, length in enumerate(LENGTHS):
        # In one layer the last token sees what it would see were there nothing after it.
        x = params["word_embed"][IDS[row, :length]] + params["position_embed"][:length]
        seen = np.ones((1, length), bool)
        hidden = reference.block(x[None].astype(np.float64), layer(params), seen, 1e-5)
        token = reference.layer_norm(hidden[0, -1], **params["norm"], eps=1e-5)
        build.close(out[row], token @ params["projection"]["kernel"], 3e-6)


def test_text_padding_changes_nothing():
    bind, params = text()
    run = jax.jit(bind(params))
    one = run(IDS, MASK)
    np.testing.assert_array_equal(one, run(np.where(MASK, IDS, 13), MASK))
    np.testing.assert_allclose(run(IDS[1:, :4], MASK[1:, :4]), one[1:], atol=1e-5)


def test_no_token_sees_what_comes_after_it():
    """Not even where the mask calls it a token: the text ends at the first end token."""
    deep = TransformerConfig(width=16, depth=3, heads=2, mlp_dim=24, ln_eps=1e-5)
    bind, params = text(text=TextConfig(20, 9, deep), pool="eot", eot_id=EOT)
    run, seen = jax.jit(bind(params)), np.ones(MASK.shape, bool)
    ids = np.where(IDS == EOT, 1, IDS)
    ids[:, 3] = EOT
    for place in range(7):
        other = ids.copy()
        other[:, place] = EOT if place == 3 else 7 + (ids[:, place] == 7)
        same = np.array_equal(run(ids, seen), run(other, seen))
        assert same == (place >= 3)


def test_gradients_of_causal_attention_do_not_depend_on_the_way_of_running():
    def gradient(attention):
        stack = dataclasses.replace(STACK, attention=attention, depth=2)
        bind, params = text(text=TextConfig(20, 9, stack))
        return jax.jit(jax.grad(lambda p: jnp.sin(bind(p)(IDS, MASK)).sum()))(params)

    build.close(gradient("dot"), gradient("xla"), 1e-5)


def test_class_token_and_patches_are_projected_alike():
    bind, params = vision()
    module = bind(params)
    out = module(IMAGES)
    np.testing.assert_array_equal(module.project(out.hidden)[:, 0], out.embedding)


def test_other_image_sizes_interpolate_positions():
    bind, params = vision()
    out = jax.eval_shape(bind(params), np.zeros((2, 20, 8, 3), np.float32))
    assert out.hidden.shape == (2, 11, 16) and out.embedding.shape == (2, 6)


def test_fresh_towers_have_a_useful_gradient():
    """The norm of a class token and positions of zeros would multiply theirs by hundreds."""
    variables = functional.init(lambda r: ClipVision(VISION, r), jax.random.key(0))
    graph = functional.structure(lambda r: ClipVision(VISION, r))
    grads = jax.grad(
        lambda p: (functional.bind(graph, p)(IMAGES).embedding ** 2).sum(), allow_int=False
    )(variables["params"])
    norms = {name: float(jnp.linalg.norm(grads["vit"][name])) for name in ("class_token",)}
    assert 0 < norms["class_token"] < 10 * float(jnp.linalg.norm(grads["projection"]["kernel"]))


@pytest.mark.parametrize("name", ["image", "text"])
def test_flops_are_those_of_the_program(name):
    deep = dataclasses.replace(STACK, depth=2, scan=False)
    if name == "image":
        cfg = dataclasses.replace(VISION, vit=dataclasses.replace(VISION.vit, transformer=deep))
        (bind, params), arguments = vision(cfg), (IMAGES,)
        wanted = clip.vision_flops(cfg)
    else:
        cfg = dataclasses.replace(TEXT, text=TextConfig(20, 7, deep))
        (bind, params), arguments = text(text=cfg.text), (IDS, MASK)
        wanted = clip.text_flops(cfg)
    jaxpr = jax.make_jaxpr(lambda p: bind(p)(*arguments))(params)
    assert products(jaxpr.jaxpr) / 3 == wanted


def products(jaxpr):
    """FLOPs of the matrix products of a traced program without loops."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            contracted = equation.params["dimension_numbers"][0][0]
            depth = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            total += 2 * depth * math.prod(equation.outvars[0].aval.shape)
        total += sum(map(products, core.jaxprs_in_params(equation.params)))
    return total


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: clip.preset("B/8"), "'B/8'"),
        (lambda: dataclasses.replace(TEXT, pool="mean"), "'mean'"),
        (lambda: ClipConfig(VISION, dataclasses.replace(TEXT, embed_dim=7)), "6 dimensions.* 7"),
        (
            lambda: dataclasses.replace(
                VISION, vit=dataclasses.replace(VISION.vit, class_token=False)
            ),
            "class token",
        ),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_text_longer_than_its_positions_is_refused():
    bind, params = text()
    with pytest.raises(UserError, match="text of 10 tokens, but positions end at 9"):
        bind(params)(np.zeros((1, 10), int), np.ones((1, 10), bool))


def hugging_face(activation):
    """A small random CLIP of `transformers` and its weights by name."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40}
    config = transformers.CLIPConfig(
        vision_config={
            "hidden_size": 24,
            "image_size": 32,
            "patch_size": 8,
            "hidden_act": activation,
            **sizes,
        },
        text_config={
            "hidden_size": 16,
            "vocab_size": 30,
            "max_position_embeddings": 9,
            "hidden_act": activation,
            "eos_token_id": 29,
            "bos_token_id": 28,
            **sizes,
        },
        projection_dim=12,
    )
    torch.manual_seed(0)
    model = transformers.CLIPModel(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn(weight.shape))
    return torch, model, {name: value.numpy() for name, value in model.state_dict().items()}


def ours(state, tower, heads, depth=2):
    """Weights of Hugging Face's tower as the tree of ours."""
    get = {k.removeprefix(tower): v for k, v in state.items() if k.startswith(tower)}

    def norm(name):
        return {"scale": get[f"{name}.weight"], "bias": get[f"{name}.bias"]}

    def dense(name):
        return {"kernel": get[f"{name}.weight"].T, "bias": get[f"{name}.bias"]}

    def block(index):
        name = f"encoder.layers.{index}"
        parts = [dense(f"{name}.self_attn.{part}_proj") for part in "qkv"]
        width = parts[0]["kernel"].shape[0]
        kernel = np.stack([p["kernel"].reshape(width, heads, -1) for p in parts], axis=2)
        return {
            "attention": {
                "qkv": kernel,
                "qkv_bias": np.stack([p["bias"].reshape(heads, -1) for p in parts], axis=1),
                "out": dense(f"{name}.self_attn.out_proj"),
            },
            "attention_norm": norm(f"{name}.layer_norm1"),
            "mlp_norm": norm(f"{name}.layer_norm2"),
            "mlp": {"up": dense(f"{name}.mlp.fc1"), "down": dense(f"{name}.mlp.fc2")},
        }

    layers = jax.tree.map(lambda *leaves: np.stack(leaves), *map(block, range(depth)))
    if tower.startswith("vision"):
        kernel = get["embeddings.patch_embedding.weight"].transpose(2, 3, 1, 0)
        tree = {
            "patch_embed": {"kernel": kernel.reshape(-1, kernel.shape[-1])},
            "class_token": get["embeddings.class_embedding"],
            "positions": get["embeddings.position_embedding.weight"],
            "stem_norm": norm("pre_layrnorm"),
            "stack": {"layers": layers},
            "norm": norm("post_layernorm"),
        }
        return {"vit": tree, "projection": {"kernel": state["visual_projection.weight"].T}}
    return {
        "word_embed": get["embeddings.token_embedding.weight"],
        "position_embed": get["embeddings.position_embedding.weight"],
        "stack": {"layers": layers},
        "norm": norm("final_layer_norm"),
        "projection": {"kernel": state["text_projection.weight"].T},
    }


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_values_are_those_of_hugging_face(activation):
    torch, model, state = hugging_face(activation)
    options = {"activation": activation, "depth": 2, "heads": 2, "mlp_dim": 40, "ln_eps": 1e-5}
    cfg = ClipConfig(
        clip.vision_config(
            image_size=32,
            patch_size=8,
            embed_dim=12,
            transformer=TransformerConfig(width=24, **options),
        ),
        ClipTextConfig(
            TextConfig(30, 9, TransformerConfig(width=16, **options)), 12, pool="eot", eot_id=29
        ),
    )
    params = {
        "image": ours(state, "vision_model.", 2),
        "text": ours(state, "text_model.", 2),
        "scale": {"value": state["logit_scale"]},
    }
    shapes = jax.eval_shape(
        lambda rng: functional.init(lambda r: Clip(cfg, r), rng), jax.random.key(0)
    )
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, shapes["params"])
    module = functional.bind(functional.structure(lambda r: Clip(cfg, r)), params)
    rng = np.random.default_rng(3)
    images = rng.standard_normal((2, 32, 32, 3)).astype(np.float32)
    ids = rng.integers(0, 28, (2, 7))
    ids[0, 4:], ids[1, 6] = 29, 29  # Hugging Face pads with the end token
    mask = np.arange(7) < np.array([[5], [7]])
    with torch.no_grad():
        pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        seen = model.vision_model(pixel_values=pixels)
        read = model.text_model(
            input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask.astype(int))
        )
        embedding = model.visual_projection(seen.pooler_output)
        words = model.text_projection(read.pooler_output)
    out = module.image(images)
    build.close(out.hidden, seen.last_hidden_state, 2e-6)
    build.close(out.embedding, embedding, 2e-6)
    build.close(module.text(ids, mask), words, 2e-6)
