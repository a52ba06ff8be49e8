"""Zero-shot scores of folders, with a model that sees colours and nothing else."""

import json

import cv2
import numpy as np
import pytest
from colours_model import COLOURS, ColoursModel

from graft_jax.zeroshot import __main__ as command
from graft_jax.zeroshot import score
from rsvl_jax.data.fits import FITS
from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import card, classification, prompts


def picture(path, colour, side=20):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((side, side, 3), colour, np.uint8)
    cv2.imwrite(str(path), pixels[..., ::-1])


@pytest.fixture
def images(tmp_path):
    """Four images a class; one of the green ones is blue."""
    root = tmp_path / "images"
    for name in ("red", "green", "blue"):
        for number in range(4):
            colour = COLOURS["blue" if (name, number) == ("green", 2) else name]
            picture(root / f"Deep_{name.title()}" / f"{name}_{number}.png", colour)
    return root


def run(images, *flags):
    command.run(["--workdir=x", f"--images={images}", *flags], lambda _: ColoursModel())


def scores(images, tmp_path, *flags):
    run(images, f"--output={tmp_path}/scores.json", *flags)
    return {each.key: each for each in card.read(str(tmp_path / "scores.json"))}


def test_scores_are_those_counted_by_hand(images, tmp_path, capsys):
    found = scores(images, tmp_path, "--prompts=bare")
    accuracy = found["zeroshot/accuracy"]
    assert accuracy.value == pytest.approx(100 * 11 / 12)
    assert accuracy.interval[0] < accuracy.value <= accuracy.interval[1] <= 100
    assert accuracy.chance == pytest.approx(100 / 3)
    balanced = found["zeroshot/balanced_accuracy"]
    assert balanced.per_class == {"deep blue": 100, "deep green": 75, "deep red": 100}
    # Blue finds 4 of its own and the strange one, which ranks among equals, irrelevant first;
    # green finds 3, and the strange one at the end of the 12 or in the middle.
    at = found["retrieval/class_prompt/map@20"].value
    assert 80 < at < 100
    assert accuracy.protocol["prompts"][2] == ["deep red"]
    assert accuracy.protocol["original_sides"] == "20 to 20 pixels"
    assert "zero-shot classification" in capsys.readouterr().out


def test_a_list_takes_some_and_keeps_all_classes(images, tmp_path):
    listed = tmp_path / "some.txt"
    listed.write_text("Deep_Red/red_1.png\nblue_3.png\n\n")
    found = scores(images, tmp_path, "--prompts=bare", f"--list={listed}")
    assert found["zeroshot/accuracy"].n == 2
    assert found["zeroshot/accuracy"].chance == pytest.approx(100 / 3)
    assert found["zeroshot/accuracy"].split == "some.txt"


def test_padding_keeps_pixels_and_resizing_does_not():
    image = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3)
    padded = FITS["pad"](image, 8)
    np.testing.assert_array_equal(padded[1:7, 2:6], image)
    assert padded.shape == (8, 8, 3) and padded.sum() == image.sum()
    reflected = FITS["pad_reflect"](image, 8)
    np.testing.assert_array_equal(reflected[1:7, 2:6], image)
    np.testing.assert_array_equal(reflected[1:7, 1], image[:, 1])
    np.testing.assert_array_equal(FITS["pad"](image, 4), image[1:5])
    assert FITS["pad_reflect"](image[:1, :1], 8).shape == (8, 8, 3)
    assert FITS["resize"](image, 8).shape == (8, 8, 3)


def test_the_fit_changes_what_the_model_sees_and_is_written_down(images, tmp_path):
    grey = tmp_path / "grey"
    for name in ("white", "black"):
        picture(grey / name / "a.png", COLOURS[name], side=8)
    whole, padded = (
        scores(grey, tmp_path, "--prompts=bare", f"--fit={fit}") for fit in ("resize", "pad")
    )
    assert whole["zeroshot/accuracy"].value == 100
    assert padded["zeroshot/accuracy"].value == 50  # mostly black
    assert padded["zeroshot/accuracy"].protocol["fit"] == "pad"


def test_prompt_sets_names_and_files(tmp_path):
    classes = ("AnnualCrop", "sea_lake")
    assert prompts.load(classes, prompts="bare", names="words").texts == (
        ("annual crop",),
        ("sea lake",),
    )
    assert prompts.load(classes, prompts="graft", names="raw").texts[0] == (
        "A satellite image of AnnualCrop.",
    )
    assert len(prompts.load(classes, prompts="openai_resisc45", names="raw").texts[0]) == 18
    (tmp_path / "t.txt").write_text("{c} from above\n\na {c}\n")
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"AnnualCrop": ["crop", "field"], "sea lake": "water"}))
    found = prompts.load(classes, prompts=str(tmp_path / "t.txt"), names=str(names))
    assert found.texts == (
        ("crop from above", "a crop", "field from above", "a field"),
        ("water from above", "a water"),
    )
    assert found.names == ("crop", "water")
    written = tmp_path / "p.json"
    written.write_text(json.dumps({"AnnualCrop": ["rows"], "sea_lake": ["blue", "wet"]}))
    assert prompts.load(classes, prompts=str(written), names="words").texts == (
        ("rows",),
        ("blue", "wet"),
    )


def test_resampling_kinds_is_resampling_images():
    rng = np.random.default_rng(0)
    tallies = classification.tallies(rng.integers(0, 3, 40), rng.integers(0, 3, 40), 3)
    totals = score.resampled(tallies, 0)
    by_hand = np.stack([tallies[rng.integers(0, 40, 40)].sum(0) for _ in range(4000)])
    np.testing.assert_allclose(totals.mean(0), by_hand.mean(0), atol=0.5)
    spread = classification.accuracy(totals).std(), classification.accuracy(by_hand).std()
    assert spread[0] == pytest.approx(spread[1], rel=0.1)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--fit=stretch"], "unknown --fit='stretch'"),
        (["--prompts=clip"], "unknown --prompts='clip'"),
        (["--names=short"], "unknown --names='short'"),
        (["--prompts=no.txt"], "cannot read --prompts='no.txt'"),
        (["--list=no.txt"], "cannot read --list='no.txt'"),
        (["--batch_size=0"], "--batch_size=0"),
        (["--output=no/scores.json"], "no folder for --output"),
        (["--imagery=x"], "see python -m graft_jax.zeroshot --help"),
    ],
)
def test_bad_flags_are_quoted(images, flags, message):
    with pytest.raises(UserError, match=message) as refusal:
        run(images, *flags)
    assert "\n" not in str(refusal.value)


def test_bad_folders_and_files_are_quoted(images, tmp_path):
    with pytest.raises(UserError, match="no folder"):
        run(tmp_path / "none")
    with pytest.raises(UserError, match="has no images in sub-folders"):
        run(images / "Deep_Red")
    listed = tmp_path / "some.txt"
    listed.write_text("red_9.png\n")
    with pytest.raises(UserError, match="'red_9.png' names no image"):
        run(images, f"--list={listed}")
    written = tmp_path / "p.json"
    written.write_text('{"Deep_Red": ["red"]}')
    with pytest.raises(UserError, match="does not have the class 'Deep_Blue'"):
        run(images, f"--prompts={written}")
    whole = (images / "Deep_Red" / "red_0.png").read_bytes()
    (images / "Deep_Red" / "red_0.png").write_bytes(whole[:40])
    with pytest.raises(UserError, match="red_0.png"):
        run(images, "--prompts=bare", f"--output={tmp_path}/scores.json")
    assert not (tmp_path / "scores.json").exists()
