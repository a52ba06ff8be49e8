"""CLIP as `transformers` keeps it: CLIPModel, its towers with or without projection."""

from rsvl_jax.errors import UserError
from rsvl_jax.models.clip import LN_EPS
from rsvl_jax.weights import conventions as c
from rsvl_jax.weights import huggingface as hf
from rsvl_jax.weights.families import siglip_huggingface as siglip
from rsvl_jax.weights.family import Family, Json, Model, Shapes
from rsvl_jax.weights.kinds import clip
from rsvl_jax.weights.names import Entries, array, linear, norm, patches, prefix

TOWERS = {"image": "vision_model.", "text": "text_model."}
_PROJECTIONS = {"image": "visual_projection", "text": "text_projection"}
_ACTIVATION = "quick_gelu"  # OpenAI's, and the default of CLIPConfig
_ENDS_BY_LARGEST = 2  # the end token of configs written before it was looked for by its number


def _starts(shapes: Shapes) -> dict[str, str]:
    """What stands before the names of each tower that is there: of a lone one maybe nothing."""
    found = {
        "image": prefix(shapes, "pre_layrnorm.weight"),
        "text": prefix(shapes, "embeddings.token_embedding.weight"),
    }
    return {name: start for name, start in found.items() if start in ("", TOWERS[name])}


def _recognises(shapes: Shapes) -> bool:
    return bool(_starts(shapes)) and not siglip.recognises(shapes)


def _model(shapes: Shapes, config: Json) -> Model:
    starts = _starts(shapes)
    settings: Json = {"names": starts}
    preprocessing, tokenizer = {}, {}
    if "image" in starts:
        own = config.get("vision_config", config)
        settings["image"] = vision(shapes, starts["image"], _PROJECTIONS["image"], own)
        size = settings["image"]["vit"]["image_size"]
        preprocessing = c.preprocessing(size, c.CLIP_MEAN, c.CLIP_STD)
    if "text" in starts:
        settings["text"] = _text(shapes, starts["text"], config.get("text_config", config))
        tokenizer = {"kind": "clip", "length": settings["text"]["text"]["max_length"]}
    if "logit_scale" in shapes:
        settings["scale"] = True
    return Model("clip", settings, clip.parts(settings), preprocessing, tokenizer)


def vision(shapes: Shapes, start: str, projection: str, config: Json) -> Json:
    """Fields of the ClipVisionConfig of the tower whose names begin with `start`."""
    width, _, patch, _ = shapes[f"{start}embeddings.patch_embedding.weight"]
    positions = shapes[f"{start}embeddings.position_embedding.weight"][0]
    return {
        "vit": {
            "image_size": c.side(positions - 1) * patch,
            "patch_size": patch,
            "mask_token": False,
            "stem_norm": True,
            "transformer": hf.stack(shapes, start, config, _ACTIVATION, LN_EPS),
        },
        **_projection(shapes, projection, width),
    }


def _text(shapes: Shapes, start: str, config: Json) -> Json:
    stack = hf.stack(shapes, start, config, _ACTIVATION, LN_EPS)
    text = hf.text(shapes, start, stack)
    end = config.get("eos_token_id", _ENDS_BY_LARGEST)
    return {
        "text": text,
        **_projection(shapes, _PROJECTIONS["text"], stack["width"]),
        "pool": "eot",
        "eot_id": text["vocab_size"] - 1 if end == _ENDS_BY_LARGEST else end,
    }


def _projection(shapes: Shapes, name: str, width: int) -> Json:
    there = f"{name}.weight" in shapes
    embed_dim = shapes[f"{name}.weight"][0] if there else width
    return {"embed_dim": embed_dim, "projection": there}


def vision_entries(ours: str, start: str) -> Entries:
    """Of a ClipVision at `ours`, without its projection."""
    return [
        *patches(f"{ours}/vit/patch_embed", f"{start}embeddings.patch_embedding", bias=False),
        *array(f"{ours}/vit/class_token", f"{start}embeddings.class_embedding"),
        *array(f"{ours}/vit/positions", f"{start}embeddings.position_embedding.weight"),
        *norm(f"{ours}/vit/stem_norm", f"{start}pre_layrnorm"),
        *hf.blocks(f"{ours}/vit/stack/layers", start),
        *norm(f"{ours}/vit/norm", f"{start}post_layernorm"),
    ]


def _entries(settings: Json) -> Entries:
    if clip.is_siglip(settings):
        return siglip.entries(settings)
    starts = {**TOWERS, **settings.get("names", {})}
    entries = array("scale/value", "logit_scale") if settings.get("scale") else []
    for name, tower in (("image", vision_entries), ("text", hf.text_entries)):
        if name in settings:
            entries += tower(name, starts[name])
            if settings[name].get("projection", True):
                entries += linear(f"{name}/projection", _PROJECTIONS[name], bias=False)
    return entries


def _config(settings: Json) -> Json:
    if clip.is_siglip(settings):
        return siglip.config(settings)
    image = text = None
    if "image" in settings:
        own = settings["image"]
        image = hf.image_config(own["vit"]) | {"projection_dim": own["embed_dim"]}
    if "text" in settings:
        own = settings["text"]
        if own["pool"] != "eot" or not own.get("causal", True):
            raise UserError(
                "CLIPModel knows only texts that end with an end token and see no later words: "
                f"this one's pool is {own['pool']!r}; export to 'open_clip' or 'safetensors'"
            )
        text = hf.text_config(own["text"]) | {"projection_dim": own["embed_dim"]}
        text["eos_token_id"] = own["eot_id"]
    both = {"projection_dim": own["embed_dim"]}
    return hf.towers_config("clip", _classes(settings), image, text, both)


def _classes(settings: Json) -> list[str]:
    def ending(name: str) -> str:
        return "WithProjection" if settings.get(name, {}).get("projection", True) else ""

    return ["CLIPModel", f"CLIPVisionModel{ending('image')}", f"CLIPTextModel{ending('text')}"]


FAMILY = Family(
    name="clip-huggingface",
    title="CLIP (transformers)",
    recognises=_recognises,
    model=_model,
    entries=_entries,
    config=_config,
    ignored=tuple(f"{start}embeddings.position_ids" for start in ("", *TOWERS.values())),
)
