"""The toy run is compiled many times over: a compilation cache for the tests of this folder."""

import jax
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache


@pytest.fixture(scope="package", autouse=True)
def compilation_cache(tmp_path_factory):
    settings = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("xla")),
        "jax_persistent_cache_min_compile_time_secs": 0.05,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    _apply(settings)
    yield settings["jax_compilation_cache_dir"]
    _apply(before)


def _apply(settings):
    for name, value in settings.items():
        jax.config.update(name, value)
    reset_cache()
