"""Options beyond the presets: hard negatives, text-location, MAE fusion, sigmoid, streams."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

HARD = {
    "objective__itm_negatives": "hard",
    "objective__image_pooling": "cls",
    "objective__weights__text_location": 1.0,
}
MAE = {
    "objective__mim_design": "mae",
    "objective__contrast": "sigmoid",
    "objective__identical_captions": False,
    "model__image__positions": "sincos",
    "model__dropout": 0.1,
}


@functools.cache
def built(variant):
    model = tiny.objective("flavars", **{"hard": HARD, "mae": MAE}[variant])
    variables = tiny.drawn(model)
    return model, variables, variables["params"], tiny.step_of(model)


@pytest.mark.parametrize("variant", ["hard", "mae"])
def test_every_term_is_finite_and_trains_every_parameter(variant):
    model, variables, params, step = built(variant)
    (loss, terms), grads = step(params, variables["frozen"], {"paired": tiny.sample()})
    assert set(terms) == set(model.weights)
    assert ("text_location" in terms) == (variant == "hard")
    assert np.isfinite(loss)
    assert set(tiny.named(grads)) == set(tiny.named(variables["params"]))
    for name, grad in tiny.named(grads).items():
        assert np.max(np.abs(grad)) > 1e-6, f"{name} is trained by nothing"


def test_hard_matching_has_as_many_negatives_as_pairs():
    _, variables, params, step = built("hard")
    s = tiny.sample()
    (_, terms), _ = step(params, variables["frozen"], {"paired": s})
    assert float(terms["itm"][1]) == 2 * 16
    s["text_id"][:] = 5  # one caption for all: there is no negative
    (_, terms), grads = step(params, variables["frozen"], {"paired": s})
    assert float(terms["itm"][1]) == 16
    assert all(np.all(np.isfinite(grad)) for grad in jax.tree.leaves(grads))


def test_the_class_token_or_the_mean_patch_stands_for_an_image():
    for variant, feature in (("hard", "cls"), ("mae", "mean")):
        model, variables, params, _ = built(variant)
        found = jax.jit(model.embed_images)(params, variables["frozen"], tiny.sample()["image"])
        head = params["image_text"]["image"]
        wanted = found[feature] @ head["kernel"] + head["bias"]
        wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
        np.testing.assert_allclose(found["text_space"], wanted, atol=1e-5)


def test_text_location_takes_matching_texts_and_all_their_places():
    model, variables, params, step = built("hard")
    s = tiny.sample()
    frozen = variables["frozen"]
    (_, terms), _ = step(params, frozen, {"paired": s})
    texts = jax.jit(model.embed_texts)(params, frozen, s["text"], s["text_mask"])
    place = jax.jit(model.embed_locations)(params, frozen, lon=s["lon"], lat=s["lat"])
    rows = s["itm_label"] != 0
    # text i describes the places of its twins, but not where a twin was put by a swap
    matches = (s["text_id"][:, None] == s["text_id"][None]) & rows[None] | np.eye(16, dtype=bool)
    want = tiny.contrast(
        (texts["location_space"], place), params["text_location"]["scale"]["value"], rows, matches
    )
    assert tiny.means(terms)["text_location"] == pytest.approx(want, rel=2e-5)


def test_mae_fusion_predicts_hidden_patches_from_their_places():
    """Without positions the mask tokens, and so all predictions of one image, would be equal."""
    model, variables, params, _ = built("mae")
    net = model._bind(params, variables["frozen"])
    hidden = jnp.zeros((2, 1 + tiny.KEEP, 16)) + jnp.arange(1 + tiny.KEEP)[:, None]
    keep = jnp.array([[3, 0, 9, 1], [15, 2, 4, 8]])
    whole = net.patch_mask(hidden, keep)
    assert whole.shape == (2, 1 + tiny.N, 16)
    for row in range(2):
        for place, patch in enumerate(keep[row]):
            np.testing.assert_array_equal(whole[row, 1 + patch], hidden[row, 1 + place])
    rest = np.delete(np.asarray(whole[0, 1:]), keep[0], axis=0)
    assert len(np.unique(rest.round(5), axis=0)) == tiny.N - tiny.KEEP


def test_mae_matching_rows_select_the_fused_pixels():
    _, variables, params, step = built("mae")
    s = tiny.sample()
    (_, terms), _ = step(params, variables["frozen"], {"paired": s})
    hidden = tiny.N - tiny.KEEP
    assert float(terms["mim"][1]) == 16 * hidden
    assert float(terms["mmm_image"][1]) == 14 * hidden  # two of the texts are swapped
    assert float(terms["image_text"][1]) == 14
    assert float(terms["image_location"][1]) == 16


def test_dropout_changes_with_the_key_alone():
    model, variables, params, _ = built("mae")
    batch = {"paired": tiny.sample()}

    @functools.partial(jax.jit, compiler_options=tiny.QUICK)
    def mim(params, key):
        return model.terms(params, variables["frozen"], batch, key)["mim"][0]

    first, again, other = (mim(params, jax.random.key(seed)) for seed in (0, 0, 1))
    assert first == again != other


def test_unimodal_terms_run_on_their_own_streams():
    only = {f"objective__weights__{name}": 0.0 for name in ("mmm_image", "mmm_text", "itm")}
    model = tiny.objective("flava", **only, objective__weights__image_text=0.0)
    assert set(model.weights) == {"mim", "mlm"}
    variables = tiny.drawn(model)
    params = variables["params"]
    step = jax.jit(model.terms, compiler_options=tiny.QUICK)
    run = functools.partial(step, params, variables["frozen"], rng=jax.random.key(0))
    s, other = tiny.sample(), tiny.sample(seed=9)
    # Trimmed to the longest text: the same values as with the padding.
    s["text_mask"][:, 8:] = False
    short = {key: s[key][:, :8] for key in ("text", "text_masked", "text_mask")}
    paired = run(batch={"paired": s})
    streams = run(batch={"image": s, "text": s | short})
    both = run(batch={"paired": other, "image": s, "text": s | short})
    for name in ("mim", "mlm"):
        np.testing.assert_allclose(streams[name], paired[name], rtol=1e-5)
        np.testing.assert_allclose(both[name], paired[name], rtol=1e-5)
