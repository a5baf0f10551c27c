"""What the folder of a study holds: for each label a folder, with a run directory for each split.

- `study.json`: the seeds of the splits, and the recipes by label.
- `LABEL/split-SEED/`: a run directory; LABEL is the label's folder name.
- `LABEL/split-SEED.claim`: which part is training that run.
- `LABEL/summary.json`: mean and deviation over the splits, once all of them are there.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_lgmsnet.files.writing import UNFINISHED, require_unused, write_once
from keras_lgmsnet.recipe.study import Study, folder_names
from keras_lgmsnet.run_directory import read_json

STUDY_FILE = "study.json"


@dataclass(frozen=True)
class StudyRun:
    """One run of a study.

    Args:
        label: That of its recipe.
        seed: That of its split.
        directory: Its run directory.
    """

    label: str
    seed: int
    directory: Path

    @property
    def is_finished(self) -> bool:
        """Whether it was trained and scored."""
        return (self.directory / "metrics.json").is_file()

    @property
    def claim(self) -> Path:
        """The file by which a part claims it."""
        return self.directory.with_name(f"{self.directory.name}.claim")


def study_runs(directory: Path) -> list[StudyRun]:
    """Return the runs of the study in a directory, in the order in which they are trained.

    Raises:
        FileNotFoundError: If there is no study.
        ValueError: If its `study.json` is damaged.
    """
    values = _read_study(directory)
    folders = folder_names(values["recipes"])
    return [
        StudyRun(label, seed, directory / folder / split_name(seed))
        for seed in values["seeds"]
        for label, folder in folders.items()
    ]


def split_name(seed: int) -> str:
    """Return the name of the run directory of a split."""
    return f"split-{seed}"


def begin_study(directory: Path, study: Study, seeds: Sequence[int]) -> None:
    """Write what a study is; where another process did, or did before, check that it is the same.

    Raises:
        ValueError: If there is another study.
        FileExistsError: If there is something else.
    """
    recipes = {label: recipe.to_dict() for label, recipe in study.items()}
    values = json.loads(json.dumps({"seeds": seeds, "recipes": recipes}))
    path = directory / STUDY_FILE
    if not path.exists():
        try:
            require_unused(directory, ignore=(f"{UNFINISHED}*",))
        except FileExistsError:
            if not path.exists():  # else another part began this very moment
                raise
        else:
            directory.mkdir(parents=True, exist_ok=True)
            write_once(path, json.dumps(values, indent=2) + "\n")
    begun = _read_study(directory)
    if begun["seeds"] != values["seeds"] or list(begun["recipes"]) != list(recipes):
        raise ValueError(
            f"{directory} has a study of {', '.join(begun['recipes'])} on the splits of "
            f"{begun['seeds']}: continue that, or name another folder. "
            f"Received: {', '.join(recipes)} on those of {list(seeds)}"
        )
    for label, recipe in values["recipes"].items():
        if begun["recipes"][label] != recipe:
            raise ValueError(
                f"A study must be continued with the recipes it began with; in {directory}, that "
                f"of {label} was another."
            )


def _read_study(directory: Path) -> dict[str, Any]:
    values = read_json(directory, STUDY_FILE, "seeds", "recipes")
    seeds, recipes = values["seeds"], values["recipes"]
    if not isinstance(seeds, list) or not all(type(seed) is int for seed in seeds):
        raise ValueError(f"{directory / STUDY_FILE} is damaged: its seeds are no integers.")
    if not isinstance(recipes, dict):
        raise ValueError(f"{directory / STUDY_FILE} is damaged: its recipes have no labels.")
    return values
