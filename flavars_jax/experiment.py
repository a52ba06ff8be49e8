"""One FLAVARS run from a config to its report: the wiring, and nothing else."""

import os
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from flavars_jax import captions, opening
from flavars_jax.encoders import EncoderFactory
from flavars_jax.illustrate import illustrate
from flavars_jax.inputs import Inputs, transform
from flavars_jax.objective import FlavarsObjective, brings_tokenizer
from flavars_jax.settings import from_config
from rsvl_jax import report
from rsvl_jax.evaluate import contestant, schedule
from rsvl_jax.evaluate.subject import Subject
from rsvl_jax.evaluation import card, choice
from rsvl_jax.inference.images import Preprocessing
from rsvl_jax.parallel.mesh import check_batch, mesh_from
from rsvl_jax.storage import locate
from rsvl_jax.training import loop, resume
from rsvl_jax.training.state import TrainState
from rsvl_jax.weights import init_from

Tree = Any


def run(config: ConfigDict, workdir: str) -> None:
    """Trains, scores on held-out blocks, and writes the report; goes on from where it stands."""
    experiment = Experiment.open(config, workdir)
    state = experiment.train()
    experiment.finish(state)


class Experiment:
    """A run's parts, opened once and wired together."""

    def __init__(self, config: ConfigDict, workdir: str, inputs: Inputs, mesh: Mesh):
        self.config, self.workdir, self.inputs, self.mesh = config, workdir, inputs, mesh
        codebook = None if brings_tokenizer(config) else inputs.codebook(from_config(config))
        self.objective = FlavarsObjective(config, codebook=codebook, mesh=mesh)
        self._encoders = EncoderFactory(self.objective, inputs.tokenizer)
        asked = schedule.is_asked(config)
        self._suite = schedule.Scheduled.of(config, workdir) if asked else None

    @classmethod
    def open(cls, config: ConfigDict, workdir: str) -> "Experiment":
        """Checks the config, then opens (or builds) the data.

        Raises UserError for what is wrong with either, before anything is written.
        """
        mesh = mesh_from(config.mesh)
        check_batch(config.data.batch_size, mesh)
        inputs = Inputs.open(config, captions.tokenizer(config, workdir))
        if inputs.tokenizer is not None:
            with config.unlocked():
                # What the tokenizer has is what the model needs: less if the captions are few.
                config.model.text.vocab_size = inputs.tokenizer.vocab_size
        return cls(config, workdir, inputs, mesh)

    def train(self) -> TrainState:
        """Trains to the configured length, from the newest checkpoint if there is one."""
        tokenizer = self.inputs.tokenizer
        return loop.fit(
            config=self.config,
            objective=self.objective,
            make_batches=lambda step: self.inputs.batches(
                self.config, self.objective.settings, self.mesh, step
            ),
            manifest=self.inputs.manifest,
            workdir=self.workdir,
            mesh=self.mesh,
            evaluate=self._evaluate,
            suite=self._score_suite if self._suite else None,
            assets={} if tokenizer is None else {captions.FILE: tokenizer.model},
            initial=init_from.initial(self.config, self.objective.architecture()),
        )

    def _evaluate(self, state: TrainState, step: int) -> dict[str, float]:
        """Quick scores on the validation blocks, for the curves."""
        return card.as_metrics(self.score(state, "validation", quick=True))

    def _score_suite(self, state: TrainState, step: int) -> dict[str, float]:
        assert self._suite is not None
        return self._suite(self.subject(state), step)

    def subject(self, state: TrainState) -> Subject:
        """The model as suites score it."""
        params = averaged(state)
        return Subject(
            encoders=self._encoders(params, state.frozen),
            prepare=Preprocessing.of(opening.model(self.objective.settings).preprocessing),
            provenance=self._provenance(state, params),
            mesh=self.mesh,
            batch_size=self.config.evaluation.batch_size,
            seed=self.config.seed,
            earth=contestant.embedded_data(self.config),
        )

    def score(
        self, state: TrainState, split: str, *, quick: bool = False, untrained: bool = True
    ) -> list[card.Card]:
        """Scores the parameters (their average, where one is kept) on a split.

        untrained: whether the same encoder at initialisation stands beside every score.
        """
        params = averaged(state)
        beside = untrained and not quick
        return choice.suite_of(self.inputs.scored)(
            self._encoders(params, state.frozen),
            self._encoders(*self._untrained()) if beside else None,
            self.inputs.split("train"),
            self.inputs.split(split),
            self.inputs.scored,
            batch_size=self.config.evaluation.batch_size,
            mesh=self.mesh,
            seed=self.config.seed,
            quick=quick,
            split=split,
            provenance=None if quick else self._provenance(state, params),
        )

    def _untrained(self) -> tuple[Tree, Tree]:
        """The parameters at initialisation: the reference of every score."""
        start = loop.initial_state(
            config=self.config,
            objective=self.objective,
            manifest=self.inputs.manifest,
            mesh=self.mesh,
        )
        return start.params, start.frozen

    def _provenance(self, state: TrainState, params: Tree) -> card.Provenance:
        return card.Provenance(
            weights=card.weights_fingerprint(params),
            step=int(jax.device_get(state.step)),
            revision=resume.code_revision(),
        )

    def finish(self, state: TrainState) -> None:
        """Scores the test blocks and writes scores.json and report.html, unless they are there."""
        step = int(jax.device_get(state.step))
        scores = os.path.join(self.workdir, "scores.json")
        page = os.path.join(self.workdir, "report.html")
        if not _scored(scores, step):
            cards = self.score(state, "test")
            if jax.process_index() == 0:
                card.write(scores, cards)
                print(card.markdown(cards), flush=True)
        elif locate(page).exists():
            return
        shown = self._illustrate(state)
        if jax.process_index() == 0:
            print(f"report: {report.write(self.workdir, shown)}", flush=True)

    def _illustrate(self, state: TrainState) -> report.Illustrations:
        params = averaged(state)
        settings, inputs = self.objective.settings, self.inputs
        return illustrate(
            inputs=inputs,
            objective=self.objective,
            encoders=self._encoders(params, state.frozen),
            params=params,
            frozen=state.frozen,
            transform=transform(
                self.config, settings, inputs.tokenizer, inputs.train, inputs.manifest
            ),
            mesh=self.mesh,
            batch_size=self.config.evaluation.batch_size,
        )


def averaged(state: TrainState) -> Tree:
    """The parameters to use: their moving average, where one is kept."""
    return state.params if state.ema is None else state.ema


def _scored(path: str, step: int) -> bool:
    """Whether the scores are those of this step."""
    return locate(path).exists() and any(c.provenance.step == step for c in card.read(path))
