"""FLAVA beside `transformers`: forward, six losses, gradients, and what we write for it."""

import agreement
import numpy as np
import pytest
import run_flava

pytest.importorskip("torch")
pytest.importorskip("transformers")

from originals import drawing, flava  # noqa: E402
from transformers import FlavaConfig, FlavaForPreTraining, FlavaImageCodebook, FlavaModel  # noqa: E402  # noqa: E402

from rsvl_jax.weights.families import dalle, flava_huggingface  # noqa: E402

pytestmark = pytest.mark.parity
FAMILY = flava_huggingface.FAMILY


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_tiny_models_agree(seed):
    made = flava.model(flava.TINY, seed=seed)
    run_flava.check(FAMILY, flava.case(made, flava.inputs(made.config, seed)), 1e-5)


def test_the_published_size_agrees():
    made = flava.model({}, std=0.03)
    case = flava.case(made, flava.inputs(made.config))
    assert len(case.weights) == 618
    run_flava.check(FAMILY, case, 1e-4)


@pytest.mark.parametrize("kind", [FlavaForPreTraining, FlavaModel])
def test_transformers_loads_what_we_write(kind, tmp_path):
    made = drawing.redraw(kind(FlavaConfig(**flava.TINY)), std=0.2)
    model = agreement.imported(FAMILY, drawing.weights(made), made.config.to_diff_dict())
    folder = agreement.write_folder(tmp_path / "ours", model)
    back, told = kind.from_pretrained(folder, output_loading_info=True)
    assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    given = flava.inputs(made.config)
    for ours, theirs in zip(flava.run(back, given), flava.run(made, given), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    if kind is FlavaForPreTraining:
        ours, theirs = flava.case(back, given).losses, flava.case(made, given).losses
        assert ours == theirs


def test_transformers_loads_the_image_tokenizer_that_we_write(tmp_path):
    config = FlavaConfig(**flava.TINY).image_codebook_config
    made = drawing.redraw(FlavaImageCodebook(config))
    model = agreement.imported(dalle.HUGGINGFACE, drawing.weights(made))
    back = FlavaImageCodebook.from_pretrained(agreement.write_folder(tmp_path / "ours", model))
    theirs, ours = drawing.weights(made), drawing.weights(back)
    assert set(ours) == set(theirs)
    for name in theirs:
        np.testing.assert_array_equal(ours[name], theirs[name])
