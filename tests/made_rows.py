"""Image-text builds of made-up rows, and what they leave on the disk."""

import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
from made_downloads import picture

from rsvl_jax.datasets.image_text.options import Options
from rsvl_jax.datasets.image_text.reader import Drop, Reader, Row


class Rows(Reader):
    """Rows of a list, for what the layouts do not show."""

    layout = "rows"
    chunk = 7

    def __init__(self, rows, source=__file__):
        self.given, self.source = list(rows), source

    @classmethod
    def from_arguments(cls, arguments):
        raise NotImplementedError

    def describe(self):
        return {"digest": hashlib.sha256(pickle.dumps(self.given)).hexdigest()}

    def files(self):
        return [self.source]

    def prepare(self, folder):
        np.save(os.path.join(folder, "count.npy"), np.array(len(self.given)))

    def open(self, folder):
        self.count = int(np.load(os.path.join(folder, "count.npy")))

    def __len__(self):
        return self.count

    def read(self, index):
        row = self.given[index]
        if isinstance(row, Drop):
            raise row
        return row


class Tape(Rows):
    """The same, slow in any other order."""

    random_access = False


def row(number, **changes):
    given = {"key": f"{number}.jpg", "image": picture(number), "captions": [f"thing {number}"]}
    return Row(**{**given, **changes})


def small(**changes):
    return Options(**{"workers": 1, "shard_bytes": 6000, "vocabulary": 300, **changes})


def files(directory):
    """Every file below a directory and its bytes, locks left out."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(Path(directory).rglob("*"))
        if path.is_file() and not path.name.endswith(".lock")
    }


def command(source, data_dir, *more):
    return [
        *("build", "skyscript", f"--source={source}", f"--data_dir={data_dir}", "--shard_mb=0.01"),
        *("--vocabulary=300", "--workers=1", *more),
    ]
