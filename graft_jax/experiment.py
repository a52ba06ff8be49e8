"""One GRAFT run from a config to its report: the wiring, and nothing else.

A work directory holds `teacher/`, `ground/` (embeddings of the photos) and `seed0/`, `seed1/`, ...:
the teacher and each student are runs of the core's loop, with checkpoints and metrics of their own.
"""

import functools
import json
import os
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from graft_jax import encoders, evaluate, ground, settings, teacher
from graft_jax.evaluate import Bench, Contestant
from graft_jax.ground import GroundCache
from graft_jax.illustrate import illustrate
from graft_jax.inputs import Inputs, transform
from graft_jax.objective import GraftObjective, GroundTower
from graft_jax.segment import score as segmentation
from graft_jax.teacher import Teacher, TextImage
from rsvl_jax import report
from rsvl_jax.data.tokenizer import SentencePieceTokenizer
from rsvl_jax.datasets import registry
from rsvl_jax.errors import UserError
from rsvl_jax.evaluate import contestant, schedule
from rsvl_jax.evaluate.subject import Subject
from rsvl_jax.evaluation import card
from rsvl_jax.models.architecture import architecture
from rsvl_jax.models.clip import ClipVision
from rsvl_jax.parallel.mesh import check_batch, make_mesh, mesh_from
from rsvl_jax.storage import locate, replace_file
from rsvl_jax.training import loop, resume, saved
from rsvl_jax.training.scoring import Evaluate
from rsvl_jax.training.state import Initial, TrainState
from rsvl_jax.weights import init_from, runs

Tree = Any


def run(config: ConfigDict, workdir: str) -> None:
    """Teacher, ground embeddings, a student a seed, scores and report; goes on where it stands."""
    experiment = Experiment.open(config, workdir)
    experiment.teach()
    students = {seed: experiment.train(seed) for seed in config.seeds}
    experiment.finish(students)


class Experiment:
    """A run's parts, each made when it is first asked for."""

    def __init__(self, config: ConfigDict, workdir: str, mesh: Mesh):
        self.config, self.workdir, self.mesh = config, workdir, mesh

    @classmethod
    def open(cls, config: ConfigDict, workdir: str) -> "Experiment":
        """Checks the config, then opens (or builds) the data.

        Raises UserError for what is wrong with either, and for a work directory of another config,
        before anything is written.
        """
        mesh = mesh_from(config.mesh)
        check_batch(config.data.batch_size, mesh)
        if not config.seeds:
            raise UserError("seeds=() trains no student: give at least one, such as (0,)")
        transform(config)
        if schedule.is_asked(config):
            schedule.Scheduled.of(config, workdir)
        experiment = cls(config, workdir, mesh)
        if experiment.labelled:
            tokenizer = SentencePieceTokenizer(experiment.inputs.artifact(teacher.TOKENIZER))
            with config.unlocked():
                # What the tokenizer has is what the model needs: less if the captions are few.
                config.model.text.vocab_size = tokenizer.vocab_size
        _keep_config(config, workdir)
        return experiment

    @classmethod
    def reopen(cls, workdir: str) -> "Experiment":
        """A run as it was last started, for the use of its models; its data need not be there.

        Raises UserError where there is no run.
        """
        found = _kept_config(workdir)
        if found is None:
            raise UserError(f"no config.json in {workdir!r}: give the --workdir of a GRAFT run")
        return cls(ConfigDict(found), workdir, make_mesh())

    @property
    def labelled(self) -> bool:
        """Whether the data are zoom pairs: captions for a teacher, and labels for scores."""
        return registry.find(self.config.data.name).builder == registry.ZOOM_PAIRS

    @functools.cached_property
    def inputs(self) -> Inputs:
        """The data."""
        return Inputs.open(self.config)

    def teach(self) -> None:
        """Trains the teacher to its configured length, unless the config names a trained one."""
        if self.config.init_from.teacher:
            return
        if not self.labelled:
            raise UserError(
                f"no teacher for {self.config.data.name!r}: ground photos come without captions to "
                "train one on; set config.init_from.teacher to the directory of a trained one"
            )
        teacher.train(self.config, self.inputs, self._own_teacher, self.mesh)

    @property
    def _own_teacher(self) -> str:
        return os.path.join(self.workdir, "teacher")

    @functools.cached_property
    def teacher(self) -> Teacher:
        """The frozen towers. Raises UserError where they have not been trained."""
        given = self.config.init_from.teacher
        if given and not runs.is_run(given):
            return Teacher.of_source(given, self.mesh)
        return Teacher.of_run(given or self._own_teacher, self.mesh)

    def cache(self, split: str) -> GroundCache:
        """The frozen embeddings of a split's ground photos, computed where they are not there."""
        return ground.ensure(
            self.teacher.model(),
            self.inputs.split(split),
            directory=os.path.join(self.workdir, "ground", split),
            data={key: self.inputs.manifest[key] for key in ("name", "version", "fingerprint")},
            batch_size=self.config.evaluation.batch_size,
            mesh=self.mesh,
            skip_corrupt=self.config.data.skip_corrupt,
        )

    @functools.cached_property
    def objective(self) -> GraftObjective:
        """The students', which start as the teacher's image tower."""
        tower = self.teacher.ground_tower()
        _check_start(self.config, tower)
        inside = self.config.data.ground == "step"
        return GraftObjective(
            self.config,
            start=tower.params,
            ground=tower if inside else None,
            mesh=self.mesh,
        )

    def train(self, seed: int) -> TrainState:
        """Trains the student of a seed, from its newest checkpoint if there is one."""
        config, manifest = self._student(seed), self._manifest
        cache = None if config.data.ground == "step" else self.cache("train")
        return loop.fit(
            config=config,
            objective=self.objective,
            make_batches=lambda step: self.inputs.batches(config, self.mesh, step, cache),
            manifest=manifest,
            workdir=self._folder(seed),
            mesh=self.mesh,
            evaluate=self._validate if self.labelled else None,
            suite=self._suite(seed) if schedule.is_asked(config) else None,
            initial=self._initial(config),
        )

    def _initial(self, config: ConfigDict) -> Initial | None:
        """Weights that the student starts from in place of the teacher's image tower."""
        architecture = self.objective.architecture()
        given = init_from.initial(config, architecture, leave=("teacher",))
        return None if given is None else lambda abstract: with_projector(*given(abstract))

    def _student(self, seed: int) -> ConfigDict:
        """The config of one student's run: what the teacher has of its own is not in it."""
        config = self.config.copy_and_resolve_references()
        with config.unlocked():
            config.seed = seed
            del config.seeds, config.teacher
        return config

    @property
    def _manifest(self) -> dict[str, Any]:
        """Of the data and the embeddings: a student cannot go on with another teacher's."""
        return self.inputs.manifest | {"ground_tower": self.teacher.fingerprint}

    def _folder(self, seed: int) -> str:
        return os.path.join(self.workdir, f"seed{seed}")

    def model(self, seed: int | None = None) -> TextImage:
        """A trained student beside the teacher's text tower; that of the first seed by default.

        It needs checkpoints alone. Raises UserError where there is none.
        """
        folder = self._folder(self.config.seeds[0] if seed is None else seed)
        found = saved.metadata(folder)
        state = loop.load_state(
            config=ConfigDict(found["config"]),
            objective=self.objective,
            manifest=found["manifest"],
            workdir=folder,
            mesh=self.mesh,
        )
        return self._bound(state)

    def _bound(self, state: TrainState) -> TextImage:
        params = averaged(state)
        name = f"{card.weights_fingerprint(params)}-{self.teacher.fingerprint}"
        return self.teacher.beside(partial(self._see, params, state.frozen), name)

    @functools.cached_property
    def _see(self) -> Any:
        return jax.jit(self.objective.embed_images)

    def _suite(self, seed: int) -> Evaluate:
        """What scores the student of a seed on the suite of the config."""
        scheduled = schedule.Scheduled.of(self.config, self._folder(seed))
        return lambda state, step: scheduled(self.subject(seed, state), step)

    def subject(self, seed: int, state: TrainState) -> Subject:
        """A student as suites score it."""
        params, step = averaged(state), int(jax.device_get(state.step))
        revision = resume.code_revision()
        return Subject(
            encoders=self._encoders(params, state.frozen),
            prepare=encoders.preprocessing(self.objective.settings),
            provenance=card.Provenance(card.weights_fingerprint(params), step, revision),
            mesh=self.mesh,
            batch_size=self.config.evaluation.batch_size,
            seed=seed,
            earth=contestant.embedded_data(self.config),
        )

    @functools.cached_property
    def _encoders(self) -> encoders.EncoderFactory:
        return encoders.EncoderFactory(self.objective, self.teacher)

    def _validate(self, state: TrainState, step: int) -> dict[str, float]:
        """Zero-shot scores on the validation blocks, for the curves."""
        return evaluate.quick(self._validation, self._bound(state))

    @functools.cached_property
    def _validation(self) -> Bench:
        return self._bench("validation")

    def _bench(self, split: str, **options: Any) -> Bench:
        return Bench.prepare(
            self.inputs.split(split),
            self.inputs.manifest,
            self.teacher.model(),
            split=split,
            batch_size=self.config.evaluation.batch_size,
            mesh=self.mesh,
            **options,
        )

    def finish(self, students: dict[int, TrainState]) -> None:
        """Scores the test blocks and writes scores.json and report.html, unless they are there."""
        scores = os.path.join(self.workdir, "scores.json")
        page = os.path.join(self.workdir, "report.html")
        known = [self._contestant(seed, state) for seed, state in students.items()]
        done = _scored(scores, known)
        if done and locate(page).exists():
            return
        bench = self._bench("test", seed=self.config.seed) if self.labelled else None
        if bench is not None and not done:
            self._write(self._score(bench, known, "test"), scores)
        shown = illustrate(self.inputs, bench, known[0].model)
        if jax.process_index() == 0:
            first = os.path.join(self._folder(self.config.seeds[0]), "metrics.jsonl")
            # The curves of the page are those of the first student.
            with replace_file(_in(self.workdir, "metrics.jsonl")) as file:
                file.write(locate(first).read_bytes())
            print(f"report: {report.write(self.workdir, shown)}", flush=True)

    def score(self, students: dict[int, TrainState], split: str) -> list[card.Card]:
        """Scores of the students, the teacher and an untrained student on a split."""
        known = [self._contestant(seed, state) for seed, state in students.items()]
        return self._score(self._bench(split, seed=self.config.seed), known, split)

    def _score(self, bench: Bench, students: list[Contestant], split: str) -> list[card.Card]:
        revision = resume.code_revision()
        old, untrained = self.teacher.model(), self.teacher.untrained()
        train = evaluate.read(self.inputs.train)
        cards = evaluate.score(
            bench,
            students,
            Contestant("teacher", old, _origin(old, self.teacher.step, revision)),
            Contestant("untrained", untrained, _origin(untrained, 0, revision)),
            train=train,
            fine=evaluate.fine_means(self.cache(split), self.inputs.split(split)),
        )
        others = {evaluate.TEACHER: old, evaluate.UNTRAINED: untrained}
        return cards + segmentation.score(bench, students, others, train=train)

    def _write(self, cards: list[card.Card], path: str) -> None:
        if jax.process_index() == 0:
            card.write(path, cards)
            print(card.markdown(cards), evaluate.summary(cards), sep="\n", flush=True)

    def _contestant(self, seed: int, state: TrainState) -> Contestant:
        model, step = self._bound(state), int(jax.device_get(state.step))
        return Contestant(f"seed{seed}", model, _origin(model, step, resume.code_revision()))


def _check_start(config: ConfigDict, tower: GroundTower) -> None:
    """Raises UserError where the student would compute otherwise than the tower it starts as."""
    ours, theirs = (
        architecture(partial(ClipVision, each))
        for each in (settings.from_config(config).satellite, tower.config)
    )
    pixels = {"mean": tower.mean, "std": tower.std}
    found = init_from.differences(config, "satellite", ours, theirs)
    found |= init_from.normalisation(config, pixels)
    init_from.refuse(found, config.init_from.get("expect") or ())


def with_projector(
    arrays: Mapping[str, np.ndarray], origin: dict[str, Any]
) -> tuple[Mapping[str, np.ndarray], dict[str, Any]]:
    """Where only a tower is given, the projector starts as the tower's own final norm and
    projection, as in `GraftObjective.init`."""
    copies = {"norm": "vit/norm", "linear": "projection"}
    found = {
        path.replace(f"params/satellite/{theirs}/", f"params/projector/{ours}/"): value
        for ours, theirs in copies.items()
        for path, value in arrays.items()
        if path.startswith(f"params/satellite/{theirs}/")
    }
    return {**found, **arrays}, origin


def averaged(state: TrainState) -> Tree:
    """The parameters to use: their moving average, where one is kept."""
    return state.params if state.ema is None else state.ema


def _origin(model: TextImage, step: int, revision: str) -> card.Provenance:
    return card.Provenance(weights=model.fingerprint, step=step, revision=revision)


def _scored(path: str, students: list[Contestant]) -> bool:
    """Whether the scores are those of these students."""
    if not locate(path).exists():
        return False
    found = {each.provenance.weights for each in card.read(path)}
    return all(student.provenance.weights in found for student in students)


def _in(workdir: str, name: str) -> str:
    return os.path.join(workdir, name)


def _keep_config(config: ConfigDict, workdir: str) -> None:
    """Writes config.json. Raises UserError where it is there and says another run."""
    content = resume.as_json(config)
    found = _kept_config(workdir)
    if found is not None:
        old, new = ({"config": _fixed(c), "manifest": {}, "layout": {}} for c in (found, content))
        resume.check(old, new, workdir)
    if jax.process_index() == 0:
        locate(workdir).mkdir(parents=True, exist_ok=True)
        with replace_file(_in(workdir, "config.json")) as file:
            file.write(json.dumps(content, indent=2).encode() + b"\n")


def _fixed(config: dict[str, Any]) -> dict[str, Any]:
    """What may not change from one start to the next; lengths are looked at by the runs within."""
    own = {name: value for name, value in config["teacher"].items() if name != "training"}
    # Weights to start from are looked at by the runs within, too: no harm until one has started.
    return {**config, "seeds": None, "teacher": own, "init_from": None}


def _kept_config(workdir: str) -> dict[str, Any] | None:
    path = _in(workdir, "config.json")
    if not locate(path).exists():
        return None
    try:
        return dict(json.loads(locate(path).read_text()))
    except ValueError as error:
        raise UserError(f"{path!r} is not JSON ({error}): give another --workdir") from error
