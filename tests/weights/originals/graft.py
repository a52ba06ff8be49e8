"""GRAFT as its users build it: CLIP's image tower of `transformers`, and a projector of tokens."""

import numpy as np
import torch
from stored import Case
from torch import nn
from torch.nn.functional import normalize
from transformers import CLIPConfig, CLIPVisionModelWithProjection

from originals import clip, drawing

BASE = {"hidden_size": 768, "patch_size": 16, "num_attention_heads": 12}
# A width below 64 is one head where no config tells, as the released files have none.
VISION = {**clip.TINY["vision_config"], "num_attention_heads": 1}
PHOTOS = 2


class Graft(nn.Module):
    """Names as in the released checkpoints."""

    def __init__(self, config):
        super().__init__()
        self.satellite_image_backbone = CLIPVisionModelWithProjection(config)
        width = config.hidden_size
        out = nn.Linear(width, config.projection_dim, bias=False)
        self.projector = nn.Sequential(nn.LayerNorm(width, eps=1e-5), out)
        self.register_buffer("logit_scale", torch.tensor(1 / 0.07))

    def forward(self, images):
        out = self.satellite_image_backbone(pixel_values=images)
        tokens = self.projector(out.last_hidden_state)[:, 1:]
        return normalize(out.image_embeds, dim=-1), normalize(tokens, dim=-1)


def model(vision, *, seed=0, std=0.2):
    """Of CLIP's vision config, random."""
    made = Graft(CLIPConfig(vision_config=vision).vision_config)
    drawing.redraw(made, seed=seed, std=std)
    with torch.no_grad():
        made.projector[0].weight.add_(1)  # its name does not say that it is a norm
    return made


def case(made, seed=0, batch=3):
    """Embeddings of tiles and of their patches, against two photos a tile.

    InfoNCE of each photo against all of the batch (arXiv:2312.06960 eq. 3), of its tile and of the
    patch that it lies in.
    """
    rng = np.random.default_rng(seed)
    config = made.satellite_image_backbone.config
    images = rng.standard_normal((batch, 3, config.image_size, config.image_size))
    photos = rng.standard_normal((batch, PHOTOS, config.projection_dim)).astype(np.float32)
    places = rng.integers(0, (config.image_size // config.patch_size) ** 2, (batch, PHOTOS))
    given = {"images": images.astype(np.float32), "photos": photos, "places": places}
    tiles, patches = made(torch.from_numpy(given["images"]))
    ground = normalize(torch.from_numpy(photos), dim=-1).flatten(0, 1)
    rows = torch.arange(batch).repeat_interleave(PHOTOS)
    anchors = {"image": tiles[rows], "pixel": patches[rows, torch.from_numpy(places).flatten()]}
    own = torch.arange(len(rows))
    losses = {
        name: nn.functional.cross_entropy(made.logit_scale * x @ ground.T, own)
        for name, x in anchors.items()
    }
    sum(losses.values()).backward()
    return Case(
        config={},
        weights=drawing.weights(made),
        inputs=given,
        outputs=drawing.arrays({"image": tiles, "pixels": patches}),
        losses=drawing.arrays(losses),
        gradients=drawing.gradients(made),
    )


def tiny():
    return case(model(VISION))


CASES = {"graft": tiny}
