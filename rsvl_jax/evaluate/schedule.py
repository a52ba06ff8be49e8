"""A suite on a run as it goes."""

import os
from dataclasses import dataclass

from ml_collections import ConfigDict

from rsvl_jax.errors import UserError
from rsvl_jax.evaluate import run as running
from rsvl_jax.evaluate import suite as suites
from rsvl_jax.evaluate.run import Outputs
from rsvl_jax.evaluate.subject import Subject
from rsvl_jax.evaluate.suite import Suite
from rsvl_jax.evaluate.tasks import KINDS


@dataclass(frozen=True)
class Scheduled:
    """What `config.evaluation.suite` asks for; folder: of the scores of every step."""

    suite: Suite
    folder: str

    @classmethod
    def of(cls, config: ConfigDict, workdir: str) -> "Scheduled":
        """Raises UserError for a suite that is none, and for data that are not there."""
        own = config.evaluation
        kinds = {name: kind.options for name, kind in KINDS.items()}
        suite = suites.load(own.suite, own.suite_dir, kinds, asked="evaluation.suite")
        running.check_data(suite.tasks, give="evaluation.suite_dir")
        name = os.path.basename(own.suite).removesuffix(".toml")
        return cls(suite, os.path.join(workdir, "evaluations", name))

    def __call__(self, subject: Subject, step: int) -> dict[str, float]:
        """Scores to log; the cards go to FOLDER/step_N. Tasks that are finished there stay so."""
        outputs = Outputs(os.path.join(self.folder, f"step_{step}"))
        cards = running.run(subject, self.suite, self.suite.tasks, outputs)
        return {card.key: card.value for card in cards if card.value is not None}


def is_asked(config: ConfigDict) -> bool:
    """Whether a config has a suite. Raises UserError for how often without which."""
    own = config.get("evaluation", {})
    if own.get("suite_every_steps") and not own.get("suite"):
        raise UserError(
            f"evaluation.suite_every_steps={own['suite_every_steps']} of which suite? "
            "Set evaluation.suite"
        )
    return bool(own.get("suite"))
