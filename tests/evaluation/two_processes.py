"""One of two CPU processes that score the synthetic tiles together; see test_two_processes.py.

Usage: two_processes.py PROCESS ADDRESS SCORES
"""

import sys

import jax

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_cpu_collectives_implementation", "gloo")
process, address, path = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.distributed.initialize(address, num_processes=2, process_id=process)

import numpy as np  # noqa: E402
from made_searches import searches  # noqa: E402
from synthetic_tiles import MANIFEST, SEEING, records  # noqa: E402

from rsvl_jax.evaluation import card, earth_tiles  # noqa: E402
from rsvl_jax.parallel.mesh import make_mesh  # noqa: E402

found = earth_tiles.evaluate(
    SEEING,
    None,
    records(24, seed=1),
    records(13, seed=2),
    MANIFEST,
    batch_size=8,
    mesh=make_mesh(),
    seed=0,
    quick=True,
)
card.write(f"{path}.{process}", found)

np.savez(f"{path}.{process}.npz", **searches(make_mesh()))
