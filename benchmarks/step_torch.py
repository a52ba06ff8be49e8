"""The PyTorch side of `benchmarks/step.py`: Hugging Face `FlavaForPreTraining`, all losses on."""

import argparse

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import FlavaConfig, FlavaForPreTraining

from benchmarks import contest
from benchmarks.step_shape import SHAPE, SIZES, Shape, captions, paired_batch


def build(shape: Shape) -> FlavaForPreTraining:
    """Returns the randomly initialised model of a shape."""
    tower = {
        "hidden_size": shape.width,
        "num_hidden_layers": shape.depth,
        "num_attention_heads": shape.heads,
        "intermediate_size": 4 * shape.width,
    }
    config = FlavaConfig(
        image_config={**tower, "image_size": SHAPE.image, "patch_size": SHAPE.patch,
                      "vocab_size": SHAPE.codebook},
        text_config={**tower, "vocab_size": SHAPE.vocabulary},
        multimodal_config={**tower, "num_hidden_layers": SHAPE.fusion_depth},
        projection_dim=shape.width,
        hidden_size=shape.width,
        init_codebook=False,
    )  # fmt: skip
    return FlavaForPreTraining(config)


def loss_of(model: FlavaForPreTraining, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """All six FLAVA losses on one paired batch.

    The library leaves the MIM and MLM heads out on paired batches; they are added here, because
    the other contender computes them.
    """
    # The model overwrites its label arguments, so it gets copies.
    outputs = model(
        input_ids=batch["text"],
        input_ids_masked=batch["text_masked"],
        pixel_values=batch["image"],
        attention_mask=batch["text_mask"],
        bool_masked_pos=batch["mim_mask"].reshape(len(batch["image"]), *SHAPE.grid),
        mim_labels=batch["mim_labels"].clone(),
        mlm_labels=batch["mlm_labels"].clone(),
        itm_labels=batch["itm_label"],
        skip_unmasked_multimodal_encoder=True,
        return_loss=True,
    )
    loss = sum(value for value in outputs.loss_info.values() if value is not None)
    chosen = batch["mim_mask"]
    image = outputs.image_masked_embeddings[:, -SHAPE.patches :][chosen]
    text = outputs.text_masked_embeddings[batch["mlm_labels"] != -100]
    loss = loss + cross_entropy(model.mim_head(image), batch["mim_labels"][chosen])
    labels = batch["mlm_labels"][batch["mlm_labels"] != -100]
    return loss + cross_entropy(model.mlm_head(text), labels)


def tensors(batch: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Turns the shared NumPy batch into what the library takes."""
    out = {name: torch.from_numpy(np.asarray(value)) for name, value in batch.items()}
    return {
        **out,
        "image": out["image_normalised"].permute(0, 3, 1, 2).contiguous(),
        "text": out["text"].long(),
        "text_masked": out["text_masked"].long(),
        "text_mask": out["text_mask"].long(),
        "mim_labels": out["mim_labels_dense"].long(),
        "mlm_labels": out["mlm_labels_dense"].long(),
        "itm_label": out["itm_label"].long(),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=SHAPE.batch)
    parser.add_argument("--real_captions", action="store_true")
    parser.add_argument("--size", default="small", choices=SIZES)
    options = parser.parse_args()
    torch.manual_seed(0)
    gpu = torch.cuda.is_available() and options.size == "base"
    device = "cuda" if gpu else "cpu"
    model = build(SIZES[options.size]).train().to(device)
    loss = torch.compile(loss_of) if gpu else loss_of
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1)
    lengths = captions() if options.real_captions else None
    batch = tensors(paired_batch(options.batch, lengths, trim=False))
    batch = {name: value.to(device) for name, value in batch.items()}

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=gpu):
            value = loss(model, batch)
        value.backward()
        optimizer.step()
        if gpu:
            torch.cuda.synchronize()

    contest.serve(step)


if __name__ == "__main__":
    main()
