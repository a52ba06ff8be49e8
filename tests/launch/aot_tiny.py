"""Configs of both methods, small enough to compile in seconds, and the options that make them."""

from configs import flavars, graft

TOWER = {"width": 32, "depth": 2, "heads": 2, "mlp_dim": 64}
_CHANGES = {
    "model.image.size": 32,
    "model.image.patch": 8,
    **{f"model.image.{key}": value for key, value in TOWER.items()},
    **{f"model.text.{key}": value for key, value in TOWER.items()},
    "model.text.length": 8,
    "model.text.vocab_size": 64,
    "model.embed_dim": 16,
    "data.batch_size": 16,
    "training.steps": 10,
}
_OF_FLAVARS = {
    **{f"model.fusion.{key}": value for key, value in TOWER.items()},
    "model.location.degree": 4,
    "model.location.width": 16,
    "model.location_dim": 16,
    "objective.codebook_size": 32,
}
_OF_GRAFT = {"data.photos": 3}
RECIPES = {"flavars": flavars.get_config, "graft": graft.get_config}


def changes(method):
    """Dotted key -> value."""
    return _CHANGES | (_OF_FLAVARS if method == "flavars" else _OF_GRAFT)


def config(method, **more):
    """The recipe at tiny sizes; `more` by dotted key, dots written as `__`."""
    tiny = RECIPES[method]()
    dotted = {key.replace("__", "."): value for key, value in more.items()}
    tiny.update_from_flattened_dict(changes(method) | dotted)
    return tiny


def options(method):
    """The same as a command line has it."""
    given = [f"--config.{key}={value}" for key, value in changes(method).items()]
    return [f"--config=configs/{method}.py", *given]
