"""`docs/data.md`: every command on it parses."""

import re
import shlex
from pathlib import Path

import pytest

from rsvl_jax.datasets import __main__ as command
from rsvl_jax.datasets.image_text.readers import LAYOUTS

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
BUILDS = re.findall(r"^    python -m rsvl_jax\.datasets (.*)$", PAGE, re.M)


@pytest.mark.parametrize("line", [line for line in BUILDS if "LAYOUT" not in line])
def test_builds_parse(line):
    arguments = command._parse(shlex.split(line))
    assert arguments.command != "build" or arguments.layout in LAYOUTS


def test_every_layout_is_told():
    shown = {shlex.split(line)[1] for line in BUILDS if line.startswith("build")}
    assert set(LAYOUTS) <= shown
