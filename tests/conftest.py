"""Shared fixtures, and eight simulated CPU devices, set before JAX starts."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Eight devices that wait for one another in a collective need more threads than two cores give.
os.environ.setdefault("PJRT_NPROC", "32")
# Tests compile more than they compute.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)


def pytest_addoption(parser):
    parser.addoption(
        "--narrow", action="store_true", help="narrow models in tests/pods/test_kills.py: faster"
    )


pytest_plugins = ["bucket", "s3_server"]


@pytest.fixture(scope="session")
def mini_earth_tiles(tmp_path_factory):
    """A directory that holds a freshly built `earth_tiles/mini`."""
    from rsvl_jax import datasets

    directory = str(tmp_path_factory.mktemp("data"))
    datasets.ensure("earth_tiles/mini", directory)
    return directory


@pytest.fixture(scope="session")
def mini_zoom_pairs(tmp_path_factory):
    """A directory that holds a freshly built `zoom_pairs/mini`."""
    from rsvl_jax import datasets

    directory = str(tmp_path_factory.mktemp("zoom"))
    datasets.ensure("zoom_pairs/mini", directory)
    return directory
