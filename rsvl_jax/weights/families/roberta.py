"""RoBERTa and those of its layout (XLM-R, CamemBERT): BERT whose positions begin at 2."""

from rsvl_jax.weights import bert_names
from rsvl_jax.weights.bert_names import Layout
from rsvl_jax.weights.family import Family, Json, Model, Shapes

LAYOUT = Layout(
    key="roberta",
    head="lm_head.",
    dense="dense",
    norm="layer_norm",
    positions=2,
    ln_eps=1e-5,
    tokenizer="roberta",
)
_WORDS = "roberta.embeddings.word_embeddings.weight"


def _recognises(shapes: Shapes) -> bool:
    # Without its prefix and head RoBERTa is told from BERT by a table two longer than a power of 2.
    where = bert_names.start(shapes)
    if where is None:
        return False
    rows = shapes[f"{where}embeddings.position_embeddings.weight"][0] - LAYOUT.positions
    named = _WORDS in shapes or f"{LAYOUT.head}dense.weight" in shapes
    return named or (rows > 0 and rows & (rows - 1) == 0)


def _model(shapes: Shapes, config: Json) -> Model:
    return bert_names.model(LAYOUT, shapes, config)


FAMILY = Family(
    name="roberta",
    title="RoBERTa (transformers)",
    recognises=_recognises,
    model=_model,
    entries=lambda settings: bert_names.entries(LAYOUT, settings),
    ignored=tuple(f"{start}{name}" for start in ("", "roberta.") for name in bert_names.NOT_HELD),
)
