"""Training of several runs: a recipe on several splits, or a study of several recipes."""

import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path

import keras

from keras_lgmsnet.files.parts import Part, claim, release
from keras_lgmsnet.files.writing import require_unused, write_shared_json
from keras_lgmsnet.process.progress import say
from keras_lgmsnet.recipe.schema import AnyRecipe
from keras_lgmsnet.recipe.study import Study
from keras_lgmsnet.run_directory import read_json, require_no_run
from keras_lgmsnet.study_directory import StudyRun, begin_study, split_name, study_runs
from keras_lgmsnet.training.loop import train


def train_splits(
    recipe: AnyRecipe,
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
    _require_random_splits(recipe)
    if not resume:
        require_no_run(directory)
    # All at once, so that a seed out of range is known before anything is trained.
    recipes = {seed: _of_split(recipe, seed) for seed in seeds}
    for seed, split_recipe in recipes.items():
        run = directory / split_name(seed)
        begun = resume and (run / "recipe.json").exists()
        train(split_recipe, run, manual_dir=manual_dir, data_dir=data_dir, resume=begun)
    _summarise(directory, seeds)
    return directory


def train_study(
    study: Study,
    directory: str | Path,
    seeds: Sequence[int] = (),
    *,
    part: Part | None = None,
    manual_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    resume: bool = False,
) -> list[StudyRun]:
    """Train every recipe of a study on every split, one finished run after the other.

    All recipes come to the first split, then all to the next, so that what has been trained can be
    compared early. Several processes that see the same folder may share the runs: each is given a
    part of its own. A part that was killed goes on when it is started again.

    Args:
        study: Label → recipe.
        directory: Where to write what `keras_lgmsnet.study_directory` lists; absent or empty unless
            `resume` or `part`.
        seeds: Those of the splits; by default the recipes' own, which must be one for all.
        part: Which runs to train; by default all. With it, what is there is continued.
        manual_dir: As for `train`.
        data_dir: As for `train`.
        resume: Whether to keep the finished runs in `directory`, continue the one that was
            interrupted, and begin those that were not.

    Returns:
        All runs of the study, in the order in which they are trained.

    Raises:
        ValueError: If `directory` has another study; if a seed is given twice, or a recipe leaves
            nothing to chance; or as `train` raises.
        OSError: As `train` raises.

    Example:
    ```python
    recipe = load_recipe("busi")
    study = study_of_networks(recipe, ["lgmsnet", "unet"])
    train_study(study, "studies/busi", (41, 64, 1337), manual_dir="downloads")
    ```
    """
    directory = Path(directory)
    if not seeds:
        seeds = tuple({recipe.data.split_seed: None for recipe in study.values()})
        if len(seeds) > 1:
            raise ValueError(
                "The recipes of a study are trained on the same splits: give all of them one "
                f"data.split_seed, or name --split-seeds (seeds). Received: {seeds}"
            )
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"Name each seed of a split once. Received: {tuple(seeds)}")
    if len(seeds) > 1:
        for recipe in study.values():
            _require_random_splits(recipe)
    # All at once, so that a seed out of range is known before anything is trained.
    recipes = {
        (label, seed): _of_split(recipe, seed) for label, recipe in study.items() for seed in seeds
    }
    if not resume and part is None:
        require_unused(directory, mend=", or continue the study in it with --resume (resume=True)")
    begin_study(directory, study, seeds)
    runs = study_runs(directory)
    part = part or Part()
    for run in part.share(runs):
        _train_run(run, recipes[run.label, run.seed], part, manual_dir, data_dir)
        of_label = [other for other in runs if other.label == run.label]
        if len(seeds) > 1 and all(other.is_finished for other in of_label):
            _summarise(run.directory.parent, seeds)
    return runs


def _train_run(
    run: StudyRun,
    recipe: AnyRecipe,
    part: Part,
    manual_dir: str | Path | None,
    data_dir: str | Path | None,
) -> None:
    """Train a run, unless it is finished or another part's."""
    if not run.is_finished:
        owner = claim(run.claim, part)
        if owner != part:
            say(
                f"{run.directory} is left to part {owner}, which claimed it: start that part again "
                f"where it ended, or delete {run.claim}."
            )
            return
    if not run.is_finished:  # as another process may have in the meantime
        say(f"{run.label} on split {run.seed}, into {run.directory}")
        keras.utils.clear_session(free_memory=True)  # of what the last run left
        begun = (run.directory / "recipe.json").exists()
        train(recipe, run.directory, manual_dir=manual_dir, data_dir=data_dir, resume=begun)
    release(run.claim)  # perhaps that of a process that was killed when it had finished


def _require_random_splits(recipe: AnyRecipe) -> None:
    """Raise `ValueError` where every split would be the same."""
    if recipe.data.validation_ids and not recipe.data.test_fraction:
        raise ValueError(
            "Random splits need ids to choose from: set data.validation_ids to none of them, (), "
            "or data.test_fraction above 0. "
            f"Received: data.validation_ids={recipe.data.validation_ids}"
        )


def _of_split(recipe: AnyRecipe, seed: int) -> AnyRecipe:
    return dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, split_seed=seed))


def _summarise(directory: Path, seeds: Sequence[int]) -> None:
    """Write mean and sample standard deviation over the runs of several splits."""
    metrics = [read_json(directory / split_name(seed), "metrics.json") for seed in seeds]
    means = [run_metrics["means"] for run_metrics in metrics]
    scores = {name: [run_means[name] for run_means in means] for name in means[0]}
    summary = {
        "seeds": list(seeds),
        "subset": metrics[0]["subset"],
        "caution": metrics[0]["caution"],
        "mean": {name: statistics.mean(values) for name, values in scores.items()},
        "standard_deviation": {name: statistics.stdev(values) for name, values in scores.items()},
        "runs": scores,
    }
    # Two parts may finish the last runs of a label at once, and both summarise it.
    write_shared_json(directory / "summary.json", summary)
