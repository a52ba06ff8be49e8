"""Which pass feeds which loss of FLAVARS (facebookresearch/multimodal flava/model.py unless said).

    clean image, clean text    -> image_text, image_location, text_location; itm by hard negatives
    clean image, its phrases   -> phrase_region, see `regions`
    masked image               -> mim
    masked text                -> mlm
    masked image + masked text -> fusion -> mmm_image, mmm_text, itm

`mim` and `mmm_image` predict visual words under mim_design "codebook", where the encoder sees mask
tokens; under "mae" it sees the visible patches alone, and both predict pixels (open_clip FLAVA
fork, gmittal/open_clip flava-dev). `mim` and `mlm` run on the streams "image" and "text" where the
batch has them, else on the pairs. Pairs whose text was swapped count for `itm`, not for the other
multimodal terms and not as rows of a contrast with text (if no pair matches, all count); their
texts remain distractors. Rows without a place ("location_mask" False) have no part in contrasts
with places.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from flavars_jax import regions
from flavars_jax.model import ContrastHead, FlavarsModel, Sample, Views, interleave, named_key
from rsvl_jax.losses import contrastive, masked, matching
from rsvl_jax.losses.distributed import DENSE, Spread
from rsvl_jax.losses.relation import Relation
from rsvl_jax.models.image_tokenizer import unit_range
from rsvl_jax.models.transformer import Encoded
from rsvl_jax.models.vit import patchify
from rsvl_jax.objectives import contrast, mae
from rsvl_jax.training.objective import Term

Batch = dict[str, Sample]
Head = Callable[[jax.Array], jax.Array]
Embeddings = dict[str, tuple[jax.Array, jax.Array]]  # by contrast, [B, E] each; regions [B, R, E]
Rows = jax.Array | None  # weights of the rows, float [B]; None: all count
NO_VIEWS = Views(None, None)


def prepare(batch: Batch, mean: Sequence[float], std: Sequence[float]) -> Batch:
    """The batch with the weights of the pairs' rows, float32 [B] "rows": all of them have a say.

    Pairs without texts, whose terms need none, have no such rows.

    Images that bring statistics of their own ("image_mean", "image_std", [B, 3]) are normalised
    by them: from here on they are float, and have the run's `mean` and `std` instead.
    """
    batch = {name: _restated(sample, mean, std) for name, sample in batch.items()}
    if "itm_label" not in batch.get("paired", {}):
        return batch
    rows = matching.matching_rows(batch["paired"]["itm_label"])
    return batch | {"paired": batch["paired"] | {"rows": rows}}


def _restated(sample: Sample, mean: Sequence[float], std: Sequence[float]) -> Sample:
    if "image_mean" not in sample:
        return sample
    own_mean, own_std = (sample[key][:, None, None] for key in ("image_mean", "image_std"))
    standard = (unit_range(sample["image"]) - own_mean) / own_std
    rest = {key: value for key, value in sample.items() if key not in ("image_mean", "image_std")}
    return rest | {"image": standard * jnp.asarray(std) + jnp.asarray(mean)}


def embed(model: FlavarsModel, batch: Batch, rng: jax.Array) -> Embeddings:
    """The embeddings of `encode` alone, by the passes on whole inputs alone."""
    if model.settings.image.transformer.dropout:
        return encode(model, batch, rng)[0]  # draws depend on what is encoded together
    if "paired" not in batch:
        return {}
    image, text = _encode_pairs(model, batch, rng, masks=False)
    return _embeddings(model, batch["paired"], image.clean, text.clean, rng)


def encode(model: FlavarsModel, batch: Batch, rng: jax.Array) -> tuple[Embeddings, dict[str, Term]]:
    """The pairs' embeddings, and name -> (sum, count) of every term that is on but the contrasts.

    batch: after `prepare`. rng: key for dropout and hard negatives.
    """
    on, batch = model.settings.on, _with_codes(model, batch)
    image, text = _encode_pairs(model, batch, rng) if "paired" in batch else (NO_VIEWS, NO_VIEWS)
    embeddings: Embeddings = {}
    found: dict[str, Term] = {}
    if "mim" in on:
        found["mim"] = _mim(model, batch, image, rng)
    if "mlm" in on:
        found["mlm"] = _mlm(model, batch, text, rng)
    if "paired" in batch:
        found |= _fused_terms(model, batch["paired"], image.masked, text.masked, rng)
        embeddings = _embeddings(model, batch["paired"], image.clean, text.clean, rng)
    if model.settings.hard_itm:
        found["itm"] = _hard_matching(model, batch["paired"], image.clean, text.clean, rng)
    return embeddings, found


def _with_codes(model: FlavarsModel, batch: Batch) -> Batch:
    """The batch with the visual words of masked patches, int32 [B, K] "mim_labels", once a sample.

    A pipeline may bring its own, made ahead by the same tokenizer.
    """
    if not model.settings.predicts_codes:
        return batch
    found = dict(batch)
    for stream, sample in batch.items():
        if "mim_positions" in sample and "mim_labels" not in sample:
            codes = model.tokenizer(sample["image"])
            found[stream] = sample | {"mim_labels": masked.gather(codes, sample["mim_positions"])}
    return found


def _encode_pairs(
    model: FlavarsModel, batch: Batch, rng: jax.Array, *, masks: bool = True
) -> tuple[Views, Views]:
    s, pairs = model.settings, batch["paired"]
    masked_image = masks and (s.fuses_masked or ("mim" in s.on and "image" not in batch))
    masked_text = masks and (s.fuses_masked or ("mlm" in s.on and "text" not in batch))
    return (
        model.encode_images(
            pairs, clean=s.sees_clean_images, masked=masked_image, rng=named_key(rng, "image")
        ),
        model.encode_texts(
            pairs, clean=s.sees_clean_texts, masked=masked_text, rng=named_key(rng, "text")
        ),
    )


def _mim(model: FlavarsModel, batch: Batch, pairs: Views, rng: jax.Array) -> Term:
    """Masked image modelling from the image alone."""
    sample, encoded = batch["image" if "image" in batch else "paired"], pairs.masked
    if "image" in batch:
        key = named_key(rng, "image stream")
        encoded = model.encode_images(sample, clean=False, masked=True, rng=key).masked
    if not model.settings.mae:
        return _codes_term(model.mim_head, encoded.tokens[:, 1:], sample)
    keep = sample["mae_keep"]
    predictions = model.decoder(encoded.tokens, keep, rng=named_key(rng, "decoder"))
    positions = mae.removed(keep, model.settings.patches)
    return _pixels_term(model, masked.gather(predictions, positions), positions, sample)


def _mlm(model: FlavarsModel, batch: Batch, pairs: Views, rng: jax.Array) -> Term:
    """Masked language modelling from the text alone."""
    sample, encoded = batch["text" if "text" in batch else "paired"], pairs.masked
    if "text" in batch:
        key = named_key(rng, "text stream")
        encoded = model.encode_texts(sample, clean=False, masked=True, rng=key).masked
    return _words_term(model.mlm_head, encoded.tokens, sample)


def _fused_terms(
    model: FlavarsModel, pairs: Sample, image: Encoded, text: Encoded, rng: jax.Array
) -> dict[str, Term]:
    """What the fusion of masked image and masked text predicts: patches, words, the match."""
    s, found = model.settings, {}
    if not s.fuses_masked:
        return {}
    fused = model.fuse_masked(image, text, pairs, named_key(rng, "fusion"))
    rows = pairs["rows"]
    # [CLS_M, CLS_I, patches, text]
    patches, words = fused[:, 2 : 2 + s.patches], fused[:, 2 + s.patches :]
    if "mmm_image" in s.on and s.mae:
        positions = mae.removed(pairs["mae_keep"], s.patches)
        predictions = model.mmm_image_head(masked.gather(patches, positions))
        found["mmm_image"] = _pixels_term(model, predictions, positions, pairs, rows)
    elif "mmm_image" in s.on:
        found["mmm_image"] = _codes_term(model.mmm_image_head, patches, pairs, rows)
    if "mmm_text" in s.on:
        found["mmm_text"] = _words_term(model.mmm_text_head, words, pairs, rows)
    if "itm" in s.on and not s.hard_itm:
        logits = model.itm_head(fused[:, 0])
        found["itm"] = matching.matching(logits=logits, labels=pairs["itm_label"])
    return found


def _codes_term(head: Head, tokens: jax.Array, sample: Sample, rows: Rows = None) -> Term:
    """Visual words of the masked patches; tokens [B, N, D]."""
    weights = sample["mim_weights"]
    return masked.cross_entropy(
        logits=head(masked.gather(tokens, sample["mim_positions"])),
        labels=sample["mim_labels"],
        weights=weights if rows is None else weights * rows[:, None],
    )


def _words_term(head: Head, tokens: jax.Array, sample: Sample, rows: Rows = None) -> Term:
    """Masked words; tokens [B, T, D]."""
    weights = sample["mlm_weights"]
    return masked.cross_entropy(
        logits=head(masked.gather(tokens, sample["mlm_positions"])),
        labels=sample["mlm_labels"],
        weights=weights if rows is None else weights * rows[:, None],
    )


def _pixels_term(
    model: FlavarsModel,
    predictions: jax.Array,
    positions: jax.Array,
    sample: Sample,
    rows: Rows = None,
) -> Term:
    """Pixels of the removed patches; predictions [B, K, P] at positions [B, K]."""
    return mae.term(
        predictions=predictions,
        patches=patchify(model.normalize(sample["image"]), model.settings.image.patch_size),
        positions=positions,
        normalize=model.settings.norm_pixels,
        row_weights=rows,
    )


def _embeddings(
    model: FlavarsModel, pairs: Sample, image: Encoded, text: Encoded, rng: jax.Array
) -> Embeddings:
    """Whole images, class tokens of whole texts, and places, in the space of each contrast."""
    on, found = model.settings.on, {}
    if model.location is not None:
        key = named_key(rng, "location")
        place = model.location(lon=pairs["lon"], lat=pairs["lat"], rng=key)
    if "image_text" in on:
        head = model.image_text
        found["image_text"] = head.image(model.pool(image.tokens)), head.text(text.tokens[:, 0])
    if "image_location" in on:
        found["image_location"] = model.image_location.image(model.pool(image.tokens)), place
    if "text_location" in on:
        found["text_location"] = model.text_location.text(text.tokens[:, 0]), place
    if regions.NAME in on:
        found[regions.NAME] = regions.embed(model, pairs, image, named_key(rng, "phrases"))
    return found


def relate(
    model: FlavarsModel, embeddings: Embeddings, batch: Batch, spread: Spread = DENSE
) -> dict[str, Term]:
    """name -> (sum, count) of the global contrasts.

    batch: after `prepare`; spread: how devices divide the contrasts.
    """
    if not embeddings:
        return {}
    pairs, positives = batch["paired"], None
    if model.settings.identical_captions and "text_id" in pairs:
        positives = contrast.caption_positives(
            text_ids=pairs["text_id"], matches=pairs["itm_label"]
        )
    by_text = None if positives is None else positives.T
    # A swapped text does not part an image from its place: all rows count that have one.
    placed = pairs.get("location_mask")
    matches = {
        "image_text": (positives, pairs.get("rows"), None),
        "image_location": (None, None, placed),
        "text_location": (by_text, pairs.get("rows"), placed),
    }
    found = {}
    for name, (alike, rows, present) in matches.items():
        if name in embeddings:
            a, b = embeddings[name]
            found[name] = _contrast(getattr(model, name), a, b, spread, alike, rows, present)
    if regions.NAME in embeddings:
        found[regions.NAME] = regions.relate(model, embeddings[regions.NAME], pairs, spread)
    return found


def _contrast(
    head: ContrastHead,
    a: jax.Array,
    b: jax.Array,
    spread: Spread,
    positives: Relation | None,
    rows: Rows,
    present: jax.Array | None,
) -> Term:
    bias = None if head.bias is None else head.bias[...]
    return contrast.term(
        a=a,
        b=b,
        scale=head.scale(),
        bias=bias,
        positives=positives,
        row_weights=rows,
        present=present,
        spread=spread,
    )


def _hard_matching(
    model: FlavarsModel, pairs: Sample, image: Encoded, text: Encoded, rng: jax.Array
) -> Term:
    """Matching of the B pairs against B negatives drawn by similarity, on the whole inputs.

    ALBEF (arXiv:2107.07651) draws a text for every image and an image for every text, 2B; the
    open_clip FLAVA fork (gmittal/open_clip flava-dev) and this a text for half of the images and
    an image for half of the texts. A drawn text is never one with the same words.
    """
    head = model.image_text
    a, b = head.image(model.pool(image.tokens)), head.text(text.tokens[:, 0])
    similarity = jnp.exp(head.scale()) * contrastive.similarity(a=a, b=b)
    same = contrastive.identical(pairs["text_id"])
    text_key, image_key = jax.random.split(rng)
    drawn_text, text_weight = matching.hard_negatives(
        similarity=similarity, excluded=same, rng=text_key
    )
    drawn_image, image_weight = matching.hard_negatives(
        similarity=similarity.T, excluded=same, rng=image_key
    )
    own = jnp.arange(same.shape[0])
    swaps_text = own % 2 == 0
    images, texts = jnp.where(swaps_text, own, drawn_image), jnp.where(swaps_text, drawn_text, own)
    tokens = model.fusion(
        interleave([image.hidden, image.hidden[images]]),
        interleave([text.hidden, text.hidden[texts]]),
        interleave([pairs["text_mask"], pairs["text_mask"][texts]]),
        rng=named_key(rng, "fusion of negatives"),
    ).tokens
    labels = pairs["itm_label"]
    weights = jnp.where(swaps_text, text_weight, image_weight)
    return matching.matching(
        logits=model.itm_head(tokens[:, 0]),
        labels=interleave([labels, jnp.zeros_like(labels)]),
        weights=interleave([jnp.ones_like(weights), weights]),
    )
