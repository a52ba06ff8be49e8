"""A run exported to Hugging Face predicts as it did: with `transformers`, by the card's own lines.

    python tests/weights/compare_export.py --workdir=runs/flavars [--data_dir=data]

Needs PyTorch and transformers. Zero-shot land cover of every labelled tile of the test split, by
the run (`rsvl_jax.load`), by the exported folder, and as scores.json has it. Exit status 1 where a
prediction differs, an embedding does by more than 1e-5, or the score is not that of scores.json.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

import model_card  # noqa: E402
import transformers  # noqa: E402
from PIL import Image  # noqa: E402

import rsvl_jax  # noqa: E402
from rsvl_jax import datasets  # noqa: E402
from rsvl_jax.evaluation import card, tiles, zeroshot  # noqa: E402
from rsvl_jax.weights import exports, methods  # noqa: E402

NEAR, BATCH = 1e-5, 128


def main() -> int:
    transformers.logging.set_verbosity_error()  # what it says of heads and poolers is in the card
    given = _parser().parse_args()
    run = methods.open_run(given.workdir)
    data_dir = given.data_dir or run.config["data"]["dir"]
    source = datasets.load(run.config["data"]["name"], data_dir, "test")
    test = tiles.read(source, range(len(source)))
    model = rsvl_jax.load(given.workdir)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        exports.export(given.workdir, str(out), "huggingface")
        theirs = model_card.names(out)
        pictures = [Image.fromarray(image) for image in test.images]
        images = _batches(theirs["embed_images"], pictures)
        encode = [model.embed_texts, lambda texts: _batches(theirs["embed_texts"], texts)]
        vectors = [_vectors(run, each) for each in encode]
    ours = model.embed_images(test.images)
    predicted = [zeroshot.predict(*each) for each in zip((ours, images), vectors, strict=True)]
    far = {
        "images": np.abs(ours - images).max(),
        "texts": np.abs(vectors[0] - vectors[1]).max(),
    }
    return _tell(run, test.labels, predicted, far)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", required=True, help="of a finished FLAVARS run")
    parser.add_argument("--data_dir", help="where its data lie [as the run says]")
    return parser


def _batches(embed, items) -> np.ndarray:
    parts = [embed(items[at : at + BATCH]).numpy() for at in range(0, len(items), BATCH)]
    return np.concatenate(parts)


def _vectors(run: methods.Opened, encode) -> np.ndarray:
    return zeroshot.class_vectors(encode, run.manifest["classes"], run.manifest["prompts"])


def _tell(run, labels, predicted, far) -> int:
    kept = labels >= 0
    same = int((predicted[0] == predicted[1])[kept].sum())
    scores = [_balanced_accuracy(labels[kept], each[kept]) for each in predicted]
    kept_scores = [
        each.value
        for each in card.read(f"{run.folder}/scores.json")
        if (each.task, each.metric) == ("zeroshot", "balanced_accuracy")
    ]
    print(
        f"transformers {transformers.__version__}, step {run.step}: {same} of {kept.sum()} "
        f"predictions are the same ({(predicted[0] == predicted[1]).sum()} of {len(labels)} with "
        f"unlabelled tiles); embeddings differ by at most {far['images']:.1e} (images), "
        f"{far['texts']:.1e} (classes); balanced accuracy {scores[0]:.4f} %, exported "
        f"{scores[1]:.4f} %, scores.json {kept_scores[0]:.4f} %"
    )
    good = same == kept.sum() and max(far.values()) <= NEAR
    return int(not (good and np.allclose(scores, kept_scores[0], atol=1e-6)))


def _balanced_accuracy(labels, predicted) -> float:
    """Mean recall over the classes there are, per cent."""
    return 100 * float(np.mean([(predicted[labels == c] == c).mean() for c in np.unique(labels)]))


if __name__ == "__main__":
    sys.exit(main())
