"""Runs from folders of other people, at full size, start at the loss that the originals give.

CLIP ViT-B/16 and BERT-base as `transformers` writes them, SatCLIP (L=40) as Lightning does; random
weights, a real batch of the run's own pipeline, the run's own projections.
"""

import string

import jax
import numpy as np
import pytest
import starts

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from originals import clip, drawing, location  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from configs import flavars, graft  # noqa: E402
from flavars_jax.experiment import Experiment as FlavarsRun  # noqa: E402
from graft_jax.experiment import Experiment as GraftRun  # noqa: E402
from rsvl_jax.parallel.mesh import make_mesh  # noqa: E402

pytestmark = pytest.mark.parity
ROWS, TOLERANCE = 8, 1e-4


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """(root folder of what they wrote, {"clip", "bert", "satclip": model})."""
    root = tmp_path_factory.mktemp("originals")
    made = {
        "clip": clip.model(clip.BASE, std=0.03),
        "bert": drawing.redraw(transformers.BertModel(transformers.BertConfig()), std=0.03),
        "satclip": drawing.redraw(location.SatClip(40, width=512, dim=256), std=0.05).double(),
    }
    made["clip"].save_pretrained(root / "clip")
    made["bert"].save_pretrained(root / "bert")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *",.0123456789"]
    pieces += [*string.ascii_lowercase]
    pieces += [f"##{letter}" for letter in string.ascii_lowercase]
    pieces += [f"[unused{index}]" for index in range(30_522 - len(pieces))]
    (root / "bert" / "vocab.txt").write_text("\n".join(pieces) + "\n")
    satclip = {"state_dict": made["satclip"].state_dict(), "hyper_parameters": {"lr": 1e-4}}
    torch.save(satclip, root / "satclip.ckpt")
    return root, made


def first_of(batches):
    try:
        return next(batches)
    finally:
        batches.close()


def one_device():
    return make_mesh(devices=jax.devices()[:1])


def tensors(sample):
    return {name: torch.from_numpy(np.array(value)) for name, value in sample.items()}


def normal(images, config):
    """Pixels uint8 [..., H, W, 3] -> float32 [..., 3, H, W], normalised."""
    mean, std = (torch.tensor(config.data[name], dtype=torch.float32) for name in ("mean", "std"))
    return ((images.float() / 255 - mean) / std).movedim(-1, -3)


def contrast(a, b, scale, same):
    """Symmetric InfoNCE in float64; `same` bool [B, B]: which pairs are positives."""
    a, b = F.normalize(a.double(), dim=-1), F.normalize(b.double(), dim=-1)
    costs = [
        -(F.log_softmax(logits, dim=1) * same).sum(1) / same.sum(1)
        for logits in (np.exp(scale) * a @ b.T, np.exp(scale) * b @ a.T)
    ]
    return float(torch.stack(costs).mean())


def assert_same(terms, expected):
    assert set(terms) == set(expected)
    for name, value in expected.items():
        assert abs(terms[name] - value) <= TOLERANCE * abs(value), (name, terms[name], value)


def test_flavars_from_clip_bert_and_satclip(originals, mini_earth_tiles, tmp_path):
    root, made = originals
    config = flavars.get_config("base,clip")
    config.objective.weights.image_location = 1.0
    config.data.update(name="earth_tiles/mini", dir=mini_earth_tiles, batch_size=ROWS, workers=0)
    config.model.image.update(activation="quick_gelu", ln_eps=1e-5, stem_norm=True)
    config.model.text.update(norm="post", ln_eps=1e-12)
    config.model.update(dtype="float32", remat="none")
    names = {"image": "clip", "text": "bert", "location": "satclip.ckpt"}
    config.init_from.update({part: str(root / name) for part, name in names.items()})
    run = FlavarsRun.open(config, str(tmp_path))
    assert run.objective.settings.text.vocab_size == 30_522
    settings = run.objective.settings
    batch = first_of(run.inputs.batches(config, settings, one_device(), 0))
    state, terms = starts.first(config, run.objective, run.inputs.manifest, batch)
    sample = tensors(batch["paired"])
    assert len(sample["text"].unique()) > 10
    with torch.no_grad():
        image = made["clip"].vision_model(normal(sample["image"], config)).pooler_output
        text = made["bert"](sample["text"].long(), sample["text_mask"].long()).last_hidden_state
        place = made["satclip"](sample["lon"].numpy(), sample["lat"].numpy())
    towers = {"image": image.numpy(), "text": text[:, 0].numpy()}

    def projected(name, tower):
        return torch.from_numpy(starts.projected(state, name, tower, towers[tower]))

    scale = config.objective.logit_scale_init
    same = sample["text_id"][:, None] == sample["text_id"]
    pair = projected("image_text", "image"), projected("image_text", "text")
    here = projected("image_location", "image"), place
    expected = {
        "image_text": contrast(*pair, scale, same),
        "image_location": contrast(*here, scale, torch.eye(ROWS, dtype=torch.bool)),
    }
    assert_same(terms, expected)


def test_graft_from_clip(originals, mini_zoom_pairs, tmp_path):
    root, made = originals
    config = graft.get_config("naip,both")
    config.data.update(name="zoom_pairs/mini", dir=mini_zoom_pairs, batch_size=ROWS, workers=0)
    config.data.update(photos=2, ground="step")
    config.model.update(dtype="float32", remat="none")
    config.init_from.teacher = str(root / "clip")
    run = GraftRun.open(config, str(tmp_path))
    own = run._student(0)
    batch = first_of(run.inputs.batches(own, one_device(), 0, None))
    _, terms = starts.first(own, run.objective, run._manifest, batch, leave=("teacher",))
    sample = tensors(batch["pairs"])
    tower, vision = made["clip"], made["clip"].vision_model
    with torch.no_grad():
        out = vision(normal(sample["image"], config))
        tiles = tower.visual_projection(out.pooler_output)
        patches = tower.visual_projection(vision.post_layernorm(out.last_hidden_state[:, 1:]))
        photos = normal(sample["photo_image"].flatten(0, 1), config)
        ground = tower.visual_projection(vision(photos).pooler_output)
        ground = F.normalize(ground, dim=-1).unflatten(0, (ROWS, 2))
    cell = (sample["photo_xy"] // config.model.image.patch).long()
    side = config.model.image.size // config.model.image.patch
    where = cell[..., 1] * side + cell[..., 0]
    pixels = torch.gather(patches, 1, where[..., None].expand(-1, -1, patches.shape[-1]))
    scale = 1 / config.objective.temperature
    anchors = {"image_ground": tiles[:, None].expand(-1, 2, -1), "pixel_ground": pixels}
    expected = {n: many_to_one(n, a, ground, sample, scale) for n, a in anchors.items()}
    assert_same(terms, expected)


def many_to_one(name, anchors, photos, sample, scale):
    """The paper's loss, photo by photo; of other tiles those count that show other ground, and are
    no copies of what the anchor stands for."""
    mask, ids = sample["photo_mask"], sample["photo_id"]
    west, south, east, north = sample["footprint"].double().T
    assert (east <= 180).all()  # none across the antimeridian
    apart = (west[:, None] >= east) | (west >= east[:, None])
    apart |= (south[:, None] >= north) | (south >= north[:, None])
    costs = []
    for tile in torch.nonzero(mask.any(1)).flatten():
        mine = ids[tile][mask[tile]]
        assert len(mine.unique()) == len(mine)
        own = torch.zeros_like(mask)
        own[tile] = mask[tile]
        cost = []
        for slot in torch.nonzero(mask[tile]).flatten():
            copies = mine if name == "image_ground" else ids[tile, slot]
            other = apart[tile][:, None] & mask & ~torch.isin(ids, copies)
            cosines = F.normalize(anchors[tile, slot].double(), dim=0) @ photos.double().mT
            logits = scale * cosines
            cost.append(torch.logsumexp(logits[other | own], 0) - logits[tile, slot])
        costs.append(torch.stack(cost).mean())
    return float(torch.stack(costs).mean())
