"""A rehearsal of training: what would be done, and what the first steps of it take."""

import itertools
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import keras

from keras_lgmsnet.data.batches import Batches
from keras_lgmsnet.data.sources import describe_source
from keras_lgmsnet.models import registry
from keras_lgmsnet.process import memory
from keras_lgmsnet.recipe.schema import AnyRecipe
from keras_lgmsnet.training.distribution import DivisibleBatches
from keras_lgmsnet.training.loop import make_task
from keras_lgmsnet.training.task import Task

STEPS = 2  # that are timed, after one in which the backend compiles


def rehearse(
    recipe: AnyRecipe,
    run_directory: str | Path,
    *,
    manual_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
) -> dict[str, str]:
    """Read the data, train for three steps, and tell what `train` would do; keep nothing of it.

    Data are prepared as for training, which may take long, and are then there for it. Nothing is
    written to the run directory. As `train` does, it makes this process deterministic.

    Args:
        recipe: What would be trained, on what.
        run_directory: Where it would be written; absent or empty.
        manual_dir: As for `train`.
        data_dir: As for `train`.

    Returns:
        In words, by what it is called: the data, the split, the steps, the network, and the time
        and memory that it takes, estimated from two steps on real batches.

    Raises:
        ValueError: As `train` raises.
        OSError: As `train` raises.

    Example:
    ```python
    told = rehearse(load_recipe("busi"), "runs/busi", manual_dir="downloads")
    print(told["time"], told["memory"])
    ```
    """
    run_directory = Path(run_directory)
    task, scope = make_task(
        recipe, run_directory, manual_dir=manual_dir, data_dir=data_dir, resume=False
    )
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        task.prepare(Path(folder))
        with scope():
            task.compile(task.model)
            task.model.fit(_FirstSteps(task.batches), shuffle=False, callbacks=[clock], verbose=0)
    steps_per_epoch, epochs = len(task.batches), task.recipe.training.epochs
    first, *others = (end - start for start, end in itertools.pairwise(clock.moments))
    step = statistics.mean(others)
    epoch = _describe_seconds(step * steps_per_epoch)
    return {
        "data": _describe_data(task, manual_dir),
        "split": _describe_split(task),
        "steps": f"{steps_per_epoch} an epoch, of {_describe_batch(task)}; {epochs} epochs, "
        f"{epochs * steps_per_epoch:,} steps in all",
        "network": _describe_network(task),
        "first step": f"{_describe_seconds(first)}, with all that is prepared once",
        "time": f"{_describe_seconds(step)} a step, {epoch} an epoch, "
        f"{_describe_seconds(step * steps_per_epoch * epochs)} in all, as busy as this "
        "machine is now; validation not counted",
        "memory": _describe_memory(),
    }


class _FirstSteps(keras.utils.PyDataset):
    """The first batches of an epoch, over and over where there are few; whole ones, if any is."""

    def __init__(self, batches: Batches | DivisibleBatches) -> None:
        super().__init__(workers=1)
        self.batches = batches

    def __len__(self) -> int:
        return 1 + STEPS

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return self.batches[index % max(1, len(self.batches) - 1)]


class _Clock(keras.callbacks.Callback):
    """Keeps when it was made, and when each step ended."""

    def __init__(self) -> None:
        super().__init__()
        self.moments = [time.perf_counter()]

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        float(logs["loss"])  # which waits for the step
        self.moments.append(time.perf_counter())


def _describe_data(task: Task, manual_dir: str | Path | None) -> str:
    data, kind = task.recipe.data, task.recipe.kind
    count = sum(map(len, task.splits.values()))
    return f"{describe_source(data.source, manual_dir)}, {count} {kind.noun(count)}"


def _describe_split(task: Task) -> str:
    purposes = {"train": "train", "validation": "validate", "test": "test"}
    return ", ".join(f"{len(ids)} to {purposes[part]} on" for part, ids in task.splits.items())


def _describe_batch(task: Task) -> str:
    """Return what a step is of in words, such as `"16 images of 256 × 256 × 3"`."""
    batches = task.batches
    if isinstance(batches, DivisibleBatches):
        batches = batches.batches
    count = min(batches.batch_size, batches.num_examples) * batches.images_per_example
    what = task.recipe.kind.choose(images="image", volumes="patch")
    plural = task.recipe.kind.choose(images="images", volumes="patches")
    shape = " × ".join(map(str, task.model.input_shape[1:]))
    return f"{count} {what if count == 1 else plural} of {shape}"


def _describe_network(task: Task) -> str:
    recipe = task.recipe
    title = registry.find(recipe.model.network, recipe.rank).title
    parameters = sum(math.prod(variable.shape) for variable in task.model.trainable_variables)
    return f"{title}, {parameters:,} parameters, {recipe.training.precision}"


def _describe_memory() -> str:
    """Return the most memory that this process has held in words."""
    of_gpu = memory.most_held_on_gpu(keras.backend.backend())
    kinds = {"of RAM": memory.most_held(), "of the GPU's": of_gpu}
    told = [f"{size / 1e9:.2g} GB {kind}" for kind, size in kinds.items() if size is not None]
    return f"{' and '.join(told)} at most so far" if told else "this system does not tell"


def _describe_seconds(seconds: float) -> str:
    """Return a time to two digits in the unit that suits it: `"0.42 s"`, `"3.5 h"`."""
    for unit, length, limit in (("s", 1, 100), ("min", 60, 100), ("h", 3600, 48)):
        if seconds < limit * length:
            return f"{_two_digits(seconds / length)} {unit}"
    return f"{_two_digits(seconds / 86400)} days"


def _two_digits(number: float) -> str:
    return f"{number:.0f}" if number >= 9.95 else f"{number:.2g}"
