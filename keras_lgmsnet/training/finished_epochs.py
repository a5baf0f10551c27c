"""What a run keeps of every finished epoch: history, checkpoint, best network and curves."""

import math
import shutil
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import scalar

from keras_lgmsnet.files.writing import atomic_write, named_in_errors, write_csv, write_json
from keras_lgmsnet.run_directory import read_json
from keras_lgmsnet.training.task import EpochScores, Task


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

    def write(self, epoch: int, row: EpochScores) -> None:
        """Add a point to the curve of every score that was not skipped."""
        for name, value in row.items():
            if value is None:
                continue
            writer = self.validation if name.startswith("val_") else self.training
            curve = scalar(name.removeprefix("val_"), value)
            writer.write_event(Event(wall_time=time.time(), step=epoch, summary=curve))
        with named_in_errors(self.directory):
            self.training.flush()
            self.validation.flush()

    def __exit__(self, *error: object) -> None:
        with named_in_errors(self.directory):
            self.training.close()
            self.validation.close()

    def _open(self, part: str) -> EventsWriter:
        # `SummaryWriter` would write from a thread, and wait for it forever once a disk is full.
        (self.directory / part).mkdir(parents=True)
        return EventsWriter(str(self.directory / part / "events"))


class FinishedEpochs(keras.callbacks.Callback):
    """The finished epochs of a run; commits each as it ends.

    `state.json` is replaced once the checkpoint it names is on disk, and before anything that
    follows from it is touched: a run killed at any moment resumes from a whole epoch.
    """

    def __init__(self, run_directory: Path, task: Task) -> None:
        super().__init__()
        self.run_directory = run_directory
        self.task = task
        self.tensorboard = _TensorBoard(run_directory / "tensorboard")
        self.history: list[EpochScores] = []
        if (run_directory / "state.json").exists():
            self.history = read_json(run_directory, "state.json", "history")["history"]

    @property
    def best_epoch(self) -> int | None:
        """The epoch of the highest validation score, counted from 1; the earliest of equals."""
        best_by = self.task.recipe.kind.best_by
        scores = {
            epoch: score
            for epoch, row in enumerate(self.history, start=1)
            if (score := row[best_by]) is not None
        }
        return max(scores, key=scores.__getitem__, default=None)

    @property
    def checkpoint(self) -> Path:
        """The network and optimizer after the last finished epoch."""
        return self.run_directory / f"checkpoint-{len(self.history):04d}.keras"

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Bring the run's files up to the last finished epoch."""
        if self.history:
            self._derive()  # the run may have been killed before it came to that
        for epoch, row in enumerate(self.history, start=1):
            self.tensorboard.write(epoch, row)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        """Stop where the loss is not finite."""
        self._require_finite(logs["loss"], f"in step {batch + 1} of epoch {len(self.history) + 1}")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        """Commit the epoch."""
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
