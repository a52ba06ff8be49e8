"""FLAVA against what `transformers` computed: outputs, six losses, gradients; layouts of names."""

import re

import agreement
import jax
import numpy as np
import pytest
import run_flava
import stored

from rsvl_jax.models import functional
from rsvl_jax.models.dvae import DalleEncoder
from rsvl_jax.weights import families, trees
from rsvl_jax.weights.families import dalle, flava_huggingface, flava_torchmultimodal

HUGGINGFACE, TORCHMULTIMODAL = flava_huggingface.FAMILY, flava_torchmultimodal.FAMILY
# transformers' names -> torchmultimodal's, in the order in which they are tried.
RENAMED = (
    (r"flava\.image_model\.", "model.image_encoder."),
    (r"flava\.text_model\.", "model.text_encoder."),
    (r"flava\.multimodal_model\.", "model.mm_encoder."),
    (r"attention\.attention\.(query|key|value)", r"attention.\1"),
    (r"attention\.output\.dense", "attention.output"),
    (r"(layer\.\d+)\.intermediate\.dense", r"\1.feedforward.model.0"),
    (r"(layer\.\d+)\.output\.dense", r"\1.feedforward.model.2"),
    (r"layernorm_before", "attention_layernorm"),
    (r"layernorm_after", "feedforward_layernorm"),
    (r"embeddings\.LayerNorm", "embeddings.layer_norm"),
    (r"flava\.logit_scale", "loss.contrastive_loss.logit_scale"),
    (r"flava\.", "model."),
    (r"^(mim|mlm)_head\.(transform\.)?", r"loss.\1_loss.cls."),
    (r"^mmm_image_head\.(transform\.)?", "loss.mmm_loss.mim.cls."),
    (r"^mmm_text_head\.(transform\.)?", "loss.mmm_loss.mlm.cls."),
    (r"cls\.LayerNorm", "cls.layer_norm"),
    (r"^itm_head\.seq_relationship", "loss.itm_loss.cls.seq_relationship"),
    (r"^itm_head\.", "loss.itm_loss."),
    (r"^image_codebook\.blocks\.(.*)weight$", r"image_codebook.encoder.blocks.\1w"),
    (r"^image_codebook\.blocks\.(.*)bias$", r"image_codebook.encoder.blocks.\1b"),
    (r"(blocks\.group_\d)\.group", r"\1"),
    (r"res_path\.path", "res_path"),
)


@pytest.fixture(scope="module")
def case():
    return stored.read("flava")


def renamed(weights, table=RENAMED):
    found = {}
    for name, value in weights.items():
        for pattern, by in table:
            name = re.sub(pattern, by, name)
        found[name] = value
    return found


def outputs(model, case):
    run, arguments = run_flava.traced(model, case)
    return jax.jit(run)(*arguments)[1]


def test_outputs_losses_and_gradients_are_those_of_transformers(case):
    run_flava.check(HUGGINGFACE, case, 1e-5)


def test_torchmultimodals_names_hold_the_same_model(case):
    weights = renamed(case.weights)
    assert not [name for name in weights if name.startswith(("flava.", "mim_", "itm_"))]
    model = agreement.imported(TORCHMULTIMODAL, weights, case.config)
    # Only its heads compute otherwise: their norms have another epsilon.
    assert model.model.settings["head_eps"] == 1e-5
    same = agreement.imported(HUGGINGFACE, case.weights, case.config)
    assert same.model.settings["head_eps"] == 1e-12
    for path, value in same.arrays.items():
        np.testing.assert_array_equal(model.arrays[path], value, err_msg=path)
    told = outputs(model, case)[1]
    agreement.check_close(told, case.outputs, 1e-5)
    back = agreement.exported(model)
    assert set(back) == set(weights)
    for name, value in weights.items():
        np.testing.assert_array_equal(back[name], value, err_msg=name)


@pytest.mark.parametrize(
    "table",
    [
        ((r"feedforward\.model\.2", "feedforward.model.3"),),
        ((r"^model\.(image|text)_projection", r"loss.contrastive_loss.\1_projection"),),
        ((r"^model\.(image|text|mm)_encoder", r"\1_encoder"), (r"^model\.", "")),
    ],
    ids=["dropout in the MLP", "projections in the loss", "encoders alone"],
)
def test_torchmultimodals_versions_are_known(case, table):
    weights = renamed(renamed(case.weights), table)
    if table[-1] == (r"^model\.", ""):
        weights = {
            n: v for n, v in weights.items() if not n.startswith(("loss.", "image_codebook"))
        }
    model = agreement.imported(TORCHMULTIMODAL, weights)
    assert set(agreement.exported(model)) == set(weights)


def test_families_are_told_apart_by_their_names(case):
    def known(weights):
        return families.recognise({name: value.shape for name, value in weights.items()})

    codebook = {
        name.removeprefix("image_codebook."): value
        for name, value in case.weights.items()
        if name.startswith("image_codebook.")
    }
    openai = {
        name.removeprefix("image_codebook.encoder."): value
        for name, value in renamed(case.weights).items()
        if name.startswith("image_codebook.")
    }
    assert known(case.weights) is HUGGINGFACE
    assert known(renamed(case.weights)) is TORCHMULTIMODAL
    assert known(codebook) is dalle.HUGGINGFACE
    assert known(openai) is dalle.OPENAI


def test_the_encoders_alone_load(case):
    weights = {
        name.removeprefix("flava."): value
        for name, value in case.weights.items()
        if name.startswith("flava.")
    }
    weights["text_model.embeddings.position_ids"] = np.arange(12)[None]
    model = agreement.imported(HUGGINGFACE, weights, case.config)
    poolers = {"image_pooler", "text_pooler", "fusion_pooler"}
    assert set(model.model.parts) == {"image", "text", "fusion", "image_text"} | poolers
    agreement.check_round_trip(model, weights)
    assert HUGGINGFACE.config(model.model.settings)["architectures"] == ["FlavaModel"]


@pytest.mark.parametrize("kept", ["bias", "decoder.bias"])
def test_a_head_whose_bias_is_kept_once_loads(case, kept):
    """Files keep one of the two names of a tied array."""
    dropped = "decoder.bias" if kept == "bias" else "bias"
    heads = ("mim_head", "mlm_head", "mmm_image_head", "mmm_text_head")
    weights = {
        name: value
        for name, value in case.weights.items()
        if name not in [f"{head}.{dropped}" for head in heads]
    }
    model = agreement.imported(HUGGINGFACE, weights, case.config)
    np.testing.assert_array_equal(
        model.arrays["mim_head/decoder/bias"], case.weights["mim_head.bias"]
    )
    agreement.check_round_trip(model, weights)


def test_the_image_tokenizer_gives_the_originals_logits(case):
    weights = {
        name.removeprefix("image_codebook."): value
        for name, value in case.weights.items()
        if name.startswith("image_codebook.")
    }
    table = (
        (r"weight$", "w"),
        (r"bias$", "b"),
        (r"(group_\d)\.group", r"\1"),
        (r"res_path\.path", "res_path"),
    )
    for family, given in ((dalle.HUGGINGFACE, weights), (dalle.OPENAI, renamed(weights, table))):
        model = agreement.imported(family, given)
        assert model.frozen == set(model.arrays)
        made = functional.bind(
            functional.structure(lambda rngs: DalleEncoder(16, rngs, width=4, vocab_size=24)),
            {},
            trees.nested({k.removeprefix("tokenizer/"): v for k, v in model.arrays.items()}),
        )
        images = case.inputs["codebook_pixels"].transpose(0, 2, 3, 1)
        logits = jax.jit(made.logits)(images)
        agreement.check_close({"codes": logits}, {"codes": case.outputs["codebook_logits"]}, 1e-5)
        assert set(agreement.exported(model)) == set(given)


def test_the_published_size_is_held_whole():
    """618 names of 357.65 million parameters, the tied biases counted once."""
    shapes = published()
    model = HUGGINGFACE.model(shapes, {})
    sizes = {}
    for path, (shape, _) in agreement.shapes_of(model).items():
        part = path.partition("/")[0]
        sizes[part] = sizes.get(part, 0) + int(np.prod(shape))
    assert round(sum(sizes.values()) / 1e6, 2) == 357.65
    assert model.settings["tokenizer"]["image_size"] == 112
    entries = HUGGINGFACE.entries(model.settings)
    ours = agreement.shapes_of(model)
    read = {name for e in entries for row in e.names(ours[e.ours][0]) for name in row}
    assert read == set(shapes)
    assert len(shapes) == 618


def published():
    """Shapes of facebook/flava-full by name."""
    width, found = 768, {"flava.logit_scale": ()}

    def linear(name, rows, columns=width):
        found[f"{name}.weight"], found[f"{name}.bias"] = (rows, columns), (rows,)

    def norm(name):
        found[f"{name}.weight"] = found[f"{name}.bias"] = (width,)

    for tower, depth in (("image", 12), ("text", 12), ("multimodal", 6)):
        start = f"flava.{tower}_model"
        for layer in range(depth):
            block = f"{start}.encoder.layer.{layer}"
            for name in ("query", "key", "value"):
                linear(f"{block}.attention.attention.{name}", width)
            linear(f"{block}.attention.output.dense", width)
            linear(f"{block}.intermediate.dense", 3072)
            linear(f"{block}.output.dense", width, 3072)
            norm(f"{block}.layernorm_before")
            norm(f"{block}.layernorm_after")
        norm(f"{start}.layernorm")
        linear(f"{start}.pooler.dense", width)
    text, image = "flava.text_model.embeddings", "flava.image_model.embeddings"
    for name, rows in (("word", 30522), ("position", 512), ("token_type", 2)):
        found[f"{text}.{name}_embeddings.weight"] = (rows, width)
    norm(f"{text}.LayerNorm")
    found[f"{image}.patch_embeddings.projection.weight"] = (width, 3, 16, 16)
    found[f"{image}.patch_embeddings.projection.bias"] = (width,)
    found[f"{image}.position_embeddings"] = (1, 197, width)
    for name in (f"{image}.cls_token", f"{image}.mask_token", "flava.multimodal_model.cls_token"):
        found[name] = (1, 1, width)
    for name in ("image", "text"):
        linear(f"flava.{name}_projection", width)
        linear(f"flava.{name}_to_mm_projection", width)
    for name, rows in (("mim", 8192), ("mmm_image", 8192), ("mlm", 30522), ("mmm_text", 30522)):
        linear(f"{name}_head.transform.dense", width)
        norm(f"{name}_head.transform.LayerNorm")
        linear(f"{name}_head.decoder", rows)
        found[f"{name}_head.bias"] = (rows,)
    linear("itm_head.pooler.dense", width)
    linear("itm_head.seq_relationship", 2)
    return found | codebook()


def codebook():
    found, din = {}, 256

    def conv(name, side, rows, columns):
        found[f"image_codebook.blocks.{name}.weight"] = (rows, columns, side, side)
        found[f"image_codebook.blocks.{name}.bias"] = (rows,)

    conv("input", 7, 256, 3)
    for group in range(4):
        dout = 256 * 2**group
        for block in (1, 2):
            start = f"group_{group + 1}.group.block_{block}"
            if din != dout:
                conv(f"{start}.id_path", 1, dout, din)
            widths = (din, dout // 4, dout // 4, dout // 4, dout)
            for number, side in enumerate((3, 3, 3, 1)):
                path = f"{start}.res_path.path.conv_{number + 1}"
                conv(path, side, widths[number + 1], widths[number])
            din = dout
    conv("output.conv", 1, 8192, din)
    return found
