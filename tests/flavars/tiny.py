"""A FLAVARS small enough to compile in seconds, its batches, and one jitted step by preset."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from configs import flavars
from flavars_jax.objective import FlavarsObjective
from rsvl_jax.training.objective import total

PRESETS = ("flavars", "flava", "clip", "mae", "satclip")
SIZE, PATCH, N = 16, 4, 16
CODES, VOCAB, LENGTH = 24, 40, 10
KI, KT, KEEP = 6, 4, 4
REGIONS, PHRASE = 3, 6


def _quick_options():
    """Compiling is most of the time of these tests: optimise less, as far as this XLA lets us."""
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    try:
        faster = options | {"xla_cpu_use_fusion_emitters": False}
        jax.jit(jnp.sin, compiler_options=faster)(0.0)
    except jax.errors.JaxRuntimeError:
        return options
    return faster


QUICK = _quick_options()


def config(preset="flavars", **changes):
    """The recipe of a preset at tiny sizes; changes by dotted key, dots written as `__`."""
    tiny = flavars.get_config(preset)
    tower = {"width": 16, "depth": 2, "heads": 2, "mlp_dim": 32}
    tiny.model.image.update(size=SIZE, patch=PATCH, **tower)
    tiny.model.text.update(vocab_size=VOCAB, length=LENGTH, **tower)
    tiny.model.fusion.update(**tower)
    tiny.model.location.update(degree=4, width=16, dim=12)
    tiny.model.decoder.update(width=16, depth=1, heads=2)
    tiny.model.update(embed_dim=8, location_dim=12)
    ratio = KI / N if tiny.objective.mim_design == "codebook" else 1 - KEEP / N
    tiny.objective.update(codebook_size=CODES, image_mask_ratio=ratio, text_mask_ratio=0.3)
    tiny.objective.update(regions=REGIONS, phrase_length=PHRASE)
    for key, value in changes.items():
        *sections, leaf = key.split("__")
        section = functools.reduce(lambda node, name: node[name], sections, tiny)
        with section.ignore_type():
            section[leaf] = value
    return tiny


def codebook(seed=0):
    return np.random.default_rng(seed).random((CODES, PATCH * PATCH * 3), np.float32)


def objective(preset="flavars", **changes):
    return FlavarsObjective(config(preset, **changes), codebook=codebook())


def sample(rows=16, seed=0):
    """Pairs as the input pipeline makes them: repeated captions, swaps, padded masks."""
    rng = np.random.default_rng(seed)

    def choose(count, size):
        return np.stack([rng.permutation(size)[:count] for _ in range(rows)]).astype(np.int32)

    lengths = rng.integers(5, LENGTH + 1, rows)
    positions = choose(KI, N)
    mask = np.zeros((rows, N), bool)
    np.put_along_axis(mask, positions, True, axis=1)
    text_mask = np.arange(LENGTH) < lengths[:, None]
    text = np.where(text_mask, rng.integers(5, VOCAB, (rows, LENGTH)), 0).astype(np.int32)
    text[:, 0] = 2
    text_id = rng.integers(0, rows * 2, rows).astype(np.int32)
    text[1], text_mask[1], text_id[1] = text[0], text_mask[0], text_id[0]
    words = 1 + np.stack([rng.permutation(4)[:KT] for _ in range(rows)]).astype(np.int32)
    masked = text.copy()
    np.put_along_axis(masked, words, 4, axis=1)
    label = np.ones(rows, np.int32)
    label[[2, 5]] = 0
    return {
        "image": rng.integers(0, 256, (rows, SIZE, SIZE, 3)).astype(np.uint8),
        "mim_mask": mask,
        "mim_positions": positions,
        "mim_weights": np.ones((rows, KI), np.float32),
        "mae_keep": choose(KEEP, N),
        "text": text,
        "text_mask": text_mask,
        "text_masked": masked,
        "mlm_positions": words,
        "mlm_labels": np.take_along_axis(text, words, axis=1),
        "mlm_weights": (rng.random((rows, KT)) < 0.8).astype(np.float32),
        "text_id": text_id,
        "itm_label": label,
        "lon": rng.uniform(-180, 180, rows).astype(np.float32),
        "lat": rng.uniform(-80, 80, rows).astype(np.float32),
        **regions(rows, np.random.default_rng(seed + 100)),
    }


def regions(rows, rng):
    """Boxes and phrases, of which some are not there; phrases that recur."""
    corners = np.sort(rng.uniform(0, SIZE, (rows, REGIONS, 2, 2)), axis=2).astype(np.float32)
    kinds = rng.integers(5, VOCAB, (20, PHRASE)).astype(np.int32)
    kinds[:, 0] = 2
    lengths = rng.integers(2, PHRASE + 1, 20)
    ids = rng.integers(0, 20, (rows, REGIONS))
    mask = np.arange(PHRASE) < lengths[ids][..., None]
    there = rng.integers(0, REGIONS + 1, rows)
    there[:2] = 0, REGIONS
    return {
        "region_boxes": corners.reshape(rows, REGIONS, 4),
        "region_mask": np.arange(REGIONS) < there[:, None],
        "region_text": np.where(mask, kinds[ids], 0),
        "region_text_mask": mask,
        "region_id": ids.astype(np.int32),
    }


def moved(tree, seed=1, by=0.1):
    """Parameters away from their start, where zero tokens and biases hide mistakes."""
    leaves, treedef = jax.tree.flatten(tree)
    rng = np.random.default_rng(seed)
    noise = [by * rng.standard_normal(leaf.shape).astype(np.float32) for leaf in leaves]
    return jax.tree.unflatten(treedef, [x + y for x, y in zip(leaves, noise, strict=True)])


def step_of(model):
    """jitted (params, frozen, batch) -> ((loss, terms), gradients), quickly compiled."""

    def loss(params, frozen, batch):
        terms = model.terms(params, frozen, batch, jax.random.key(7))
        return total(terms, model.weights, jnp.zeros((), jnp.int32))[0], terms

    return jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=QUICK)


def init(model):
    """Fresh variables on the host."""
    return jax.device_get(jax.jit(model.init, compiler_options=QUICK)(jax.random.key(0)))


def drawn(model, seed=2):
    """Variables of the right shapes from NumPy, where the true start does not matter."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        around = 1.0 if name.endswith(("norm/scale", "scale/value")) else 0.0
        return (around + 0.1 * rng.standard_normal(leaf.shape)).astype(np.float32)

    shapes = jax.eval_shape(model.init, jax.random.key(0))
    variables = jax.tree_util.tree_map_with_path(draw, shapes)
    if model.settings.predicts_codes:
        variables["frozen"]["tokenizer"] = {"centroids": codebook()}
    return variables


@functools.cache
def prepared(preset):
    """(objective, fresh variables) of a preset, made once."""
    model = objective(preset)
    return model, init(model)


@functools.cache
def compiled(preset, devices):
    """(compiled step, put): put(params, frozen, samples) places them, the batch over `devices`."""
    model, variables = prepared(preset)
    mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
    rows, whole = (NamedSharding(mesh, spec) for spec in (PartitionSpec("data"), PartitionSpec()))

    def put(params, frozen, samples):
        return (*jax.device_put((params, frozen), whole), jax.device_put({"paired": samples}, rows))

    arguments = put(variables["params"], variables["frozen"], sample())
    return step_of(model).lower(*arguments).compile(), put


def run(preset, params=None, samples=None, devices=1):
    """((loss, means of the terms), gradients) on the host; parameters moved unless given."""
    _, variables = prepared(preset)
    params = moved(variables["params"]) if params is None else params
    samples = sample() if samples is None else samples
    step, put = compiled(preset, devices)
    (loss, terms), grads = jax.device_get(step(*put(params, variables["frozen"], samples)))
    return (loss, means(terms)), grads


def means(terms):
    return {name: float(value) / max(float(count), 1) for name, (value, count) in terms.items()}


def named(tree):
    """Leaves by path."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def contrast(pair, scale, rows, matches):
    """Float64 loops: symmetric contrast of a pair of embeddings over some rows."""
    a, b = (np.asarray(x, np.float64) for x in pair)
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    logits = math.exp(scale) * a @ b.T
    costs = []
    for direction, positives in ((logits, matches), (logits.T, matches.T)):
        for i in np.flatnonzero(rows):
            log_p = direction[i] - np.log(np.exp(direction[i]).sum())
            costs.append(-np.mean(log_p[positives[i]]))
    return np.mean(costs)
