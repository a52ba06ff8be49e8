"""Speed and memory of exact nearest neighbours beside FAISS's flat indices.

Gallery and queries are float32 of a normal distribution, the gallery in a file that both map. With
`--classes` each is of a class with a mean of its own, and the gallery lies in their order. Each
contender is a process of its own with all cores; a round is all queries, k nearest each.

    pip install -e . faiss-cpu
    python -m benchmarks.knn [--rows=1000000] [--dims=768] [--queries=10000] [--k=5] [--rounds=3]
"""

import argparse
import os
import sys
import tempfile
from importlib.metadata import version

import numpy as np

from benchmarks import contest

OURS, FAISS = "ours", "FAISS flat"
_BLOCK = 65_536


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dims", type=int, default=768)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--classes", type=int, default=0)
    parser.add_argument("--metric", choices=("l2", "cosine"), default="l2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warmup", type=int, default=0)
    parser.add_argument("--folder", help="where the features are (internal)")
    parser.add_argument("--serve", choices=(OURS, FAISS), help="be a contender (internal)")
    flags = parser.parse_args()
    if flags.serve:
        serve(flags)
    else:
        compare(flags)


def compare(flags: argparse.Namespace) -> None:
    """Runs both in interleaved rounds, checks that they agree, and prints the table."""
    names = ("rows", "dims", "queries", "k", "metric")
    with tempfile.TemporaryDirectory() as folder:
        write(flags, folder)
        own = [sys.executable, "-m", "benchmarks.knn", f"--folder={folder}"]
        own += [f"--{name}={getattr(flags, name)}" for name in names]
        commands = {name: [*own, f"--serve={name}"] for name in (OURS, FAISS)}
        contenders = contest.run(commands, flags.rounds, warmup=flags.warmup)
        print(contest.table(contenders, flags.queries, FAISS))
        found = [np.load(os.path.join(folder, f"{name}.npy")) for name in (OURS, FAISS)]
    print(
        f"\n{np.mean(found[0] == found[1]):.4%} of the neighbours are the same; "
        f"{contest.hardware()}; faiss-cpu {version('faiss-cpu')}, jax {version('jax')}, "
        f"numpy {version('numpy')}"
    )


def write(flags: argparse.Namespace, folder: str) -> None:
    """Gallery and queries, as raw float32."""
    rng = np.random.default_rng(0)
    classes = max(flags.classes, 1)
    means = rng.standard_normal((classes, flags.dims), np.float32)
    means *= flags.classes > 0
    with open(os.path.join(folder, "gallery"), "wb") as file:
        for start in range(0, flags.rows, _BLOCK):
            rows = np.arange(start, min(start + _BLOCK, flags.rows))
            _drawn(rng, means[rows * classes // flags.rows]).tofile(file)
    queries = _drawn(rng, means[rng.integers(classes, size=flags.queries)])
    queries.tofile(os.path.join(folder, "queries"))


def _drawn(rng: np.random.Generator, means: np.ndarray) -> np.ndarray:
    return means + rng.standard_normal(means.shape, np.float32)


def serve(flags: argparse.Namespace) -> None:
    """Answers rounds; the neighbours of the last one are kept in a file."""
    shape = {"gallery": flags.rows, "queries": flags.queries}
    gallery, queries = (
        np.memmap(os.path.join(flags.folder, name), np.float32, "r", shape=(rows, flags.dims))
        for name, rows in shape.items()
    )
    find = _ours(flags, gallery) if flags.serve == OURS else _faiss(flags, gallery)
    path = os.path.join(flags.folder, f"{flags.serve}.npy")
    contest.serve(lambda: np.save(path, find(queries)))


def _ours(flags: argparse.Namespace, gallery: np.ndarray):
    from rsvl_jax.evaluation.neighbours import neighbours

    return lambda queries: neighbours(queries, gallery, k=flags.k, metric=flags.metric)[1]


def _faiss(flags: argparse.Namespace, gallery: np.ndarray):
    """An index keeps a copy of its rows in memory; adding them is not counted."""
    import faiss

    index = faiss.IndexFlatL2(flags.dims) if flags.metric == "l2" else faiss.IndexFlatIP(flags.dims)
    for start in range(0, len(gallery), _BLOCK):
        index.add(_unit(flags, gallery[start : start + _BLOCK]))
    return lambda queries: index.search(_unit(flags, queries), flags.k)[1].astype(np.int32)


def _unit(flags: argparse.Namespace, rows: np.ndarray) -> np.ndarray:
    if flags.metric == "l2":
        return np.asarray(rows)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
