"""The command line: presets, overrides, and one clear line for each mistake."""

import pytest

from rsvl_jax import command
from rsvl_jax.errors import UserError

CONFIG = "--config=configs/flavars.py"


def parse(*arguments: str) -> command.Arguments:
    return command.parse(["main", *arguments])


def test_overrides_and_presets_apply():
    arguments = parse(CONFIG + ":clip", "--workdir=w", "--config.training.steps=7")
    assert arguments.workdir == "w"
    assert arguments.config.training.steps == 7
    assert arguments.config.objective.weights.image_text > 0
    assert arguments.config.objective.weights.mim == 0


def test_presets_join():
    config = parse(CONFIG + ":base,mae", "--workdir=w").config
    assert config.model.image.width == 768
    assert config.objective.mim_design == "mae"


def test_recipes_that_are_installed_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse(CONFIG + ":clip", "--workdir=w").config.objective.weights.mim == 0
    with pytest.raises(UserError, match="no config file 'configs/flavors.py'.*none here"):
        parse("--config=configs/flavors.py", "--workdir=w")
    (tmp_path / "configs").mkdir()
    own = "from ml_collections import ConfigDict\ndef get_config(): return ConfigDict({'a': 1})\n"
    (tmp_path / "configs" / "flavars.py").write_text(own)
    assert parse(CONFIG, "--workdir=w").config.to_dict() == {"a": 1}


def test_an_unset_length_takes_a_typed_value():
    config = parse(CONFIG, "--workdir=w", "--config.optimizer.warmup_steps=5").config
    assert config.optimizer.warmup_steps == 5


def test_a_length_in_another_unit_replaces_the_recipes_own():
    flags = ("--config.optimizer.warmup_steps=5", "--config.training.epochs=2.5")
    config = parse(CONFIG, "--workdir=w", *flags).config
    assert (config.optimizer.warmup_steps, config.optimizer.warmup_percent) == (5, None)
    assert (config.training.epochs, config.training.steps) == (2.5, None)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([CONFIG, "--workdir=w", "--config.data.batch_sise=3"], ["batch_sise", "data.batch_size"]),
        ([CONFIG, "--workdir=w", "--config.batch_size=3"], ["config.batch_size", "data.batch"]),
        ([CONFIG, "--workdir=w", "--config.data=3"], ["section"]),
        ([CONFIG, "--workdir=w", "--config.training.steps=many"], ["training.steps", "many"]),
        ([CONFIG + ":huge", "--workdir=w"], ["huge", "base"]),
        (["--config=configs/flavors.py", "--workdir=w"], ["flavors.py", "configs/flavars.py"]),
        (["--workdir=w"], ["--config"]),
        ([CONFIG], ["--workdir"]),
        ([CONFIG, "--workdir=w", "--wrkdir=v"], ["wrkdir", "workdir"]),
        ([CONFIG, "--workdir=w", "stray"], ["stray"]),
    ],
)
def test_mistakes_get_one_line_that_helps(arguments, parts):
    with pytest.raises(UserError) as caught:
        parse(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
