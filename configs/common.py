"""What every recipe has: the run, its optimiser, its cadence and its mesh."""

from collections.abc import Callable, Mapping

from ml_collections import config_dict

from rsvl_jax.errors import UserError

Preset = Callable[[config_dict.ConfigDict], None]


def section(**values: object) -> config_dict.ConfigDict:
    """Returns a config section."""
    return config_dict.ConfigDict(values)


def run(steps: int) -> config_dict.ConfigDict:
    """The sections that do not depend on the method, for a run of `steps`."""
    config = section(
        seed=0,
        # Weights to start from: part of the model -> SOURCE or SOURCE#PART, a file, a folder, a run
        # or a name of the hub; see docs/weights.md. expect: patterns of what may not fit.
        init_from=section(expect=()),
        # Length of the run. Any `_steps` key may be given as `_epochs`, `_examples` or `_percent`.
        training=section(
            steps=config_dict.placeholder(int),
            epochs=config_dict.placeholder(float),
            examples=config_dict.placeholder(int),
            # A non-finite loss: "stop" the run, or "skip" the update (counted and reported).
            nonfinite="stop",
            # Parts that a batch is taken in, for the activations of one of them; the gradient is
            # that of the whole batch, contrasts included.
            micro_batches=1,
        ),
        optimizer=section(
            name="adamw",
            learning_rate=1e-3,
            schedule="cosine",
            # In one unit: overriding another on the command line replaces it.
            warmup_percent=config_dict.placeholder(float),
            warmup_steps=config_dict.placeholder(int),
            weight_decay=0.1,
            b1=0.9,
            b2=0.98,
            eps=1e-8,
            clip=1.0,
            # Decay of an exponential moving average of the parameters, e.g. 0.999.
            ema=config_dict.placeholder(float),
        ),
        # Kept: the latest `keep`, those of steps that `keep_every` divides (0: none), and the one
        # with the highest score `keep_best`, such as "eval/NAME" ("-eval/NAME": the lowest).
        checkpoint=section(every_steps=100, keep=2, keep_every=0, keep_best=""),
        metrics=section(every_steps=10, tensorboard=True),
        # suite: a suite of `rsvl_jax.evaluate`, by name or .toml file, that the run is scored on as
        # well, every `suite_every_steps` (0: at the end); "": none. suite_dir: folder of its data.
        evaluation=section(
            every_steps=200, batch_size=256, suite="", suite_dir="data", suite_every_steps=0
        ),
        # The matrix of all similarities: "dense", "gather" or "ring"; "auto" is dense while it is
        # small. inner: mesh axes over which "ring" gathers, such as those inside a slice.
        contrast=section(implementation="auto", inner=()),
        # Devices along each axis; one may be -1: all that are left. max_replicated: where
        # parameters are split, the share of their bytes that may stay whole on every device.
        mesh=section(replica=1, data=-1, fsdp=1, tensor=1, max_replicated=0.1),
        # Steps from which JAX's profiler traces `length` steps, on every host, into profile/ of
        # the work directory; kill -USR1 asks one process for one more.
        profile=section(steps=(), length=3),
        # How the processes of a run find one another: "auto", "none", "tpu", "slurm", or "explicit"
        # (this is number `process` of `processes`, which meet at `coordinator`, HOST:PORT).
        distributed=section(
            kind="auto",
            coordinator=config_dict.placeholder(str),
            processes=config_dict.placeholder(int),
            process=config_dict.placeholder(int),
            timeout_s=300.0,
        ),
        # A step, save or evaluation that takes longer ends the process, with the stacks of all
        # threads on stderr and status 70; 0: no limit.
        watchdog=section(seconds=1800.0),
    )
    config.training.steps = steps
    config.optimizer.warmup_percent = 5.0
    return config


def apply_presets(
    config: config_dict.ConfigDict, names: str, presets: Mapping[str, Preset]
) -> config_dict.ConfigDict:
    """Applies comma-separated presets in order.

    Raises:
      UserError: a preset that this recipe does not have.
    """
    for name in filter(None, (names or "").split(",")):
        if name not in presets:
            raise UserError(f"unknown preset {name!r}: this recipe has {', '.join(presets)}")
        presets[name](config)
    return config
