"""What a run directory holds: the only thing that the commands share.

- `recipe.json`: the resolved recipe; the dataset that the images are of, as `Examples.dataset`
  names it: `builder/config/version`, of a user's own folder `builder@content/version`, where a
  digest stands for what the folder held; the backend and the versions of the packages.
- `splits.json`: the ids trained on, validated on and, if any, set aside for a test.
- `fingerprint.json`: the ranges of size, brightness, contrast and colour of the images trained on;
  of volumes, how they are read (spacing and normalisation) and the ranges of what was trained on.
- `state.json`: the history of the finished epochs; replacing it is what commits an epoch. Whatever
  follows from it is rewritten on resume.
- `checkpoint-NNNN.keras`: the network after that many epochs, the last finished one, with its
  optimizer's state.
- `model.keras`: the best network, in float32.
- `history.csv`, `tensorboard/`: the curves; blank where an epoch was not validated.
- `metrics.json`, `per_image.csv` (of volumes, `per_case.csv`), `report.html`: the outcome, scored
  on the test images, or on the validation images where none were set aside for a test.
- `evaluation-NAME/`: what `keras_lgmsnet.evaluation` found.
- `.lock`: held by the process that trains.
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

import filelock

from keras_lgmsnet.recipe import Recipe

# Begins the names of what is being written; what bears it later was left by a killed process.
UNFINISHED = ".unfinished-"
_LOCK = ".lock"


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
        FileNotFoundError: If there is no such file. Where the directory holds the runs of several
            splits, they are named.
        ValueError: If the file is damaged.
    """
    path = run_directory / name
    if not path.is_file():
        splits = (path.parent.name for path in run_directory.glob("split-*/recipe.json"))
        if runs := sorted(splits, key=lambda split: (len(split), split)):  # 41 before 1337
            raise FileNotFoundError(
                f"{run_directory} holds several runs, {', '.join(runs)}: name one, such as "
                f"{run_directory / runs[0]}."
            )
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
    temporary = path.with_name(f"{UNFINISHED}{path.name}")  # the suffix tells Keras the format
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # a power cut must not leave the new name on an empty file
        os.replace(temporary, path)
        _sync_names(path.parent)  # nor may what follows outlive the new name
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def lock(run_directory: Path) -> Iterator[None]:
    """Keep other processes from training in a run directory; ends with this process at the latest.

    Raises:
        BlockingIOError: If another process trains in it.
    """
    try:
        with filelock.FileLock(run_directory / _LOCK, blocking=False):
            yield
    except filelock.Timeout as error:
        raise BlockingIOError(
            f"Another process is training in {run_directory}: wait for it, or choose another run "
            "directory."
        ) from error


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a folder to write to, which becomes `path`, absent or empty, when all went well.

    Whatever happens, `path` is either what it was or complete.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    # On the same file system, so that one rename publishes everything.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=UNFINISHED) as temporary:
        unfinished = Path(temporary) / path.name
        unfinished.mkdir()
        yield unfinished
        if path.exists():
            path.rmdir()
        unfinished.rename(path)


def require_unused(directory: Path, *, may_resume: bool = False) -> None:
    """Raise `FileExistsError` unless the directory is absent or empty.

    Args:
        directory: Where a command is to write.
        may_resume: Whether the command could continue what is there; if so, what it leaves when it
            is killed in its first write does not count.
    """
    if not directory.exists():
        return
    if not directory.is_dir() or any(
        not (may_resume and (path.name == _LOCK or path.name.startswith(UNFINISHED)))
        for path in directory.iterdir()
    ):
        mend = "choose another directory, absent or empty"
        if may_resume and (directory / "recipe.json").exists():
            mend += ", or continue the run in it with --resume (resume=True)"
        raise FileExistsError(f"{directory} is in use: {mend}.")


def require_writable(directory: Path) -> None:
    """Raise `OSError` unless files can be created in the directory, which need not exist yet."""
    directory = directory.absolute()
    existing = next(folder for folder in (directory, *directory.parents) if folder.exists())
    try:
        with tempfile.TemporaryDirectory(dir=existing, prefix=UNFINISHED):
            pass
    except OSError as error:
        raise OSError(f"{directory} cannot be written to: {error.strerror}.") from error


def _sync_names(directory: Path) -> None:
    """Bring the directory's list of names to the disk, where the system lets it be opened."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
