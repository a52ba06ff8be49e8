"""SigLIP of `transformers`: tiny ones, and ViT-B/16."""

import numpy as np
import torch
from stored import Case
from transformers import SiglipConfig, SiglipModel

from originals import drawing

BATCH = 4
TINY = {
    "text_config": {
        "vocab_size": 32,
        "hidden_size": 12,
        "intermediate_size": 20,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 6,
        "projection_size": 16,
        "bos_token_id": 30,
        "eos_token_id": 31,
    },
    "vision_config": {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 16,
        "patch_size": 8,
    },
}


def model(config, *, seed=0, std=0.2):
    """SiglipModel of a config as a dict, random; its scale and bias as at the start of training."""
    fixed = ("logit_scale", "logit_bias")
    made = drawing.redraw(SiglipModel(SiglipConfig(**config)), seed=seed, std=std, fixed=fixed)
    with torch.no_grad():
        made.logit_scale.fill_(float(np.log(10)))
        made.logit_bias.fill_(-10)
    return made


def inputs(config, seed=0):
    """Images [B, 3, H, W], and texts padded to the full length, which all tokens see."""
    rng = np.random.default_rng(seed)
    vision, text = config.vision_config, config.text_config
    images = rng.standard_normal((BATCH, 3, vision.image_size, vision.image_size))
    length = text.max_position_embeddings
    ids = rng.integers(2, text.vocab_size, (BATCH, length))
    mask = np.arange(length) < rng.integers(2, length, (BATCH, 1))
    return {
        "pixel_values": images.astype(np.float32),
        "input_ids": np.where(mask, ids, 1),
        "attention_mask": mask,
    }


def case(made, given):
    """What the model gives for the inputs, its sigmoid contrast, and the gradients of that."""
    out = made(
        pixel_values=torch.from_numpy(given["pixel_values"]),
        input_ids=torch.from_numpy(given["input_ids"]),
        return_loss=True,
    )
    out.loss.backward()
    outputs = {
        "image_embeds": out.image_embeds,
        "text_embeds": out.text_embeds,
        "logits_per_image": out.logits_per_image,
    }
    return Case(
        config=made.config.to_diff_dict(),
        weights=drawing.weights(made),
        inputs=given,
        outputs=drawing.arrays(outputs),
        losses=drawing.arrays({"contrastive": out.loss}),
        gradients=drawing.gradients(made),
    )


def tiny(seed=0):
    made = model(TINY, seed=seed)
    return case(made, inputs(made.config, seed))


CASES = {"siglip": tiny}
