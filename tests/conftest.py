"""What every test shares: a fixed seed, who runs it, and what is compiled for it."""

import functools
import os
import random

import pytest


@pytest.fixture(autouse=True)
def _seed() -> None:
    random.seed(0)


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run what is no backend's own with the first backend only, and what TensorFlow's is with it.

    What shares fixtures runs in one process: the tests of a network's row, and those of a file,
    but for the files that are run by name, whose tests take long and share little.
    """
    for item in items:
        row = item.callspec.params.get("row") if hasattr(item, "callspec") else None
        if row or "test" in item.path.stem:
            item.add_marker(pytest.mark.xdist_group(str(row or item.path.stem)))
    elsewhere = {item for item in items if not _runs_here(item)}
    items[:] = [item for item in items if item not in elsewhere]
    config.hook.pytest_deselected(items=list(elsewhere))


def _runs_here(item: pytest.Item) -> bool:
    if item.get_closest_marker("tensorflow"):
        return os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow"
    once = item.get_closest_marker("no_backend")
    return not (once and os.environ.get("LGMSNET_TEST_BACKENDS_DONE"))


if os.environ.get("KERAS_BACKEND") == "jax":
    # All that JAX compiles, single operations too, compiles in a third of the time so, and on small
    # images it runs quickly anyway. Processes that tests start compile as users' programs do.
    _compiler_options = {}
    with pytest.MonkeyPatch.context() as _environment:
        _flags = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
        _environment.setenv("XLA_FLAGS", _flags)
        import jax

        jax.devices()  # reads the flags, for good
    # Before Keras is imported, which keeps this function; the options are read whenever it is
    # called.
    jax.jit = functools.partial(jax.jit, compiler_options=_compiler_options)

    @pytest.fixture(autouse=True)
    def _fused(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        if request.node.get_closest_marker("fused"):
            monkeypatch.setitem(_compiler_options, "xla_cpu_use_fusion_emitters", True)


if os.environ.get("KERAS_BACKEND") == "tensorflow":

    @pytest.fixture(autouse=True)
    def _untraced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        if request.node.get_closest_marker("untraced"):
            import keras

            eagerly = property(lambda self: True, lambda self, value: None)
            monkeypatch.setattr(keras.Model, "run_eagerly", eagerly)
