"""SigLIP beside `transformers` and open_clip: forward, sigmoid loss, gradients, what we write."""

import agreement
import numpy as np
import pytest
import run_clip

pytest.importorskip("torch")
pytest.importorskip("transformers")

from originals import drawing, siglip  # noqa: E402
from transformers import SiglipModel  # noqa: E402

from rsvl_jax.weights.families import siglip_huggingface, siglip_open_clip  # noqa: E402

pytestmark = pytest.mark.parity
FAMILY = siglip_huggingface.FAMILY


@pytest.mark.parametrize("seed", [1, 2])
def test_tiny_models_agree(seed):
    run_clip.check(FAMILY, siglip.tiny(seed), 1e-5)


def test_transformers_loads_what_we_write(tmp_path):
    made = siglip.model(siglip.TINY)
    model = agreement.imported(FAMILY, drawing.weights(made), made.config.to_diff_dict())
    folder = agreement.write_folder(tmp_path / "ours", model)
    back, told = SiglipModel.from_pretrained(folder, output_loading_info=True)
    assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    given = siglip.inputs(made.config)
    ours, theirs = siglip.case(back.eval(), given), siglip.case(made, given)
    for name in theirs.outputs:
        np.testing.assert_array_equal(ours.outputs[name], theirs.outputs[name])
    assert ours.losses == theirs.losses


def test_open_clip_agrees():
    """timm's tower is that of a base model, with the fewest patches that one has."""
    pytest.importorskip("open_clip")
    from originals import open_clip_towers

    run_clip.check(siglip_open_clip.FAMILY, open_clip_towers.siglip(768), 1e-4)
