"""Training: from a recipe to a run directory."""

import dataclasses
import importlib
import math
import platform
import shutil
import statistics
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import scalar

import keras_lgmsnet
from keras_lgmsnet._image_task import ImageTask
from keras_lgmsnet._task import Task
from keras_lgmsnet._volume_task import VolumeTask
from keras_lgmsnet.distribution import data_parallel
from keras_lgmsnet.recipe import Recipe
from keras_lgmsnet.run_directory import (
    atomic_write,
    lock,
    read_json,
    read_recipe,
    require_unused,
    require_writable,
    write_csv,
    write_json,
)


def train(
    recipe: Recipe,
    run_directory: str | Path,
    *,
    manual_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    resume: bool = False,
) -> Path:
    """Train a network and write everything about it to a run directory.

    Whenever training stops, the directory holds the last finished epoch; resumed, it continues as
    if it had not stopped: on the CPU, history and weights are those of an uninterrupted run. To
    that end, the process's random seeds are set and its backend made deterministic, which lasts.

    Args:
        recipe: What to train, on what.
        run_directory: Where to write; absent or empty, unless `resume`.
        manual_dir: Folder with the dataset's archives, as downloaded from its publisher.
        data_dir: Folder of prepared datasets; by default TensorFlow Datasets' own.
        resume: Whether to continue the run in `run_directory`, begun with the same recipe and
            backend.

    Returns:
        `run_directory`, whose contents `keras_lgmsnet.run_directory` lists.

    Raises:
        ValueError: If recipe and data, or recipe and resumed run, do not fit; if a file is
            damaged; or if the loss stops being finite.
        OSError: If `run_directory` is in use or cannot be written to, or data is absent.
    """
    run_directory = Path(run_directory)
    _require_usable(run_directory, recipe, resume)
    scope = data_parallel(recipe.training.num_devices)
    _make_deterministic(recipe.training.seed)
    task = (ImageTask if recipe.rank == 2 else VolumeTask)(recipe, scope, manual_dir, data_dir)

    run_directory.mkdir(parents=True, exist_ok=True)
    with lock(run_directory):
        _begin(run_directory, task, resume)
        finished = _FinishedEpochs(run_directory, task)
        _fit(task, scope, finished)
        _load_weights(task.float32_network, run_directory / "model.keras")
        task.evaluate(run_directory, finished.best_epoch, finished.history)
    return run_directory


def train_splits(
    recipe: Recipe,
    directory: str | Path,
    seeds: Sequence[int],
    *,
    manual_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    resume: bool = False,
) -> Path:
    """Train on several random splits and summarise their scores, as the paper's tables do.

    Args:
        recipe: What to train; its `split_seed` gives way to each of `seeds`.
        directory: Where to write: a run directory `split-SEED` for each seed, and
            `summary.json` with mean and sample standard deviation over them of each score, of the
            test images or, where none are set aside for a test, of the validation images.
        seeds: Two seeds or more, each once; 41, 64 and 1337 are the paper's.
        manual_dir: As for `train`.
        data_dir: As for `train`.
        resume: Whether to keep the finished runs in `directory`, continue the one that was
            interrupted, and begin those that were not.

    Returns:
        `directory`.

    Raises:
        ValueError: If there are fewer than two seeds, or one twice; if the recipe leaves nothing
            to chance; or as `train` raises.
        OSError: As `train` raises.

    Example:
    ```python
    train_splits(load_recipe("busi"), "runs/busi", (41, 64, 1337), manual_dir="downloads")
    ```
    """
    directory = Path(directory)
    if len(seeds) < 2 or len(set(seeds)) < len(seeds):
        raise ValueError(
            f"A mean over splits needs two seeds or more, each once. Received: {tuple(seeds)}"
        )
    if recipe.data.validation_ids and not recipe.data.test_fraction:
        raise ValueError(
            "Random splits need ids to choose from: set data.validation_ids to none of them, (), "
            "or data.test_fraction above 0. "
            f"Received: data.validation_ids={recipe.data.validation_ids}"
        )
    if not resume:
        require_unused(directory, may_resume=True)
    recipes = {  # all at once, so that a seed out of range is known before anything is trained
        seed: dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, split_seed=seed))
        for seed in seeds
    }
    metrics = []
    for seed, of_split in recipes.items():
        run = directory / f"split-{seed}"
        begun = resume and (run / "recipe.json").exists()
        train(of_split, run, manual_dir=manual_dir, data_dir=data_dir, resume=begun)
        metrics.append(read_json(run, "metrics.json"))
    scores = {name: [of_run["means"][name] for of_run in metrics] for name in metrics[0]["means"]}
    summary = {
        "seeds": list(seeds),
        "subset": metrics[0]["subset"],
        "caution": metrics[0]["caution"],
        "mean": {name: statistics.mean(values) for name, values in scores.items()},
        "standard_deviation": {name: statistics.stdev(values) for name, values in scores.items()},
        "runs": scores,
    }
    write_json(directory / "summary.json", summary)
    return directory


class _TensorBoard(AbstractContextManager):
    """The curves for TensorBoard, training and validation in one chart; open while in context."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __enter__(self) -> Self:
        # What a killed run wrote may lack an epoch, or hold one that was not finished.
        if self.directory.exists():
            shutil.rmtree(self.directory)
        self.training, self.validation = map(self._open, ("training", "validation"))
        return self

    def write(self, epoch: int, row: dict[str, float | None]) -> None:
        for name, value in row.items():
            if value is None:
                continue
            writer = self.validation if name.startswith("val_") else self.training
            curve = scalar(name.removeprefix("val_"), value)
            writer.write_event(Event(wall_time=time.time(), step=epoch, summary=curve))
        self.training.flush()
        self.validation.flush()

    def __exit__(self, *error: object) -> None:
        self.training.close()
        self.validation.close()

    def _open(self, part: str) -> EventsWriter:
        # `SummaryWriter` would write from a thread, and wait for it forever once a disk is full.
        (self.directory / part).mkdir(parents=True)
        return EventsWriter(str(self.directory / part / "events"))


class _FinishedEpochs(keras.callbacks.Callback):
    """The finished epochs of a run; commits each as it ends.

    `state.json` is replaced once the checkpoint it names is on disk, and before anything that
    follows from it is touched: a run killed at any moment resumes from a whole epoch.
    """

    def __init__(self, run_directory: Path, task: Task) -> None:
        super().__init__()
        self.run_directory = run_directory
        self.task = task
        self.tensorboard = _TensorBoard(run_directory / "tensorboard")
        self.history: list[dict[str, float | None]] = []  # None: not validated on
        if (run_directory / "state.json").exists():
            self.history = read_json(run_directory, "state.json", "history")["history"]

    @property
    def best_epoch(self) -> int | None:
        """The epoch of the highest validation score, counted from 1; the earliest of equals."""
        scores = {
            epoch: row[self.task.best_by]
            for epoch, row in enumerate(self.history, start=1)
            if row[self.task.best_by] is not None
        }
        return max(scores, key=scores.get, default=None)

    @property
    def checkpoint(self) -> Path:
        """The network and optimizer after the last finished epoch."""
        return self.run_directory / f"checkpoint-{len(self.history):04d}.keras"

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self.history:
            self._derive()  # the run may have been killed before it came to that
        for epoch, row in enumerate(self.history, start=1):
            self.tensorboard.write(epoch, row)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        self._require_finite(logs["loss"], f"in step {batch + 1} of epoch {len(self.history) + 1}")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        # The damage of the last step shows only here: its loss was computed before it.
        damaged = not all(np.isfinite(weights).all() for weights in self.model.get_weights())
        loss = math.nan if damaged else logs.get("val_loss", logs["loss"])
        self._require_finite(loss, f"at the end of epoch {epoch + 1}")
        row = {name: float(value) for name, value in logs.items()} | self.task.validate(epoch + 1)
        self.history.append(row | {"learning_rate": float(self.model.optimizer.learning_rate)})
        with atomic_write(self.checkpoint) as path:
            self.model.save(path)
        write_json(self.run_directory / "state.json", {"history": self.history})
        self._derive()
        self.tensorboard.write(len(self.history), self.history[-1])

    def _derive(self) -> None:
        """Bring everything that follows from `state.json` up to date."""
        for path in self.run_directory.glob("checkpoint-*.keras"):
            if path != self.checkpoint:
                path.unlink()
        if self.best_epoch == len(self.history):
            self.task.float32_network.set_weights(self.model.get_weights())
            with atomic_write(self.run_directory / "model.keras") as path:
                self.task.float32_network.save(path)
        rows = [{"epoch": epoch, **row} for epoch, row in enumerate(self.history, start=1)]
        write_csv(self.run_directory / "history.csv", rows)

    def _require_finite(self, loss: float, when: str) -> None:
        if not math.isfinite(loss):
            raise ValueError(
                f"The loss is not finite {when}; lower training.learning_rate, or choose "
                f"another training.precision. The run directory keeps the state after epoch "
                f"{len(self.history)}. Received: loss={float(loss)}"
            )


def _require_usable(run_directory: Path, recipe: Recipe, resume: bool) -> None:
    """Refuse, before any work, a directory that this run must not or cannot write to."""
    if not resume:
        require_unused(run_directory, may_resume=True)
    require_writable(run_directory)
    if resume:
        begun = read_json(run_directory, "recipe.json", "backend")
        if begun["backend"] != keras.backend.backend():
            raise ValueError(
                f"A run must be resumed on the backend it began on, {begun['backend']}. "
                f"Received: {keras.backend.backend()}"
            )
        differences = [
            f"{section}.{name} was {value!r}"
            for section, fields in read_recipe(run_directory).to_dict().items()
            for name, value in fields.items()
            if recipe.to_dict()[section].get(name) != value  # absent: of the other rank
        ]
        if differences:
            raise ValueError(
                f"A run must be resumed with the recipe it began with; in {run_directory}, "
                f"{', '.join(differences)}."
            )


def _make_deterministic(seed: int) -> None:
    """Make this process compute the same again from the same seed, where there is no GPU.

    On a GPU, the deterministic forms are slow or missing, and results differ in the last digits.
    """
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if not tf.config.list_physical_devices("GPU"):
            tf.config.experimental.enable_op_determinism()
    elif keras.backend.backend() == "torch":
        import torch

        if not torch.accelerator.is_available():
            torch.use_deterministic_algorithms(True)


def _begin(run_directory: Path, task: Task, resume: bool) -> None:
    """Write what a run knows beforehand; where it is resumed, check that it still holds."""
    if not resume:
        # Another run may have begun while the data were read.
        require_unused(run_directory, may_resume=True)
    if not (run_directory / "recipe.json").exists():
        backend = keras.backend.backend()
        versions = {
            "python": platform.python_version(),
            "keras_lgmsnet": keras_lgmsnet.__version__,
            "keras": keras.__version__,
            backend: importlib.import_module(backend).__version__,
            "numpy": np.__version__,
        }
        write_json(
            run_directory / "recipe.json",
            {
                "recipe": task.recipe.to_dict(),
                "dataset": task.dataset,
                "backend": backend,
                "versions": versions,
            },
        )
    begun_with = read_json(run_directory, "recipe.json", "dataset")["dataset"]
    if begun_with != task.dataset:
        raise ValueError(
            f"The {task.kind} of {task.recipe.data.source} are not those that {run_directory} was "
            "begun with: give it the same data, or begin another run. "
            f"Received: {task.dataset} instead of {begun_with}"
        )
    if not (run_directory / "splits.json").exists():
        write_json(run_directory / "splits.json", task.splits)
    elif read_json(run_directory, "splits.json") != task.splits:
        raise ValueError(
            f"The {task.kind} of {task.recipe.data.source} are no longer those that "
            f"{run_directory} was begun with: give it the same data, or begin another run."
        )
    task.prepare(run_directory)


def _fit(
    task: Task, scope: Callable[[], AbstractContextManager[Any]], finished: _FinishedEpochs
) -> None:
    """Train from the last finished epoch to the recipe's last."""
    _compile(task, task.float32_network)
    with scope(), finished.tensorboard:
        _compile(task, task.model)
        if finished.history:
            _load_weights(task.model, finished.checkpoint)
        task.model.fit(
            task.batches,
            validation_data=task.validation_data,
            initial_epoch=len(finished.history),
            epochs=task.recipe.training.epochs,
            shuffle=False,  # the batches shuffle themselves, reproducibly
            callbacks=[
                keras.callbacks.LambdaCallback(on_epoch_begin=task.batches.set_epoch),
                keras.callbacks.ProgbarLogger(),  # here, so that its line precedes what follows
                finished,
            ],
            verbose=1 if sys.stdout.isatty() else 2,
        )


def _compile(task: Task, network: keras.Model) -> None:
    task.compile(network)
    network.optimizer.build(network.trainable_variables)


def _load_weights(model: keras.Model, path: Path) -> None:
    """Load weights and optimizer state."""
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged or missing: {error}") from error
