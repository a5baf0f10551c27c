"""Kills training at random moments and resumes it: `python -m tests.helpers.interruption FOLDER N`.

Each attempt is a process forked before the backend has started any thread, since importing the
packages anew would take most of the time. A run that survives to its end is compared with one that
was never interrupted, and another is begun.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"  # each attempt compiles anew in JAX

import pytest
import tensorflow  # noqa: F401 - Keras seeds it on every backend, and would import it each time

from keras_lgmsnet.models import registry
from keras_lgmsnet.recipe.schema import Data, Recipe, Training
from keras_lgmsnet.training import loop as training
from tests.helpers.runs import assert_same_run, create_small, leave_figures_empty

RECIPE = Recipe(
    data=Data(source="synthetic", num_images=10, image_size=(32, 32)),
    training=Training(epochs=6, batch_size=4, learning_rate=0.1),
)


def main(folder: Path, kills: int) -> None:
    """Kill `kills` attempts, then finish and compare the last run."""
    expected = folder / "uninterrupted"
    started = time.monotonic()
    _wait(_begin(expected))
    duration = time.monotonic() - started

    moments = random.Random(0)
    finished = killed = 0
    while True:
        run = folder / f"run-{finished}"
        attempt = _begin(run)
        if killed < kills:
            time.sleep(moments.uniform(0, duration))
            os.kill(attempt, signal.SIGKILL)
        if _wait(attempt) == -signal.SIGKILL:
            killed += 1
            continue
        assert_same_run(run, expected)
        finished += 1
        if killed == kills:
            break
    print(
        f"{killed} attempts were killed; {finished} runs were finished, each as if none had been."
    )


def _begin(run: Path) -> int:
    """Train, or resume, in a process of its own; return its number."""
    if child := os.fork():
        return child
    status = 1
    try:
        log = os.open(run.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, sys.stdout.fileno())
        os.dup2(log, sys.stderr.fileno())
        monkeypatch = pytest.MonkeyPatch()
        monkeypatch.setattr(registry, "create", create_small)
        leave_figures_empty(monkeypatch)
        training.train(RECIPE, run, resume=(run / "recipe.json").exists())
        status = 0
    finally:
        os._exit(status)


def _wait(attempt: int) -> int:
    status = os.waitstatus_to_exitcode(os.waitpid(attempt, 0)[1])
    assert status in (0, -signal.SIGKILL), f"Training failed with status {status}."
    return status


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
