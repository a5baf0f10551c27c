"""Reads finished runs, and checks that their scores can stand beside one another."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_lgmsnet.evaluation.score_tables import case_scoring
from keras_lgmsnet.evaluation.volumes import MEAN
from keras_lgmsnet.kinds import Kind
from keras_lgmsnet.recipe.schema import AnyRecipe
from keras_lgmsnet.run_directory import describe_unfinished, read_json, read_recipe
from keras_lgmsnet.study_directory import STUDY_FILE, study_runs

# What a split follows from: the seed, and of a cross-validation the folds and the fold.
Split = tuple[int, int | None, int]


@dataclass(frozen=True)
class ScoredRun:
    """A finished run.

    Args:
        directory: Its run directory.
        recipe: What it was trained by.
        dataset: Which copy of which dataset it was scored on, as `recipe.json` has it.
        subset: What of it: `"test"`, `"validation"`, or `"all"` of a dataset it never saw.
        ids: Those of the images or volumes scored.
        scores: Score by what tables call it, a share from 0 to 1: of images those of
            `Kind.headlines`; of volumes the Dice of each region, and its mean over them. `None` is
            a score that no volume has.
        caution: What must be said with the scores, if anything.
        table: The file with the scores of each image, or of each region of a volume.
    """

    directory: Path
    recipe: AnyRecipe
    dataset: str
    subset: str
    ids: tuple[str, ...]
    scores: Mapping[str, float | None]
    caution: str | None
    table: Path

    @property
    def kind(self) -> Kind:
        """Whether it is of images or of volumes."""
        return self.recipe.kind

    @property
    def sides(self) -> tuple[int, ...]:
        """What the network saw: the size of images, or of patches of volumes."""
        return getattr(self.recipe.data, self.kind.size_field)

    @property
    def split(self) -> Split:
        """What the split follows from."""
        data = self.recipe.data
        return data.split_seed, data.num_folds, data.fold


@dataclass(frozen=True)
class Contestant:
    """The runs of one label on the splits of one dataset or several.

    Args:
        label: What tables call it.
        runs: In the order of their datasets and splits.
    """

    label: str
    runs: tuple[ScoredRun, ...]

    def on(self, dataset: str) -> list[ScoredRun]:
        """Return the runs on a dataset."""
        return [run for run in self.runs if run.dataset == dataset]


def read_contestants(paths: Sequence[str | Path]) -> tuple[list[Contestant], list[str]]:
    """Read runs, and return them by label, with sentences that name those that were left out.

    Runs that are not finished are left out.

    Args:
        paths: Folders of runs, of `--split-seeds`, or of studies. Of the latter, labels are the
            study's, and studies on several datasets may have the same ones; of the others, the
            folders' names, with as many of the folders above as tell them apart.

    Raises:
        FileNotFoundError: If a folder holds no run.
        ValueError: If none is finished, a file is damaged, a folder is named twice, or they cannot
            be compared, as `require_comparable` raises.
    """
    found: dict[str, list[ScoredRun]] = {}
    left_out: dict[str, list[str]] = {"begun": [], "finished": []}
    for label, directory in _directories([Path(path) for path in paths]):
        name = f"{label} ({directory.name})" if directory.name != label else label
        if not (directory / "recipe.json").exists():
            left_out["begun"].append(name)
        elif describe_unfinished(directory) is not None:
            left_out["finished"].append(name)
        else:
            found.setdefault(label, []).append(_read(directory))
    notes = [
        f"Left out, since not {what}: {', '.join(names)}."
        for what, names in left_out.items()
        if names
    ]
    if not found:
        raise ValueError(
            "Of the runs none is finished, so there is nothing to compare. "
            f"Received: {', '.join(map(str, paths))}"
        )
    contestants = [
        Contestant(label, tuple(sorted(runs, key=_order))) for label, runs in found.items()
    ]
    require_comparable(contestants)
    return contestants, notes


def datasets_of(contestants: Iterable[Contestant]) -> list[str]:
    """Return the datasets that there are runs on, in the order in which they were read."""
    return list(dict.fromkeys(run.dataset for each in contestants for run in each.runs))


def splits_of(contestants: Iterable[Contestant], dataset: str) -> set[Split]:
    """Return the splits of a dataset that there are runs on."""
    return {run.split for each in contestants for run in each.on(dataset)}


def source_of(dataset: str) -> str:
    """Return what tables call a dataset: the name of its builder, without version and content."""
    return dataset.split("/")[0].split("@")[0]


def read_scores(path: Path, kind: Kind, values: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the scores that are compared, by what tables call them.

    Args:
        path: The file they are from.
        kind: Of images or of volumes.
        values: Of images "means"; of volumes "regions" and "mean", as `scoring.summarize` has them.

    Raises:
        ValueError: If one is missing, or is no number.
    """
    try:
        if kind.classes_exclude_each_other:
            regions = {**values["regions"], MEAN: {"scores": values["mean"]}}
            scores = {name: each["scores"]["dice"]["mean"] for name, each in regions.items()}
        else:
            scores = {label: values["means"][name] for name, label in kind.headlines.items()}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: of its scores {error} is missing.") from error
    may_be_absent = case_scoring(kind).scores_may_be_absent
    for name, score in scores.items():
        is_number = isinstance(score, int | float) and math.isfinite(score)
        if not is_number and not (score is None and may_be_absent):
            raise ValueError(f"{path} is damaged: its {name} is no number. Received: {score!r}")
    return scores


def require_comparable(contestants: Sequence[Contestant]) -> None:
    """Raise `ValueError` unless runs can stand beside one another.

    All must be of images or all of volumes; those on a dataset of one copy of it, scored on the
    same part, and on each split on the same ids, by the same scores; and those of a label of one
    network, one for each split of a dataset.
    """
    seen: dict[object, tuple[object, ScoredRun]] = {}
    for contestant in contestants:
        splits = set()
        for run in contestant.runs:
            split = (run.dataset, run.split)
            if split in splits:
                raise ValueError(
                    f"{contestant.label} has two runs on the same split of "
                    f"{source_of(run.dataset)}: name one of them. Received: {run.directory}"
                )
            splits.add(split)
            model = run.recipe.model
            for key, value, wanted in (
                (("kind",), run.kind.name, "images or on volumes, not on both"),
                (("copy", source_of(run.dataset)), run.dataset, "the same copy of a dataset"),
                (("part", run.dataset), run.subset, "the same part of a dataset"),
                (("ids", split), sorted(run.ids), f"the same {run.kind.name} of a split"),
                (("regions", run.dataset), list(run.scores), "the same regions"),
            ):
                _require_equal(seen, key, value, run, f"Runs are compared on {wanted}")
            _require_equal(
                seen,
                ("label", contestant.label),
                (model.network, model.arguments),
                run,
                f"The runs called {contestant.label} must be of one network and its arguments",
            )


def _require_equal(
    seen: dict[object, tuple[object, ScoredRun]],
    key: object,
    value: object,
    run: ScoredRun,
    sentence: str,
) -> None:
    """Raise `ValueError` unless a value is that of the run that was the first to have the key."""
    expected, other = seen.setdefault(key, (value, run))
    if value != expected:
        raise ValueError(f"{sentence}. Received: {other.directory} and {run.directory}")


def _order(run: ScoredRun) -> tuple[str, int, int]:
    seed, _, fold = run.split
    return run.dataset, seed, fold


def _directories(paths: Sequence[Path]) -> list[tuple[str, Path]]:
    """Return the run directories in folders, each with its label."""
    places = Counter(path.resolve() for path in paths)
    if twice := [str(path) for path, count in places.items() if count > 1]:
        raise ValueError(f"Name each folder once. Received: {twice[0]} twice")
    labels = _distinct_names([path for path in places if not (path / STUDY_FILE).is_file()])
    found = []
    for path in paths:
        if (path / STUDY_FILE).is_file():
            found += [(run.label, run.directory) for run in study_runs(path)]
        elif (path / "recipe.json").is_file():
            found.append((labels[path.resolve()], path))
        elif splits := sorted(recipe.parent for recipe in path.glob("split-*/recipe.json")):
            found += [(labels[path.resolve()], split) for split in splits]
        else:
            raise FileNotFoundError(
                f"{path} holds no run: neither recipe.json, nor {STUDY_FILE}, nor folders "
                "split-SEED of --split-seeds."
            )
    return found


def _distinct_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Return the name of each folder, with as many of those above it as tell it from the others."""
    names: dict[Path, str] = {}
    for path in paths:
        for count in range(1, len(path.parts) + 1):
            name = "/".join(path.parts[-count:])
            if sum(other.parts[-count:] == path.parts[-count:] for other in paths) == 1:
                break
        names[path] = name
    return names


def _read(directory: Path) -> ScoredRun:
    recipe = read_recipe(directory)
    metrics = read_json(directory, "metrics.json", "subset", "means")
    subset = metrics["subset"]
    is_volumes = recipe.kind.classes_exclude_each_other
    return ScoredRun(
        directory,
        recipe,
        read_json(directory, "recipe.json", "dataset")["dataset"],
        subset,
        tuple(read_json(directory, "splits.json", subset)[subset]),
        read_scores(
            directory / "metrics.json",
            recipe.kind,
            metrics.get("summary") or {} if is_volumes else metrics,
        ),
        metrics.get("caution"),
        directory / case_scoring(recipe.kind).file_name,
    )
