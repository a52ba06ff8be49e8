"""BERT and RoBERTa of `transformers`, tiny, with their masked-language heads."""

import torch
import transformers
from stored import Case

from originals import drawing

SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "attn_implementation": "eager",
}
LENGTHS = (7, 4)


def inputs(pad, length=7, vocab_size=40, seed=1):
    """ids int64 [2, T] padded with `pad`, and the mask int64 [2, T] of tokens."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, vocab_size, (2, length), generator=generator)
    mask = (torch.arange(length) < torch.tensor(LENGTHS)[:, None] * length // 7).long()
    return torch.where(mask == 1, ids, pad), mask


def run(model, encoder, ids, mask):
    """Case of a masked-language model: hidden states, logits, loss over all tokens, gradients."""
    hidden = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    labels = torch.where(mask == 1, (ids * 7 + 3) % model.config.vocab_size, -100)
    output = model(input_ids=ids, attention_mask=mask, labels=labels)
    output.loss.backward()
    kept = mask.bool()
    return Case(
        drawing.weights(model),
        drawing.arrays({"ids": ids, "mask": mask, "labels": labels}),
        drawing.arrays({"hidden": hidden[kept], "logits": output.logits[kept]}),
        drawing.arrays({"mlm": output.loss}),
        drawing.gradients(model),
        model.config.to_dict() | {"_commit_hash": None},
    )


def bert(std=0.1, **sizes):
    """BertForMaskedLM."""
    config = transformers.BertConfig(max_position_embeddings=9, **{**SIZES, **sizes})
    model = drawing.redraw(transformers.BertForMaskedLM(config), std=std)
    return run(model, model.bert, *inputs(0, 7, config.vocab_size))


def roberta(std=0.1, **sizes):
    """RobertaForMaskedLM, whose positions begin at 2."""
    config = transformers.RobertaConfig(
        max_position_embeddings=10, type_vocab_size=1, layer_norm_eps=1e-5, **{**SIZES, **sizes}
    )
    model = drawing.redraw(transformers.RobertaForMaskedLM(config), std=std)
    return run(model, model.roberta, *inputs(1, 7, config.vocab_size))


CASES = {"bert": bert, "roberta": roberta}
