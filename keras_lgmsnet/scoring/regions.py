"""How segmented volumes are scored: region by region, in millimetres and millilitres."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lgmsnet.geometry import Grid
from keras_lgmsnet.scoring.significance import mean_interval
from keras_lgmsnet.scoring.surface import require_tolerance, surface_distances
from keras_lgmsnet.tables import score_cell

if TYPE_CHECKING:
    pass

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
_HIERARCHIES = {
    "kits23": {"kidney and masses": (1, 2, 3), "masses": (2, 3), "tumour": (2,)},
}

TOLERANCE = 2.0  # mm within which surfaces agree, where none is asked for

# The scores of one region of one case, with its volumes. Those of `SCORES` are None where there is
# nothing to score.
Scores = dict[str, float | None]


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
    of_labels = {name: (label,) for label, name in labels.items() if label != 0}
    return _HIERARCHIES.get(dataset.partition("/")[0], of_labels)


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

        Surfaces are those of `keras_lgmsnet.scoring.surface`: voxels, as MONAI has them. A region that is
        missed or predicted where there is none has the worst scores: shares of 0, and the
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
    scores = {}
    compared = _compare_regions(segmentation_mask, prediction, regions)
    for name, (true, predicted, overlap, sizes) in zip(regions, compared, strict=True):
        volumes = {
            "volume": sizes[0] * grid.voxel_volume,
            "predicted_volume": sizes[1] * grid.voxel_volume,
        }
        if not any(sizes):
            scores[name] = dict.fromkeys(SCORES) | volumes
            continue
        distances = surface_distances(true, predicted, grid.spacing)
        scores[name] = {
            "dice": _dice(overlap, sizes),
            "iou": overlap / (sum(sizes) - overlap),
            "hd95": distances.hausdorff(95),
            "nsd": distances.normalized_surface_distance(tolerance),
            "volume_difference": abs(sizes[1] - sizes[0]) * grid.voxel_volume,
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
    values = [
        [_dice(overlap, sizes) for _, _, overlap, sizes in _compare_regions(*pair, regions)]
        for pair in pairs
    ]
    return _mean(np.array(values, "float64"))  # None becomes NaN


def mean_over_regions(scores: Mapping[str, Scores]) -> Scores:
    """Return the mean of one case: of each of `MEAN_SCORES` over the regions that have it.

    Args:
        scores: What `score_case` returned.
    """
    counted = [of_region for of_region in scores.values() if of_region["dice"] is not None]
    return {
        name: float(np.mean([of_region[name] for of_region in counted])) if counted else None
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
        score: np.array([[scores[score] for scores in case.values()] for case in cases], "float64")
        for score in SCORES
    }
    regions = {}
    for index, region in enumerate(cases[0]):
        present = [case[region] for case in cases if case[region]["volume"]]
        absent = [case[region] for case in cases if not case[region]["volume"]]
        regions[region] = {
            "scores": {score: _summarize(of[:, [index]], groups) for score, of in values.items()},
            "missed": sum(not scores["predicted_volume"] for scores in present),
            "present": len(present),
            "false_alarms": sum(scores["predicted_volume"] > 0 for scores in absent),
            "absent": len(absent),
        }
    means = {score: _summarize(values[score], groups) for score in MEAN_SCORES}
    return {"regions": regions, "mean": means}


def tabulate(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the table of a summary: one region a row, last their mean.

    Args:
        summary: What `summarize` returned.
    """
    header = ["", *SCORES.values(), "Missed", "False alarms"]
    rows = [
        [
            region,
            *(score_cell(label, **of_region["scores"][name]) for name, label in SCORES.items()),
            _count_cell(of_region["missed"], of_region["present"]),
            _count_cell(of_region["false_alarms"], of_region["absent"]),
        ]
        for region, of_region in summary["regions"].items()
    ]
    no_mean = {"mean": None}
    means = [
        score_cell(label, **summary["mean"].get(name, no_mean)) for name, label in SCORES.items()
    ]
    return header, [*rows, ["Mean", *means, "", ""]]


def _compare_regions(
    segmentation_mask: np.ndarray, prediction: np.ndarray, regions: Mapping[str, Sequence[int]]
) -> Iterator[tuple[np.ndarray, np.ndarray, int, tuple[int, int]]]:
    """Yield of each region both masks, the voxels of their overlap, and those of each."""
    for labels in regions.values():
        true, predicted = (
            np.logical_or.reduce([of == label for label in labels])
            for of in (segmentation_mask, prediction)
        )
        overlap, *sizes = (int(np.count_nonzero(of)) for of in (true & predicted, true, predicted))
        yield true, predicted, overlap, tuple(sizes)


def _dice(overlap: int, sizes: tuple[int, int]) -> float | None:
    return 2 * overlap / sum(sizes) if any(sizes) else None


def _mean(values: np.ndarray) -> float | None:
    """Return the mean over regions of the means over cases, which are rows, where not NaN."""
    occurring = values[:, ~np.isnan(values).all(0)]
    return float(np.nanmean(occurring, axis=0).mean()) if occurring.size else None


def _summarize(values: np.ndarray, groups: Sequence[str]) -> dict[str, Any]:
    return {"mean": _mean(values), "interval": mean_interval(values, groups)}


def _count_cell(count: int, of: int) -> str:
    return f"{count} of {of}" if of else "–"
