import agreement
import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from originals import drawing  # noqa: E402
from originals import vit as originals  # noqa: E402
from test_vit_stored import autoencoder, check, tower  # noqa: E402

from parity import torchvision_stub  # noqa: E402
from rsvl_jax.weights import imports  # noqa: E402
from rsvl_jax.weights.exports import export  # noqa: E402
from rsvl_jax.weights.families import dino, timm_vit, vit_huggingface  # noqa: E402

pytestmark = pytest.mark.parity
WIDER = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 3, "image_size": 16}


@pytest.mark.parametrize(("name", "run"), [("vit", tower), ("dinov2", tower), ("mae", autoencoder)])
def test_live(name, run):
    check(getattr(originals, name)(**WIDER), vit_huggingface.FAMILY, run, 1e-5)


def test_base_size():
    sizes = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
    sizes |= {"intermediate_size": 3072, "image_size": 32, "patch_size": 16}
    case = originals.vit(std=0.02, **sizes)
    check(case, vit_huggingface.FAMILY, tower, 1e-4)


@pytest.mark.parametrize(
    ("model", "family", "options"),
    [
        ("vit_base_patch16_224", timm_vit.FAMILY, {}),
        ("vit_base_patch16_clip_224", timm_vit.FAMILY, {}),
        ("vit_small_patch16_224", dino.DINO, {}),
        ("vit_base_patch14_dinov2", dino.DINO_V2, {"init_values": 0.1}),
        ("vit_base_patch14_reg4_dinov2", dino.DINO_V2, {"init_values": 0.1}),
    ],
)
def test_timm(model, family, options):
    torchvision_stub.install()
    timm = pytest.importorskip("timm")
    sizes = {"embed_dim": 32, "depth": 2, "num_heads": 4, "img_size": 16, "patch_size": 4}
    original = drawing.redraw(timm.create_model(model, num_classes=0, **sizes, **options))

    class Tokens(torch.nn.Module):
        def forward(self, pixels):
            out = original.forward_features(pixels)
            return torch.cat([out[:, :1], out[:, original.num_prefix_tokens :]], dim=1)

        def state_dict(self, **options):
            return original.state_dict(**options)

        def named_parameters(self):
            return original.named_parameters()

    case = originals.run(Tokens(), originals.images(16), {"num_heads": 4})
    check(case, family, tower, 1e-5)


def test_from_a_folder_and_back(tmp_path):
    """Saved by transformers, imported, exported, and read again by ViTModel."""
    sizes = {**originals.SIZES, "intermediate_size": 24}
    config = transformers.ViTConfig(**sizes)
    original = drawing.redraw(transformers.ViTModel(config, add_pooling_layer=False))
    original.save_pretrained(tmp_path / "theirs")
    imported = imports.load(str(tmp_path / "theirs"))
    assert imported.stored.family == "vit-huggingface"
    assert not imported.account.unused and not imported.account.left
    export(str(tmp_path / "theirs"), str(tmp_path / "ours"), "huggingface")
    back = transformers.ViTModel.from_pretrained(
        tmp_path / "ours", add_pooling_layer=False, attn_implementation="eager"
    )
    pixels = originals.images(12)
    with torch.no_grad():
        expected, actual = (m(pixels).last_hidden_state.numpy() for m in (original, back))
    np.testing.assert_array_equal(actual, expected)
    agreement.check_close({"tokens": actual}, {"tokens": expected}, 0)
