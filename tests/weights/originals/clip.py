"""CLIP of `transformers`: tiny ones, and ViT-B/16."""

from dataclasses import replace

import numpy as np
import torch
from stored import Case
from transformers import CLIPConfig, CLIPModel

from originals import drawing

BATCH = 4
TINY = {
    "text_config": {
        "vocab_size": 40,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 9,
        "projection_dim": 12,
        "bos_token_id": 38,
        "eos_token_id": 39,
    },
    "vision_config": {
        "hidden_size": 20,
        "intermediate_size": 28,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 16,
        "patch_size": 8,
        "projection_dim": 12,
    },
    "projection_dim": 12,
}
BASE = {"projection_dim": 512, "vision_config": {"patch_size": 16}, "text_config": {}}


def model(config, *, activation="quick_gelu", seed=0, std=0.2):
    """CLIPModel of a config as a dict, random."""
    made = CLIPConfig(**config)
    made.text_config.hidden_act = made.vision_config.hidden_act = activation
    return drawing.redraw(CLIPModel(made), seed=seed, std=std, fixed=("logit_scale",))


def config_of(kind):
    """The tiny config, or that of one tower, for a class of CLIP's."""
    both = CLIPConfig(**TINY)
    if kind is CLIPModel:
        return both
    return both.vision_config if "Vision" in kind.__name__ else both.text_config


def run(made, given):
    """What a model of any of CLIP's classes gives: a list of arrays."""
    own = {"pixel_values": given["pixel_values"]} if "Text" not in type(made).__name__ else {}
    if "Vision" not in type(made).__name__:
        own |= {name: given[name].astype(np.int64) for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        out = made(**{name: torch.from_numpy(value) for name, value in own.items()})
    return [value.numpy() for value in out.to_tuple() if isinstance(value, torch.Tensor)]


def inputs(config, seed=0):
    """Images [B, 3, H, W], and texts that end with the end token, then padding."""
    rng = np.random.default_rng(seed)
    vision, text = config.vision_config, config.text_config
    images = rng.standard_normal((BATCH, 3, vision.image_size, vision.image_size))
    length, end = text.max_position_embeddings, text.vocab_size - 1
    ids = rng.integers(1, end, (BATCH, length))
    mask = np.arange(length) < rng.integers(2, length, (BATCH, 1))
    np.put_along_axis(ids, mask.sum(1, keepdims=True) - 1, end, axis=1)
    return {
        "pixel_values": images.astype(np.float32),
        "input_ids": np.where(mask, ids, end),
        "attention_mask": mask,
    }


def case(made, given):
    """What the model gives for the inputs, its contrast, and the gradients of that."""
    out = made(
        pixel_values=torch.from_numpy(given["pixel_values"]),
        input_ids=torch.from_numpy(given["input_ids"]),
        attention_mask=torch.from_numpy(given["attention_mask"].astype(np.int64)),
        return_loss=True,
    )
    out.loss.backward()
    outputs = {
        "image_hidden": out.vision_model_output.last_hidden_state,
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


def tiny(activation):
    made = model(TINY, activation=activation)
    return case(made, inputs(made.config))


CASES = {
    "clip_quick_gelu": lambda: tiny("quick_gelu"),
    # Another activation needs no gradients of its own: they are two thirds of a case.
    "clip_gelu": lambda: replace(tiny("gelu"), gradients={}),
}
