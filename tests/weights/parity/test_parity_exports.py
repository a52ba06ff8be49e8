"""What runs are exported to, loaded by `transformers` and `open_clip` with the card's own lines."""

import model_card
import numpy as np
import pytest
import tiny_runs
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import rsvl_jax  # noqa: E402
from rsvl_jax.evaluation import zeroshot  # noqa: E402
from rsvl_jax.weights import exports  # noqa: E402

pytestmark = pytest.mark.parity
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8)
PICTURES = [Image.fromarray(image) for image in IMAGES]
TEXTS = ["a satellite photo of desert.", "Open WATER, café", "", "word " * 100]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_flavars_as_flava_predicts_the_same(pooling, tmp_path):
    run = tiny_runs.flavars(tmp_path, image_pooling=pooling)[0]
    exports.export(run, str(tmp_path / "out"), "huggingface")
    check(run, model_card.names(tmp_path / "out"))


def test_graft_as_clip_predicts_the_same(tmp_path):
    run = tiny_runs.graft(tmp_path)
    exports.export(run, str(tmp_path / "out"), "huggingface")
    check(run, model_card.names(tmp_path / "out"))


def check(run, theirs):
    ours = rsvl_jax.load(run)
    images, texts = theirs["embed_images"](PICTURES).numpy(), theirs["embed_texts"](TEXTS).numpy()
    np.testing.assert_allclose(images, ours.embed_images(IMAGES), atol=2e-6)
    np.testing.assert_allclose(texts, ours.embed_texts(TEXTS), atol=2e-6)
    classes, prompts = tiny_runs.MANIFEST["classes"], tiny_runs.MANIFEST["prompts"]
    vectors = [
        zeroshot.class_vectors(encode, classes, prompts)
        for encode in (ours.embed_texts, lambda given: theirs["embed_texts"](given).numpy())
    ]
    predictions = zeroshot.predict(ours.embed_images(IMAGES), vectors[0])
    np.testing.assert_array_equal(predictions, zeroshot.predict(images, vectors[1]))


def test_graft_in_open_clip(tmp_path):
    pytest.importorskip("open_clip")
    run = tiny_runs.graft(tmp_path)
    exports.export(run, str(tmp_path / "out"), "open_clip")
    found = model_card.names(tmp_path / "out")
    pixels = torch.stack([found["preprocess"](picture) for picture in PICTURES])
    with torch.no_grad():
        images = found["model"].eval().encode_image(pixels, normalize=True).numpy()
    ours = rsvl_jax.load(run)
    np.testing.assert_allclose(images, ours.embed_images(IMAGES), atol=2e-6)
    words = tiny_runs.tokenizer(tmp_path)
    ids = torch.tensor(np.stack([words.encode(t, tiny_runs.LENGTH)[0] for t in TEXTS]))
    with torch.no_grad():
        texts = found["model"].encode_text(ids.long(), normalize=True).numpy()
    np.testing.assert_allclose(texts, ours.embed_texts(TEXTS), atol=2e-6)


def test_images_alone_as_a_vit(tmp_path):
    from transformers import AutoImageProcessor, ViTModel

    run, out = tiny_runs.flavars(tmp_path, "mae")[0], tmp_path / "out"
    exports.export(run, str(out), "huggingface")
    model = ViTModel.from_pretrained(out, add_pooling_layer=False).eval()
    pixels = AutoImageProcessor.from_pretrained(out)(PICTURES, return_tensors="pt")
    with torch.no_grad():
        tokens = model(**pixels).last_hidden_state.numpy()
    ours = rsvl_jax.load(run).patch_embeddings(IMAGES, space="features", normalize=False)
    np.testing.assert_allclose(tokens[:, 1:], ours, atol=2e-5)
