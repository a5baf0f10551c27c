"""What every test shares: a fixed seed and the once-only tests."""

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
