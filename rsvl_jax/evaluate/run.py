"""A suite on one model: task by task, each kept when it is done, then the table of all."""

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import jax
from tqdm import tqdm

from rsvl_jax.errors import UserError
from rsvl_jax.evaluate import page
from rsvl_jax.evaluate.subject import Subject
from rsvl_jax.evaluate.suite import Spec, Suite
from rsvl_jax.evaluate.tasks import KINDS
from rsvl_jax.evaluation import card
from rsvl_jax.evaluation.card import Card
from rsvl_jax.parallel import distributed
from rsvl_jax.storage import replace_file


@dataclass(frozen=True)
class Outputs:
    """Paths of an evaluation below its folder."""

    folder: str

    @property
    def scores(self) -> str:
        """The cards of all tasks."""
        return os.path.join(self.folder, "scores.json")

    @property
    def table(self) -> str:
        """The same as Markdown."""
        return os.path.join(self.folder, "scores.md")

    @property
    def page(self) -> str:
        """The same as HTML, with every protocol."""
        return os.path.join(self.folder, "scores.html")

    @property
    def config(self) -> str:
        """What was asked for."""
        return os.path.join(self.folder, "config.json")

    @property
    def features(self) -> str:
        """Kept features."""
        return os.path.join(self.folder, "features")

    def task(self, subject: Subject, spec: Spec) -> str:
        """The cards of one task; another model or other options have another file."""
        says = [spec.kind, spec.set, spec.data, dict(spec.options), subject.seed]
        says += [subject.provenance.weights, subject.provenance.revision]
        text = json.dumps(says, sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return os.path.join(self.folder, "tasks", f"{spec.name}-{digest}.json")


def run(subject: Subject, suite: Suite, tasks: Sequence[Spec], outputs: Outputs) -> list[Card]:
    """Scores what has not been scored yet, and writes scores.json, scores.md and scores.html.

    To be called by all processes; the first alone writes. Raises UserError for data that are not
    there, and for a task whose data are wrong; finished ones stay.
    """
    check_data(tasks)
    found: list[Card] = []
    shown = tqdm(tasks, unit="task", disable=jax.process_index() != 0, file=sys.stderr)
    for spec in shown:
        shown.set_postfix_str(spec.name)
        found += _kept(subject, spec, outputs)
    if jax.process_index() == 0:
        _write(outputs, suite, found)
    distributed.wait_for_all("the scores are written")
    return found


def check_data(tasks: Sequence[Spec], give: str = "--data") -> None:
    """Before hours are spent on others: one line that names every folder that is missing.

    give: what says the folder that holds them.
    """
    missing = dict.fromkeys(spec.data for spec in tasks if not os.path.exists(spec.data))
    own = {spec.data for spec in tasks if KINDS[spec.kind].builds}
    absent = [spec for spec in tasks if spec.data in missing and spec.data not in own]
    if absent:
        names = ", ".join(f"{s.set} in {s.data!r}" for s in {s.data: s for s in absent}.values())
        there = [spec.name for spec in tasks if spec not in absent]
        more = f", or --only={','.join(there)}" if there and give == "--data" else ""
        raise UserError(f"not there: {names}; give {give}, the folder that holds them{more}")


def _write(outputs: Outputs, suite: Suite, cards: Sequence[Card]) -> None:
    os.makedirs(outputs.folder, exist_ok=True)
    card.write(outputs.scores, cards)
    table = f"# {suite.title}\n\n{card.markdown(cards)}"
    for path, text in ((outputs.table, table), (outputs.page, page.render(suite.title, cards))):
        with replace_file(path) as file:
            file.write(text.encode())


def _kept(subject: Subject, spec: Spec, outputs: Outputs) -> list[Card]:
    path = outputs.task(subject, spec)
    kept = _read(path)
    if distributed.everywhere(kept is not None) and kept is not None:
        return kept
    cards = KINDS[spec.kind].score(subject, spec)
    if jax.process_index() == 0:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        card.write(path, cards)
    return cards


def _read(path: str) -> list[Card] | None:
    """The cards of a finished task; None where it is not, or where its file is damaged."""
    if not os.path.exists(path):
        return None
    try:
        return card.read(path)
    except UserError as error:
        print(f"{error}: scored again", file=sys.stderr)
        return None
