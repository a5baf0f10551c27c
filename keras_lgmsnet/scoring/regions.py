"""Scores of segmented volumes: region by region, in millimetres and millilitres."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from keras_lgmsnet.geometry import Grid
from keras_lgmsnet.scoring.significance import mean_interval
from keras_lgmsnet.scoring.surface import require_tolerance, surface_distances
from keras_lgmsnet.tables import count_cell, score_cell

# What tables call the scores. All but those in mm and ml are shares, printed in percent.
SCORES = {
    "dice": "Dice, %",
    "iou": "IoU, %",
    "hd95": "HD95, mm",
    "nsd": "NSD, %",
    "volume_difference": "Volume difference, ml",
}

# The scores that have a mean over regions: millilitres of a liver and of a gland do not add up.
MEAN_SCORES = ("dice", "iou", "hd95", "nsd")

# Regions of several labels, as the challenge of a dataset scores them, by the dataset's builder.
_HIERARCHIES: dict[str, dict[str, tuple[int, ...]]] = {
    "kits23": {"kidney and masses": (1, 2, 3), "masses": (2, 3), "tumour": (2,)},
}

TOLERANCE = 2.0  # mm within which surfaces agree, where none is asked for

# The scores of one region of one case, with its volumes. Those of `SCORES` are None where there is
# nothing to score.
Scores: TypeAlias = dict[str, float | None]


def list_regions(dataset: str, labels: Mapping[int, str]) -> dict[str, tuple[int, ...]]:
    """Return the regions that a dataset is scored by, each with the labels it is made of.

    They are its labels, background left out; of KiTS23, as in its challenge, the kidneys with
    their masses, the masses (tumours and cysts), and the tumours.

    Args:
        dataset: Name of the dataset's builder, or an identity that begins with it, as
            `"kits23/1.0.0"`.
        labels: The name of every label, 0 being background.

    Example:
    ```python
    list_regions("msd_folder", {0: "background", 1: "spleen"})  # {"spleen": (1,)}
    ```
    """
    builder = dataset.partition("/")[0]
    if builder in _HIERARCHIES:
        return _HIERARCHIES[builder]
    return {name: (label,) for label, name in labels.items() if label != 0}


def score_case(
    segmentation_mask: np.ndarray,
    prediction: np.ndarray,
    regions: Mapping[str, Sequence[int]],
    grid: Grid,
    *,
    tolerance: float = TOLERANCE,
) -> dict[str, Scores]:
    """Score the prediction of one volume, region by region.

    Args:
        segmentation_mask: True labels, integers of shape `(x, y, z)`.
        prediction: Predicted labels, of the same shape.
        regions: The labels of each region; a region is their union.
        grid: Where the voxels lie: its spacing measures surfaces, its voxels' volume the regions.
        tolerance: Distance in mm within which surfaces agree, ≥ 0, for the NSD.

    Returns:
        For each region

        - `"dice"` and `"iou"`, shares from 0 to 1;
        - `"hd95"`: the 95th percentile of the distances between both surfaces in mm, the larger
          of both directions;
        - `"nsd"`: the share of both surfaces, taken together, within the tolerance of the other
          (normalised surface distance, surface Dice), from 0 to 1;
        - `"volume_difference"`: how far the predicted volume is from the true one, ≥ 0, in ml;
        - `"volume"` and `"predicted_volume"`, in ml.

        Surfaces are those of `keras_lgmsnet.scoring.surface`: voxels, as MONAI has them. A region
        that is missed or predicted where there is none has the worst scores: shares of 0, and the
        volume's diagonal as HD95. One that is neither there nor predicted has no scores, None,
        but volumes of 0.

    Raises:
        ValueError: If the shapes are not the grid's, or the tolerance is out of range.

    Example:
    ```python
    scores = score_case(mask, prediction, {"liver": (6,)}, volume.grid)
    scores["liver"]["hd95"]  # 3.2 mm
    ```
    """
    require_tolerance(tolerance)
    if not segmentation_mask.shape == prediction.shape == grid.shape:
        raise ValueError(
            f"Mask and prediction must be of the grid's shape, {grid.shape}. Received: "
            f"segmentation_mask.shape={segmentation_mask.shape}, "
            f"prediction.shape={prediction.shape}"
        )
    scores: dict[str, Scores] = {}
    for region in _compare_regions(segmentation_mask, prediction, regions):
        volumes = {
            "volume": region.size * grid.voxel_volume,
            "predicted_volume": region.predicted_size * grid.voxel_volume,
        }
        if not region.size and not region.predicted_size:
            scores[region.name] = dict.fromkeys(SCORES) | volumes
            continue
        distances = surface_distances(region.mask, region.prediction, grid.spacing)
        scores[region.name] = {
            "dice": region.dice,
            "iou": region.overlap / (region.size + region.predicted_size - region.overlap),
            "hd95": distances.hausdorff(95),
            "nsd": distances.normalized_surface_distance(tolerance),
            "volume_difference": abs(region.predicted_size - region.size) * grid.voxel_volume,
            **volumes,
        }
    return scores


def mean_dice(
    pairs: Iterable[tuple[np.ndarray, np.ndarray]], regions: Mapping[str, Sequence[int]]
) -> float | None:
    """Return the mean Dice of volumes: that of `summarize`, without the surfaces, which take time.

    Args:
        pairs: The true and the predicted labels of each volume, as `score_case` takes them.
        regions: The labels of each region.

    Returns:
        The mean over the regions of their means over the volumes, or None where no region is
        there or predicted.
    """
    dice = [[region.dice for region in _compare_regions(*pair, regions)] for pair in pairs]
    return _mean(np.array(dice, "float64"))  # None becomes NaN


def mean_over_regions(scores: Mapping[str, Scores]) -> Scores:
    """Return the mean of one case: of each of `MEAN_SCORES` over the regions that have it.

    Args:
        scores: What `score_case` returned.
    """
    counted = [region for region in scores.values() if region["dice"] is not None]
    return {
        name: float(np.array([region[name] for region in counted], "float64").mean())
        if counted
        else None
        for name in MEAN_SCORES
    }


def summarize(cases: Sequence[Mapping[str, Scores]], groups: Sequence[str]) -> dict[str, Any]:
    """Return the mean of every region over the cases, and the mean of the regions.

    Args:
        cases: What `score_case` returned for each case, all of the same regions.
        groups: The patient of each case; patients are drawn for the intervals, with all their
            cases.

    Returns:
        Under "regions", for each region, its "scores", each with "mean" and its 95 % bootstrap
        "interval", both None where no case has the score; and the counts "missed" of "present"
        and "false_alarms" of "absent" cases. Under "mean", the same of each of `MEAN_SCORES` over
        the regions: the mean of the means above, every region alike, as the paper's Table 3.
    """
    values = {  # None becomes NaN
        name: np.array([[scores[name] for scores in case.values()] for case in cases], "float64")
        for name in SCORES
    }
    regions = {}
    for index, region in enumerate(cases[0]):
        present = [case[region] for case in cases if case[region]["volume"]]
        absent = [case[region] for case in cases if not case[region]["volume"]]
        regions[region] = {
            "scores": {name: _summarize(values[name][:, [index]], groups) for name in SCORES},
            "missed": sum(not scores["predicted_volume"] for scores in present),
            "present": len(present),
            "false_alarms": sum(bool(scores["predicted_volume"]) for scores in absent),
            "absent": len(absent),
        }
    means = {name: _summarize(values[name], groups) for name in MEAN_SCORES}
    return {"regions": regions, "mean": means}


def tabulate(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the table of a summary: one region a row, last their mean.

    Args:
        summary: What `summarize` returned.
    """
    header = ["", *SCORES.values(), "Missed", "False alarms"]
    rows = [
        [
            name,
            *(score_cell(label, **region["scores"][score]) for score, label in SCORES.items()),
            count_cell(region["missed"], region["present"]),
            count_cell(region["false_alarms"], region["absent"]),
        ]
        for name, region in summary["regions"].items()
    ]
    no_mean = {"mean": None}
    means = [
        score_cell(label, **summary["mean"].get(name, no_mean)) for name, label in SCORES.items()
    ]
    return header, [*rows, ["Mean", *means, "", ""]]


class _Region(NamedTuple):
    """The true and the predicted mask of a region, with the voxels of each and of both."""

    name: str
    mask: np.ndarray
    prediction: np.ndarray
    size: int
    predicted_size: int
    overlap: int

    @property
    def dice(self) -> float | None:
        """The Dice score; `None` where the region is neither there nor predicted."""
        total = self.size + self.predicted_size
        return 2 * self.overlap / total if total else None


def _compare_regions(
    segmentation_mask: np.ndarray, prediction: np.ndarray, regions: Mapping[str, Sequence[int]]
) -> Iterator[_Region]:
    """Yield region after region of a volume."""
    for name, labels in regions.items():
        true, predicted = (
            np.logical_or.reduce([volume == label for label in labels])
            for volume in (segmentation_mask, prediction)
        )
        size, predicted_size, overlap = (
            int(np.count_nonzero(mask)) for mask in (true, predicted, true & predicted)
        )
        yield _Region(name, true, predicted, size, predicted_size, overlap)


def _mean(values: np.ndarray) -> float | None:
    """Return the mean over regions of the means over cases, which are rows, where not NaN."""
    occurring = values[:, ~np.isnan(values).all(0)]
    return float(np.nanmean(occurring, axis=0).mean()) if occurring.size else None


def _summarize(values: np.ndarray, groups: Sequence[str]) -> dict[str, Any]:
    return {"mean": _mean(values), "interval": mean_interval(values, groups)}
