"""Runs that start from weights: what goes where, what is refused, and where it lies then."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_files
from flavars import tiny
from ml_collections import ConfigDict
from training import toy

from flavars_jax.objective import FlavarsObjective
from graft_jax.experiment import with_projector
from rsvl_jax.errors import UserError
from rsvl_jax.models import clip
from rsvl_jax.models.clip import ClipText, ClipTextConfig, ClipVision
from rsvl_jax.models.positions import resize_table
from rsvl_jax.models.text import TextConfig
from rsvl_jax.models.transformer import TransformerConfig
from rsvl_jax.parallel.mesh import make_mesh
from rsvl_jax.training import loop
from rsvl_jax.training.optimizer import make_optimizer
from rsvl_jax.training.schedules import Lengths
from rsvl_jax.training.state import abstract_state, create_state
from rsvl_jax.weights import init_from, trees
from rsvl_jax.weights.account import Account
from rsvl_jax.weights.family import Model
from rsvl_jax.weights.init_from import Weights

TOWER = {"width": 16, "depth": 2, "heads": 2, "mlp_dim": 32}
FITTING = {
    "model__image__activation": "quick_gelu",
    "model__image__ln_eps": 1e-5,
    "model__image__stem_norm": True,
    "init_from__expect": ("image/mask_token", "image/patch_embed/bias"),
}


def weights(parts):
    """Modules with random arrays as a source."""
    model = Model("clip", {}, parts)
    draw = np.random.default_rng(0)
    shapes = trees.shapes(model)
    arrays = {path: draw.normal(size=shape).astype(np.float32) for path, shape in shapes.items()}
    architecture = trees.architectures(model)
    origin = {"fingerprint": "f00"}
    return Weights(arrays, shapes, architecture, {}, Account(), origin)


@functools.cache
def clip_parts(size=tiny.SIZE):
    stack = TransformerConfig(**TOWER, ln_eps=1e-5, activation="quick_gelu")
    vision = clip.vision_config(
        image_size=size, patch_size=tiny.PATCH, embed_dim=8, transformer=stack
    )
    text = ClipTextConfig(TextConfig(tiny.VOCAB, tiny.LENGTH + 5, stack), 8)
    return weights(
        {
            "image": lambda rngs: ClipVision(vision, rngs),
            "text": lambda rngs: ClipText(text, rngs),
        }
    )


def clip_weights(size=tiny.SIZE, preprocessing=None):
    return replace(clip_parts(size), preprocessing=preprocessing or {})


@pytest.fixture
def sources(monkeypatch):
    """Sources by name, in place of files."""
    known: dict[str, Weights] = {}

    def opened(name):
        source = known[name]
        return replace(source, origin={**source.origin, "source": name})

    monkeypatch.setattr(init_from, "open_weights", opened)
    return known


def load(**changes):
    """(Found, shapes of the model) for a tiny CLIP of FLAVARS with these changes."""
    config = tiny.config("clip", **changes)
    model = tuple((k, v) for k, v in changes.items() if k.startswith("model__"))
    shapes, architecture = target(model)
    given = init_from.entries(config.init_from)
    return init_from.load(config, given, shapes, architecture), shapes


@functools.cache
def target(changes):
    objective = FlavarsObjective(tiny.config("clip", **dict(changes)))
    variables = jax.eval_shape(objective.init, jax.random.key(0))
    shapes = {p: x.shape for tree in variables.values() for p, x in trees.flat(tree).items()}
    return shapes, objective.architecture()


def test_a_clip_tower_into_the_image_tower(sources):
    sources["clip"] = clip_weights()
    found, shapes = load(init_from__image="clip", **FITTING)
    took = {path for path in shapes if path.startswith("image/")} - {"image/mask_token"}
    assert set(found.arrays) == took and "image/stem_norm/scale" in took
    for path in took:
        assert found.arrays[path] is sources["clip"].arrays[f"image/vit/{path[6:]}"]
    assert found.origin == {"image": {"fingerprint": "f00", "source": "clip", "part": "image/vit"}}


def test_the_account_names_what_was_loaded_left_and_unused(sources):
    sources["clip"] = clip_weights()
    lines = load(init_from__image="clip", **FITTING)[0].account.lines(left="left")
    text = "\n".join(lines)
    at = [next(i for i, x in enumerate(lines) if x.startswith(k)) for k in ("load", "left", "unu")]
    assert at == sorted(at)
    assert lines.index("  image/patch_embed/kernel [48, 16]") < at[1]
    assert at[1] < lines.index("  text/word_embed [40, 16]") < at[2]
    assert lines.index("  text/word_embed of clip [40, 16]") > at[2]
    assert "image from image/vit of 'clip'" in text


def test_what_a_source_computes_otherwise_is_an_error_with_the_keys_to_set(sources):
    sources["clip"] = clip_weights()
    with pytest.raises(UserError) as error:
        load(init_from__image="clip")
    told = str(error.value)
    assert "model.image.stem_norm is False here, the source has True" in told
    assert "the model has no place for image/stem_norm/scale [16]" in told
    with pytest.raises(UserError) as error:
        load(init_from__image="clip", **{**FITTING, "model__image__activation": "gelu"})
    assert "model.image.activation is 'gelu' here, the source has 'quick_gelu'" in str(error.value)
    with pytest.raises(UserError) as error:
        load(init_from__image="clip", **{**FITTING, "model__image__ln_eps": 1e-12})
    assert "model.image.ln_eps is 1e-12 here, the source has 1e-05" in str(error.value)
    assert "\n" not in str(error.value)


def test_another_normalisation_of_pixels_is_an_error(sources):
    sources["clip"] = clip_weights(preprocessing={"mean": [0.5] * 3, "std": [0.5] * 3})
    with pytest.raises(UserError, match=r"data.mean is .* here, the source has \(0.5, 0.5, 0.5\)"):
        load(init_from__image="clip", **FITTING)
    both = {"data__mean": (0.5,) * 3, "data__std": (0.5,) * 3}
    load(init_from__image="clip", **FITTING, **both)


def test_what_is_expected_may_differ(sources):
    sources["clip"] = clip_weights()
    changes = {**FITTING, "model__image__activation": "gelu"}
    changes["init_from__expect"] += ("model.image.activation",)
    assert load(init_from__image="clip", **changes)[0].arrays


def test_positions_are_brought_to_the_grid(sources):
    sources["clip"] = clip_weights(size=2 * tiny.SIZE)
    found, _ = load(init_from__image="clip", **FITTING)
    old = sources["clip"].arrays["image/vit/positions"]
    new = found.arrays["image/positions"]
    assert old.shape == (65, 16) and new.shape == (17, 16)
    assert np.array_equal(new[0], old[0])
    expected = resize_table(jnp.asarray(old[1:]), (8, 8), (4, 4))
    np.testing.assert_allclose(new[1:], expected, rtol=1e-6, atol=1e-6)


def test_a_shorter_text_takes_the_first_positions(sources):
    sources["clip"] = clip_weights()
    expect = ("text/*", "model.text.*", "text*:class")
    found, _ = load(init_from__text="clip", init_from__expect=expect)
    old = sources["clip"].arrays["text/position_embed"]
    assert np.array_equal(found.arrays["text/position_embed"], old[: tiny.LENGTH])


def test_another_size_is_an_error_and_its_name_may_be_expected(sources):
    sources["clip"] = clip_weights()
    changes = {**FITTING, "model__image__mlp_dim": 64}
    with pytest.raises(UserError, match=r"image/stack/layers/mlp/up/kernel is \[2, 16, 32\] there"):
        load(init_from__image="clip", **changes)
    changes["init_from__expect"] += ("image/stack/layers/mlp/*",)
    found, _ = load(init_from__image="clip", **changes)
    assert "image/stack/layers/mlp/up/kernel" in found.account.left


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"location": "clip"}, "no 'location'; it has image, image_text, text"),
        ({"image": "clip#nothing"}, "no part like that; it has image/projection"),
        ({"image": "clip#text/projection"}, "nothing there for image/class_token"),
        ({"image": "clip", "expect": "image/mask_token"}, "must be a tuple of patterns"),
    ],
)
def test_what_cannot_be_is_told(sources, changes, words):
    sources["clip"] = clip_weights()
    with pytest.raises(UserError, match=words.replace("(", r"\(")):
        load(**{f"init_from__{key}": value for key, value in changes.items()})


def test_values_that_are_no_texts():
    with pytest.raises(UserError, match="init_from.image=3 must be a path"):
        init_from.entries({"image": 3})


def test_parts_take_the_place_of_those_of_the_whole_model(sources):
    model = tiny.objective("clip")
    make = model._make
    sources["all"] = weights({"": make})
    more = {path: value + 1 for path, value in sources["all"].arrays.items()}
    sources["image"] = replace(sources["all"], arrays=more)
    found, shapes = load(init_from__model="all", init_from__image="image")
    assert set(found.arrays) == set(shapes) and not found.account.left
    assert np.array_equal(found.arrays["text/norm/bias"], sources["all"].arrays["text/norm/bias"])
    one = sources["image"].arrays["image/norm/bias"]
    assert np.array_equal(found.arrays["image/norm/bias"], one)


def satclip(path, width=16, dim=12):
    """A released checkpoint's layout at the sizes of the tiny config."""
    draw = np.random.default_rng(0)
    shapes = {"layers.0": (width, 16), "layers.1": (width, width), "last_layer": (dim, width)}
    values = {}
    for name, shape in shapes.items():
        values[f"model.location.nnet.{name}.weight"] = draw.normal(size=shape)
        values[f"model.location.nnet.{name}.bias"] = draw.normal(size=shape[:1])
    return torch_files.state_dict(path, {k: v.astype(np.float32) for k, v in values.items()})


def test_the_state_starts_from_a_file_where_its_parameters_lie(tmp_path):
    path = satclip(tmp_path / "satclip.ckpt")
    config = tiny.config("satclip", init_from__location=str(path), optimizer__ema=0.9)
    objective = FlavarsObjective(config)
    mesh = make_mesh(data=1, fsdp=8)
    lengths = Lengths(batch_size=16, dataset_size=160, total_steps=10)
    optimizer = make_optimizer(config.optimizer, objective.logical_axes()["params"], lengths)
    abstract = abstract_state(objective, optimizer, mesh)
    arrays, origin = init_from.initial(config, objective.architecture())(abstract)
    assert origin["location"]["family"] == "satclip"
    state = create_state(objective, optimizer, abstract, 0, arrays)
    fresh = create_state(objective, optimizer, abstract, 0)
    kernel = state.params["location"]["siren"]["layer_1"]["kernel"]
    assert kernel.sharding == abstract.params["location"]["siren"]["layer_1"]["kernel"].sharding
    assert len(kernel.sharding.device_set) == 8
    source = init_from.open_weights(str(path)).arrays
    for name, leaf in trees.flat(state.params).items():
        expected = source[name] if name in source else trees.flat(fresh.params)[name]
        assert np.array_equal(leaf, expected), name
        assert np.array_equal(trees.flat(state.ema)[name], expected), name
    assert jax.tree.all(jax.tree.map(lambda x: not np.any(x), state.opt_state))


def toy_run(workdir, initial, steps=4):
    mesh = make_mesh()
    return loop.fit(
        config=toy.config(steps=steps),
        objective=toy.Toy(),
        make_batches=toy.batches(mesh),
        manifest=toy.MANIFEST,
        workdir=str(workdir),
        mesh=mesh,
        initial=initial,
    )


def test_a_run_asks_once_and_its_checkpoints_say_from_what(tmp_path):
    asked = []

    def initial(abstract):
        asked.append(1)
        shape = abstract.frozen["target"].shape
        return {"frozen/target": np.full(shape, 2.0)}, {"image": {"source": "x"}}

    state = toy_run(tmp_path, initial)
    assert np.all(np.asarray(state.frozen["target"]) == 2) and state.frozen["target"].dtype == "f4"
    again = toy_run(tmp_path, initial, steps=6)
    assert len(asked) == 1 and np.all(np.asarray(again.frozen["target"]) == 2)
    from rsvl_jax.training import saved

    assert saved.metadata(str(tmp_path))["origin"] == {"image": {"source": "x"}}


def test_weights_that_are_refused_leave_nothing_behind(tmp_path):
    def initial(abstract):
        raise UserError("does not fit")

    with pytest.raises(UserError, match="does not fit"):
        toy_run(tmp_path / "run", initial)
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_run_is_a_source(tmp_path):
    state = toy_run(tmp_path, None)
    found = init_from.open_weights(str(tmp_path))
    averaged = {**trees.flat(state.ema), **trees.flat(state.frozen)}
    assert found.shapes.keys() == averaged.keys()
    for path, value in averaged.items():
        assert np.array_equal(found.arrays[path], value)
    assert found.origin["step"] == 4


def test_the_projector_follows_a_tower_that_is_given():
    arrays = {"params/satellite/vit/norm/scale": 1, "params/satellite/projection/kernel": 2}
    found, _ = with_projector(arrays, {})
    assert found["params/projector/norm/scale"] == 1
    assert found["params/projector/linear/kernel"] == 2
    own = {**arrays, "params/projector/norm/scale": 3}
    assert with_projector(own, {})[0]["params/projector/norm/scale"] == 3


def test_nothing_is_asked_for():
    assert init_from.initial(ConfigDict({"init_from": {"image": None, "expect": ()}}), {}) is None
    teacher = ConfigDict({"init_from": {"teacher": "runs/teacher"}})
    assert init_from.initial(teacher, {}, leave=("teacher",)) is None


def test_architecture_is_that_of_the_modules():
    found = clip_parts().architecture
    assert found["image/vit"]["stem_norm"] is True
    assert found["image/vit/stack"]["activation"] == "quick_gelu"
    assert found["image/vit/norm"] == {"class": "LayerNorm", "eps": 1e-5}


@pytest.mark.parametrize("given", ["tokenizer", "model"])
def test_an_image_tokenizer_that_weights_bring_needs_no_codebook(given):
    dalle = {"objective__image_tokenizer": "dalle", "objective__codebook_size": 8192}
    objective = FlavarsObjective(tiny.config("flava", **dalle, **{f"init_from__{given}": "x"}))
    assert "stem" in jax.eval_shape(objective.init, jax.random.key(0))["frozen"]["tokenizer"]
    with pytest.raises(UserError, match="no codebook"):
        FlavarsObjective(tiny.config("flava", **dalle)).init(jax.random.key(0))
