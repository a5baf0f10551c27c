"""Reads finished runs, and checks that their scores can stand beside one another."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_lgmsnet.kinds import Kind
from keras_lgmsnet.recipe.schema import AnyRecipe
from keras_lgmsnet.run_directory import describe_unfinished, read_json, read_recipe
from keras_lgmsnet.study_directory import STUDY_FILE, study_runs


@dataclass(frozen=True)
class ScoredRun:
    """A finished run.

    Args:
        directory: Its run directory.
        recipe: What it was trained by.
        dataset: Which copy of which dataset it was trained on, as `recipe.json` has it.
        subset: What it was scored on: `"test"` or `"validation"`.
        ids: Those of the images or volumes scored.
        scores: Score by what tables call it, a share from 0 to 1: of images those of
            `Kind.headlines`; of volumes the Dice of each region, and its mean over them. `None` is
            a score that no volume has.
        caution: What must be said with the scores, if anything.
    """

    directory: Path
    recipe: AnyRecipe
    dataset: str
    subset: str
    ids: tuple[str, ...]
    scores: dict[str, float | None]
    caution: str | None

    @property
    def kind(self) -> Kind:
        """Whether it is of images or of volumes."""
        return self.recipe.kind

    @property
    def sides(self) -> tuple[int, ...]:
        """What the network saw: the size of images, or of patches of volumes."""
        return getattr(self.recipe.data, self.kind.size_field)

    @property
    def split(self) -> tuple[int, int | None, int]:
        """What the split follows from: the seed, and of a cross-validation the folds."""
        data = self.recipe.data
        return data.split_seed, data.num_folds, data.fold


@dataclass(frozen=True)
class Contestant:
    """The runs of one label on the splits of one dataset or several.

    Args:
        label: What tables call it.
        runs: In the order of their splits.
    """

    label: str
    runs: tuple[ScoredRun, ...]

    def on(self, dataset: str) -> list[ScoredRun]:
        """Return the runs on a dataset."""
        return [run for run in self.runs if run.dataset == dataset]


def read_contestants(paths: Sequence[str | Path]) -> tuple[list[Contestant], list[str]]:
    """Read runs, and return them by label, with a sentence for each that was left out.

    Runs that are not finished are left out.

    Args:
        paths: Folders of runs, of `--split-seeds`, or of studies. Of the latter, labels are the
            study's; of the others, the folders' names. One label may have runs in several folders,
            as of studies on several datasets.

    Raises:
        FileNotFoundError: If a folder holds no run.
        ValueError: If none is finished, a file is damaged, or they cannot be compared: of images
            and volumes, of several copies of a dataset, scored on other images though of the same
            split, or twice of one label.
    """
    found: dict[str, list[ScoredRun]] = {}
    notes = []
    for path in map(Path, paths):
        for label, directory in _directories(path):
            if not directory.exists():
                notes.append(f"Left out: {directory} was not begun.")
            elif describe_unfinished(directory) is not None:
                read_recipe(directory)  # else it is no run at all
                notes.append(f"Left out: {directory} is not finished.")
            else:
                found.setdefault(label, []).append(_read(directory))
    if not found:
        raise ValueError(
            "Of the runs none is finished, so there is nothing to compare. "
            f"Received: {', '.join(map(str, paths))}"
        )
    contestants = [
        Contestant(label, tuple(sorted(runs, key=lambda run: (run.dataset, run.split))))
        for label, runs in found.items()
    ]
    _require_comparable(contestants)
    return contestants, notes


def datasets_of(contestants: Iterable[Contestant]) -> list[str]:
    """Return the datasets that there are runs on, in the order in which they were read."""
    return list(dict.fromkeys(run.dataset for each in contestants for run in each.runs))


def source_of(dataset: str) -> str:
    """Return what tables call a dataset: the name of its builder, without version and content."""
    return dataset.split("/")[0].split("@")[0]


def _directories(path: Path) -> list[tuple[str, Path]]:
    """Return the run directories in a folder, each with its label."""
    if (path / STUDY_FILE).is_file():
        return [(run.label, run.directory) for run in study_runs(path)]
    name = path.resolve().name
    if (path / "recipe.json").is_file():
        return [(name, path)]
    splits = [recipe.parent for recipe in path.glob("split-*/recipe.json")]
    if not splits:
        raise FileNotFoundError(
            f"{path} holds no run: neither recipe.json, nor {STUDY_FILE}, nor folders split-SEED "
            "of --split-seeds."
        )
    return [(name, split) for split in sorted(splits)]


def _read(directory: Path) -> ScoredRun:
    recipe = read_recipe(directory)
    metrics = read_json(directory, "metrics.json", "subset", "means")
    splits = read_json(directory, "splits.json", metrics["subset"])
    means = metrics["means"]
    try:
        if recipe.kind.classes_exclude_each_other:
            regions = metrics["summary"]["regions"]
            scores = {name: each["scores"]["dice"]["mean"] for name, each in regions.items()}
            scores["mean Dice"] = means["dice"]
        else:
            scores = {label: means[name] for name, label in recipe.kind.headlines.items()}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{directory / 'metrics.json'} is damaged: it has no {error}.") from error
    return ScoredRun(
        directory,
        recipe,
        read_json(directory, "recipe.json", "dataset")["dataset"],
        metrics["subset"],
        tuple(splits[metrics["subset"]]),
        scores,
        metrics.get("caution"),
    )


def _require_comparable(contestants: Sequence[Contestant]) -> None:
    """Raise `ValueError` unless all runs on a dataset were scored alike, and on each split once."""
    seen: dict[object, tuple[object, ScoredRun]] = {}
    for contestant in contestants:
        splits = set()
        for run in contestant.runs:
            split = (run.dataset, run.split)
            if split in splits:
                raise ValueError(
                    f"{contestant.label} has two runs on the same split of {run.dataset}: name one "
                    f"of them. Received: {run.directory}"
                )
            splits.add(split)
            for key, value, wanted in (
                ("kind", run.kind.name, "images or on volumes, not on both"),
                (source_of(run.dataset), run.dataset, "the same copy of a dataset"),
                (run.dataset, run.subset, "the same part of a dataset"),
                (split, sorted(run.ids), f"the same {run.kind.name} of a split"),
            ):
                expected, other = seen.setdefault(key, (value, run))
                if value != expected:
                    raise ValueError(
                        f"Runs can be compared that were scored on {wanted}. "
                        f"Received: {other.directory} and {run.directory}"
                    )
