"""Which rows, positions and passes count: against whole passes and boolean selection in NumPy."""

import functools
import math

import jax
import numpy as np
import pytest
import tiny

from rsvl_jax.models import functional


@functools.cache
def passes():
    """jitted: each view in a pass of its own, heads on all positions."""
    model, _ = tiny.prepared("flavars")

    def forward(params, frozen, s):
        net = functional.bind(model._graph, params, frozen)
        pixels = (s["image"] / 255.0 - np.array(net.settings.mean)) / np.array(net.settings.std)
        clean, hidden = net.image(pixels), net.image(pixels, mask=s["mim_mask"])
        text = net.text(s["text"], s["text_mask"])
        words = net.text(s["text_masked"], s["text_mask"])
        fused = net.fusion(hidden.hidden, words.hidden, s["text_mask"]).tokens
        pooled = clean.tokens[:, 1:].mean(axis=1)
        place = net.location(lon=s["lon"], lat=s["lat"])
        return {
            "mim": net.mim_head(hidden.tokens[:, -tiny.N :]),
            "mlm": net.mlm_head(words.tokens),
            "mmm_image": net.mmm_image_head(fused[:, 2 : 2 + tiny.N]),
            "mmm_text": net.mmm_text_head(fused[:, -tiny.LENGTH :]),
            "itm": net.itm_head(fused[:, 0]),
            "codes": net.tokenizer(s["image"]),
            "image_text": (
                net.image_text.image(pooled),
                net.image_text.text(text.tokens[:, 0]),
            ),
            "image_location": (net.image_location.image(pooled), place),
        }

    return jax.jit(forward, compiler_options=tiny.QUICK)


def cross_entropy(logits, labels):
    """float64 [n, V], int [n] -> mean; 0 for none."""
    if not len(labels):
        return 0.0
    logits = np.asarray(logits, np.float64)
    logits = logits - logits.max(-1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -np.mean(log_p[np.arange(len(labels)), labels])


def dense(s, kind):
    """Boolean mask and labels at all positions of the text."""
    mask, labels = np.zeros_like(s["text_mask"]), np.zeros_like(s["text"])
    for b, k in zip(*np.nonzero(s["mlm_weights"]), strict=True):
        position = s["mlm_positions"][b, k]
        mask[b, position], labels[b, position] = True, s["mlm_labels"][b, k]
    return (mask, labels)[kind]


def reference(s, params):
    _, variables = tiny.prepared("flavars")
    out = jax.device_get(passes()(params, variables["frozen"], s))
    label = s["itm_label"]
    rows = (label != 0) if np.any(label != 0) else np.ones(len(label), bool)
    word_mask, word_labels = dense(s, 0), dense(s, 1)
    patch_rows, word_rows = s["mim_mask"] & rows[:, None], word_mask & rows[:, None]
    same = (s["text_id"][:, None] == s["text_id"][None]) & (label != 0)[:, None]
    diagonal = np.eye(len(label), dtype=bool)
    scale = {name: params[name]["scale"]["value"] for name in ("image_text", "image_location")}
    return {
        "mim": cross_entropy(out["mim"][s["mim_mask"]], out["codes"][s["mim_mask"]]),
        "mlm": cross_entropy(out["mlm"][word_mask], word_labels[word_mask]),
        "mmm_image": cross_entropy(out["mmm_image"][patch_rows], out["codes"][patch_rows]),
        "mmm_text": cross_entropy(out["mmm_text"][word_rows], word_labels[word_rows]),
        "itm": cross_entropy(out["itm"], label),
        "image_text": tiny.contrast(out["image_text"], scale["image_text"], rows, same | diagonal),
        "image_location": tiny.contrast(
            out["image_location"], scale["image_location"], diagonal[0] | True, diagonal
        ),
    }


def labelled(pattern):
    s = tiny.sample(seed=3)
    # A swapped text with the words of a matching one: a distractor for its image, a twin as text.
    s["text_id"][5] = s["text_id"][6]
    s["itm_label"] = {"some": s["itm_label"], "all": np.ones(16), "none": np.zeros(16)}[pattern]
    s["itm_label"] = s["itm_label"].astype(np.int32)
    return s


@pytest.mark.parametrize("pattern", ["some", "all", "none"])
def test_terms_equal_boolean_selection(pattern):
    params = tiny.moved(tiny.prepared("flavars")[1]["params"])
    s = labelled(pattern)
    (_, terms), _ = tiny.run("flavars", params=params, samples=s)
    assert terms == pytest.approx(reference(s, params), rel=2e-5)


def test_padding_changes_nothing():
    s = tiny.sample()
    garbage = {
        key: np.where(s["text_mask"], s[key], 33).astype(np.int32)
        for key in ("text", "text_masked")
    }
    assert any(np.any(garbage[key] != s[key]) for key in garbage)
    (_, terms), _ = tiny.run("flavars")
    (_, padded), _ = tiny.run("flavars", samples=s | garbage)
    assert padded == pytest.approx(terms, rel=1e-6)


def test_empty_masks_are_zero_with_finite_gradients():
    s = tiny.sample()
    empty = {key: np.zeros_like(s[key]) for key in ("mim_weights", "mlm_weights")}
    (loss, terms), grads = tiny.run("flavars", samples=s | empty)
    assert np.isfinite(loss)
    assert [terms[name] for name in ("mim", "mlm", "mmm_image", "mmm_text")] == [0, 0, 0, 0]
    assert all(np.all(np.isfinite(grad)) for grad in jax.tree.leaves(grads))
    assert not np.any(grads["mim_head"]["decoder"]["kernel"])


def test_mae_loss_is_on_removed_patches_alone():
    model, variables = tiny.prepared("mae")
    params = tiny.moved(variables["params"])
    s = tiny.sample()

    @functools.partial(jax.jit, compiler_options=tiny.QUICK)
    def predict(params):
        net = functional.bind(model._graph, params, variables["frozen"])
        encoded = net.image(net.normalize(s["image"]), keep=s["mae_keep"])
        return net.decoder(encoded.tokens, s["mae_keep"])

    predictions = np.asarray(predict(params), np.float64)
    costs = []
    for b in range(16):
        for n in set(range(tiny.N)) - set(s["mae_keep"][b].tolist()):
            y, x = (tiny.PATCH * place for place in divmod(n, 4))
            patch = s["image"][b, y : y + tiny.PATCH, x : x + tiny.PATCH] / 255.0
            target = ((patch - model.settings.mean) / model.settings.std).reshape(-1)
            target = (target - target.mean()) / math.sqrt(target.var(ddof=1) + 1e-6)
            costs.append(np.mean((predictions[b, n] - target) ** 2))
    assert len(costs) == 16 * (tiny.N - tiny.KEEP)
    (_, terms), _ = tiny.run("mae", params=params)
    assert terms["mim"] == pytest.approx(np.mean(costs), rel=1e-5)
