"""Segment Anything's proposals, from a tiny random model that `transformers` wrote."""

import numpy as np
import pytest

from graft_jax.segment.sam import Proposal, SegmentAnything, distinct
from rsvl_jax.errors import UserError


def box(top, left, bottom, right, trust):
    mask = np.zeros((20, 30), bool)
    mask[top:bottom, left:right] = True
    return Proposal.of(mask, trust)


def test_a_proposal_holds_its_mask_and_box():
    found = box(3, 4, 9, 11, 0.9)
    assert found.box == (4, 3, 11, 9)
    assert found.mask((20, 30)).sum() == 6 * 7 and found.mask((20, 30))[3:9, 4:11].all()


def test_of_nearly_the_same_proposals_the_most_trusted_stays():
    one, same, other = box(0, 0, 10, 10, 0.9), box(0, 0, 10, 9, 0.95), box(0, 0, 10, 20, 0.91)
    assert distinct([one, same, other]) == [same, other]  # IoU of boxes 0.9, 0.5 and 0.45
    assert distinct([]) == []


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder with Segment Anything for images of 64 pixels."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = str(tmp_path_factory.mktemp("sam"))
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    grid = {"image_size": 64, "patch_size": 8}
    config = transformers.SamConfig(
        vision_config=sizes
        | grid
        | {
            "output_channels": 16,
            "num_pos_feats": 8,
            "window_size": 0,
            "global_attn_indexes": [0],
            "mlp_dim": 16,
        },
        prompt_encoder_config={"hidden_size": 16, "mask_input_channels": 4, **grid},
        mask_decoder_config=sizes | {"mlp_dim": 16, "iou_head_hidden_dim": 16},
    )
    model = transformers.SamModel(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape))
    model.save_pretrained(folder)
    kind = getattr(transformers, "SamImageProcessorPil", None) or transformers.SamImageProcessor
    size, pad = {"longest_edge": 64}, {"height": 64, "width": 64}
    kind(size=size, pad_size=pad, mask_size={"longest_edge": 32}).save_pretrained(folder)
    return folder


def proposals_by_hand(folder, image, points):
    """Every point on its own, by the model and its processor; all masks, most trusted first."""
    import torch
    import transformers

    model = transformers.SamModel.from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    inputs = processor(images=image, return_tensors="pt")
    height, width = inputs["reshaped_input_sizes"][0].tolist()
    found = []
    for row in range(points):
        for column in range(points):
            at = [[[[(column + 0.5) * width / points, (row + 0.5) * height / points]]]]
            with torch.no_grad():
                out = model(inputs["pixel_values"], input_points=torch.tensor(at))
            logits = processor.post_process_masks(
                out.pred_masks,
                inputs["original_sizes"],
                inputs["reshaped_input_sizes"],
                binarize=False,
            )[0][0]
            found += zip(logits.numpy() > 0, out.iou_scores[0, 0].tolist(), strict=True)
    return [Proposal.of(mask, trust) for mask, trust in found if mask.any()]


def test_proposals_are_those_of_every_point_by_itself(weights):
    image = np.random.default_rng(0).integers(0, 256, (48, 72, 3), dtype=np.uint8)
    valid = np.ones((48, 72), bool)
    valid[:5] = False
    every = SegmentAnything(weights, points=4, trusted=-np.inf, stable=-1)
    found, wanted = every.propose(image), proposals_by_hand(weights, image, 4)
    assert len({each.bits.tobytes() for each in wanted}) > 10
    for one, other in zip(found, wanted, strict=True):
        assert one.trust == pytest.approx(other.trust, abs=1e-4)
        assert (one.mask((48, 72)) == other.mask((48, 72))).mean() > 0.999
    regions = every(image, valid)
    assert regions[5:].max() >= 1 and (regions[:5] == 0).all()
    trusted = SegmentAnything(weights, points=4, trusted=np.inf, stable=-1)
    assert (trusted(image, valid) == 0).all()
    stable = SegmentAnything(weights, points=4, trusted=-np.inf, stable=1.1)
    assert (stable(image, valid) == 0).all()


def test_the_command_refines_with_it(weights, tmp_path):
    from colours_model import ColoursModel
    from PIL import Image

    from graft_jax.segment.__main__ import run

    Image.fromarray(np.full((40, 50, 3), (200, 30, 30), np.uint8)).save(tmp_path / "in.png")
    flags = ["--refine=sam", f"--sam={weights}", "--sam_points=2", "--query=red", "--query=blue"]
    files = [f"--input={tmp_path / 'in.png'}", f"--output={tmp_path / 'out.png'}"]
    run(["--workdir=none", *files, *flags], lambda workdir: ColoursModel())
    with Image.open(tmp_path / "out.png") as found:
        assert (np.asarray(found) == 0).all() and "2 points a side" in found.text["refine"]


def test_other_weights_are_refused(weights, tmp_path):
    transformers = pytest.importorskip("transformers")
    with pytest.raises(UserError, match="no Segment Anything weights"):
        SegmentAnything(str(tmp_path / "nothing"))
    transformers.CLIPConfig().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="'clip', not 'sam'"):
        SegmentAnything(str(tmp_path))
    with pytest.raises(UserError, match="0 points"):
        SegmentAnything(weights, points=0)
