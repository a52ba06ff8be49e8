"""Each stored checkpoint is known by its names alone."""

import re
from pathlib import Path

import pytest
import stored

from rsvl_jax.weights import families

FAMILIES = {
    "bert": "bert",
    "clip_gelu": "clip-huggingface",
    "clip_open_clip": "clip-open_clip",
    "clip_quick_gelu": "clip-huggingface",
    "flava": "flava-huggingface",
    "graft": "graft",
    "siglip": "siglip-huggingface",
    "dinov2": "vit-huggingface",
    "mae": "vit-huggingface",
    "roberta": "roberta",
    "satclip": "satclip",
    "vit": "vit-huggingface",
}


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_recognised(name):
    shapes = {key: value.shape for key, value in stored.read(name).weights.items()}
    assert families.recognise(shapes).name == FAMILIES[name]


def test_families_asked_for_by_name():
    for name in ("dino", "satmae", "scalemae", "dinov3", "timm-vit", "geoclip"):
        assert families.find(name).name == name


def test_the_page_tells_of_each_family_how_sure_it_is():
    page = (Path(__file__).parents[2] / "docs" / "weights.md").read_text()
    table = page[page.index("| family |") :].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in table]
    told = [name for row in cells for name in re.findall(r"`([\w-]+)`", row[0])]
    assert sorted(told) == sorted(family.name for family in families.FAMILIES)
    for names, what, parts, sure in cells:
        if "refused" not in what:
            assert parts and re.search("stored|live|shape", sure), names


def test_stored_cases_stay_small():
    sizes = [path.stat().st_size for path in stored.FOLDER.iterdir()]
    assert sum(sizes) < 1e6 and len(sizes) == 14
