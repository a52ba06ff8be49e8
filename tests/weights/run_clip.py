"""CLIP and SigLIP of ours on the inputs of a case, by the names of `transformers`' outputs."""

import agreement
import jax
import jax.numpy as jnp
import numpy as np

from rsvl_jax.losses import contrastive


def forward(model, arrays, inputs):
    """The loss and {"image_hidden", "image_embeds", "text_embeds", "logits_per_image"}."""
    images = jnp.asarray(inputs["pixel_values"].transpose(0, 2, 3, 1))
    image = model.module("image", arrays)(images)
    ids = jnp.asarray(inputs["input_ids"])
    text = model.module("text", arrays)(ids, jnp.asarray(inputs["attention_mask"]))
    scale = arrays["scale/value"]
    logits = jnp.exp(scale) * contrastive.similarity(a=image.embedding, b=text)
    pairs = {"a": image.embedding, "b": text, "logit_scale": scale}
    if "bias/value" in arrays:
        logits = logits + arrays["bias/value"]
        total, count = contrastive.sigmoid(**pairs, logit_bias=arrays["bias/value"])
    else:
        total, count = contrastive.info_nce(**pairs)
    outputs = {
        "image_hidden": image.hidden,
        "image_embeds": contrastive.unit(image.embedding),
        "text_embeds": contrastive.unit(text),
        "logits_per_image": logits,
    }
    return total / count, outputs


def check(family, case, tolerance):
    """Outputs, loss and all gradients of the case, and the round trip of its weights."""
    model = agreement.imported(family, case.weights, case.config)
    run = jax.jit(jax.value_and_grad(lambda a: forward(model, a, case.inputs), has_aux=True))
    (loss, outputs), gradients = run({k: jnp.asarray(v) for k, v in model.arrays.items()})
    told = {name: outputs[name] for name in case.outputs}
    agreement.check_close(told, case.outputs, tolerance)
    agreement.check_close({"contrastive": loss}, case.losses, tolerance)
    if case.gradients:
        theirs = agreement.exported(model, {k: np.asarray(v) for k, v in gradients.items()})
        agreement.check_gradients(theirs, case.gradients, tolerance)
    agreement.check_round_trip(model, case.weights)
    return model
