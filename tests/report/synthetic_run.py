"""A small work directory with everything a report can show."""

import json

import numpy as np

from rsvl_jax import report
from rsvl_jax.evaluation import card as cards
from rsvl_jax.evaluation.card import Card, Provenance, Reference

HOSTILE = "<script>alert('x')</script> & \"quotes\" <img src=https://evil.example/x>"


def metric_lines():
    """Step 0 evaluates, step 1 is the value at initialisation, then every tenth step."""
    lines = [{"step": 0, "eval/zeroshot/balanced_accuracy": 9.0}]
    for step in [1, *range(10, 301, 10)]:
        term = 1 + 5 * np.exp(-(step - 1) / 60)
        lines.append(
            {
                "step": step,
                "train/learning_rate": 1e-3 * (1 - step / 300),
                "train/loss": 2 * term,
                "train/loss/mim": term,
                "train/loss/image_text": term,
                "perf/input_wait": 0.01,
                "perf/mfu": None,
                "perf/samples_per_second": 80.0,
            }
        )
    return [*lines, {"step": 300, "eval/zeroshot/balanced_accuracy": 50.0}]


def score_cards():
    """Two scores with references and classes, one that does not apply."""
    shared = {
        "dataset": "earth_tiles 1.0.0",
        "split": "test",
        "n": 1095,
        "provenance": Provenance("abc", 300, "0123456789abcdef"),
    }
    zeroshot = Card(
        task="zeroshot",
        metric="balanced_accuracy",
        title="zero-shot land cover by prompts",
        value=52.1,
        interval=(47.7, 55.7),
        chance=8.3,
        references=(
            Reference("untrained encoder", 9.2, (7.0, 11.0), (39.0, 46.0)),
            Reference("colour statistics + |latitude|", 53.6, (50.0, 57.0), (-5.6, 2.4)),
        ),
        protocol={"prompts": ["a photo of {c}.", HOSTILE]},
        per_class={"barren": 84.0, HOSTILE: 7.3},
        note="captions and labels come from one raster",
        **shared,
    )
    segmentation = Card(
        task="segmentation/linear",
        metric="mean_iou_frequent",
        title="land-cover segmentation",
        value=38.0,
        interval=(35.0, 41.0),
        references=(Reference("untrained encoder", 31.0, (29.0, 33.0), (2.2, 10.2)),),
        **shared,
    )
    absent = Card(
        task="retrieval/image_to_text", metric="recall@10", note="not applicable: no text encoder"
    )
    return [zeroshot, segmentation, absent]


def pictures(*shape, seed=0):
    """Noise, uint8 [*shape, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def illustrations(side=16, count=4):
    """One of each, with hostile text wherever text goes."""
    texts = [HOSTILE, *(f"caption {i}" for i in range(1, count))]
    right = np.zeros((count, 5), bool)
    right[0, 0] = True
    ranks = np.arange(1, count + 1) * 7 - 6
    images = pictures(count, side, side)
    return report.Illustrations(
        tiles=report.TileMap(
            np.array([0.0, 100.0]), np.array([10.0, -30.0]), ["train", "test"], 4.0
        ),
        reconstructions=report.Reconstructions(images, images, images, texts),
        image_to_text=report.CaptionRetrievals(
            images, texts, [texts[:1] * 5] * count, right, ranks, 99
        ),
        text_to_image=report.ImageRetrievals(
            texts, pictures(count, 5, side, side), right, ranks, 99
        ),
        similarities=[
            report.Similarity(HOSTILE, 31.2, 30.0, np.linspace(-1, 1, 36 * 72).reshape(36, 72))
        ],
        facts={"method": "FLAVARS", "hardware": HOSTILE, "date": "2025-01-01"},
        glossary={"mim": HOSTILE},
    )


def write_run(workdir, *, metrics=True, scores=True):
    """config.json, metrics.jsonl and scores.json of a run."""
    config = {"seed": 0, "data": {"name": "earth_tiles", "batch_size": 64}, "note": HOSTILE}
    (workdir / "config.json").write_text(json.dumps(config))
    if metrics:
        lines = "".join(json.dumps(line) + "\n" for line in metric_lines())
        (workdir / "metrics.jsonl").write_text(lines + '{"step": 310, "train/l')
    if scores:
        cards.write(str(workdir / "scores.json"), score_cards())
    return str(workdir)
