"""docs/claims.md: what was run, what came out, and what it says about the papers' claims."""

import os
from collections.abc import Mapping, Sequence

import numpy as np

from reproduce import metrics, plan, plots
from reproduce.compare import Estimate, difference, estimate
from reproduce.metrics import Metric
from reproduce.plan import GRAFT, METHODS, UNTRAINED, WITHOUT, Size
from reproduce.result import Result
from rsvl_jax.storage import replace_file

Groups = Mapping[str, Sequence[Result]]
TEACHER = "frozen teacher on the coarse tile"
NOTES = "notes.md"


def write(path: str, results: Sequence[Result], size: Size) -> str:
    """Writes the page and, beside it in a folder of its name, its pictures; returns the path.

    What people have to say about the numbers stands in NOTES of that folder and is taken in whole.
    """
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.group, []).append(result)
    folder = os.path.splitext(path)[0]
    os.makedirs(folder, exist_ok=True)
    parts = [_head(results), _runs(groups), _scores(groups), _claims(groups), _without(groups)]
    parts += [_graft(groups), _pictures(groups, folder), _notes(folder)]
    text = "\n\n".join(part for part in parts if part) + "\n"
    with replace_file(path) as file:
        file.write(text.encode())
    return path


def _head(results: Sequence[Result]) -> str:
    splits = {result.split for result in results}
    revisions = sorted({result.revision for result in results})
    return f"""# The papers' claims, in small

Made by `make reproduce`; do not edit. FLAVARS, what it is made of and what it is compared with, and
GRAFT's teacher and students, trained on the embedded data with the same number of steps, batch,
image tower and images, and scored on the {" and ".join(splits)} blocks.

Scores are means over seeds, in %. In brackets: 95 % intervals by a bootstrap over whole geographic
blocks, the same draws for all; ± is the standard deviation over seeds. Balanced accuracy (the mean
recall of the classes) for kNN and zero-shot; mIoU over the classes with at least 1 % of the pixels.
Code revision {", ".join(revisions)}."""


def _runs(groups: Groups) -> str:
    lines = ["## What was run", "", "| | runs | steps | TFLOPs a run | CPU-core minutes a run |"]
    lines.append("|---|---|---|---|---|")
    for name, results in groups.items():
        minutes = np.mean([result.seconds for result in results]) / 60
        flops = np.mean([result.flops for result in results]) / 1e12
        steps = results[0].steps
        lines.append(f"| {name} | {len(results)} | {steps} | {flops:.0f} | {minutes:.1f} |")
    return "\n".join(lines)


def _scores(groups: Groups) -> str:
    shown = [name for name in (UNTRAINED, *METHODS) if name in groups]
    if not shown:
        return ""
    titles = [metric.title for metric in metrics.METRICS]
    lines = ["## Scores", "", f"| | {' | '.join(titles)} |", "|---" * (1 + len(titles)) + "|"]
    for name in shown:
        cells = [_cell(estimate(groups[name], metric)) for metric in metrics.METRICS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(found: Estimate | None, signed: bool = False) -> str:
    if found is None:
        return "-"
    number = f"{found.value:+.1f}" if signed else f"{found.value:.1f}"
    spread = "" if np.isnan(found.deviation) else f" ± {found.deviation:.1f}"
    low, high = (f"{edge:+.1f}" if signed else f"{edge:.1f}" for edge in (found.low, found.high))
    return f"{number}{spread} ({low} to {high})"


CLAIMS: tuple[tuple[str, str, str, tuple[Metric, ...]], ...] = (
    (
        "FLAVARS beats CLIP on kNN and on segmentation (the paper: +6 mIoU on SpaceNet1)",
        "FLAVARS",
        "CLIP",
        (metrics.KNN, metrics.KNN_20, metrics.SEGMENTATION, metrics.WEIGHTED),
    ),
    (
        "FLAVARS keeps what CLIP can do with text (the paper: near it, CLIP still better)",
        "FLAVARS",
        "CLIP",
        (metrics.ZEROSHOT, metrics.TEXT),
    ),
    (
        "It gains from location",
        "FLAVARS",
        "FLAVA",
        (metrics.KNN, metrics.KNN_20, metrics.SEGMENTATION, metrics.ZEROSHOT, metrics.TEXT),
    ),
    (
        "It beats masked image modelling alone, which has no zero-shot",
        "FLAVARS",
        "MAE",
        (metrics.KNN, metrics.KNN_20, metrics.SEGMENTATION, metrics.WEIGHTED),
    ),
    (
        "Training is worth it",
        "FLAVARS",
        UNTRAINED,
        (metrics.KNN, metrics.KNN_20, metrics.SEGMENTATION, metrics.WEIGHTED, metrics.ZEROSHOT),
    ),
)


def _claims(groups: Groups) -> str:
    parts = []
    for claim, ours, theirs, looked_at in CLAIMS:
        if ours in groups and theirs in groups:
            rows = [
                _row(metric.title, difference(groups[ours], groups[theirs], metric))
                for metric in looked_at
            ]
            parts.append(f"### {claim}\n\n{_table(f'{ours} less {theirs}', rows)}")
    return "\n\n".join(["## The claims of FLAVARS", *parts]) if parts else ""


def _row(title: str, found: Estimate | None) -> str:
    verdict = "-" if found is None else found.verdict
    return f"| {title} | {_cell(found, signed=True)} | {verdict} |"


def _table(what: str, rows: Sequence[str]) -> str:
    return "\n".join([f"| | {what}, points | |", "|---|---|---|", *rows])


def _without(groups: Groups) -> str:
    """One seed each, beside the same seed of FLAVARS."""
    whole = [result for result in groups.get("FLAVARS", ()) if result.seed == plan.SEEDS[0]]
    names = [name for name in groups if name.startswith(WITHOUT)]
    if not whole or not names:
        return ""
    titles = [metric.title for metric in metrics.METRICS]
    lines = [
        "## Without each term",
        "",
        "Points lost (or gained) by leaving a term out, one seed each, beside the same seed with "
        "all terms: as far as the spread over seeds above lets one seed say anything.",
        "",
        f"| without | {' | '.join(titles)} |",
        "|---" * (1 + len(titles)) + "|",
    ]
    for name in names:
        cells = [_cell(difference(groups[name], whole, m), signed=True) for m in metrics.METRICS]
        lines.append(f"| {name.removeprefix(WITHOUT)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _graft(groups: Groups) -> str:
    results = groups.get(GRAFT, ())
    if not results:
        return ""
    lines = [
        "## The claim of GRAFT: students beat their teacher on satellite tiles, without text",
        "",
        "Three teachers, a student each, on zoom pairs, which are no ground photos "
        "(see [graft.md](graft.md)).",
        "",
        "| | teacher | students | students less teachers | |",
        "|---|---|---|---|---|",
    ]
    for metric in metrics.GRAFT_METRICS:
        apart = difference(results, results, metric, TEACHER)
        cells = (_cell(estimate(results, metric, TEACHER)), _cell(estimate(results, metric)))
        verdict = "-" if apart is None else apart.verdict
        lines.append(f"| {metric.title} | {' | '.join(cells)} | {_cell(apart, True)} | {verdict} |")
    return "\n".join(lines)


def _pictures(groups: Groups, folder: str) -> str:
    name = os.path.basename(folder)
    found = []
    if plots.scores(groups, os.path.join(folder, "scores.png")):
        found.append(f"![Scores by method]({name}/scores.png)")
    if plots.differences(groups, os.path.join(folder, "differences.png")):
        found.append(f"![FLAVARS less its peers]({name}/differences.png)")
    return "\n\n".join(found)


def _notes(folder: str) -> str:
    path = os.path.join(folder, NOTES)
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as file:
        return file.read().strip()
