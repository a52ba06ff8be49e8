"""`python -m rsvl_jax.evaluation_sets list` and `check NAME --data=DIR [--split=test]`.

`check` reads every image of a split and says how many there are of each class, and of which sizes.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from rsvl_jax import runtime
from rsvl_jax.evaluation_sets import known
from rsvl_jax.evaluation_sets.collection import IGNORE, Collection
from rsvl_jax.evaluation_sets.opening import LAYOUTS, Options, open_collection
from rsvl_jax.evaluation_sets.pictures import Pictures
from rsvl_jax.evaluation_sets.spacenet1 import Buildings
from rsvl_jax.rasters.sensors import SENSORS

# Of layouts that do not have all of the rules.
_RULES = {
    "arrays": ("train and test as published",),
    "bigearthnet": ("all",),
    "bigearthnet_v2": ("own",),
    "label_csv": ("all", "remoteclip"),
    "spacenet1": ("all",),
}


def run(argv: Sequence[str]) -> None:
    """Carries out a command line (without the program's name)."""
    flags = _parser().parse_args(argv)
    if flags.what == "list":
        print(listing())
        return
    options = Options(flags.layout, flags.rule, flags.sensor, flags.added, crop=flags.crop)
    print(report(open_collection(flags.name, flags.data, flags.split, options)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rsvl_jax.evaluation_sets",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="what", required=True)
    commands.add_parser("list", help="data sets that are known by name")
    check = commands.add_parser("check", help="read every image of a split")
    check.add_argument("name", help="of the list, or any other for a set of your own")
    check.add_argument("--data", required=True, help="its folder")
    check.add_argument("--split", default="test", help="train, val, test or all [%(default)s]")
    check.add_argument("--layout", default="", choices=("", *LAYOUTS), help="[finds out]")
    check.add_argument("--rule", default="", help="of the split: own, all, remoteclip, torchgeo...")
    check.add_argument("--sensor", default="", choices=("", *SENSORS))
    check.add_argument("--added", type=int, default=0, help="to all values of the sensor [0]")
    check.add_argument("--crop", action="store_true", help="to the object, where there are boxes")
    return parser


def listing() -> str:
    """The known data sets, a line each."""
    lines = [f"{'name':14} {'layout':11} {'classes':>7} {'images':>7}  split rules"]
    for name, of in known.table().items():
        classes = len(of.classes) or "folders"
        rules = ", ".join((*_RULES.get(of.layout, ("own", "all", "remoteclip")), *of.lists))
        lines.append(f"{name:14} {of.layout:11} {classes!s:>7} {of.images or '':>7}  {rules}")
    return "\n".join(lines)


def report(found: Collection) -> str:
    """What is in a collection, every image read. Raises UserError for one that cannot be."""
    sizes = Counter(found.images[row].shape[:2] for row in tqdm(range(len(found)), leave=False))
    lines = [f"{found.name} {found.split}: {len(found)} images, fingerprint {found.fingerprint()}"]
    lines += [f"{key}: {value}" for key, value in found.protocol.items() if value is not None]
    shown = sizes.most_common(5)
    lines.append("sizes: " + ", ".join(f"{w} x {h}: {n}" for (h, w), n in shown))
    if isinstance(found.images, Pictures):
        modes = Counter(map(found.images.mode, range(len(found))))
        lines.append("modes: " + ", ".join(f"{mode}: {n}" for mode, n in modes.most_common()))
    if found.labels is not None:
        counts = (
            found.labels.sum(axis=0)
            if found.multilabel
            else np.bincount(found.labels, minlength=len(found.classes))
        )
        lines += [f"  {name}: {n}" for name, n in zip(found.classes, counts, strict=True)]
    if found.captions:
        lines.append(f"captions: {sum(map(len, found.captions))}")
    if found.masks is not None:
        pixels = np.zeros(256, np.int64)
        for row in range(len(found)):
            pixels += np.bincount(found.masks[row].ravel(), minlength=256)
        lines += [f"  {n}: {c} pixels" for n, c in zip(found.pixel_classes, pixels, strict=False)]
        lines.append(f"  not scored: {pixels[IGNORE]} pixels")
    if isinstance(found.masks, Buildings):
        outlines = np.array([found.masks.counts(row) for row in range(len(found))]).sum(axis=0)
        lines.append(f"outlines: {outlines[0]}, of which enclose nothing: {outlines[1]}")
    lines += _bands(found)
    lines += [f"left out, {why}: {count}" for why, count in found.dropped.items()]
    return "\n".join(lines)


def _bands(found: Collection) -> list[str]:
    """Mean and deviation of each band: an order that is wrong shows here."""
    if found.bands is None:
        return []
    moments = np.zeros((3, len(found.band_names)))
    for row in tqdm(range(len(found)), leave=False):
        pixels = found.bands[row].reshape(-1, len(found.band_names)).astype(np.float64)
        moments += [np.full(pixels.shape[1], len(pixels)), pixels.sum(0), (pixels**2).sum(0)]
    mean = moments[1] / moments[0]
    deviation = np.sqrt(np.maximum(moments[2] / moments[0] - mean**2, 0))
    values = zip(found.band_names, mean, deviation, strict=True)
    return [f"  {name}: mean {m:.2f}, deviation {d:.2f}" for name, m, d in values]


if __name__ == "__main__":
    sys.exit(runtime.exit_status(lambda: run(sys.argv[1:])))
