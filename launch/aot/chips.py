"""Devices to compile for: those of a described TPU topology, or those of this machine."""

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from launch import flags
from rsvl_jax.errors import UserError

LOCAL = "local"
# GiB that a program may use, as libtpu 0.0.42.1 itself says when it refuses a larger one.
_HBM = {"v4": 15.25, "v5e": 15.75, "v5p": 95.74, "v6e": 31.25}
EXAMPLES = ("v5e:2x2", "v5e:16x16", "v5p:4x8x8", "v6e:16x16", LOCAL)


@dataclass(frozen=True)
class Chips:
    """What a program is compiled for.

    generation: "v5e", or the kind of the local devices. hbm: bytes of one device that a program may
    use, None where unknown. flags: the compiler's settings of this generation.
    """

    topology: str
    slices: int
    generation: str
    devices: Sequence
    hbm: int | None
    flags: dict[str, str]

    @property
    def name(self) -> str:
        """The topology, and how many of it."""
        return self.topology if self.slices == 1 else f"{self.slices} x {self.topology}"


def prepare(topology: str) -> None:
    """Sets what JAX and libtpu read when they start; call it before JAX is imported.

    Nothing may look for a TPU, nor for the one process that may own it.
    """
    if topology == LOCAL:
        return
    os.environ |= {
        "JAX_PLATFORMS": "cpu",
        "TPU_SKIP_MDS_QUERY": "1",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    }
    # Without these libtpu warns that it cannot find them out.
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")


def open_chips(topology: str, slices: int = 1, chip: str | None = None) -> Chips:
    """The devices of a topology, such as "v5e:16x16" or "local", in one or several slices.

    chip: whose flags to compile with, see `launch.flags`; None: the topology's own.
    Raises UserError for a topology that does not exist, and where libtpu is not installed.
    """
    if topology == LOCAL:
        return _local(slices)
    generation = topology.split(":")[0]
    if generation not in _HBM:
        raise _unknown(topology, f"no chip {generation!r}")
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            f"compiling for {topology} needs libtpu, the TPU compiler, and it is not installed: "
            "pip install 'rsvl-jax[aot]'"
        )
    settings = _set_flags(chip or generation)
    return Chips(
        topology, slices, generation, _described(topology, slices), _bytes(generation), settings
    )


def _set_flags(chip: str) -> dict[str, str]:
    """Puts a chip's flags into the environment, which libtpu reads once, when it is loaded.

    Returns the settings in force. Raises UserError where libtpu was loaded with others.
    """
    wanted = flags.environment(chip, os.environ)
    if _in_force and _in_force[0] != chip:
        raise UserError(
            f"libtpu has been loaded with the flags of {_in_force[0]}: "
            f"compile for {chip} in another process"
        )
    _in_force[:] = [chip]
    os.environ |= wanted
    return wanted


_in_force: list[str] = []  # the chip whose flags libtpu was loaded with


def _described(topology: str, slices: int) -> list:
    # Imported here: `prepare` must have been called before.
    import jax
    from jax.experimental import topologies

    several = {"num_slices": slices} if slices > 1 else {}
    try:
        found = topologies.get_topology_desc(topology_name=topology, platform="tpu", **several)
    except jax.errors.JaxRuntimeError as error:
        raise _unknown(topology, " ".join(str(error).split())) from error
    return list(found.devices)


def _unknown(topology: str, reason: str) -> UserError:
    return UserError(
        f"unknown topology {topology!r} ({reason}); use one like {', '.join(EXAMPLES)}"
    )


def _bytes(generation: str) -> int:
    return int(_HBM[generation] * 2**30)


def _local(slices: int) -> Chips:
    import jax

    if slices != 1:
        raise UserError(f"--slices={slices} describes TPUs: leave it out with --topology={LOCAL}")
    devices = jax.devices()
    try:
        limit = (devices[0].memory_stats() or {}).get("bytes_limit")
    except jax.errors.JaxRuntimeError:
        limit = None
    return Chips(LOCAL, 1, devices[0].device_kind, devices, limit, {})


def versions() -> dict[str, str]:
    """Of what a report depends on, as far as it is installed."""
    found = {}
    for name in ("jax", "jaxlib", "libtpu"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
