"""FLAVA of ours on the inputs of a case, by the names of `transformers`' outputs and losses."""

import agreement
import jax
import jax.numpy as jnp
import numpy as np

from rsvl_jax.losses import contrastive, masked, matching


def forward(model, arrays, frozen, inputs, matching_pairs):
    """(sum of the losses, ({name: loss}, {name: output})).

    frozen, inputs: traced, too: of constants XLA computes the codes of the image tokenizer while
    it compiles, which at full size takes hours. matching_pairs: int [M], rows that match.
    """
    arrays = {**frozen, **arrays}
    part = {name: model.module(name, arrays) for name in model.model.parts}
    images = jnp.asarray(inputs["pixel_values"].transpose(0, 2, 3, 1))
    mask = jnp.asarray(inputs["attention_mask"])
    hidden = jnp.asarray(inputs["bool_masked_pos"])
    image, text = part["image"](images), part["text"](jnp.asarray(inputs["input_ids"]), mask)
    image_masked = part["image"](images, mask=hidden)
    text_masked = part["text"](jnp.asarray(inputs["input_ids_masked"]), mask)
    fused = part["fusion"](image_masked.hidden, text_masked.hidden, mask).tokens
    codes = part["tokenizer"].logits(jnp.asarray(inputs["codebook_pixels"].transpose(0, 2, 3, 1)))
    labels = codes.argmax(-1).reshape(len(images), -1)

    rows = matching.matching_rows(jnp.asarray(inputs["itm_labels"]))
    word_labels = jnp.asarray(inputs["mlm_labels"])
    said, count = (word_labels >= 0).astype(jnp.float32), labels.shape[1]

    def codes_loss(head, tokens, weights):
        return _mean(masked.cross_entropy, head(tokens), labels, weights)

    def words_loss(head, tokens, weights):
        return _mean(masked.cross_entropy, head(tokens), word_labels, weights)

    itm = part["itm_head"](fused[:, 0])
    pairs = part["image_text"]
    a, b = pairs.image(image.tokens[:, 0]), pairs.text(text.tokens[:, 0])
    total, number = contrastive.info_nce(a=a, b=b, logit_scale=pairs.scale(), row_weights=rows)
    patches, each = fused[:, 2 : 2 + count], rows[:, None]
    losses = {
        "mmm_image": codes_loss(part["mmm_image_head"], patches, hidden * each),
        "mmm_text": words_loss(part["mmm_text_head"], fused[:, 2 + count :], said * each),
        "itm": _mean(matching.matching, itm, jnp.asarray(inputs["itm_labels"])),
        "global_contrastive": total / number,
        "mim": codes_loss(part["mim_head"], image_masked.tokens[:, 1:], hidden),
        "mlm": words_loss(part["mlm_head"], text_masked.tokens, said),
    }
    kept = matching_pairs  # the originals return the rows that match
    outputs = {
        "image_embeddings": image.tokens,
        "text_embeddings": text.tokens,
        "image_masked_embeddings": image_masked.tokens,
        "text_masked_embeddings": text_masked.tokens,
        "multimodal_masked_embeddings": fused[kept],
        "itm_logits": itm,
        "contrastive_logits_per_image": (jnp.exp(pairs.scale()) * contrastive.similarity(a=a, b=b))[
            kept
        ],
        "codebook_logits": codes,
    }
    return sum(losses.values()), (losses, outputs)


def _mean(loss, logits, labels, weights=None):
    total, count = loss(logits=logits, labels=labels, weights=weights)
    return total / count


def traced(model, case):
    """(`forward` as a function of arrays alone, these: trained, frozen, inputs)."""
    pairs = np.flatnonzero(case.inputs["itm_labels"])
    frozen = {path: model.arrays[path] for path in model.frozen}

    def run(arrays, frozen, inputs):
        return forward(model, arrays, frozen, inputs, pairs)

    return run, (agreement.trained(model), frozen, case.inputs)


def check(family, case, tolerance):
    """Outputs, losses and all gradients of the case, and the round trip of its weights."""
    model = agreement.imported(family, case.weights, case.config)
    run, arguments = traced(model, case)
    (_, (losses, outputs)), gradients = jax.jit(jax.value_and_grad(run, has_aux=True))(*arguments)
    agreement.check_close(outputs, case.outputs, tolerance)
    agreement.check_close(losses, case.losses, tolerance)
    theirs = agreement.exported(model, gradients)
    agreement.check_gradients(theirs, case.gradients, tolerance)
    agreement.check_round_trip(model, case.weights)
    return model
