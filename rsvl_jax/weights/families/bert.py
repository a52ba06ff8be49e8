"""BERT as `transformers` keeps it: BertModel, BertForMaskedLM and the original's own variables."""

from rsvl_jax.weights import bert_names
from rsvl_jax.weights.bert_names import Layout
from rsvl_jax.weights.family import Family, Json, Model, Shapes
from rsvl_jax.weights.names import prefix

LAYOUT = Layout(
    key="bert",
    head="cls.predictions.",
    dense="transform.dense",
    norm="transform.LayerNorm",
    positions=0,
    ln_eps=1e-12,
    tokenizer="bert",
)


def _recognises(shapes: Shapes) -> bool:
    return bert_names.start(shapes) is not None and prefix(shapes, "lm_head.dense.weight") is None


def _model(shapes: Shapes, config: Json) -> Model:
    return bert_names.model(LAYOUT, shapes, config)


FAMILY = Family(
    name="bert",
    title="BERT (transformers)",
    recognises=_recognises,
    model=_model,
    entries=lambda settings: bert_names.entries(LAYOUT, settings),
    # The pooler was trained to tell whether two texts follow each other; nothing here asks that.
    ignored=(
        *(f"{start}{name}" for start in ("", "bert.") for name in bert_names.NOT_HELD),
        "cls.seq_relationship.",
    ),
)
