"""CLIP and SigLIP of open_clip: tiny ones."""

from dataclasses import replace

import numpy as np
import open_clip
import torch
from open_clip.loss import SigLipLoss
from open_clip.model import CLIP, CustomTextCLIP
from stored import Case

from originals import clip, drawing

TINY = {
    "embed_dim": 12,
    "vision_cfg": {
        "image_size": 16,
        "patch_size": 8,
        "layers": 2,
        "width": 20,
        "head_width": 5,
        "mlp_ratio": 1.4,
    },
    "text_cfg": {
        "context_length": 9,
        "vocab_size": 40,
        "width": 16,
        "heads": 2,
        "layers": 2,
        "mlp_ratio": 1.5,
    },
}


def inputs(config, *, seed=0, fill=0):
    """Images [B, 3, H, W]; texts that end with the largest id, then `fill`."""
    rng = np.random.default_rng(seed)
    text, size = config["text_cfg"], config["vision_cfg"]["image_size"]
    images = rng.standard_normal((clip.BATCH, 3, size, size))
    length, end = text["context_length"], text["vocab_size"] - 1
    ids = rng.integers(1, end, (clip.BATCH, length))
    mask = np.arange(length) < rng.integers(2, length, (clip.BATCH, 1))
    np.put_along_axis(ids, mask.sum(1, keepdims=True) - 1, end, axis=1)
    return {
        "pixel_values": images.astype(np.float32),
        "input_ids": np.where(mask, ids, fill),
        "attention_mask": mask,
    }


def model(config, *, seed=0, std=0.2):
    """CLIP or CustomTextCLIP of one of open_clip's model configs, random."""
    own = {key: value for key, value in config.items() if key != "custom_text"}
    made = (CustomTextCLIP if config.get("custom_text") else CLIP)(**own)
    return drawing.redraw(made, seed=seed, std=std, fixed=("logit_scale", "logit_bias"))


def case(made, config, given):
    """What the model gives for the inputs, its contrast, and the gradients of that."""
    images = made.encode_image(torch.from_numpy(given["pixel_values"]), normalize=True)
    texts = made.encode_text(torch.from_numpy(given["input_ids"]), normalize=True)
    logits = made.logit_scale.exp() * images @ texts.T
    if made.logit_bias is None:
        loss = open_clip.ClipLoss()(images, texts, made.logit_scale.exp())
    else:
        logits = logits + made.logit_bias
        loss = SigLipLoss()(images, texts, made.logit_scale.exp(), made.logit_bias)
    loss.backward()
    return Case(
        config={"model_cfg": config},
        weights=drawing.weights(made),
        inputs=given,
        outputs=drawing.arrays(
            {"image_embeds": images, "text_embeds": texts, "logits_per_image": logits}
        ),
        losses=drawing.arrays({"contrastive": loss}),
        gradients=drawing.gradients(made),
    )


def siglip(width, *, seed=0):
    """CustomTextCLIP of a tiny text tower beside timm's smallest SigLIP tower, random."""
    config = {
        "embed_dim": width,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 256,
            "timm_model_name": "vit_base_patch32_siglip_256",
            "timm_model_pretrained": False,
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": {
            **TINY["text_cfg"],
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
            "norm_kwargs": {"eps": 1e-6},
        },
    }
    made = model(config, seed=seed, std=0.03)
    return case(made, config, inputs(config, seed=seed))


def tiny(**changes):
    config = {**TINY, **changes}
    return case(model(config), config, inputs(config))


CASES = {"clip_open_clip": lambda: replace(tiny(quick_gelu=True), gradients={})}
