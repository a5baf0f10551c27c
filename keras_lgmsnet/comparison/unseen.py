"""Scores runs on a dataset that none of them was trained on, as the paper's Table 2 does."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from keras_lgmsnet.comparison.contestants import (
    Contestant,
    ScoredRun,
    datasets_of,
    read_scores,
    require_comparable,
    source_of,
)
from keras_lgmsnet.data.sources import describe_source
from keras_lgmsnet.evaluation.runs import default_directory, evaluate
from keras_lgmsnet.evaluation.score_tables import read_table
from keras_lgmsnet.process.progress import say
from keras_lgmsnet.run_directory import require_network


def score_unseen(
    contestants: Sequence[Contestant],
    dataset: str,
    *,
    manual_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    allow_incomplete: bool = False,
    mask_threshold: int | None = None,
) -> list[Contestant]:
    """Score runs on all of a dataset, and return them with those scores.

    The scores are kept in each run's `evaluation-NAME`, where `evaluate` writes them, too; what is
    there already of the same network and data is taken from there.

    Args:
        contestants: The runs by label, all trained on one dataset.
        dataset: As for `evaluate`; and so are all others.
        manual_dir: As for `evaluate`.
        data_dir: As for `evaluate`.
        allow_incomplete: As for `evaluate`.
        mask_threshold: As for `evaluate`.

    Raises:
        ValueError: If they were trained on several datasets; or as `evaluate` raises.
        OSError: As `evaluate` raises.
    """
    trained_on = datasets_of(contestants)
    if len(trained_on) > 1:
        raise ValueError(
            f"Runs that are scored on {describe_source(dataset, manual_dir)} must have been "
            f"trained on one dataset. Received: {', '.join(map(source_of, trained_on))}"
        )
    for each in contestants:  # before hours are spent on the first
        for run in each.runs:
            require_network(run.directory)
    options = {
        "manual_dir": manual_dir,
        "data_dir": data_dir,
        "allow_incomplete": allow_incomplete,
        "mask_threshold": mask_threshold,
    }
    scored = [
        Contestant(
            each.label, tuple(_score(each.label, run, dataset, options) for run in each.runs)
        )
        for each in contestants
    ]
    require_comparable(scored)
    return scored


def _score(label: str, run: ScoredRun, dataset: str, options: dict[str, Any]) -> ScoredRun:
    name = describe_source(dataset, options["manual_dir"])
    directory = default_directory(run.directory, name)
    say(f"{label} on {name}, into {directory}")
    keras.utils.clear_session(free_memory=True)  # of what the last network left
    evaluation = evaluate(run.directory, directory, dataset=dataset, reuse=True, **options)
    values = evaluation
    if not run.kind.classes_exclude_each_other:
        scores = evaluation["groups"]["all"]["scores"]
        values = {"means": {name: score["mean"] for name, score in scores.items()}}
    table = directory / run.table.name
    _, rows = read_table(table)
    return dataclasses.replace(
        run,
        dataset=evaluation["identity"],
        subset=evaluation["subset"],
        ids=tuple(dict.fromkeys(id_ for id_, *_ in rows)),
        scores=read_scores(directory / "evaluation.json", run.kind, values),
        caution=evaluation["caution"],
        table=table,
    )
