"""Readers as the build uses them: from flags, prepared, sent to another process, opened."""

import argparse
import pickle

from rsvl_jax.datasets.image_text.reader import Drop
from rsvl_jax.datasets.image_text.readers import find


def reader(layout, source, *flags):
    """A reader by its command line."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--source")
    kind = find(layout)
    kind.add_arguments(parser)
    return kind.from_arguments(parser.parse_args([f"--source={source}", *flags]))


def opened(folder, layout, source, *flags):
    """A reader that is ready; its index lies in the empty `folder`."""
    found = reader(layout, source, *flags)
    folder.mkdir()
    found.prepare(str(folder))
    found = pickle.loads(pickle.dumps(found))
    found.open(str(folder))
    return found


def rows(found):
    """All rows, or the reasons why there is none."""
    return [row.reason if isinstance(row, Drop) else row for row in found.rows(0, len(found))]
