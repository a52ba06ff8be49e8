"""The program compiled ahead is the step that a main runs, and what is counted in it."""

import dataclasses

import aot_tiny
import jax
import jax.numpy as jnp
import pytest

import flavars_jax.experiment
import graft_jax.experiment
from graft_jax.objective import GroundTower
from launch.aot import recompute, report
from launch.aot.program import Program
from rsvl_jax.errors import UserError
from rsvl_jax.models import clip, functional
from rsvl_jax.parallel.mesh import make_mesh, mesh_from
from rsvl_jax.training import loop
from rsvl_jax.training.step import CompiledStep


class Reached(Exception):
    """A run has come to the compilation of its step."""


@pytest.fixture
def main_program(monkeypatch):
    """A function (run) -> (StableHLO of the step, its batch) of what the run would compile."""

    def program_of(run):
        found = []

        class Told(CompiledStep):
            def prepare(self, state, batch):
                found.append((self.lower(state, batch).as_text(), batch))
                raise Reached

        monkeypatch.setattr(loop, "CompiledStep", Told)
        with pytest.raises(Reached):
            run()
        return found[0]

    return program_of


def check_same(config, text, batch):
    ahead = Program.make(config, mesh_from(config.mesh))
    made = jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding), ahead.batch)
    assert made == jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding), batch)
    assert ahead.lower().as_text() == text


def test_flavars(main_program, mini_earth_tiles, tmp_path):
    own = {"data__name": "earth_tiles/mini", "data__dir": mini_earth_tiles}
    own["training__micro_batches"] = 2
    mesh = {"mesh__fsdp": 4, "mesh__tensor": 2}
    config = aot_tiny.config("flavars", **own, **mesh, evaluation__every_steps=0)
    text, batch = main_program(lambda: flavars_jax.experiment.run(config, str(tmp_path)))
    check_same(config, text, batch)


class Teacher:
    """Stands for a trained one: the towers of a student's sizes, untrained."""

    fingerprint = "untrained"

    def __init__(self, settings):
        self.settings, self.image_size = settings, settings.satellite.vit.image_size

    def model(self):
        return self

    def images(self, pixels):
        means = pixels.astype(jnp.float32).mean((1, 2))
        return {"image": means @ jnp.ones((3, self.settings.satellite.embed_dim))}

    def ground_tower(self):
        s = self.settings
        tree = functional.init(lambda rngs: clip.ClipVision(s.satellite, rngs), jax.random.key(0))
        return GroundTower(s.satellite, tree["params"], s.mean, s.std)


@pytest.mark.parametrize("ground", ["cached", pytest.param("step", marks=pytest.mark.slow)])
def test_graft(main_program, mini_zoom_pairs, tmp_path, ground):
    own = {"data__name": "zoom_pairs/mini", "data__dir": mini_zoom_pairs, "data__ground": ground}
    config = aot_tiny.config("graft", **own, evaluation__every_steps=0)
    experiment = graft_jax.experiment.Experiment(config, str(tmp_path), mesh_from(config.mesh))
    # In place of a cached property: no teacher is trained here.
    experiment.__dict__["teacher"] = Teacher(graft_jax.settings.from_config(config))
    text, batch = main_program(lambda: experiment.train(0))
    check_same(config, text, batch)


def test_the_batch_follows_its_size_and_not_the_machine():
    small, large = (
        jax.tree.leaves(
            Program.make(aot_tiny.config("graft", data__batch_size=rows), make_mesh()).batch
        )
        for rows in (16, 4096)
    )
    assert [(256 * x.shape[0], *x.shape[1:]) for x in small] == [x.shape for x in large]


def test_what_a_main_refuses_is_refused():
    with pytest.raises(UserError, match="batch size 30 does not divide over 8 devices"):
        Program.make(aot_tiny.config("graft", data__batch_size=30), make_mesh())
    with pytest.raises(UserError, match="unknown remat policy 'half'"):
        Program.make(aot_tiny.config("flavars", model__remat="half"), make_mesh())
    with pytest.raises(UserError, match="'dalle' needs the weights"):
        dalle = {"objective__image_tokenizer": "dalle", "objective__codebook_size": 8192}
        Program.make(aot_tiny.config("flavars", **dalle), make_mesh())


def test_what_policies_keep_and_compute_again():
    """Against products counted by hand."""

    def cost(policy):
        config = aot_tiny.config("graft", objective__level="image", model__remat=policy)
        return recompute.cost(Program.make(config, make_mesh()))

    none, full, hidden, qkv = (cost(policy) for policy in ("none", "full", "hidden", "qkv"))
    width, depth, mlp = (aot_tiny.TOWER[key] for key in ("width", "depth", "mlp_dim"))
    length = 1 + (32 // 8) ** 2
    tokens = 2 * length * depth  # two rows a chip
    assert full.flops - hidden.flops == 2 * tokens * width * mlp
    assert full.flops - qkv.flops == 2 * tokens * width * 3 * width
    assert cost("matmuls").flops == none.flops
    # All but the last product of a layer, whose result no gradient needs, and attention's two.
    products = 2 * tokens * width * (3 * width + width + mlp) + 2 * 2 * tokens * length * width
    assert full.flops - none.flops == products
    # float32, and full keeps what enters a layer.
    assert hidden.kept - full.kept == 4 * tokens * mlp
    assert qkv.kept - full.kept == 4 * tokens * 3 * width
    assert 4 * tokens * width <= full.kept < hidden.kept < none.kept


def test_micro_batches_keep_less_and_encode_twice():
    one, two = (
        recompute.cost(
            Program.make(aot_tiny.config("graft", training__micro_batches=n), make_mesh())
        )
        for n in (1, 2)
    )
    assert two.kept < one.kept and 1.1 * one.flops < two.flops < 1.5 * one.flops


def test_the_guess_at_what_is_needed_beside_what_is_kept():
    whole = Program.make(aot_tiny.config("flavars"), make_mesh())
    split = Program.make(aot_tiny.config("flavars"), make_mesh(fsdp=8))
    size = sum(leaf.size for leaf in jax.tree.leaves(whole.state.params))
    frozen = sum(leaf.size for leaf in jax.tree.leaves(whole.state.frozen))
    costs = {"none": recompute.Cost(0, 3000), "full": recompute.Cost(0, 1000)}
    # Parameters, two moments and gradients, float32; scalars beside them.
    least = 4 * (4 * size + frozen) + 2000 // aot_tiny.TOWER["depth"]
    assert least <= recompute.beside(whole, costs) < least + 64
    assert recompute.beside(split, costs) < least / 3


@pytest.mark.parametrize("method", ["graft", pytest.param("flavars", marks=pytest.mark.slow)])
def test_analytic_flops_are_those_of_the_trace(method):
    config = aot_tiny.config(method, model__remat="none", contrast__implementation="dense")
    program = Program.make(config, make_mesh())
    traced = recompute.cost(program).flops * 8 / config.data.batch_size
    # Left out of the analytic count are small products: logits of a batch, position tables.
    assert 0.75 < program.objective.flops_per_sample() / traced < 1.1


def test_what_the_compiler_refuses_is_an_outcome():
    class Refusing:
        def compile(self):
            raise jax.errors.JaxRuntimeError(
                "RESOURCE_EXHAUSTED: Allocation (size=24GiB) would exceed memory. Ran out of "
                "memory in memory space hbm. Used 21.50G of 15.75G hbm. Exceeded by 5.75G."
            )

    outcome = report.compile_program(Refusing(), 100)
    assert not outcome.fits and outcome.memory == {"peak": int(21.5 * 2**30)}
    assert outcome.traffic == {}


def test_other_errors_of_the_compiler_are_no_outcome():
    class Broken:
        def compile(self):
            raise jax.errors.JaxRuntimeError("INTERNAL: no such thing")

    with pytest.raises(jax.errors.JaxRuntimeError, match="no such thing"):
        report.compile_program(Broken(), 100)


def test_an_outcome_holds_no_program():
    # A search compiles many, of hundreds of megabytes each.
    names = {field.name for field in dataclasses.fields(report.Outcome)}
    assert names == {"fits", "memory", "seconds", "traffic"}
