import agreement
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import stored

from rsvl_jax.weights.families import bert, roberta

FAMILIES = {"bert": bert.FAMILY, "roberta": roberta.FAMILY}


def outputs(model, case, arrays):
    """The mean loss over its labels, and the tokens and logits of what is not padding."""
    ids, mask, labels = (jnp.asarray(case.inputs[name]) for name in ("ids", "mask", "labels"))
    hidden = model.module("text", arrays)(ids, mask == 1).tokens
    logits = model.module("mlm_head", arrays)(hidden)
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], axis=-1)[..., 0]
    loss = -jnp.where(mask, chosen, 0).sum() / mask.sum()
    return loss, (hidden, logits)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_outputs_loss_and_gradients_are_the_originals(name):
    check(stored.read(name), FAMILIES[name], 1e-5)


def check(case, family, tolerance):
    model = agreement.imported(family, case.weights, case.config)
    run = jax.jit(jax.value_and_grad(lambda a: outputs(model, case, a), has_aux=True))
    (loss, (hidden, logits)), gradients = run(model.arrays)
    real = case.inputs["mask"] == 1
    actual = {"hidden": hidden[real], "logits": logits[real], "mlm": loss}
    agreement.check_close(actual, {**case.outputs, **case.losses}, tolerance)
    agreement.check_gradients(by_their_names(model, gradients), expected_gradients(case), tolerance)


def by_their_names(model, gradients):
    """Of tied words the sum of both uses, as the original has it; no rows before the first."""
    words, decoder = "text/word_embed", "mlm_head/decoder/kernel"
    joined = {**gradients, words: gradients[words] + gradients[decoder].T}
    return agreement.exported(model, {**joined, decoder: joined[words].T})


def expected_gradients(case):
    """Of decoder arrays, which are others under a second name, those of the first."""
    found = {k: v for k, v in case.gradients.items() if "pooler" not in k}
    for name in case.weights:
        tied = "word_embeddings.weight" if name.endswith("decoder.weight") else None
        tied = "predictions.bias" if name == "cls.predictions.decoder.bias" else tied
        tied = "lm_head.bias" if name == "lm_head.decoder.bias" else tied
        if tied:
            found[name] = next(value for key, value in found.items() if key.endswith(tied))
    return found


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_export_is_what_was_imported(name):
    case = stored.read(name)
    model = agreement.imported(FAMILIES[name], case.weights, case.config)
    back = agreement.exported(model)
    skipped = FAMILIES[name] is roberta.FAMILY and 2
    for key, value in back.items():
        theirs = case.weights[key]
        if key.endswith("position_embeddings.weight") and skipped:
            value, theirs = value[skipped:], theirs[skipped:]
        np.testing.assert_array_equal(value, theirs, err_msg=key)
    assert set(back) == set(case.weights)
    again = agreement.imported(FAMILIES[name], back, case.config)
    for path, value in model.arrays.items():
        np.testing.assert_array_equal(again.arrays[path], value)


def test_bare_encoder_and_the_first_names_of_norms():
    case = stored.read("bert")
    whole = agreement.imported(bert.FAMILY, case.weights, case.config)
    weights = {
        name.removeprefix("bert.")
        .replace("LayerNorm.weight", "LayerNorm.gamma")
        .replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in case.weights.items()
        if name.startswith("bert.")
    }
    weights["pooler.dense.weight"] = np.zeros((16, 16), np.float32)
    weights["embeddings.position_ids"] = np.arange(9)[None]
    model = agreement.imported(bert.FAMILY, weights, case.config)
    assert set(model.model.parts) == {"text"}
    for path, value in model.arrays.items():
        np.testing.assert_array_equal(value, whole.arrays[path])
    assert set(agreement.exported(model)) == set(weights) - {
        "pooler.dense.weight",
        "embeddings.position_ids",
    }


def test_a_tied_decoder_may_be_left_out():
    case = stored.read("bert")
    decoder = "cls.predictions.decoder.weight"
    weights = {
        name: value
        for name, value in case.weights.items()
        if name not in (decoder, "cls.predictions.decoder.bias")
    }
    model = agreement.imported(bert.FAMILY, weights, case.config)
    np.testing.assert_array_equal(model.arrays["mlm_head/decoder/kernel"], case.weights[decoder].T)
    back = agreement.exported(model)
    assert set(back) == set(weights)
    assert all(np.array_equal(back[name], weights[name]) for name in weights)


def test_the_two_are_told_apart():
    shapes = {name: {k: v.shape for k, v in stored.read(name).weights.items()} for name in FAMILIES}
    assert [f.recognises(shapes["bert"]) for f in FAMILIES.values()] == [True, False]
    assert [f.recognises(shapes["roberta"]) for f in FAMILIES.values()] == [False, True]
    bare = {
        name.removeprefix("roberta."): shape
        for name, shape in shapes["roberta"].items()
        if name.startswith("roberta.")
    }
    assert roberta.FAMILY.recognises(bare)
