"""Text put to the students: land cover of coarse tiles of held-out blocks, zero-shot.

(a) the frozen teacher applied to the coarse tile itself, (b) the students, (c) an untrained
student, (d) chance. The paper's claim, in small, is (b) > (a). Protocol, as the cards repeat it:

- Zero-shot scores the tiles that have a label; prompts and class names are the manifest's. A
  balanced accuracy is the mean recall of the classes present.
- Retrieval ranks the same tiles by their cosine to a class vector, one query a class; mAP@k as in
  `rsvl_jax.evaluation.average_precision`.
- The cards without a seed in their name hold the mean over the seeds.
- Intervals resample geographic blocks of the split, all predictors on the same draws.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jax.sharding import Mesh

from graft_jax.ground import GroundCache
from graft_jax.towers import TextImageModel
from rsvl_jax.data.pairs import Source
from rsvl_jax.data.transforms import decode
from rsvl_jax.datasets.fingerprint import decode_mask
from rsvl_jax.evaluation import (
    average_precision,
    classification,
    knn,
    references,
    scoring,
    zeroshot,
)
from rsvl_jax.evaluation.bootstrap import Blocks, percentile
from rsvl_jax.evaluation.card import Card, Provenance, Reference
from rsvl_jax.evaluation.features import encode_texts, extract
from rsvl_jax.evaluation.land_cover_tasks import ACCURACIES
from rsvl_jax.evaluation.suite import MAJORITY
from rsvl_jax.evaluation.tiles import Tiles
from rsvl_jax.evaluation.vectors import normalize

TEACHER = "frozen teacher on the coarse tile"
UNTRAINED = "untrained student"
FINE = "frozen teacher on the fine views, their mean"
KS = (20, 100)
NOTE = (
    "zoom pairs, not ground photos; the teacher's captions and the labels come from one land-cover "
    "raster: partly measures that agreement"
)


@dataclass(frozen=True)
class Contestant:
    """A model, the part of its cards' names that is its own, and what is known of its weights."""

    key: str
    model: TextImageModel
    provenance: Provenance = Provenance()


@dataclass(frozen=True)
class Bench:
    """Held-out tiles, and what is asked of them.

    Attributes:
      test: the labelled tiles of the split.
      vectors: unit class vectors float32 [C, E].
      card: template with data set, split and protocol.
      blocks: draws for the intervals; None for none.
    """

    test: Tiles
    classes: tuple[str, ...]
    vectors: np.ndarray
    card: Card
    blocks: Blocks | None
    batch_size: int
    mesh: Mesh

    @classmethod
    def prepare(
        cls,
        source: Source,
        manifest: Mapping[str, Any],
        teacher: TextImageModel,
        *,
        split: str,
        batch_size: int,
        mesh: Mesh,
        seed: int | None = None,
    ) -> "Bench":
        """Reads a split of zoom pairs; the texts are the frozen teacher's.

        seed: of the draws for the intervals; None for no intervals.
        """
        everything = read(source)
        labelled = everything.take(everything.labels >= 0)
        classes = [zeroshot.names_of(entry)[0] for entry in manifest["classes"]]

        def encode(texts: list[str]) -> np.ndarray:
            return encode_texts(teacher.texts, texts, batch_size=batch_size, mesh=mesh)

        protocol = {
            "image": f"whole tile of {everything.images.shape[1]} pixels, no crop",
            "classes": classes,
            "prompts": list(manifest["prompts"]),
            "class_vector": "each prompt normalised, mean, normalised",
            "tiles": "labelled ones; ambiguous tiles are left out",
            "texts": f"frozen text tower of the teacher {teacher.fingerprint}",
        }
        card = Card(
            task="",
            metric="",
            dataset=f"{manifest['name']} {manifest['version']}",
            dataset_fingerprint=str(manifest["fingerprint"]),
            split=split,
            split_fingerprint=labelled.fingerprint(),
            n=len(labelled),
            protocol=protocol,
            seed=seed or 0,
            note=NOTE,
        )
        return cls(
            test=labelled,
            classes=tuple(classes),
            vectors=zeroshot.class_vectors(encode, manifest["classes"], manifest["prompts"]),
            card=card,
            blocks=None if seed is None else Blocks.draw(labelled.blocks, seed=seed),
            batch_size=batch_size,
            mesh=mesh,
        )

    def embed(self, model: TextImageModel, label: str = "") -> np.ndarray:
        """Unit embeddings of the tiles, float32 [n, E]."""
        return embed(model, self.test.images, self.batch_size, self.mesh, label)


def embed(
    model: TextImageModel, images: np.ndarray, batch_size: int, mesh: Mesh, label: str = ""
) -> np.ndarray:
    """Unit embeddings float32 [n, E] of images uint8 [n, H, W, 3]."""
    found = extract(
        lambda pixels: {"image": model.images(pixels)["image"]},
        images,
        batch_size=batch_size,
        mesh=mesh,
        label=label,
    )
    return found["image"]


def read(source: Source) -> Tiles:
    """The coarse tiles of a split of zoom pairs; they have no captions."""
    records = [source[row] for row in range(len(source))]
    masks = np.stack([decode_mask(record["mask"]) for record in records])
    return Tiles(
        ids=np.array([record["id"] for record in records]),
        images=np.stack([decode(record["image"]) for record in records]),
        captions=np.full(len(records), ""),
        labels=np.array([record["label"] for record in records], np.int32),
        lon=np.array([record["lon"] for record in records]),
        lat=np.array([record["lat"] for record in records]),
        masks=masks,
        purity=np.array([np.bincount(mask.ravel()).max() / mask.size for mask in masks]),
        blocks=np.array([record["block"] for record in records]),
    )


def quick(bench: Bench, model: TextImageModel) -> dict[str, float]:
    """Zero-shot accuracies of one model, in %, for the curves."""
    examples = _tallies(bench, zeroshot.predict(bench.embed(model), bench.vectors))
    totals = examples.sum(axis=0)
    return {f"zeroshot/{name}": 100 * float(of(totals)) for name, of in ACCURACIES.items()}


def score(
    bench: Bench,
    students: Sequence[Contestant],
    teacher: Contestant,
    untrained: Contestant,
    *,
    train: Tiles,
    fine: np.ndarray | None = None,
) -> list[Card]:
    """The cards of zero-shot classification and of retrieval.

    students: one a seed. train: for the baselines that have seen labels. fine: embeddings [n, E] of
    the tiles' fine views by the teacher, their mean: what the students learn to foresee.
    """
    everyone = (*students, teacher, untrained)
    vectors = {each.key: bench.embed(each.model, each.key) for each in everyone}
    named = {TEACHER: vectors[teacher.key], UNTRAINED: vectors[untrained.key]}
    if fine is not None:
        named[FINE] = fine
    found = []
    for make, baselines in ((_zeroshot, _baselines(bench, train)), (_retrieval, {})):
        for each in everyone:
            others = {name: v for name, v in named.items() if v is not vectors[each.key]}
            cards = make(bench, [vectors[each.key]], others if each in students else {}, {})
            found += [_of(card, each.key, each.provenance) for card in cards]
        seeds = [vectors[each.key] for each in students]
        found += [
            replace(card, provenance=_together(students))
            for card in make(bench, seeds, named, baselines)
        ]
    return sorted(found, key=lambda card: "/" in card.task)


def _of(card: Card, key: str, provenance: Provenance) -> Card:
    """A card of one model, named after it."""
    return replace(
        card, task=f"{card.task}/{key}", title=f"{card.title}, {key}", provenance=provenance
    )


def _together(students: Sequence[Contestant]) -> Provenance:
    """Weights of all seeds; their step and code are the same."""
    weights = ", ".join(each.provenance.weights for each in students)
    return replace(students[0].provenance, weights=weights)


def _seeds(values: Sequence[float]) -> dict[str, Any]:
    """What a card of several seeds says of each."""
    if len(values) == 1:
        return {}
    return {
        "by_seed": [round(value, 2) for value in values],
        "standard_deviation_over_seeds": round(float(np.std(values, ddof=1)), 2),
    }


def _zeroshot(
    bench: Bench,
    seeds: Sequence[np.ndarray],
    others: Mapping[str, np.ndarray],
    baselines: Mapping[str, np.ndarray],
) -> list[Card]:
    """Accuracies of embeddings [n, E], the mean over `seeds` of them, beside other embeddings and
    the tallies of baselines."""
    tallies = [_tallies(bench, zeroshot.predict(v, bench.vectors)) for v in seeds]
    beside = {n: _tallies(bench, zeroshot.predict(v, bench.vectors)) for n, v in others.items()}
    outcome = scoring.Outcome(
        # All seeds see the same tiles, so the accuracy of mean tallies is the mean accuracy.
        examples=np.mean(tallies, axis=0),
        references=beside | dict(baselines),
        chance=dict.fromkeys(ACCURACIES, 1 / len(bench.classes)),
        blocks=bench.blocks,
        per_class={"balanced_accuracy": classification.per_class_recall},
        class_names=bench.classes,
    )
    card = replace(bench.card, task="zeroshot", title="zero-shot land cover of coarse tiles")
    found = []
    for made in scoring.cards(card, ACCURACIES, outcome):
        each = [100 * float(ACCURACIES[made.metric](t.sum(axis=0))) for t in tallies]
        found.append(replace(made, protocol={**made.protocol, **_seeds(each)}))
    return found


def _tallies(bench: Bench, predictions: np.ndarray) -> np.ndarray:
    return classification.tallies(predictions, bench.test.labels, len(bench.classes))


def _baselines(bench: Bench, train: Tiles) -> dict[str, np.ndarray]:
    """Tallies of predictors that have seen labels, and nothing or hardly anything of pixels."""
    known, classes = train.take(train.labels >= 0), len(bench.classes)
    most = references.majority(known.labels, len(bench.test), classes)
    found = {MAJORITY: _tallies(bench, most)}
    for name, (ours, theirs) in references.features(known, bench.test).items():
        said = knn.classify(
            knn.L2_5, train=ours, train_labels=known.labels, test=theirs, num_classes=classes
        )
        found[f"{name} (kNN on labels)"] = _tallies(bench, said)
    return found


def _retrieval(
    bench: Bench,
    seeds: Sequence[np.ndarray],
    others: Mapping[str, np.ndarray],
    baselines: Mapping[str, np.ndarray],
) -> list[Card]:
    """mAP@k of class vectors as queries over the tiles as gallery; `baselines` rank nothing."""
    del baselines
    relevant = np.arange(len(bench.classes))[:, None] == bench.test.labels
    counts = None if bench.blocks is None else bench.blocks.draws[:, bench.blocks.member]

    def of(vectors: np.ndarray, drawn: np.ndarray | None) -> np.ndarray:
        scores = bench.vectors @ normalize(vectors).T
        return 100 * average_precision.mean_average_precision(scores, relevant, KS, drawn)

    each = np.array([of(v, None) for v in seeds])
    draws = None if counts is None else np.mean([of(v, counts) for v in seeds], axis=0)
    beside = {
        name: (of(v, None), None if counts is None else of(v, counts)) for name, v in others.items()
    }
    card = replace(
        bench.card,
        task="retrieval/class_prompt",
        title="coarse tiles by class prompt",
        n=len(bench.test),
        interval_method="" if bench.blocks is None else bench.blocks.describe(),
    )
    return [
        replace(
            card,
            metric=f"map@{k}",
            value=float(each[:, column].mean()),
            interval=None if draws is None else percentile(draws[:, column]),
            chance=100 * average_precision.chance(relevant, k),
            references=tuple(
                _reference(name, value[column], drawn, draws, column)
                for name, (value, drawn) in beside.items()
            ),
            protocol={**card.protocol, **_seeds(each[:, column].tolist())},
        )
        for column, k in enumerate(KS)
    ]


def _reference(
    name: str,
    value: float,
    drawn: np.ndarray | None,
    ours: np.ndarray | None,
    column: int,
) -> Reference:
    if drawn is None or ours is None:
        return Reference(name, float(value))
    theirs = drawn[:, column]
    return Reference(name, float(value), percentile(theirs), percentile(ours[:, column] - theirs))


def fine_means(cache: GroundCache, source: Source) -> np.ndarray:
    """Mean of the teacher's embeddings of the views of each labelled tile, float32 [n, E]."""
    found = []
    for tile in range(len(source)):
        if source[tile]["label"] >= 0:
            embeddings, good = cache.of_tile(tile)
            found.append(embeddings[good].astype(np.float32).mean(axis=0))
    return normalize(np.stack(found))


def summary(cards: Sequence[Card]) -> str:
    """(a) to (d) in a few lines, from the balanced zero-shot accuracy over the seeds."""
    card = next(each for each in cards if each.key == "zeroshot/balanced_accuracy")
    teacher, untrained = (card.reference(name) for name in (TEACHER, UNTRAINED))
    assert card.value is not None and card.chance is not None
    seeds = card.protocol.get("by_seed", [])
    by_seed = f"; by seed {', '.join(f'{value:.1f}' for value in seeds)}" if seeds else ""
    lines = [
        "zero-shot land cover of coarse tiles, held-out blocks, balanced accuracy in %",
        f"(a) {TEACHER}: {teacher.value:.1f}{_range(teacher.interval)}",
        f"(b) student: {card.value:.1f}{_range(card.interval)}{by_seed}",
        f"(c) {UNTRAINED}: {untrained.value:.1f}{_range(untrained.interval)}",
        f"(d) chance: {card.chance:.1f}",
        f"(b) - (a): {card.value - teacher.value:+.1f}{_range(teacher.difference)}",
    ]
    return "\n".join(lines)


def _range(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" ({interval[0]:.1f} to {interval[1]:.1f})"
