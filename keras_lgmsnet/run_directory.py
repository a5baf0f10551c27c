"""What a run directory holds: the only thing that the commands share.

- `recipe.json`: the resolved recipe, the backend and the versions of the packages.
- `splits.json`: the ids trained on and validated on.
- `fingerprint.json`: the ranges of size, brightness, contrast and colour of the images trained on.
- `state.json`: the history of the finished epochs; replacing it is what commits an epoch. Whatever
  follows from it is rewritten on resume.
- `checkpoint-NNNN.keras`: the network after that many epochs, the last finished one, with its
  optimizer's state.
- `model.keras`: the best network, in float32.
- `history.csv`, `metrics.json`, `per_image.csv`, `report.html`: the outcome.
- `evaluation-NAME/`: what `keras_lgmsnet.evaluation` found.
"""

import csv
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keras_lgmsnet.recipe import Recipe


def read_recipe(run_directory: Path) -> Recipe:
    """Return the recipe that a run directory was trained with.

    Raises:
        FileNotFoundError: If the directory is no run directory.
        ValueError: If its `recipe.json` is damaged.
    """
    return Recipe.from_dict(read_json(run_directory, "recipe.json", "recipe")["recipe"])


def read_json(run_directory: Path, name: str, *keys: str) -> dict[str, Any]:
    """Return the object in one of a run directory's JSON files, which must have the given keys.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged.
    """
    path = run_directory / name
    if not path.is_file():
        raise FileNotFoundError(f"{run_directory} is not a run directory: it has no {name}.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} is damaged: it must hold a JSON object.")
    if missing := [key for key in keys if key not in values]:
        raise ValueError(f"{path} is damaged: it has no {', '.join(missing)}.")
    return values


def require_network(run_directory: Path) -> Path:
    """Return the path of a run's best network, which must be there and be a Keras archive.

    Raises:
        FileNotFoundError: If the run has none yet.
        ValueError: If the file is damaged.
    """
    path = run_directory / "model.keras"
    if not path.is_file():
        raise FileNotFoundError(f"{run_directory} has no trained network yet: no model.keras.")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is damaged: it is not a Keras archive.")
    return path


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows of the same keys, which become the header, as CSV, atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=rows[0])
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write an object as indented JSON, atomically."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, which becomes `path` when all went well.

    Whatever happens, `path` is either what it was or complete.
    """
    temporary = path.with_name(f".unfinished-{path.name}")  # the suffix tells Keras the format
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # a power cut must not leave the new name on an empty file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def require_unused(output_directory: Path) -> None:
    """Raise `FileExistsError` unless a directory to write is absent or empty."""
    if output_directory.exists() and (
        not output_directory.is_dir() or any(output_directory.iterdir())
    ):
        raise FileExistsError(
            f"The output directory must be absent or empty. Received: {output_directory}"
        )


def require_writable(directory: Path) -> None:
    """Raise `OSError` unless files can be created in the directory, which need not exist yet."""
    directory = directory.absolute()
    existing = next(folder for folder in (directory, *directory.parents) if folder.exists())
    try:
        with tempfile.TemporaryDirectory(dir=existing):
            pass
    except OSError as error:
        raise OSError(f"{directory} cannot be written to: {error.strerror}.") from error
