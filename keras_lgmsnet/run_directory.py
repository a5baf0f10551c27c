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
  on the test images, or on the validation images where none were set aside for a test;
  `metrics.json` comes last, and tells that the run is finished.
- `evaluation-NAME/`: what `keras_lgmsnet.evaluation.runs` found.
- `.lock`: held by the process that trains.
"""

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock

from keras_lgmsnet.files.writing import UNFINISHED, require_unused
from keras_lgmsnet.recipe.schema import AnyRecipe, Recipe

_LOCK = ".lock"


def read_recipe(run_directory: Path) -> AnyRecipe:
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


def describe_unfinished(run_directory: Path) -> str | None:
    """Return in a sentence that a run has not been scored yet; `None` of one that has."""
    if (run_directory / "metrics.json").is_file():
        return None
    return f"{run_directory} is not finished: this is its best network so far."


def require_no_run(run_directory: Path) -> None:
    """Raise `FileExistsError` unless a run can begin in a directory: it is absent or empty.

    What a run leaves that was killed in its first write does not count.
    """
    begun = (run_directory / "recipe.json").exists()
    mend = ", or continue the run in it with --resume (resume=True)" if begun else ""
    require_unused(run_directory, ignore=(_LOCK, f"{UNFINISHED}*"), mend=mend)


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
