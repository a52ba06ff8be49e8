"""CLIP beside `transformers` and open_clip: forward, loss, gradients, what we write for them."""

import agreement
import numpy as np
import pytest
import run_clip

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from originals import clip, drawing  # noqa: E402
from transformers import (  # noqa: E402  # noqa: E402
    CLIPModel,
    CLIPTextModelWithProjection,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
)

from rsvl_jax.weights.families import clip_huggingface, clip_openai  # noqa: E402

pytestmark = pytest.mark.parity
FAMILY = clip_huggingface.FAMILY


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu", "gelu_pytorch_tanh"])
def test_tiny_models_agree(activation, seed):
    made = clip.model(clip.TINY, activation=activation, seed=seed)
    run_clip.check(FAMILY, clip.case(made, clip.inputs(made.config, seed)), 1e-5)


def test_the_base_model_agrees():
    made = clip.model(clip.BASE, std=0.03)
    assert sum(p.numel() for p in made.parameters()) == 149_620_737
    run_clip.check(FAMILY, clip.case(made, clip.inputs(made.config)), 1e-4)


def test_other_image_sizes_agree():
    made = clip.model(clip.TINY)
    images = np.random.default_rng(0).standard_normal((2, 3, 24, 32)).astype(np.float32)
    with torch.no_grad():
        out = made.vision_model(torch.from_numpy(images), interpolate_pos_encoding=True)
    model = agreement.imported(FAMILY, drawing.weights(made), made.config.to_diff_dict())
    ours = model.module("image")(images.transpose(0, 2, 3, 1))
    theirs = drawing.arrays({"hidden": out.last_hidden_state})
    agreement.check_close({"hidden": ours.hidden}, theirs, 1e-5)


@pytest.mark.parametrize(
    "kind", [CLIPModel, CLIPVisionModel, CLIPVisionModelWithProjection, CLIPTextModelWithProjection]
)
def test_transformers_loads_what_we_write(kind, tmp_path):
    made = drawing.redraw(kind(clip.config_of(kind)), std=0.2)
    model = agreement.imported(FAMILY, drawing.weights(made), made.config.to_diff_dict())
    folder = agreement.write_folder(tmp_path / "ours", model)
    back, told = kind.from_pretrained(folder, output_loading_info=True)
    assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    given = clip.inputs(clip.config_of(CLIPModel))
    for ours, theirs in zip(clip.run(back, given), clip.run(made, given), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.fixture
def towers():
    pytest.importorskip("open_clip")
    from originals import open_clip_towers

    return open_clip_towers


@pytest.mark.parametrize("changes", [{"quick_gelu": True}, {}, {"custom_text": True}])
def test_open_clip_agrees(towers, changes):
    run_clip.check(clip_openai.FAMILY, towers.tiny(**changes), 1e-5)


def test_open_clip_loads_what_we_write(towers):
    config = {**towers.TINY, "quick_gelu": True}
    made = towers.model(config)
    model = agreement.imported(clip_openai.FAMILY, drawing.weights(made), {"model_cfg": config})
    written = clip_openai.FAMILY.config(model.model.settings)["model_cfg"]
    back = towers.model(written, seed=1)
    back.load_state_dict({k: torch.from_numpy(v) for k, v in agreement.exported(model).items()})
    given = towers.inputs(config)
    ours, theirs = towers.case(back, written, given), towers.case(made, config, given)
    for name in theirs.outputs:
        np.testing.assert_array_equal(ours.outputs[name], theirs.outputs[name])
