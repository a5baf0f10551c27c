"""Evaluation of runs on images: each image is scored alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_lgmsnet.data.images import Examples, ImageBatches
from keras_lgmsnet.evaluation.cases import CaseScoring, Pairs, Row, ScoreTable
from keras_lgmsnet.evaluation.selection import read_images
from keras_lgmsnet.metrics import THRESHOLD, image_scores
from keras_lgmsnet.process.progress import track
from keras_lgmsnet.run import ImageRun
from keras_lgmsnet.scoring.significance import mean_interval
from keras_lgmsnet.scoring.surface import surface_distances
from keras_lgmsnet.tables import comparison_cells, count_cell, score_cell

# What tables call the scores. All but HD95 are shares, printed in percent.
SCORES = {
    "iou": "IoU, %",
    "f1": "F1, %",
    "sensitivity": "Sensitivity, %",
    "precision": "Precision, %",
    "specificity": "Specificity, %",
    "accuracy": "Accuracy, %",
    "hd95": "HD95, pixels",
    "boundary_f_score": "Boundary F-score, %",
}

# Groups of images by the share of them that is lesion. The limits are the same for all datasets,
# so that groups can be compared across them.
LESION_SIZES = {
    "none": "no lesion",
    "small": "small (< 5 %)",
    "medium": "medium (5–20 %)",
    "large": "large (≥ 20 %)",
}


class ImageScoring(CaseScoring[ImageRun, Examples]):
    """Scores of images, and of groups of them by the size of the lesion."""

    file_name = "per_image.csv"
    keys = ("id",)
    compared = tuple(SCORES)
    comparison_note = "of HD95, less is better"
    scores_may_be_absent = False

    def read(
        self,
        runs: Sequence[ImageRun],
        dataset: str | None,
        manual_dir: str | Path | None,
        data_dir: str | Path | None,
        allow_incomplete: bool,
        mask_threshold: int | None,
    ) -> tuple[Examples, list[str]]:
        """Return the images, all to be scored, and their ids."""
        examples, ids = read_images(
            runs, dataset, manual_dir, data_dir, allow_incomplete, mask_threshold
        )
        return (examples if dataset else examples.subset(ids)), ids

    def score(
        self, run: ImageRun, examples: Examples, ids: Sequence[str], tolerance: float
    ) -> ScoreTable:
        """Return the row of each image."""
        data, training = run.recipe.data, run.recipe.training
        batches = ImageBatches(examples, training.batch_size, preprocessing=data.preprocessing)
        scores, predictions = score_images(run.network, batches)
        rows: ScoreTable = {}
        for index, id_ in enumerate(track(ids, label="Measuring boundaries", unit="image")):
            mask = examples.segmentation_masks[index, ..., 0]
            distances = surface_distances(mask, predictions[index, ..., 0])
            rows[id_,] = {
                "group": examples.groups[index],
                **{name: float(values[index]) for name, values in scores.items()},
                "hd95": distances.hausdorff(95),
                "boundary_f_score": distances.f_score(tolerance),
                "lesion_size": float(mask.mean()),
            }
        return rows

    def describe(self, run: ImageRun, table: ScoreTable, tolerance: float) -> dict[str, Any]:
        """Return how images were scored, and the means of all and of each size that occurs."""
        size = run.recipe.data.image_size
        return {
            "image_size": list(size),
            "threshold": THRESHOLD,
            "convention": (
                f"{describe_convention(size)} Pixels of probability above {THRESHOLD} are "
                "predicted as lesion. HD95 is the image's diagonal, and the boundary F-score 0, "
                "where only one of mask and prediction is empty; boundaries agree within "
                f"{tolerance:g} pixels. A lesion none of whose pixels is predicted is missed. "
                "Lesions are small, medium or large by their share of the image."
            ),
            "groups": _summarize(table),
        }

    def pairs(self, table: ScoreTable, other: ScoreTable) -> dict[str, Pairs]:
        """Return the pairs of each score that both tables have."""
        ids, groups = [id_ for (id_,) in table], [row["group"] for row in table.values()]
        return {
            name: Pairs(
                ids,
                groups,
                *(np.array([rows[id_,][name] for id_ in ids]) for rows in (table, other)),
            )
            for name in SCORES
            if all(name in next(iter(rows.values())) for rows in (table, other))
        }

    def compare(self, table: ScoreTable, other: ScoreTable) -> dict[str, Any]:
        """Return the comparison of each score that both tables have."""
        return {name: pairs.describe() for name, pairs in self.pairs(table, other).items()}

    def tabulate(self, evaluation: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
        """Return header and rows of the table of an evaluation, one score a row."""
        groups = evaluation["groups"]
        rows = [["Images", *(str(group["images"]) for group in groups.values())]]
        for name, label in SCORES.items():
            scores = [group["scores"][name] for group in groups.values()]
            rows.append([label, *(score_cell(label, **score) for score in scores)])
        for label, count, total in (
            ("Missed", "missed", "with_lesion"),
            ("False alarms", "false_alarms", "without_lesion"),
        ):
            counts = [count_cell(group[count], group[total]) for group in groups.values()]
            rows.append([label, *counts])
        return ["", *(LESION_SIZES.get(name, name) for name in groups)], rows

    def tabulate_comparison(
        self, comparison: Mapping[str, Any], runs: Sequence[str]
    ) -> tuple[list[str], list[list[str]]]:
        """Return header and rows of the table of a comparison, one score a row."""
        return comparison_cells(
            runs, {SCORES[name]: compared for name, compared in comparison.items()}
        )


def describe_convention(image_size: tuple[int, int]) -> str:
    """Return the sentence that tells how images of a size were scored."""
    height, width = image_size
    return (
        f"Each image is scored alone at {height} × {width} pixels, and the scores are averaged; "
        "0/0 counts 1 when the prediction equals the mask and 0 otherwise."
    )


def score_images(
    network: keras.Model, batches: ImageBatches
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Predict every image and score it alone, at the published threshold of 0.5.

    Args:
        network: From preprocessed images to logits.
        batches: The images, unshuffled and not augmented.

    Returns:
        The scores of `keras_lgmsnet.metrics.image_scores`, float32 of shape `(images,)`, and the
        predicted masks, bool of shape `(images, height, width, num_classes)`.

    Example:
    ```python
    scores, predictions = score_images(network, ImageBatches(examples, batch_size=16))
    scores["iou"].mean()
    ```
    """
    scores, predictions = [], []
    for index in track(range(len(batches)), label="Evaluating", unit="step"):
        images, segmentation_masks = batches[index]
        logits = network.predict_on_batch(images)
        scores.append(image_scores(segmentation_masks, logits, THRESHOLD))
        predictions.append(np.asarray(logits) > 0)  # a logit of 0 is the threshold's probability
    return (
        {name: np.concatenate([batch[name] for batch in scores]) for name in scores[0]},
        np.concatenate(predictions),
    )


def _summarize(table: ScoreTable) -> dict[str, dict[str, Any]]:
    """Return the means of all images and of each group of lesion sizes that occurs."""
    groups: dict[str, list[Row]] = {"all": list(table.values())}
    groups |= {name: [] for name in LESION_SIZES}
    for row in table.values():
        groups[_size_group(row["lesion_size"])].append(row)
    return {name: _summarize_group(rows) for name, rows in groups.items() if rows}


def _size_group(lesion_size: float) -> str:
    if lesion_size == 0:
        return "none"
    if lesion_size < 0.05:
        return "small"
    return "medium" if lesion_size < 0.2 else "large"


def _summarize_group(rows: Sequence[Row]) -> dict[str, Any]:
    groups = [row["group"] for row in rows]
    scores = {}
    for name in SCORES:
        values = np.array([row[name] for row in rows])
        scores[name] = {"mean": float(values.mean()), "interval": mean_interval(values, groups)}
    with_lesion = [row for row in rows if row["lesion_size"] > 0]
    without_lesion = [row for row in rows if row["lesion_size"] == 0]
    return {
        "images": len(rows),
        "scores": scores,
        "missed": sum(row["iou"] == 0 for row in with_lesion),
        "with_lesion": len(with_lesion),
        "false_alarms": sum(row["iou"] < 1 for row in without_lesion),
        "without_lesion": len(without_lesion),
    }
