import jax
import numpy as np
import pytest
from training.toy import MANIFEST, Toy, batches, config

from rsvl_jax.errors import UserError
from rsvl_jax.parallel.mesh import make_mesh
from rsvl_jax.training.loop import fit
from rsvl_jax.training.retention import Retention

SCORES = {2: 0.3, 4: 0.9, 6: 0.1, 8: np.nan, 10: 0.4, 12: 0.2}


def run(workdir, steps, **kept):
    mesh = make_mesh(devices=jax.devices()[:1])
    conf = config(steps=steps, checkpoint__every_steps=1, checkpoint__keep=1)
    conf.evaluation.every_steps = 2
    with conf.unlocked():
        conf.checkpoint.update(kept)
    fit(
        config=conf,
        objective=Toy(),
        make_batches=batches(mesh),
        manifest=MANIFEST,
        workdir=str(workdir),
        mesh=mesh,
        evaluate=lambda state, step: {"accuracy": SCORES.get(step, 0.5)},
    )
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


def test_every_kth_stays(tmp_path):
    assert run(tmp_path, 12, keep_every=5) == [5, 10, 12]


@pytest.mark.parametrize(("best", "step"), [("eval/accuracy", 4), ("-eval/accuracy", 6)])
def test_the_best_stays_over_restarts(best, step, tmp_path):
    run(tmp_path, 7, keep_best=best)
    assert run(tmp_path, 12, keep_best=best) == [step, 12]


def test_an_unknown_score_is_an_error_with_the_nearest(tmp_path):
    with pytest.raises(UserError, match=r"'eval/acuracy' is no .* mean 'eval/accuracy'"):
        run(tmp_path, 4, keep_best="eval/acuracy")


def test_a_best_that_is_no_score_is_refused():
    with pytest.raises(UserError, match="keep_best='accuracy' is no score"):
        Retention(best="accuracy")


def test_a_negative_distance_is_refused():
    with pytest.raises(UserError, match="checkpoint.keep_every=-1"):
        Retention(every=-1)
