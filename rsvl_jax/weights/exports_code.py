"""The lines of code that a README shows, for each kind of model and each format."""

from rsvl_jax.weights.exports_runs import Exportable
from rsvl_jax.weights.family import Json, Model

CONVENTIONS = (
    "Names are `part/path`. Matrices are [in, out]: `x @ kernel + bias`. `layers` stacks the "
    "blocks of a transformer in the first dimension. `qkv` is [D, heads, 3, D / heads]: queries, "
    "keys and values of each head. `patch_embed/kernel` is [patch * patch * 3, D], a patch "
    "flattened as (row, column, channel). A layer norm has `scale` and `bias`."
)
_FLAVA = """\
import torch
from torch.nn.functional import normalize
from transformers import AutoImageProcessor, AutoTokenizer, FlavaModel

folder = "."  # where this README lies
model = FlavaModel.from_pretrained(folder).eval()
processor = AutoImageProcessor.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)


@torch.no_grad()
def embed_images(images):
    pixels = processor(images, return_tensors="pt")["pixel_values"]
    tokens = model.image_model(pixels).last_hidden_state
    return normalize(model.image_projection({pool}), dim=-1)


@torch.no_grad()
def embed_texts(texts):
    words = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
    tokens = model.text_model(words["input_ids"], words["attention_mask"]).last_hidden_state
    return normalize(model.text_projection(tokens[:, 0]), dim=-1)
"""
_CLIP = """\
import torch
from torch.nn.functional import normalize
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

folder = "."  # where this README lies
model = CLIPModel.from_pretrained(folder).eval()
processor = AutoImageProcessor.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)


@torch.no_grad()
def embed_images(images):
    pixels = processor(images, return_tensors="pt")["pixel_values"]
    return normalize(model.visual_projection(model.vision_model(pixels).pooler_output), dim=-1)


@torch.no_grad()
def embed_texts(texts):
    words = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
    pooled = model.text_model(words["input_ids"], words["attention_mask"]).pooler_output
    return normalize(model.text_projection(pooled), dim=-1)
"""
_AUTO = """\
from transformers import AutoModel

model = AutoModel.from_pretrained(".")  # where this README lies
"""
_OPEN_CLIP = """\
import open_clip

folder = "."  # where this README lies
model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
"""
_POOLERS = (
    "`transformers` makes a `pooler` for each tower, which this model has not and no line below "
    "uses: it says that their weights are missing.\n\n"
)
_MEAN = (
    "What stands for an image is the MEAN of its patches, not the class token that "
    "`get_image_features(...).pooler_output[:, 0]` would give: the contrast was trained so.\n\n"
)


def use(found: Exportable, form: str) -> str:
    """How to embed with an export in format `form`."""
    kind, text, note = found.model.kind, "", ""
    if form == "open_clip":
        text = _OPEN_CLIP
    elif kind == "flava" and "image_text" in found.model.settings:
        mean = (found.own or found.model).settings.get("image_pooling") == "mean"
        note = (_MEAN if mean else "") + _POOLERS
        pool = "tokens[:, 1:].mean(dim=1)" if mean else "tokens[:, 0]"
        text = _FLAVA.replace("{pool}", pool)
    elif kind == "clip" and {"image", "text"} <= set(found.model.settings):
        text = _CLIP
    else:
        text = _AUTO
    return f"## Use\n\n{note}```python\n{text}```\n"


def plain(model: Model) -> str:
    """How to use a plain export: with rsvl_jax, and what the arrays compute without it."""
    lines = 'import rsvl_jax\n\nmodel = rsvl_jax.load(".")  # where this README lies\n'
    lines += "".join(f"{line}\n" for line in _calls(model.settings))
    return f"## Use\n\n```python\n{lines}```\n" + _described(model.settings)


def _calls(settings: Json) -> list[str]:
    found = []
    if "image" in settings or "satellite" in settings:
        found.append("images = model.embed_images(pixels)  # uint8 [n, height, width, 3]")
    if "text" in settings:
        found.append('texts = model.embed_texts(["farmland", "desert"])')
    if "location" in settings:
        found.append("places = model.embed_locations(lon=[2.35], lat=[48.86])  # degrees")
    return found


def _described(settings: Json) -> str:
    """What cannot be seen in shapes, in words, for those who write the forward pass themselves."""
    lines = []
    place = settings.get("location")
    if place and place.get("kind", "spherical_harmonics") == "spherical_harmonics":
        lines.append(
            f"`location`: SatCLIP's encoder. {place['degree']}^2 real spherical harmonics (order "
            'l, then m from -l to l; microsoft/satclip\'s "analytic" ones), then `siren`: '
            "sin(30 (x W + b)), sin(x W + b), ..., and a linear layer `out`."
        )
    elif place:
        lines.append(
            "`location`: GeoCLIP's encoder. Equal Earth coordinates p, then for each capsule "
            "[cos, sin](2 pi p F^T) with its `frequencies` F, ReLU layers, a linear layer `out`; "
            "the capsules' sum."
        )
    if "satellite" in settings:
        lines.append(
            "`satellite`: CLIP's image tower (pre-norm blocks, a norm before them; `projection` of "
            "the normed class token). `projector`: norm and linear map of each raw patch token, "
            "for maps. Both end in the space of the frozen CLIP that taught them."
        )
    return "\n" + "\n\n".join(lines) + "\n" if lines else ""
