"""Similarities of a scene of any size, averaged over regions, tile by tile."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import rasterio
from affine import Affine
from rasterio.windows import Window
from tqdm import tqdm

from graft_jax.map.batches import Image
from graft_jax.map.similarity import Block, Scan, blocks
from graft_jax.segment.regions import Regions, mean_by_region
from graft_jax.towers import TextImageModel


@dataclass(frozen=True)
class Refined:
    """A `similarity.Scanner`: regions are cut from tiles of `side` pixels with `margin` around.

    Cosines wait in a file in `folder`, 4 bytes a pixel and text, so memory stays that of one tile.
    A region that is wider than the margin may be cut where tiles meet.
    """

    regions: Regions
    folder: str
    side: int = 1024
    margin: int = 128

    def __call__(
        self,
        model: TextImageModel,
        image: Image,
        scan: Scan,
        *,
        done: Callable[[int], object] = lambda windows: None,
    ) -> Iterator[Block]:
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".segment-") as scratch:
            path = os.path.join(scratch, "cosines.tif")
            _keep(path, blocks(model, image, scan, done=done), image, len(scan.vectors))
            with rasterio.open(path) as file:
                places = [(t, c) for t in self._cut(image.height) for c in self._cut(image.width)]
                for rows, columns in tqdm(places, unit="tile", disable=None, file=sys.stderr):
                    yield self._tile(file, image, rows, columns)

    def _cut(self, length: int) -> list[range]:
        """Pixels of each tile along an axis; one tile where it reaches all with its margin."""
        if length <= self.side + self.margin:
            return [range(length)]
        return [range(n, min(n + self.side, length)) for n in range(0, length, self.side)]

    def _tile(
        self, file: rasterio.DatasetReader, image: Image, rows: range, columns: range
    ) -> Block:
        top, left = (max(part.start - self.margin, 0) for part in (rows, columns))
        bottom = min(rows.stop + self.margin, image.height)
        right = min(columns.stop + self.margin, image.width)
        scores = file.read(window=Window(left, top, right - left, bottom - top))
        pixels, valid = image.read(top, left, bottom - top, right - left)
        found = mean_by_region(scores, self.regions(pixels, valid))
        inside = found[:, rows.start - top :, columns.start - left :][
            :, : len(rows), : len(columns)
        ]
        return Block(rows.start, columns.start, inside)


def _keep(path: str, found: Iterator[Block], image: Image, count: int) -> None:
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=image.width,
        height=image.height,
        count=count,
        dtype="float32",
        tiled=True,
        blockxsize=512,
        blockysize=512,
        bigtiff="if_safer",
        transform=Affine.translation(0, image.height) @ Affine.scale(1, -1),
    ) as file:
        for block in found:
            height, width = block.scores.shape[1:]
            file.write(block.scores, window=Window(block.column, block.row, width, height))
