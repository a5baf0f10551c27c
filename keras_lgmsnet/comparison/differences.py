"""Differences of networks from one of them, case by case, as the stars of the paper's Table 2."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_lgmsnet.comparison.contestants import Contestant, ScoredRun, datasets_of, source_of
from keras_lgmsnet.evaluation.cases import Pairs, ScoreTable
from keras_lgmsnet.evaluation.score_tables import case_scoring, read_table
from keras_lgmsnet.scoring.significance import holm


def compare_with(
    contestants: Sequence[Contestant], reference: str
) -> tuple[list[dict[str, Any]], list[str]]:
    """Compare every label with the reference, and say which have no split in common with it.

    Only splits that both have are compared. The score of an image, or of a region of a volume, is
    its mean over those of them in which both were scored on it: of validation images each split has
    others, so an image may be of one split, of several, or of none.

    Args:
        contestants: The runs by label.
        reference: One of the labels.

    Returns:
        For each other label, dataset and score a dictionary with "network", "dataset", "score",
        the number of "cases" and of their "groups" (patients, videos or cases, where tables tell
        them), "mean", "reference", the "difference" of these two, its 95 % bootstrap "interval", of
        groups drawn whole, the difference as a share of the reference's mean, "relative",
        "wilcoxon_p", and "holm_p", corrected for the number of all of these dictionaries; and
        sentences. Scores that no case has are left out.

    Raises:
        FileNotFoundError: If a run has no table of its cases.
        ValueError: If one is damaged, or is of other cases than the run's.
    """
    tables: dict[Path, ScoreTable] = {}
    (base,) = (each for each in contestants if each.label == reference)
    found, notes = [], []
    for dataset in datasets_of(contestants):
        others = {run.split: run for run in base.on(dataset)}
        for each in contestants:
            if each.label == reference or not each.on(dataset):
                continue
            common = [(run, others[run.split]) for run in each.on(dataset) if run.split in others]
            if not common:
                notes.append(
                    f"{each.label} and {reference} have no split of {source_of(dataset)} in "
                    "common, so they are not compared."
                )
            for name, pairs in _mean_over_splits(common, tables).items():
                if described := pairs.describe():
                    found.append(
                        {
                            "network": each.label,
                            "dataset": dataset,
                            "score": name,
                            "cases": len(pairs.ids),
                            "groups": len(set(pairs.groups)),
                            "mean": described["mean"],
                            "reference": described["other_mean"],
                            "difference": described["difference"],
                            "interval": described["interval"],
                            "relative": relative_change(described["mean"], described["other_mean"]),
                            "wilcoxon_p": described["wilcoxon_p"],
                        }
                    )
    corrected = holm([row["wilcoxon_p"] for row in found])
    return [row | {"holm_p": p} for row, p in zip(found, corrected, strict=True)], notes


def relative_change(value: float, base: float) -> float | None:
    """Return by which share of the base a value differs from it; `None` where the base is 0."""
    return value / base - 1 if base else None


def _mean_over_splits(
    common: Sequence[tuple[ScoredRun, ScoredRun]], tables: dict[Path, ScoreTable]
) -> dict[str, Pairs]:
    """Return for each score the pairs of all cases, each the mean over the splits that have it."""
    values: dict[str, dict[str, list[tuple[float, float]]]] = {}
    groups: dict[str, str] = {}
    for run, other in common:
        table, other_table = (_read_rows(each, tables) for each in (run, other))
        if table.keys() != other_table.keys():
            raise ValueError(
                f"{run.table} and {other.table} must have the same rows; one of them is damaged."
            )
        names = {name: name for name in run.scores} | dict(run.kind.headlines)
        for name, pairs in case_scoring(run.kind).pairs(table, other_table).items():
            if names.get(name) not in run.scores:
                continue  # a further score, which only evaluations have
            of_score = values.setdefault(names[name], {})
            groups |= zip(pairs.ids, pairs.groups, strict=True)
            for id_, *pair in zip(pairs.ids, pairs.values, pairs.other, strict=True):
                of_score.setdefault(id_, []).append(tuple(pair))
    return {
        name: Pairs(
            list(cases),
            [groups[id_] for id_ in cases],
            *np.array([np.mean(pairs, axis=0) for pairs in cases.values()]).reshape(-1, 2).T,
        )
        for name, cases in values.items()
    }


def _read_rows(run: ScoredRun, tables: dict[Path, ScoreTable]) -> ScoreTable:
    """Return the rows of a run's cases, which are read once."""
    if run.table not in tables:
        kind, rows = read_table(run.table)
        if kind is not run.kind or {id_ for id_, *_ in rows} != set(run.ids):
            raise ValueError(
                f"{run.table} is damaged: it must have the {len(run.ids)} {run.kind.name} that "
                f"{run.directory} was scored on."
            )
        if absent := run.kind.headlines.keys() - next(iter(rows.values())).keys():
            raise ValueError(f"{run.table} is damaged: it has no column {min(absent)}.")
        tables[run.table] = rows
    return tables[run.table]
