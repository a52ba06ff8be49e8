"""FLAVA of `transformers`: tiny ones, and the published size."""

import numpy as np
import torch
from stored import Case
from transformers import FlavaConfig, FlavaForPreTraining

from originals import drawing

TOWER = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
TINY = {
    "image_config": {
        **TOWER,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
        "vocab_size": 24,
    },
    "text_config": {
        **TOWER,
        "num_attention_heads": 4,
        "vocab_size": 40,
        "max_position_embeddings": 12,
    },
    "multimodal_config": {**TOWER, "num_hidden_layers": 1, "num_attention_heads": 2},
    "image_codebook_config": {"hidden_size": 4, "vocab_size": 24},
    "hidden_size": 16,
    "projection_dim": 20,
}
LENGTH = 8  # of the texts, in tokens
MATCHES = np.array([1, 0, 1, 1])  # one text is another image's
IGNORED = -100


def model(config, *, seed=0, std=0.2):
    """FlavaForPreTraining of a config as a dict, random, with its codebook."""
    made = FlavaForPreTraining(FlavaConfig(**config))
    return drawing.redraw(made, seed=seed, std=std, fixed=("logit_scale",))


def inputs(config, seed=0):
    """Images, pixels of the codebook in [0, 1], texts whole and masked, what is masked."""
    rng = np.random.default_rng(seed)
    image, text = config.image_config, config.text_config
    grid, batch = image.image_size // image.patch_size, len(MATCHES)
    pixels = rng.standard_normal((batch, 3, image.image_size, image.image_size))
    mask = np.arange(LENGTH) < rng.integers(3, LENGTH + 1, (batch, 1))
    ids = np.where(mask, rng.integers(1, text.vocab_size, (batch, LENGTH)), 0)
    hidden = mask & (rng.random(mask.shape) < 0.5)
    hidden[:, 1] = True  # at least one word a text, the class token never
    hidden[:, 0] = False
    patches = rng.random((batch, grid * grid)) < 0.4
    patches[:, 0] = True
    return {
        "pixel_values": pixels.astype(np.float32),
        "codebook_pixels": rng.random((batch, 3, 8 * grid, 8 * grid)).astype(np.float32),
        "input_ids": ids,
        "input_ids_masked": np.where(hidden, 3, ids),
        "attention_mask": mask,
        "mlm_labels": np.where(hidden, ids, IGNORED),
        "bool_masked_pos": patches,
        "itm_labels": MATCHES,
    }


def case(made, given):
    """The six losses, from a paired pass, an image-only and a text-only one; their gradients."""
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in given.items()}
    tensors["attention_mask"] = tensors["attention_mask"].long()
    codebook_pixels = 0.8 * tensors.pop("codebook_pixels") + 0.1
    codes = made.image_codebook.blocks(codebook_pixels)
    labels = codes.argmax(1).flatten(1)
    image = {name: tensors[name] for name in ("pixel_values", "bool_masked_pos")}
    words = ("input_ids", "input_ids_masked", "attention_mask", "mlm_labels")
    text = {name: tensors[name] for name in words}
    # Labels are changed in place: a copy for each pass.
    paired = made(**tensors, mim_labels=labels.clone(), return_loss=True)
    seen = made(**image, mim_labels=labels.clone(), return_loss=True)
    read = made(**text, return_loss=True)
    losses = {
        "mmm_text": paired.loss_info.mmm_text,
        "mmm_image": paired.loss_info.mmm_image,
        "itm": paired.loss_info.itm,
        "global_contrastive": paired.loss_info.global_contrastive,
        "mim": seen.loss_info.mim,
        "mlm": read.loss_info.mlm,
    }
    sum(losses.values()).backward()
    outputs = {
        "image_embeddings": paired.image_embeddings,
        "text_embeddings": paired.text_embeddings,
        "image_masked_embeddings": paired.image_masked_embeddings,
        "text_masked_embeddings": paired.text_masked_embeddings,
        "multimodal_masked_embeddings": paired.multimodal_masked_embeddings,
        "itm_logits": paired.itm_logits,
        "contrastive_logits_per_image": paired.contrastive_logits_per_image,
        "codebook_logits": codes.permute(0, 2, 3, 1),
    }
    return Case(
        config=made.config.to_diff_dict(),
        weights=drawing.weights(made),
        inputs=given,
        outputs=drawing.arrays(outputs),
        losses=drawing.arrays(losses),
        gradients=drawing.gradients(made),
    )


def run(made, given):
    """What a FlavaModel, or more, gives for whole inputs: a list of arrays."""
    own = {name: given[name] for name in ("pixel_values", "input_ids", "attention_mask")}
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in own.items()}
    tensors["attention_mask"] = tensors["attention_mask"].long()
    model = made.flava if isinstance(made, FlavaForPreTraining) else made
    with torch.no_grad():
        out = model(**tensors)
    found = [out.image_embeddings, out.text_embeddings, out.multimodal_embeddings]
    poolers = [out.image_output, out.text_output, out.multimodal_output]
    return [x.numpy() for x in (*found, *(each.pooler_output for each in poolers))]


def tiny():
    made = model(TINY)
    return case(made, inputs(made.config))


CASES = {"flava": tiny}
