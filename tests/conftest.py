"""What every test shares: a fixed seed, the once-only tests, and how JAX compiles."""

import functools
import os
import random

import pytest


@pytest.fixture(autouse=True)
def _seed() -> None:
    random.seed(0)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run tests that do not touch Keras with the first backend only."""
    if os.environ.get("LGMSNET_TEST_BACKENDS_DONE"):
        once = [item for item in items if item.get_closest_marker("no_backend")]
        items[:] = [item for item in items if item not in once]
        config.hook.pytest_deselected(items=once)


if os.environ.get("KERAS_BACKEND") == "jax":
    import jax

    # Networks compile in a third of the time so, and on small images they run quickly anyway.
    # Processes that tests start, and tests marked `optimized`, compile as users' programs do.
    _compiler_options = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
    # Before Keras is imported, which keeps this function; the options are read whenever it is
    # called.
    jax.jit = functools.partial(jax.jit, compiler_options=_compiler_options)

    @pytest.fixture(autouse=True)
    def _optimized(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        if request.node.get_closest_marker("optimized"):
            for option in list(_compiler_options):
                monkeypatch.delitem(_compiler_options, option)
