"""The multi-positive contrasts as loops over tiles and photos in float64: the reference."""

import itertools
import math

import numpy as np


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


class Loops:
    """One batch; anchor(i, j) is that of photo j in tile i."""

    def __init__(self, *, anchors, photos, mask, logit_scale, photo_ids=None, ignore=None):
        self.anchors = unit(np.asarray(anchors, np.float64))
        self.photos = unit(np.asarray(photos, np.float64))
        self.mask, self.scale = mask, math.exp(logit_scale)
        self.slots = [tuple(slot) for slot in np.argwhere(mask)]
        self.tiles = sorted({i for i, _ in self.slots})
        self.pixel = self.anchors.ndim == 3
        self.ids = photo_ids
        if photo_ids is None:
            self.ids = np.arange(mask.size).reshape(mask.shape)
        self.ignore = np.zeros((len(mask), len(mask)), bool) if ignore is None else ignore

    def logit(self, anchor, photo):
        """anchor: the slot it belongs to."""
        a = self.anchors[anchor if self.pixel else anchor[0]]
        return self.scale * float(a @ self.photos[photo])

    def meant(self, anchor):
        """Ids that the anchor of a slot stands for."""
        i, j = anchor
        return {self.ids[i, j]} if self.pixel else {self.ids[s] for s in self.slots if s[0] == i}

    def compared(self, anchor, photo):
        """Whether a photo of another tile is compared with an anchor."""
        return not self.ignore[anchor[0], photo[0]] and self.ids[photo] not in self.meant(anchor)

    def row(self, slot):
        """Photos in the denominator of a photo's term."""
        for other in self.slots:
            if other == slot:
                yield other
            elif other[0] == slot[0]:
                if self.ids[other] != self.ids[slot]:
                    yield other
            elif self.compared(slot, other):
                yield other

    def column(self, slot):
        """Anchors in the denominator of the other direction, each by a slot that has it."""
        if self.pixel:
            for other in self.slots:
                if other == slot:
                    yield other
                elif other[0] == slot[0]:
                    if self.ids[other] != self.ids[slot]:
                        yield other
                elif self.compared(other, slot):
                    yield other
            return
        for i in self.tiles:
            first = next(s for s in self.slots if s[0] == i)
            if i == slot[0] or self.compared(first, slot):
                yield first

    def over_tiles(self, cost):
        total = 0.0
        for _, slots in itertools.groupby(self.slots, key=lambda slot: slot[0]):
            total += np.mean([cost(slot) for slot in slots])
        return total, len(self.tiles)

    def info_nce(self, symmetric=False):
        def cost(slot):
            rows = math.log(sum(math.exp(self.logit(slot, c)) for c in self.row(slot)))
            found = rows - self.logit(slot, slot)
            if not symmetric:
                return found
            columns = math.log(sum(math.exp(self.logit(a, slot)) for a in self.column(slot)))
            return (found + columns - self.logit(slot, slot)) / 2

        return self.over_tiles(cost)

    def sigmoid(self, bias):
        def cost(slot):
            found = math.log1p(math.exp(-self.logit(slot, slot) - bias))
            for other in self.slots:
                if other[0] != slot[0] and self.compared(slot, other):
                    weight = 1 / self.mask[other[0]].sum()
                    found += weight * math.log1p(math.exp(self.logit(slot, other) + bias))
            return found

        return self.over_tiles(cost)
