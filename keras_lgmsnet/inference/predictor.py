"""A run's network that predicts file after file: the base of the predictors of both kinds."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import keras

from keras_lgmsnet.about import NOTICE, __version__
from keras_lgmsnet.files.paths import printable
from keras_lgmsnet.files.writing import write_csv
from keras_lgmsnet.kinds import Kind
from keras_lgmsnet.process.progress import track
from keras_lgmsnet.recipe.schema import AnyRecipe
from keras_lgmsnet.run import load_network
from keras_lgmsnet.run_directory import read_recipe, require_network


@dataclass(frozen=True, kw_only=True)
class FilePrediction:
    """What became of one file; `Prediction` and `VolumePrediction` say what each field is."""

    path: str
    name: str
    flags: tuple[str, ...] | None = None
    error: str | None = None


ContentT = TypeVar("ContentT")
RowT = TypeVar("RowT", bound=FilePrediction)


class Predictor(ABC, Generic[ContentT, RowT]):
    """A run's network, which predicts file after file.

    Args:
        run_directory: The run.
        input_shape: Shape that the network must take, `(*sides, channels)`.
        num_classes: How many classes it must tell apart.
        method: How a file is predicted, in words for a file.

    Raises:
        ValueError: If the network is another one, or its file is damaged.
    """

    unit: ClassVar[str]  # what a file is called
    network_input: ClassVar[str]  # what the network sees
    row_class: type[RowT]

    def __init__(
        self,
        run_directory: Path,
        input_shape: tuple[int, ...],
        num_classes: int,
        method: dict[str, Any],
    ) -> None:
        self.network_path = run_directory / "model.keras"
        self.network = load_network(run_directory)
        sides_and_channels = self.network.input_shape[1:]
        if (
            len(sides_and_channels) != len(input_shape)
            or any(
                given not in (None, side)
                for given, side in zip(sides_and_channels, input_shape, strict=True)
            )
            or self.network.output_shape[-1] != num_classes
        ):
            classes = "one class" if num_classes == 1 else f"{num_classes} classes"
            raise ValueError(
                f"Prediction needs a network from {self.network_input} of shape {input_shape}, as "
                f"the files of its run have them, to {classes}. Received: {self.network_path}, "
                f"from {self.network.input_shape} to {self.network.output_shape}"
            )
        # What is written beside predictions: where they come from and what they are not.
        self.description = {
            "notice": NOTICE,
            "run_directory": printable(run_directory.resolve()),
            "method": method,
            "backend": keras.backend.backend(),
            "versions": {"keras_lgmsnet": __version__, "keras": keras.__version__},
        }

    @abstractmethod
    def read(self, path: Path) -> tuple[ContentT, tuple[str, ...] | None]:
        """Return what a file holds and its flags, or raise `OSError` or `ValueError`."""

    @abstractmethod
    def predict(self, path: Path, content: ContentT, row: RowT) -> RowT:
        """Predict what was read, write the outputs, and return the row with what was measured."""

    @abstractmethod
    def measures(self, row: RowT) -> dict[str, str]:
        """Return the cells of what was measured, empty where the file was not read."""

    def predict_files(self, files: Mapping[Path, str], table: Path | None) -> list[RowT]:
        """Predict files and return what became of each.

        One that cannot be read, or whose outputs cannot be written, stops no other.

        Args:
            files: The files, each with the name of its outputs.
            table: Where to write the rows, after an interruption, too; `None` for nowhere.
        """
        rows: list[RowT] = []
        try:
            for path, name in track(files.items(), label="Predicting", unit=self.unit):
                row = self.row_class(path=printable(path), name=name)
                try:
                    content, flags = self.read(path)
                except (OSError, ValueError) as error:
                    rows.append(dataclasses.replace(row, error=_describe_error(error)))
                    continue
                try:
                    rows.append(self.predict(path, content, dataclasses.replace(row, flags=flags)))
                except OSError as error:  # a disk may be full for this one and not for the next
                    rows.append(dataclasses.replace(row, error=_describe_error(error)))
        finally:
            if rows and table is not None:
                write_csv(table, [self._table_row(row) for row in rows])
        return rows

    def _table_row(self, row: RowT) -> dict[str, str]:
        flags = "not checked" if row.flags is None else "; ".join(row.flags)
        return {
            "path": row.path,
            "name": row.name,
            "status": "predicted" if row.error is None else "failed",
            **self.measures(row),
            "flags": flags if row.error is None else "",
            "error": row.error or "",
        }


def read_recipe_of(kind: Kind, run_directory: Path) -> AnyRecipe:
    """Return the recipe of a run that has a network, which is not loaded yet.

    Raises:
        FileNotFoundError: If it is no run directory, or has no network yet.
        ValueError: If its recipe is damaged or of another kind.
    """
    recipe = read_recipe(run_directory)
    if recipe.kind is not kind:
        raise ValueError(
            f"{kind.choose(images='Images', volumes='Scans')} need a run on {kind.name}. Received: "
            f"{run_directory}, which is on {recipe.kind.name}: see "
            f"inference.predict_{recipe.kind.name}"
        )
    require_network(run_directory)
    return recipe


def _describe_error(error: Exception) -> str:
    """Return in one sentence why a file was not read, or not written."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.strerror}: {printable(error.filename)}"
    return " ".join(str(error).split())
