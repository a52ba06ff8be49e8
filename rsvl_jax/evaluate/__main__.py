"""Scores a model on a suite of benchmarks.

python -m rsvl_jax.evaluate --workdir=RUN|--weights=DIR --suite=NAME|FILE.toml [--data=DIR]

The cards of all tasks, with their whole protocol, go to OUTPUT/scores.json and OUTPUT/scores.md.
Features are computed once and kept, finished tasks stay: the same command goes on where it was
stopped. --list shows the suites and their tasks.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence

from rsvl_jax import runtime
from rsvl_jax.errors import UserError
from rsvl_jax.evaluate import suite as suites


def run(argv: Sequence[str]) -> None:
    """Carries out a command line (without the program's name)."""
    given = _parser().parse_args(argv)
    if given.list:
        print(_listing(given))
        return
    model = given.workdir or given.weights
    if not model or (given.workdir and given.weights):
        raise UserError("give one of --workdir (a run) and --weights (imported, or what can be)")
    runtime.start(processes=_processes(given))
    import jax

    from rsvl_jax.evaluate import contestant
    from rsvl_jax.evaluate.run import Outputs
    from rsvl_jax.evaluate.run import run as evaluate
    from rsvl_jax.evaluate.tasks import KINDS
    from rsvl_jax.evaluation import card
    from rsvl_jax.parallel.mesh import make_mesh

    kinds = {name: kind.options for name, kind in KINDS.items()}
    suite = suites.load(given.suite, given.data, kinds)
    tasks = suite.chosen(given.only)
    outputs = Outputs(given.output or _beside(given, model))
    subject = contestant.subject(
        model,
        mesh=make_mesh(),
        batch_size=given.batch_size,
        seed=given.seed,
        cache=outputs.features,
    )
    cards = evaluate(subject, suite, tasks, outputs)
    if jax.process_index() == 0:
        with open(outputs.config, "w", encoding="utf-8") as file:
            json.dump({"model": model, "suite": given.suite, "data": given.data}, file, indent=1)
        print(card.markdown(cards), f"scores: {outputs.page}", sep="\n")
        if given.compare:
            _compare([outputs.folder, *given.compare.split(",")], outputs.folder)


def _processes(given: argparse.Namespace) -> dict[str, object] | None:
    """What `parallel.distributed.start` is told; None for this process alone."""
    if not given.coordinator:
        return None
    names = ("coordinator", "processes", "process")
    return {name: getattr(given, name) for name in names}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rsvl_jax.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--workdir", default="", help="of a run of FLAVARS or GRAFT: its newest checkpoint")
    add("--weights", default="", help="imported weights, or whatever `rsvl_jax.weights` can import")
    add("--suite", default="earth", help="name or .toml file [%(default)s]")
    add("--data", default="data", help="folder that holds the data sets [%(default)s]")
    add("--output", default="", help="folder of the results [WORKDIR/evaluations/SUITE]")
    add("--only", default="", metavar="TASK,TASK", help="some of the tasks")
    add("--compare", default="", metavar="DIR,DIR", help="results to put beside these, as HTML")
    add("--batch_size", type=int, default=64, help="images at a time [%(default)s]")
    add("--seed", type=int, help="of every draw [that of the run, or 0]")
    add("--coordinator", help="address of process 0, or auto, where several score together")
    add("--processes", type=int, help="how many there are")
    add("--process", type=int, help="which of them this is, from 0")
    add("--list", action="store_true", help="suites and their tasks, and stop")
    return parser


def _listing(given: argparse.Namespace) -> str:
    from rsvl_jax.evaluate.tasks import KINDS

    kinds = {name: kind.options for name, kind in KINDS.items()}
    lines = []
    for name in suites.names():
        suite = suites.load(name, given.data, kinds)
        lines.append(f"{name}: {suite.title}")
        lines += [f"  {spec.name}  ({spec.data})" for spec in suite.tasks]
    return "\n".join(lines)


def _beside(given: argparse.Namespace, model: str) -> str:
    if not given.workdir:
        raise UserError("give --output, a folder for the results")
    name = os.path.basename(given.suite).removesuffix(".toml")
    return os.path.join(model, "evaluations", name)


def _compare(folders: Sequence[str], output: str) -> None:
    from rsvl_jax.report import compare

    page = os.path.join(output, "compare.html")
    print(compare.write(folders, page))
    print(f"comparison: {page}")


if __name__ == "__main__":
    sys.exit(runtime.exit_status(lambda: run(sys.argv[1:])))
