"""One of two processes that train the toy: `run_toys.py PROCESS ADDRESS WORKDIR STEPS WHAT`.

WHAT goes wrong on process 1 alone: "nothing"; "metadata" or "arrays" of the newest checkpoint
cannot be read; "input": its data never come. Process 1 says which files it changes beside arrays.
"""

import os
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
from training.toy import MANIFEST, Toy, batches, config

from rsvl_jax import runtime
from rsvl_jax.parallel.mesh import make_mesh
from rsvl_jax.training import checkpoint
from rsvl_jax.training.loop import fit


def break_reading(what):
    """Checkpoints of which the first one asked for cannot be read."""
    name = {"metadata": "_read_metadata", "arrays": "_read_arrays"}[what]
    read = getattr(checkpoint.Checkpoints, name)
    asked = []

    def broken(self, step, *rest):
        asked.append(step)
        if step == asked[0]:
            raise OSError(f"no {what} of step {step}")
        return read(self, step, *rest)

    setattr(checkpoint.Checkpoints, name, broken)


def tell_changes(workdir):
    """Prints each file of a run but its checkpoints that this process opens to write or removes."""

    def hook(event, arguments):
        if event not in ("open", "os.rename", "os.remove"):
            return
        writes = event != "open" or (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)
        path = str(arguments[0])
        if writes and path.startswith(workdir) and "checkpoints" not in path:
            print(f"{event} changes {path}", flush=True)

    sys.addaudithook(hook)


def main(process, address, workdir, steps, what):
    jax.config.update("jax_num_cpu_devices", 2)
    runtime.start(
        processes={
            "kind": "explicit",
            "coordinator": address,
            "processes": 2,
            "process": process,
            "timeout_s": 60,
        }
    )
    mesh = make_mesh()
    conf = config(steps=steps)
    with conf.unlocked():
        conf.watchdog = {"seconds": 20.0 if what == "input" else 240.0}
    if process == 1:
        tell_changes(workdir)
    if process == 1 and what in ("metadata", "arrays"):
        break_reading(what)

    def spoil(step, batch):
        if process == 1 and what == "input" and step == 5:
            threading.Event().wait()
        return batch

    fit(
        config=conf,
        objective=Toy(),
        make_batches=batches(mesh, spoil=spoil),
        manifest=MANIFEST,
        workdir=workdir,
        mesh=mesh,
        evaluate=lambda state, step: {"scale": float(state.params["logit_scale"])},
    )


if __name__ == "__main__":
    process, address, workdir, steps, what = sys.argv[1:]
    sys.exit(runtime.exit_status(lambda: main(int(process), address, workdir, int(steps), what)))
