"""The page as a whole: what it shows, what it leaves out, and that it is closed to the outside."""

import dataclasses
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from synthetic_run import HOSTILE, illustrations, score_cards, write_run

from rsvl_jax import report
from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import card as cards

SECTIONS = [
    "Scores against the references",
    "Losses",
    "Scores during training",
    "Rate and speed",
    "Where the tiles lie",
    "Filled-in images",
    "Image to text",
    "Text to image",
    "Places that look alike",
    "Class by class",
    "All scores",
    "Protocol of each score",
    "Configuration",
]
VOID = {"meta", "img", "br", "hr"}


class Page(HTMLParser):
    """Tags with their attributes, text, headings; fails on tags that do not close in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.open, self.text, self.headings = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, name, attributes):
        self.tags.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)

    def named(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]

    @property
    def words(self):
        return " ".join("".join(self.text).split())


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = report.write(write_run(tmp_path_factory.mktemp("run")), illustrations())
    return read(path)


def test_every_section_is_there_and_linked_from_the_contents(whole):
    page = Page(whole)
    assert page.headings == SECTIONS
    anchors = [attributes["href"] for attributes in page.named("a")]
    ids = [attributes["id"] for attributes in page.named("section")]
    assert anchors == [f"#{anchor}" for anchor in ids] and len(set(ids)) == len(SECTIONS)


def test_nothing_outside_the_file_is_asked_for(whole):
    page = Page(whole)
    for name, attributes in page.tags:
        assert name not in {"script", "link", "iframe", "object", "base"}
        for key in ("src", "href", "xlink:href", "action", "srcset"):
            assert attributes.get(key, "#").startswith(("#", "data:image/jpeg;base64,"))
        assert "url(" not in (attributes.get("style") or "")
        assert not any(key.startswith("on") for key in attributes)
    css = re.search(r"<style>(.*?)</style>", whole, re.S).group(1)
    assert "url(" not in css and "@import" not in css
    policy = next(a["content"] for a in page.named("meta") if "http-equiv" in a)
    assert policy.startswith("default-src 'none'")


def test_hostile_text_is_shown_as_text_everywhere(whole):
    assert "<script" not in whole and "<img src=https" not in whole
    # Config, protocol, class, hardware, glossary, names of pictures, captions, city.
    assert Page(whole).words.count(HOSTILE) >= 8
    alts = [attributes["alt"] for attributes in Page(whole).named("img")]
    assert any(HOSTILE in alt for alt in alts)


def test_every_picture_and_chart_has_words_for_those_who_do_not_see_it(whole):
    page = Page(whole)
    assert all(attributes["alt"].strip() for attributes in page.named("img"))
    assert all(attributes["aria-label"].strip() for attributes in page.named("svg"))


def test_summary_counts_samples_and_training_time(whole):
    words = Page(whole).words
    assert "19,200 (64 a step)" in words
    assert "4 min 00 s" in words  # 300 steps of 64 samples at 80 a second
    assert "0123456789ab" in words and "2025-01-01" in words


def test_scores_are_said_to_be_above_a_reference_only_where_the_interval_says_so(whole):
    words = Page(whole).words
    assert "−1.5 points from the best reference (colour statistics + |latitude|)" in words
    assert "the interval holds zero, so they cannot be told apart" in words
    assert "+7.0 points from the best reference (untrained encoder)" in words
    assert "interval +2.2 to +10.2: clearly above it" in words
    assert "not applicable: no text encoder" in words
    assert "reaches down to chance" not in words


def test_a_score_whose_interval_holds_chance_says_so(tmp_path):
    workdir = write_run(tmp_path)
    low = dataclasses.replace(score_cards()[0], value=9.0, interval=(7.0, 12.0))
    cards.write(str(tmp_path / "scores.json"), [low])
    assert "The interval reaches down to chance." in Page(read(report.write(workdir))).words


def test_same_inputs_give_the_same_bytes_and_the_report_can_be_drawn_again(whole, tmp_path):
    workdir = write_run(tmp_path)
    assert read(report.write(workdir, illustrations())) == whole
    assert read(report.write(workdir)) == whole


def test_what_is_missing_is_left_out_with_a_sentence(tmp_path):
    page = Page(read(report.write(write_run(tmp_path, scores=False), report.Illustrations())))
    assert [name for name in page.headings if name in SECTIONS[:9]] == SECTIONS[:9]
    assert not page.named("img")
    for sentence in (
        "the run has not been scored yet",
        "no map of them",
        "fills in no images",
        "No captions were retrieved",
        "No tiles were retrieved by text",
        "has no location encoder",
    ):
        assert sentence in page.words


def test_scores_alone_make_a_report(tmp_path):
    page = Page(read(report.write(write_run(tmp_path, metrics=False))))
    assert "so there are no curves to show" in page.words
    assert "52.1" in page.words


def test_pictures_of_noise_at_full_count_stay_below_three_megabytes(tmp_path):
    path = report.write(write_run(tmp_path), illustrations(side=224, count=20))
    assert os.path.getsize(path) < 3e6


def test_missing_or_unreadable_inputs_are_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match="no work directory '.*nowhere'"):
        report.write(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="no config.json"):
        report.write(str(tmp_path))
    workdir = write_run(tmp_path, metrics=False, scores=False)
    with pytest.raises(UserError, match="no metrics.jsonl and no scores.json"):
        report.write(workdir)
    write_run(tmp_path)
    (tmp_path / "illustrations.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(UserError, match="illustrations.npz.*remove it"):
        report.write(workdir)
    (tmp_path / "illustrations.npz").unlink()
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="config.json"):
        report.write(workdir)
    assert not (tmp_path / "report.html").exists()


def test_a_failed_write_keeps_the_old_report(tmp_path, monkeypatch):
    workdir = write_run(tmp_path)
    before = read(report.write(workdir))

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        report.write(workdir)
    assert read(tmp_path / "report.html") == before
    assert not [name for name in os.listdir(workdir) if name.startswith(".report")]


def test_command_writes_the_report_or_says_in_one_line_why_not(tmp_path):
    def run(workdir):
        command = [sys.executable, "-m", "rsvl_jax.report", f"--workdir={workdir}"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = run(write_run(tmp_path))
    assert done.returncode == 0 and done.stdout.strip() == str(tmp_path / "report.html")
    refused = run(tmp_path / "nowhere")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: no work directory") and refused.stderr.count("\n") == 1


def test_long_runs_draw_no_more_points_than_short_ones(tmp_path):
    workdir = write_run(tmp_path, scores=False)
    lines = [f'{{"step": {step}, "train/loss": {1 + 1 / step}}}\n' for step in range(1, 20_001)]
    (tmp_path / "metrics.jsonl").write_text("".join(lines))
    page = Page(read(report.write(workdir)))
    drawn = [attributes["points"].split() for attributes in page.named("polyline")]
    assert drawn and max(map(len, drawn)) <= 300
    assert "2.00 → 1.00" in page.words


def test_a_lone_outlier_does_not_flatten_the_curve(tmp_path):
    """A gradient norm that starts a thousand times too high leaves the frame at the top."""
    workdir = write_run(tmp_path, scores=False)
    values = [20_000.0, *np.linspace(4, 2, 59)]
    lines = [f'{{"step": {i + 1}, "train/grad_norm": {v}}}\n' for i, v in enumerate(values)]
    (tmp_path / "metrics.jsonl").write_text("".join(lines))
    page = Page(read(report.write(workdir)))
    raw = next(a["points"] for a in page.named("polyline") if a["class"] == "raw")
    heights = [float(point.split(",")[1]) for point in raw.split()]
    assert heights[0] < 0 and heights[-1] - heights[1] > 10
    assert "highest 20,000" in page.words


def test_curves_hold_the_values_they_were_given(whole):
    """The raw line of the first loss, read back from the picture, is the logged curve."""
    chart = whole[whole.index('aria-label="image text over') :]
    start = float(re.search(r'<circle cx="[\d.]+" cy="([\d.]+)"', chart).group(1))
    points = re.search(r'<polyline points="([^"]+)" class="raw"', chart).group(1).split()
    xy = np.array([[float(v) for v in point.split(",")] for point in points])
    steps = np.array([1, *range(10, 301, 10)])
    values = 1 + 5 * np.exp(-(steps - 1) / 60)
    assert abs(np.corrcoef(xy[:, 0], steps)[0, 1]) > 0.9999
    assert np.corrcoef(xy[:, 1], values)[0, 1] < -0.9999
    assert xy[0, 1] == start == xy[:, 1].min()
