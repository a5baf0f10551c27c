"""Evaluation of runs on images: what `keras_lgmsnet.evaluation.runs` asks of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from tqdm.auto import tqdm

from keras_lgmsnet.data.images import Examples, ImageBatches
from keras_lgmsnet.evaluation.selection import (
    read_images,
)
from keras_lgmsnet.metrics import THRESHOLD, image_scores
from keras_lgmsnet.run import Run
from keras_lgmsnet.scoring.significance import describe_comparison, mean_interval
from keras_lgmsnet.scoring.surface import surface_distances
from keras_lgmsnet.tables import comparison_cells, score_cell

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

TABLE = "per_image.csv"

# The columns that tell its rows apart.
KEYS = ("id",)

# A row without its key: `group`, the scores, and `lesion_size`; and a table of such rows.
Row = dict[str, Any]
Table = dict[tuple[str, ...], Row]

# The scores that are compared, and what to say of it.
COMPARED = tuple(SCORES)
COMPARISON_NOTE = "of HD95, less is better"


def read(
    runs: Sequence[Run],
    dataset: str | None,
    manual_dir: str | Path | None,
    data_dir: str | Path | None,
    allow_incomplete: bool,
) -> tuple[Examples, list[str]]:
    """Return the images, all to be scored, and their ids."""
    examples, ids = read_images(runs, dataset, manual_dir, data_dir, allow_incomplete)
    return (examples if dataset else examples.subset(ids)), ids


def score(run: Run, examples: Examples, ids: Sequence[str], tolerance: float) -> Table:
    """Return the row of each image."""
    batches = ImageBatches(
        examples, run.recipe.training.batch_size, preprocessing=run.recipe.data.preprocessing
    )
    scores, predictions = score_images(run.network, batches)
    rows: Table = {}
    for index, id_ in enumerate(tqdm(ids, desc="Measuring boundaries", disable=None)):
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


def describe(run: Run, table: Table, tolerance: float) -> dict[str, Any]:
    """Return how images were scored, and the means of all and of each size that occurs."""
    size = run.recipe.data.image_size
    return {
        "image_size": list(size),
        "threshold": THRESHOLD,
        "convention": (
            f"{describe_convention(size)} Pixels of probability above {THRESHOLD} are predicted as "
            "lesion. HD95 is the image's diagonal, and the boundary F-score 0, where only one of "
            f"mask and prediction is empty; boundaries agree within {tolerance:g} pixels. A lesion "
            "none of whose pixels is predicted is missed. Lesions are small, medium or large by "
            "their share of the image."
        ),
        "groups": _summarize(table),
    }


def compare(table: Table, other: Table) -> dict[str, dict[str, Any]]:
    """Return the comparison of each score that both tables have."""
    drawn = [row["group"] for row in table.values()]
    compared = {}
    for name in SCORES:
        if all(name in next(iter(rows.values())) for rows in (table, other)):
            values, other_values = (
                np.array([rows[key][name] for key in table]) for rows in (table, other)
            )
            compared[name] = describe_comparison(values, other_values, drawn)
    return compared


def tabulate(evaluation: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the table of an evaluation, one score a row."""
    groups = evaluation["groups"]
    rows = [["Images", *(str(group["images"]) for group in groups.values())]]
    for name, label in SCORES.items():
        scores = [group["scores"][name] for group in groups.values()]
        rows.append([label, *(score_cell(label, **score) for score in scores)])
    for label, count, of in (
        ("Missed", "missed", "with_lesion"),
        ("False alarms", "false_alarms", "without_lesion"),
    ):
        counts = [f"{g[count]} of {g[of]}" if g[of] else "–" for g in groups.values()]
        rows.append([label, *counts])
    return ["", *(LESION_SIZES.get(name, name) for name in groups)], rows


def tabulate_comparison(
    comparison: Mapping[str, Any], runs: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the table of a comparison, one score a row."""
    return comparison_cells(runs, {SCORES[name]: of for name, of in comparison.items()})


def _summarize(table: Table) -> dict[str, dict[str, Any]]:
    """Return the means of all images and of each group of lesion sizes that occurs."""
    groups = {"all": list(table.values())} | {name: [] for name in LESION_SIZES}
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
    drawn = [row["group"] for row in rows]
    scores = {}
    for name in SCORES:
        values = np.array([row[name] for row in rows])
        scores[name] = {"mean": float(values.mean()), "interval": mean_interval(values, drawn)}
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
    for images, segmentation_masks in tqdm(
        (batches[index] for index in range(len(batches))),
        desc="Evaluating",
        total=len(batches),
        disable=None,  # shown on terminals only
    ):
        logits = network.predict_on_batch(images)
        scores.append(image_scores(segmentation_masks, logits, THRESHOLD))
        predictions.append(np.asarray(logits) > 0)  # a logit of 0 is the threshold's probability
    return (
        {name: np.concatenate([batch[name] for batch in scores]) for name in scores[0]},
        np.concatenate(predictions),
    )
