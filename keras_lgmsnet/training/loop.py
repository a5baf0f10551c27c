"""Training: from a recipe to a run directory."""

import dataclasses
import importlib
import platform
import sys
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeAlias

import keras
import numpy as np

from keras_lgmsnet.about import __version__
from keras_lgmsnet.files.paths import let_any_text_print
from keras_lgmsnet.files.writing import require_writable, write_json
from keras_lgmsnet.models import registry
from keras_lgmsnet.process.progress import say, track
from keras_lgmsnet.recipe.schema import AnyRecipe
from keras_lgmsnet.run_directory import lock, read_json, read_recipe, require_no_run
from keras_lgmsnet.training.distribution import data_parallel
from keras_lgmsnet.training.finished_epochs import FinishedEpochs
from keras_lgmsnet.training.images import ImageTask
from keras_lgmsnet.training.task import Task
from keras_lgmsnet.training.volumes import VolumeTask

# What a network is built, compiled and fitted in.
Scope: TypeAlias = Callable[[], AbstractContextManager[Any]]


def train(
    recipe: AnyRecipe,
    run_directory: str | Path,
    *,
    manual_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    resume: bool = False,
) -> Path:
    """Train a network and write everything about it to a run directory.

    Whenever training stops, the directory holds the last finished epoch; resumed, it continues as
    if it had not stopped: on the CPU, history and weights are those of an uninterrupted run. To
    that end, the process's random seeds are set and its backend made deterministic, which lasts, as
    does that what its terminal cannot show is printed as an escape.

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
    task, scope = make_task(
        recipe, run_directory, manual_dir=manual_dir, data_dir=data_dir, resume=resume
    )
    run_directory.mkdir(parents=True, exist_ok=True)
    with lock(run_directory):
        _begin(run_directory, task, resume)
        finished = FinishedEpochs(run_directory, task)
        _fit(task, scope, finished)
        _load_weights(task.float32_network, run_directory / "model.keras")
        best_epoch = finished.best_epoch
        assert best_epoch is not None  # the last epoch is always validated
        task.evaluate(run_directory, best_epoch, finished.history)
    return run_directory


def make_task(
    recipe: AnyRecipe,
    run_directory: Path,
    *,
    manual_dir: str | Path | None,
    data_dir: str | Path | None,
    resume: bool,
) -> tuple[Task, Scope]:
    """Return what is to be trained, its data read, and the scope of its devices.

    The arguments are those of `train`, and so are the errors; nothing is written yet.
    """
    let_any_text_print()
    recipe = _complete(recipe)
    _require_usable(run_directory, recipe, resume)
    scope = data_parallel(recipe.training.num_devices)
    _make_deterministic(recipe.training.seed)
    task_class = recipe.kind.choose(images=ImageTask, volumes=VolumeTask)
    return task_class(recipe, scope, manual_dir, data_dir), scope


def _complete(recipe: AnyRecipe) -> AnyRecipe:
    """Return a recipe with every argument of its network, also those left at their defaults.

    Raises:
        ValueError: If the network has no such argument.
    """
    network = registry.find(recipe.model.network, recipe.rank)
    arguments = network.complete(recipe.model.arguments)
    model = dataclasses.replace(recipe.model, arguments=arguments)
    return dataclasses.replace(recipe, model=model)


def _require_usable(run_directory: Path, recipe: AnyRecipe, resume: bool) -> None:
    """Refuse, before any work, a directory that this run must not or cannot write to."""
    if not resume:
        require_no_run(run_directory)
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
            for section, fields in _complete(read_recipe(run_directory)).to_dict().items()
            for name, value in fields.items()
            if recipe.to_dict()[section].get(name) != value  # absent: of the other kind
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
        require_no_run(run_directory)
    if not (run_directory / "recipe.json").exists():
        backend = keras.backend.backend()
        versions = {
            "python": platform.python_version(),
            "keras_lgmsnet": __version__,
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
            f"The {task.recipe.kind.name} of {task.recipe.data.source} are not those that "
            f"{run_directory} was begun with: give it the same data, or begin another run. "
            f"Received: {task.dataset} instead of {begun_with}"
        )
    if not (run_directory / "splits.json").exists():
        write_json(run_directory / "splits.json", task.splits)
    elif read_json(run_directory, "splits.json") != task.splits:
        raise ValueError(
            f"The {task.recipe.kind.name} of {task.recipe.data.source} are no longer those that "
            f"{run_directory} was begun with: give it the same data, or begin another run."
        )
    task.prepare(run_directory)


def _fit(task: Task, scope: Scope, finished: FinishedEpochs) -> None:
    """Train from the last finished epoch to the recipe's last."""
    _compile(task, task.float32_network)
    has_bar = sys.stdout.isatty()
    with scope(), finished.tensorboard:
        _compile(task, task.model)
        if finished.history:
            _load_weights(task.model, finished.checkpoint)
        if keras.backend.backend() != "torch":
            say("The first step is compiled, and takes a minute or more.")
        task.model.fit(
            task.batches,
            validation_data=task.validation_data,
            initial_epoch=len(finished.history),
            epochs=task.recipe.training.epochs,
            shuffle=False,  # the batches shuffle themselves, reproducibly
            callbacks=[
                keras.callbacks.LambdaCallback(on_epoch_begin=task.batches.set_epoch),
                *([] if has_bar else [_StepsInLog()]),
                keras.callbacks.ProgbarLogger(),  # here, so that its line precedes what follows
                finished,
            ],
            verbose=1 if has_bar else 2,
        )


class _StepsInLog(keras.callbacks.Callback):
    """Tells how far an epoch that takes long has come, where Keras has a line at its end only."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.steps = track(
            label=f"Epoch {epoch + 1}", unit="step", total=self.params["steps"], leave=False
        )

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.steps.update()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.steps.close()


def _compile(task: Task, network: keras.Model) -> None:
    task.compile(network)
    network.optimizer.build(network.trainable_variables)


def _load_weights(model: keras.Model, path: Path) -> None:
    """Load weights and optimizer state."""
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged or missing: {error}") from error
