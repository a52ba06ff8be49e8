"""ViT, ViT-MAE and DINOv2 of `transformers`, tiny: image towers and what is learned from them."""

import numpy as np
import torch
import transformers
from stored import Case

from originals import drawing

SIZES = {
    "image_size": 12,
    "patch_size": 4,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "attn_implementation": "eager",
}
FIXED = ("decoder_pos_embed", "vit.embeddings.position_embeddings")  # sin-cos, as MAE has them
MASKED = 0.5


def images(side, count=2):
    """float32 [B, 3, H, W]."""
    return torch.randn((count, 3, side, side), generator=torch.Generator().manual_seed(3))


def run(model, pixels, config):
    """Case of a tower: its tokens, and gradients of a weighted sum of them."""
    tokens = model(pixels)
    direction = torch.cos(torch.arange(tokens.numel(), dtype=torch.float32)).reshape(tokens.shape)
    loss = (tokens * direction).sum() / 10
    loss.backward()
    return Case(
        drawing.weights(model),
        drawing.arrays({"images": pixels.permute(0, 2, 3, 1), "direction": direction}),
        drawing.arrays({"tokens": tokens}),
        drawing.arrays({"loss": loss}),
        drawing.gradients(model),
        config,
    )


class Tokens(torch.nn.Module):
    """A model as the function to its tokens that has its names."""

    def __init__(self, model, registers=0):
        super().__init__()
        self.model, self.registers = model, registers

    def forward(self, pixels):
        tokens = self.model(pixels).last_hidden_state
        return torch.cat([tokens[:, :1], tokens[:, 1 + self.registers :]], dim=1)

    def state_dict(self, **options):
        return self.model.state_dict(**options)

    def named_parameters(self):
        return self.model.named_parameters()


def table(side, width):
    """Positions of MAE's checkpoints, float32 [side*side, width]: columns first, sines first."""
    omega = 1 / 10000 ** (np.arange(width // 4) / (width / 4))
    place = np.arange(side)
    column, row = np.tile(place, side)[:, None] * omega, np.repeat(place, side)[:, None] * omega
    parts = [np.sin(column), np.cos(column), np.sin(row), np.cos(row)]
    return np.concatenate(parts, axis=1).astype(np.float32)


def vit(std=0.1, **sizes):
    """ViTModel, without its pooler."""
    config = transformers.ViTConfig(**{**SIZES, "intermediate_size": 24, **sizes})
    model = drawing.redraw(transformers.ViTModel(config, add_pooling_layer=False), std=std)
    return run(Tokens(model), images(config.image_size), config.to_dict())


def dinov2(std=0.1, **sizes):
    """Dinov2WithRegistersModel."""
    options = {**SIZES, "mlp_ratio": 2, "num_register_tokens": 3, **sizes}
    config = transformers.Dinov2WithRegistersConfig(**options)
    model = drawing.redraw(transformers.Dinov2WithRegistersModel(config), std=std)
    pixels = images(config.image_size)
    return run(Tokens(model, config.num_register_tokens), pixels, config.to_dict())


def mae(std=0.1, **sizes):
    """ViTMAEForPreTraining, with the noise that orders the patches."""
    decoder = {"decoder_hidden_size": 8, "decoder_num_hidden_layers": 1}
    decoder |= {"decoder_num_attention_heads": 2, "decoder_intermediate_size": 12}
    options = {**SIZES, "intermediate_size": 24, **decoder, "mask_ratio": MASKED, **sizes}
    config = transformers.ViTMAEConfig(**options)
    model = transformers.ViTMAEForPreTraining(config)
    count = (config.image_size // config.patch_size) ** 2
    for value in (model.vit.embeddings.position_embeddings, model.decoder.decoder_pos_embed):
        value.data[0, 1:] = torch.from_numpy(table(round(count**0.5), value.shape[-1]))
    drawing.redraw(model, std=std, fixed=FIXED)
    pixels = images(config.image_size)
    noise = torch.rand((2, count), generator=torch.Generator().manual_seed(4))
    output = model(pixels, noise=noise)
    encoded = model.vit(pixels, noise=noise)
    output.loss.backward()
    return Case(
        drawing.weights(model),
        drawing.arrays({"images": pixels.permute(0, 2, 3, 1), "noise": noise}),
        drawing.arrays({"tokens": encoded.last_hidden_state, "pixels": output.logits}),
        drawing.arrays({"loss": output.loss}),
        drawing.gradients(model),
        config.to_dict(),
    )


CASES = {"vit": vit, "mae": mae, "dinov2": dinov2}
