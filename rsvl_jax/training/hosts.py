"""What every host measures for itself, put together; and the most memory that it took."""

import resource
import sys
from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rsvl_jax.parallel import distributed
from rsvl_jax.parallel.sharding import replicated


def memory(devices: list[jax.Device]) -> dict[str, float]:
    """GiB at most so far, of this process on its host and of its fullest device.

    perf/host_memory_peak; perf/device_memory_peak, where the backend tells (CPUs do not).
    """
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    found = {"perf/host_memory_peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    peaks = [(device.memory_stats() or {}).get("peak_bytes_in_use", 0) for device in devices]
    if any(peaks):
        found["perf/device_memory_peak"] = max(peaks)
    return {name: size / 2**30 for name, size in found.items()}


class Hosts:
    """The measures of all processes, without making any of them wait for the others."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._rows = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._reduce = jax.jit(
            lambda rows: (list(rows.mean(axis=0)), list(rows.max(axis=0))),
            out_shardings=replicated(mesh),
        )

    def together(self, values: Mapping[str, float]) -> Mapping[str, float | jax.Array]:
        """NAME -> the mean over processes, NAME_max -> the largest; one process keeps its own.

        To be called by all processes, with the same names. The numbers are computed behind the
        steps that are under way: who reads them at once waits for these.
        """
        if not distributed.running():
            return values
        # A row a device: all processes have as many.
        mine = np.tile(
            np.array(list(values.values()), np.float32), (len(self._mesh.local_devices), 1)
        )
        shape = (self._mesh.size, len(values))
        means, largest = self._reduce(
            jax.make_array_from_process_local_data(self._rows, mine, shape)
        )
        return dict(zip(values, means, strict=True)) | {
            f"{name}_max": value for name, value in zip(values, largest, strict=True)
        }
