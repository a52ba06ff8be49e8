"""A suite on one model: task by task, each kept when it is done, then the table of all."""

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import jax
from tqdm import tqdm

from rsvl_jax.evaluate.subject import Subject
from rsvl_jax.evaluate.suite import Spec, Suite
from rsvl_jax.evaluate.tasks import KINDS
from rsvl_jax.evaluation import card
from rsvl_jax.evaluation.card import Card
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
    """Scores what has not been scored yet, and writes scores.json and scores.md.

    Raises UserError for a task whose data are missing or wrong; finished ones stay.
    """
    found: list[Card] = []
    shown = tqdm(tasks, unit="task", disable=jax.process_index() != 0, file=sys.stderr)
    for spec in shown:
        shown.set_postfix_str(spec.name)
        found += _kept(subject, spec, outputs)
    if jax.process_index() == 0:
        card.write(outputs.scores, found)
        with replace_file(outputs.table) as file:
            file.write(f"# {suite.title}\n\n{card.markdown(found)}".encode())
    return found


def _kept(subject: Subject, spec: Spec, outputs: Outputs) -> list[Card]:
    path = outputs.task(subject, spec)
    if os.path.exists(path):
        return card.read(path)
    cards = KINDS[spec.kind].score(subject, spec)
    if jax.process_index() == 0:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        card.write(path, cards)
    return cards
