"""Evaluation of runs on volumes: each region of each volume is scored on the scan's own grid."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lgmsnet.data.builders import require_masks_of_users
from keras_lgmsnet.data.volume_fingerprint import VolumeFingerprint
from keras_lgmsnet.data.volumes import VolumeSource, load_volumes
from keras_lgmsnet.evaluation.cases import CaseScoring, Pairs, ScoreTable
from keras_lgmsnet.evaluation.selection import choose_ids, require_same_subset
from keras_lgmsnet.inference.scans import segment_scan
from keras_lgmsnet.process.progress import track
from keras_lgmsnet.recipe.schema import VolumeData
from keras_lgmsnet.run import VolumeRun
from keras_lgmsnet.scoring.regions import (
    SCORES,
    TOLERANCE,
    Scores,
    list_regions,
    score_case,
    summarize,
    tabulate,
)
from keras_lgmsnet.tables import comparison_cells

if TYPE_CHECKING:
    import keras

# What pairs call a volume's mean over its regions.
MEAN = "mean Dice"


class VolumeScoring(CaseScoring[VolumeRun, VolumeSource]):
    """Scores of volumes by region, and the mean over the regions."""

    file_name = "per_case.csv"
    keys = ("id", "region")
    compared = ("dice",)
    comparison_note = (
        "a region that neither run predicts where there is none is left out, and one that only one "
        "run predicts there counts as a Dice of 1 for the other"
    )
    scores_may_be_absent = True  # where a region is neither there nor predicted

    def read(
        self,
        runs: Sequence[VolumeRun],
        dataset: str | None,
        manual_dir: str | Path | None,
        data_dir: str | Path | None,
        allow_incomplete: bool,
        mask_threshold: int | None,
    ) -> tuple[VolumeSource, list[str]]:
        """Return a dataset of volumes, none of which is read yet, and the ids of those to score.

        Raises:
            ValueError: If the runs cannot be scored on the same volumes, or the dataset is unknown,
                damaged, was trained on, or has other labels or channels than the runs; or if there
                is a threshold, since masks of volumes hold labels.
            FileNotFoundError: If the dataset is neither prepared nor downloaded.
        """
        require_same_subset(runs, dataset)
        data = runs[0].recipe.data
        require_masks_of_users(dataset or data.source, mask_threshold)
        source = load_volumes(
            dataset or data.source,
            manual_dir,
            data_dir,
            allow_incomplete=allow_incomplete or (data.allow_incomplete and not dataset),
        )
        for run in runs:  # before hours are spent on the first
            _require_same_names(run, source)
        return source, choose_ids(runs, dataset, source, manual_dir)

    def score(
        self, run: VolumeRun, source: VolumeSource, ids: Sequence[str], tolerance: float
    ) -> ScoreTable:
        """Return the row of each region of each volume, which also has its volumes in ml."""
        cases = score_volumes(
            run.network, source, ids, run.fingerprint, run.recipe.data, tolerance=tolerance
        )
        groups = dict(zip(source.ids, source.groups, strict=True))
        return {
            (id_, region): {"group": groups[id_], **scores}
            for id_, case in cases.items()
            for region, scores in case.items()
        }

    def describe(self, run: VolumeRun, table: ScoreTable, tolerance: float) -> dict[str, Any]:
        """Return how volumes were scored, and the means of every region and over all."""
        cases, groups = _by_case(table)
        return {
            "spacing": list(run.fingerprint.spacing),
            "convention": describe_convention(tolerance),
            **summarize(list(cases.values()), groups),
        }

    def pairs(self, table: ScoreTable, other: ScoreTable) -> dict[str, Pairs]:
        """Return the pairs of Dice of each region and, last, of each volume's mean over them.

        A pair is left out where neither run has a score. Where one has none, since the region is
        not there and it predicted none, it counts as 1: the other run's false alarm must not go
        unseen.
        """
        dice, other_dice = (_dice_by_case(rows, table) for rows in (table, other))
        groups = {id_: row["group"] for (id_, _), row in table.items()}
        regions = {
            region: _pair(dice[:, index], other_dice[:, index], groups)
            for index, region in enumerate(dict.fromkeys(region for _, region in table))
        }
        return regions | {MEAN: _pair(_mean(dice), _mean(other_dice), groups)}

    def compare(self, table: ScoreTable, other: ScoreTable) -> dict[str, Any]:
        """Return the comparison of Dice for each region, and of each volume's mean over them."""
        found = {name: pairs.describe() for name, pairs in self.pairs(table, other).items()}
        mean = found.pop(MEAN)
        return {"regions": found, "mean": mean}

    def tabulate(self, evaluation: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
        """Return header and rows of the table of an evaluation, one region a row."""
        return tabulate(evaluation)

    def tabulate_comparison(
        self, comparison: Mapping[str, Any], runs: Sequence[str]
    ) -> tuple[list[str], list[list[str]]]:
        """Return header and rows of the table of a comparison, one region a row."""
        rows = comparison["regions"] | {"Mean of a volume": comparison["mean"]}
        counted = {name: compared for name, compared in rows.items() if compared is not None}
        return comparison_cells(runs, counted, SCORES["dice"])


def describe_convention(tolerance: float) -> str:
    """Return the sentence that tells how volumes were scored.

    Args:
        tolerance: That of `score_case`, in mm.
    """
    return (
        "Each volume is scored on its own grid; a region that is missed, or predicted where there "
        "is none, counts as a Dice, IoU and NSD of 0 and an HD95 of the volume's diagonal, one "
        "that is neither there nor predicted is left out of that volume's scores, volume "
        f"differences are absolute, and surfaces agree within {tolerance:g} mm."
    )


def score_volumes(
    network: "keras.Model",
    source: VolumeSource,
    ids: Sequence[str],
    fingerprint: VolumeFingerprint,
    data: VolumeData,
    *,
    tolerance: float = TOLERANCE,
) -> dict[str, dict[str, Scores]]:
    """Segment volumes and score each on its own grid; memory holds one at a time.

    Args:
        network: From patches to logits.
        source: The dataset.
        ids: Which volumes.
        fingerprint: That of the network's training volumes.
        data: The recipe's, for `patch_size` and `overlap`.
        tolerance: As for `score_case`.

    Returns:
        What `score_case` returns for each volume, by its id, of the dataset's `list_regions`.

    Raises:
        ValueError: As `segment_scan` raises, or if an id is unknown.

    Example:
    ```python
    cases = score_volumes(network, source, splits["validation"], fingerprint, recipe.data)
    cases["img0035"]["spleen"]["dice"]
    ```
    """
    regions = list_regions(source.dataset, source.labels)
    cases = {}
    for id_ in track(ids, label="Evaluating", unit="volume"):
        example = source.read(id_)
        labels = segment_scan(network, example.image, example.grid, fingerprint, data)
        cases[id_] = score_case(
            example.segmentation_mask,
            labels,
            regions,
            example.grid,
            tolerance=tolerance,
        )
    return cases


def _require_same_names(run: VolumeRun, source: VolumeSource) -> None:
    """Raise `ValueError` unless a dataset has the labels and channels that a run was trained on."""
    for field, trained_on, names in (
        ("labels", run.fingerprint.labels, list(source.labels.values())),
        ("channels", run.fingerprint.channels, source.channels),
    ):
        if [name.casefold() for name in trained_on] != [name.casefold() for name in names]:
            raise ValueError(
                f"The {field} of {source.dataset} must be those that {run.directory} was "
                f"trained on, by the same names and in the same order: {', '.join(trained_on)}. "
                f"Received: {', '.join(names)}"
            )


def _by_case(table: ScoreTable) -> tuple[dict[str, dict[str, Scores]], list[str]]:
    """Return the scores of each volume by region, and the group of each volume."""
    cases: dict[str, dict[str, Scores]] = {}
    groups = {}
    for (id_, region), row in table.items():
        cases.setdefault(id_, {})[region] = row
        groups[id_] = row["group"]
    return cases, list(groups.values())


def _dice_by_case(table: ScoreTable, order: ScoreTable) -> np.ndarray:
    """Return the Dice of every volume and region, NaN where there is none, in another's order."""
    ids, regions = (list(dict.fromkeys(names)) for names in zip(*order, strict=True))
    dice = np.full((len(ids), len(regions)), np.nan)
    for (id_, region), row in table.items():
        dice[ids.index(id_), regions.index(region)] = row["dice"]  # None becomes NaN
    return dice


def _mean(dice: np.ndarray) -> np.ndarray:
    """Return the mean Dice of every volume over the regions that have one; NaN without any."""
    with np.errstate(invalid="ignore"):
        return np.nansum(dice, axis=1) / (~np.isnan(dice)).sum(axis=1)


def _pair(dice: np.ndarray, other: np.ndarray, groups: Mapping[str, str]) -> Pairs:
    """Return the pairs of the volumes' Dice where either has any; `groups` is by id."""
    counted = ~(np.isnan(dice) & np.isnan(other))
    values, other_values = (np.nan_to_num(scores[counted], nan=1.0) for scores in (dice, other))
    ids = [id_ for id_, counts in zip(groups, counted, strict=True) if counts]
    return Pairs(ids, [groups[id_] for id_ in ids], values, other_values)
