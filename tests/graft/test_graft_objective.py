"""GRAFT's objective: its terms against float64 loops, its start, its options, what it refuses."""

import math

import graft_tiny as tiny
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from graft_jax import terms
from graft_jax.objective import GraftObjective, GroundTower
from rsvl_jax.errors import UserError
from rsvl_jax.models import clip
from rsvl_jax.training.objective import Objective, ReportsScalars


def unit(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def shares_ground(s, a, b, footprints):
    """Interval by interval, the globe unrolled three times."""
    if s["tile_id"][a] == s["tile_id"][b]:
        return True
    (w1, s1, e1, n1), (w2, s2, e2, n2) = s["footprint"][[a, b]].astype(np.float64)
    across = any(max(w1, w2 + turn) < min(e1, e2 + turn) for turn in (-360, 0, 360))
    return footprints and across and max(s1, s2) < min(n1, n2)


def loops(model, params, s, footprints=True, tau=0.07):
    """Both terms by their definition, from the encoder's own vectors."""
    seen, ground = model.embed_images(params, {}, s["image"]), unit(s["photos"])
    slots = [tuple(slot) for slot in np.argwhere(s["photo_mask"])]
    ids = s["photo_id"]
    found = {}
    for name in ("image_ground", "pixel_ground"):
        pixel, costs = name == "pixel_ground", {}
        for i, j in slots:
            x, y = s["photo_xy"][i, j]
            patch = int(y // tiny.PATCH) * (tiny.SIZE // tiny.PATCH) + int(x // tiny.PATCH)
            anchor = np.asarray(seen["pixels"][i, patch] if pixel else seen["image"][i], float)
            meant = {ids[i, j]} if pixel else {ids[slot] for slot in slots if slot[0] == i}
            denominator = 0.0
            for a, b in slots:
                own = (a, b) == (i, j)
                if a == i and not own and ids[a, b] == ids[i, j]:
                    continue
                if a != i and (ids[a, b] in meant or shares_ground(s, i, a, footprints)):
                    continue
                denominator += math.exp(anchor @ ground[a, b] / tau)
            cost = math.log(denominator) - anchor @ ground[i, j] / tau
            costs.setdefault(i, []).append(cost)
        found[name] = np.mean([np.mean(tile) for tile in costs.values()])
    return found


def test_the_batch_has_what_is_to_be_tested():
    s = tiny.sample()
    near = np.array([[shares_ground(s, a, b, True) for b in range(8)] for a in range(8)])
    assert near[5, 7] and near[6, 7] and near[0, 1] and not near[2, 3] and not near[5, 6]
    assert np.array_equal(terms.same_ground(s, footprints=True).matrix(), near)


@pytest.mark.parametrize("footprints", [True, False])
def test_terms_equal_float64_loops(footprints):
    model, params = tiny.prepared(objective__mask_overlaps=footprints)
    s = tiny.sample()
    (loss, found), grads = tiny.step_of(model)(params, {}, s)
    wanted = loops(model, params, s, footprints)
    assert tiny.means(found) == pytest.approx(wanted, rel=1e-4)
    assert float(loss) == pytest.approx(sum(wanted.values()), rel=1e-4)
    assert [float(count) for _, count in found.values()] == [7, 7]
    assert all(np.any(np.asarray(grad) != 0) for grad in jax.tree.leaves(grads))


def test_masking_overlaps_and_blocks_change_what_they_should():
    s = tiny.sample()
    params = tiny.prepared(objective__mask_overlaps=True)[1]
    results = {}
    for key, value in (("mask_overlaps", True), ("mask_overlaps", False), ("block_rows", 3)):
        model = GraftObjective(tiny.config(**{f"objective__{key}": value}))
        (loss, _), grads = tiny.step_of(model)(params, {}, s)
        results[key, value] = float(loss), jax.tree.leaves(grads)
    plain, unmasked, blocks = results.values()
    assert abs(plain[0] - unmasked[0]) > 1e-3
    assert blocks[0] == pytest.approx(plain[0], rel=1e-5)
    for a, b in zip(blocks[1], plain[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max())


@pytest.mark.parametrize("level", ["image", "pixel"])
def test_a_level_trains_its_own_head_alone(level):
    model = GraftObjective(tiny.config(objective__level=level))
    s, params = tiny.sample(), tiny.prepared()[1]
    (_, found), grads = tiny.step_of(model)(params, {}, s)
    assert set(found) == set(model.weights) == {f"{level}_ground"}
    wanted = loops(model, params, s)[f"{level}_ground"]
    assert tiny.means(found)[f"{level}_ground"] == pytest.approx(wanted, rel=1e-4)
    heads = grads["satellite"]["projection"]["kernel"], grads["projector"]["linear"]["kernel"]
    assert [bool(np.any(head)) for head in heads] == [level == "image", level == "pixel"]


def test_places_outside_of_the_image_do_not_count_for_pixels():
    model, params = tiny.prepared(objective__mask_overlaps=True)
    s = tiny.sample()
    outside = s | {"photo_xy": s["photo_xy"].copy()}
    outside["photo_xy"][4], outside["photo_xy"][3, 0] = (3.0, -0.5), (16.0, 4.0)
    masked = s | {"photo_mask": s["photo_mask"].copy()}
    masked["photo_mask"][4] = masked["photo_mask"][3, 0] = False
    step = tiny.step_of(model)
    one, two = (step(params, {}, given)[0][1] for given in (outside, masked))
    np.testing.assert_allclose(one["pixel_ground"], two["pixel_ground"], rtol=1e-5)
    np.testing.assert_allclose(
        one["image_ground"], step(params, {}, s)[0][1]["image_ground"], rtol=1e-5
    )


def test_the_patch_that_holds_a_pixel():
    images = np.zeros((1, 8, 12, 3))
    xy = np.array([[[0, 0], [3.99, 4], [4, 3.99], [11.999, 7.999], [12, 0], [5, 8], [-0.01, 1]]])
    patches, inside = terms.patch_of(xy.astype(np.float32), images, 4)
    np.testing.assert_array_equal(patches[0, :4], [0, 3, 1, 5])
    np.testing.assert_array_equal(inside[0], [1, 1, 1, 1, 0, 0, 0])
    assert int(patches.min()) >= 0 and int(patches.max()) < 6


def test_overlaps_of_footprints():
    boxes = [
        (10, 0, 11, 1),
        (11, 0, 12, 1),  # shares an edge with the first
        (10.5, 0.5, 11.5, 1.5),  # overlaps both
        (10.25, 0.25, 10.5, 0.5),  # inside the first, shares a corner with the third
        (170, -5, 190, 5),  # across the antimeridian
        (-175, -1, -170, 1),  # inside it, written from the west
        (185, 5, 186, 6),  # touches it from the north
        (-180, -90, 180, 90),  # everything
    ]
    wanted = np.eye(len(boxes), dtype=bool)
    for a, b in ((0, 2), (1, 2), (0, 3), (4, 5), *((i, 7) for i in range(7))):
        wanted[a, b] = wanted[b, a] = True
    np.testing.assert_array_equal(terms.overlaps(*[jnp.array(boxes, jnp.float32)] * 2), wanted)


def test_random_footprints_overlap_as_intervals_do():
    rng = np.random.default_rng(0)
    west, south = rng.integers(-180, 180, 60), rng.integers(-80, 60, 60)
    size = rng.integers(1, 60, (60, 2))
    boxes = np.stack([west, south, west + size[:, 0], south + size[:, 1]], axis=1)
    s = {"tile_id": np.arange(60), "footprint": boxes.astype(np.float32)}
    wanted = [[shares_ground(s, a, b, True) for b in range(60)] for a in range(60)]
    np.testing.assert_array_equal(terms.overlaps(s["footprint"], s["footprint"]), wanted)


def test_the_student_starts_as_its_teacher():
    source, params = tiny.teacher()
    model = GraftObjective(tiny.config(), start=params["image"])
    variables = tiny.init(model)
    images = tiny.sample()["image"]
    mine = model.embed_images(**variables, images=images)
    its = source.embed_images(params, {}, images)
    assert set(mine) == {"image", "pixels"}
    for name in mine:
        np.testing.assert_allclose(mine[name], its[name], atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(mine[name], axis=-1), 1, rtol=1e-5)


def test_a_fresh_student_projects_patches_as_its_class_token():
    model = GraftObjective(tiny.config())
    params = tiny.init(model)["params"]
    satellite, projector = params["satellite"], params["projector"]
    np.testing.assert_array_equal(projector["linear"]["kernel"], satellite["projection"]["kernel"])
    np.testing.assert_array_equal(projector["norm"]["scale"], satellite["vit"]["norm"]["scale"])


def test_the_ground_tower_in_the_step_gives_the_terms_of_its_embeddings():
    source, teacher = tiny.teacher()
    params = tiny.prepared()[1]
    s = tiny.sample()
    photos = np.random.default_rng(4).integers(0, 256, (8, 3, 16, 16, 3)).astype(np.uint8)
    embedded = source.embed_images(teacher, {}, photos.reshape(-1, 16, 16, 3))["image"]
    cached = {**s, "photos": np.asarray(embedded).reshape(8, 3, -1)}
    shown = {key: value for key, value in s.items() if key != "photos"} | {"photo_image": photos}
    model = GraftObjective(tiny.config(), ground=tiny.ground())
    frozen = tiny.init(model)["frozen"]
    (one, _), one_grads = tiny.step_of(model)(params, frozen, shown)
    (two, _), two_grads = tiny.step_of(GraftObjective(tiny.config()))(params, {}, cached)
    assert float(one) == pytest.approx(float(two), rel=1e-5)
    for a, b in zip(*map(jax.tree.leaves, (one_grads, two_grads)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max())


@pytest.mark.parametrize("ground", [False, True])
def test_logical_axes_have_the_structure_of_the_variables(ground):
    model: Objective = GraftObjective(tiny.config(), ground=tiny.ground() if ground else None)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    assert set(shapes["frozen"]) == ({"ground"} if ground else set())
    jax.tree.map(
        lambda leaf, names: None if len(names) == len(leaf.shape) else pytest.fail(str(names)),
        shapes,
        model.logical_axes(),
    )


@pytest.mark.parametrize("block_rows", [None, 8])
def test_eight_devices_give_the_terms_and_gradients_of_one(block_rows):
    model = GraftObjective(tiny.config(objective__block_rows=block_rows))
    params, results = tiny.prepared()[1], []
    for devices in (1, 8):
        mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
        rows, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ()))
        placed = jax.device_put(params, whole), {}, jax.device_put(tiny.sample(), rows)
        results.append(jax.device_get(tiny.step_of(model)(*placed)))
    ((one, _), one_grads), ((eight, _), eight_grads) = results
    assert float(eight) == pytest.approx(float(one), rel=1e-5)
    for a, b in zip(*map(jax.tree.leaves, (eight_grads, one_grads)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max())


def test_a_fixed_temperature_is_no_parameter_and_a_learned_one_is_clamped():
    fixed, params = tiny.prepared()
    assert "scale" not in params and fixed.project(params) is params
    assert isinstance(fixed, ReportsScalars)
    assert float(fixed.scalars(params)["logit_scale/ground"]) == pytest.approx(1 / 0.07)
    learned = GraftObjective(tiny.config(objective__learn_temperature=True))
    start = tiny.init(learned)["params"]
    assert float(learned.scalars(start)["logit_scale/ground"]) == pytest.approx(1 / 0.07)
    grads = tiny.step_of(learned)(start, {}, tiny.sample())[1]
    assert float(grads["scale"]["value"]) != 0
    for value, wanted in ((-1.0, 1.0), (9.0, 100.0)):
        projected = learned.project(params | {"scale": {"value": jnp.float32(value)}})
        scale = learned.scalars(projected)["logit_scale/ground"]
        assert float(scale) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(
    "changes", [{"objective__symmetric": True}, {"objective__contrast": "sigmoid"}]
)
def test_other_contrasts_differ_and_learn(changes):
    model = GraftObjective(tiny.config(**changes))
    params, s = tiny.init(model)["params"], tiny.sample()
    step = tiny.step_of(model)
    (first, found), _ = step(params, {}, s)
    plain = tiny.step_of(GraftObjective(tiny.config()))
    reference = {name: params[name] for name in ("satellite", "projector")}
    assert abs(float(first) - float(plain(reference, {}, s)[0][0])) > 1e-3
    assert all(np.isfinite(value) for value, _ in found.values())
    for _ in range(20):
        (loss, _), grads = step(params, {}, s)
        params = model.project(jax.tree.map(lambda p, g: p - 0.02 * g, params, grads))
    assert float(loss) < 0.9 * float(first)
    assert set(model.scalars(params)) >= {"logit_scale/ground"}


def test_the_student_learns_its_pairs():
    model = GraftObjective(tiny.config(), start=tiny.teacher()[1]["image"])
    params, s, step = tiny.init(model)["params"], tiny.sample(), tiny.step_of(model)
    (first, _), _ = step(params, {}, s)
    for _ in range(40):
        (loss, _), grads = step(params, {}, s)
        params = jax.tree.map(lambda p, g: p - 0.02 * g, params, grads)
    assert float(loss) < 0.7 * float(first)


def products(jaxpr):
    """FLOPs of the matrix products of a traced program without loops."""
    found = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            contracted = equation.params["dimension_numbers"][0][0]
            depth = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            found += 2 * depth * math.prod(equation.outvars[0].aval.shape)
        found += sum(map(products, core.jaxprs_in_params(equation.params)))
    return found


@pytest.mark.parametrize("level", ["image", "pixel"])
def test_analytic_flops_are_those_of_the_program(level):
    model = GraftObjective(tiny.config(objective__level=level, model__scan=False))
    params = jax.eval_shape(model.init, jax.random.key(0))["params"]
    batch = {"pairs": tiny.sample()}
    jaxpr = jax.make_jaxpr(lambda p: model.terms(p, {}, batch, jax.random.key(0)))(params)
    # Left out of the count: the logits of the contrast, against the batch and within a tile.
    anchors = 1 if level == "image" else tiny.P
    logits = 2 * anchors * tiny.P * tiny.E * (tiny.B + 1)
    assert model.flops_per_sample() == 3 * (products(jaxpr.jaxpr) / tiny.B - logits)
    shown = GraftObjective(tiny.config(objective__level=level), ground=tiny.ground())
    ground = clip.vision_flops(tiny.ground().config)
    assert shown.flops_per_sample() == model.flops_per_sample() + tiny.P * ground


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model__image__size": 18}, "18 is not divisible by patch size 4"),
        ({"model__image__heads": 0}, "model.image.heads=0"),
        ({"model__embed_dim": 2.5}, "model.embed_dim=2.5"),
        ({"objective__level": "tile"}, "objective.level='tile'"),
        ({"objective__contrast": "triplet"}, "objective.contrast='triplet'"),
        ({"objective__temperature": 0.0}, "objective.temperature=0.0"),
        ({"objective__temperature": "warm"}, "objective.temperature='warm'"),
        ({"objective__block_rows": 0}, "objective.block_rows=0"),
        ({"objective__weights__image_ground": 0.0}, "objective.weights.image_ground is 0"),
        ({"objective__weights__mim": 1.0}, "['mim']"),
        (
            {"objective__contrast": "sigmoid", "objective__symmetric": True},
            "objective.symmetric=True",
        ),
        ({"data__photos": 0}, "data.photos=0"),
        ({"data__std": (0.2, 0.2)}, "data.std"),
    ],
)
def test_impossible_configs_are_refused(changes, words):
    with pytest.raises(UserError) as error:
        GraftObjective(tiny.config(**changes))
    assert words in str(error.value) and "\n" not in str(error.value)


def test_towers_that_do_not_fit_are_refused():
    tower = tiny.teacher()[1]["image"]
    with pytest.raises(UserError, match="tower to start from .* is .16, 8., it must be .16, 6."):
        GraftObjective(tiny.config(model__embed_dim=6), start=tower)
    with pytest.raises(UserError, match="projection/kernel is missing"):
        GraftObjective(tiny.config(), start={"vit": tower["vit"]})
    ground = tiny.ground()
    other = clip.vision_config(
        image_size=16, patch_size=8, embed_dim=8, transformer=ground.config.vit.transformer
    )
    with pytest.raises(UserError, match="ground tower does not fit"):
        GraftObjective(tiny.config(), ground=GroundTower(other, tower, ground.mean, ground.std))


def test_batches_that_do_not_fit_are_refused():
    model, params = tiny.prepared()
    s = tiny.sample()
    narrow = s | {"photos": s["photos"][..., :5]}
    with pytest.raises(UserError, match="photos are embedded in 5 .* model.embed_dim=8"):
        model.terms(params, {}, {"pairs": narrow}, jax.random.key(0))
    shown = {key: value for key, value in s.items() if key != "photos"}
    with pytest.raises(UserError, match="no ground tower"):
        model.terms(params, {}, {"pairs": shown}, jax.random.key(0))
