"""Evaluation: a run's network scored on images held out, or on a dataset it never saw."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
from tqdm.auto import tqdm

from keras_lgmsnet.data.images import Examples, ImageBatches
from keras_lgmsnet.data.sources import describe_source
from keras_lgmsnet.run_directory import (
    UNFINISHED,
    read_json,
    require_writable,
    write_csv,
    write_json,
    write_text,
)
from keras_lgmsnet.scoring import (
    THRESHOLD,
    Run,
    describe_cautions,
    describe_convention,
    read_images,
    score_images,
)
from keras_lgmsnet.significance import mean_interval, paired_comparison
from keras_lgmsnet.surface import require_tolerance, surface_distances
from keras_lgmsnet.tables import (
    TABLE_STYLES,
    latex_table,
    markdown_table,
    p_cell,
    score_cell,
)

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

# A row of per_image.csv without its id: `group`, the scores, and `lesion_size`.
Row = dict[str, Any]

_FILES = ("evaluation.json", "per_image.csv", "against.csv", "table.md", "table.tex")


def evaluate(
    run_directory: str | Path,
    output_directory: str | Path | None = None,
    *,
    dataset: str | None = None,
    against: str | Path | None = None,
    manual_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    tolerance: float = 2.0,
    allow_incomplete: bool = False,
) -> dict[str, Any]:
    """Score the best network of a run image by image, and write tables.

    The protocol is the paper's: images resized as the recipe says, a threshold of 0.5, each image
    scored alone, scores averaged. Means come with 95 % bootstrap intervals, for all images and
    by the size of the lesion; where the dataset tells patients, videos or cases, those are drawn
    for the intervals, with all their images.

    The output directory holds

    - `per_image.csv`: for each image its id, its group (patient, video or case, or else its id),
      IoU, F1, sensitivity, precision, specificity, accuracy, HD95 in pixels, boundary F-score, and
      the share of it that is lesion;
    - `against.csv`: the same of the other run, where there is one;
    - `table.md`, `table.tex`: what `format_table` returns;
    - `evaluation.json`: what this returns; written last, so the others are complete if it exists.

    Args:
        run_directory: What `lgms-train` wrote, on any backend.
        output_directory: Where to write; absent, empty, or an earlier evaluation, which is
            replaced. By default, in the run directory, `evaluation-` and the dataset's name (of
            a folder of your own, `evaluation-image_folder-` and the folder's name), or
            `evaluation-test` or `evaluation-validation`.
        dataset: Name of a dataset in `tfds_builders`, all of whose images are scored, such as one
            that the run never saw; by default the run's own test images, or its validation images
            where none were set aside for a test.
        against: Another run directory to score on the same images, and to compare with.
        manual_dir: Folder with the dataset's archives, as downloaded from its publisher; for
            `"image_folder"`, the folder of images and masks.
        data_dir: Folder of prepared datasets; by default TensorFlow Datasets' own.
        tolerance: Distance in pixels within which boundaries agree, for the boundary F-score.
        allow_incomplete: Whether to score the complete cases of an archive that is short of its
            published count.

    Returns:
        The contents of `evaluation.json`: under "groups" a mapping for "all" and for each size of
        lesion that occurs, with "images", "scores" ("mean" and "interval"), and the counts
        "missed", "with_lesion", "false_alarms" and "without_lesion"; under "comparison", where
        there is another run, what `compare` returns.

    Raises:
        ValueError: If a file of a run is damaged; if the dataset is unknown, incomplete or was
            trained on, or, for the run's own images, is not the one it was trained on; or if the
            two runs cannot be scored on the same images.
        OSError: If a directory is no run, data is absent, or `output_directory` is in use or
            cannot be written to.

    Example:
    ```python
    evaluation = evaluate("runs/isic", dataset="ph2", manual_dir="Downloads/ph2")
    evaluation["groups"]["all"]["scores"]["iou"]  # {"mean": 0.8575, "interval": [0.84, 0.87]}
    ```
    """
    run_directory = Path(run_directory)
    require_tolerance(tolerance)
    runs = [Run.read(Path(run)) for run in (run_directory, against) if run is not None]
    recipe = runs[0].recipe
    name = describe_source(dataset or recipe.data.source, manual_dir)
    suffix = (name if dataset else runs[0].subset).replace("/", "-")
    if against is not None:
        suffix += f"-against-{runs[1].directory.resolve().name}"
    output_directory = Path(output_directory or run_directory / f"evaluation-{suffix}")
    _require_replaceable(output_directory)
    examples, ids = read_images(runs, dataset, manual_dir, data_dir, allow_incomplete)
    if dataset is None:
        examples = examples.subset(ids)
    _require_same_images(output_directory, examples, against)
    tables = [_score(run, examples, tolerance) for run in runs]

    evaluation = {
        "run": str(run_directory),
        "dataset": name,
        "identity": examples.dataset,
        "subset": "all" if dataset else runs[0].subset,
        "images": len(examples.ids),
        "image_size": list(recipe.data.image_size),
        "threshold": THRESHOLD,
        "tolerance": tolerance,
        "backend": keras.backend.backend(),
        "groups": _summarize(tables[0]),
        "convention": (
            f"{describe_convention(recipe.data.image_size)} Pixels of probability above "
            f"{THRESHOLD} are predicted as lesion. HD95 is the image's diagonal, and the boundary "
            "F-score 0, where only one of mask and prediction is empty; boundaries agree within "
            f"{tolerance:g} pixels. A lesion none of whose pixels is predicted is missed. Lesions "
            "are small, medium or large by their share of the image. "
            f"Intervals are 95 % bootstrap intervals, {_describe_draws(examples)}."
        ),
        "caution": describe_cautions(runs, dataset, examples),
    }
    if against is not None:
        evaluation["against"] = str(against)
        evaluation["comparison"] = _compare(*tables)
    _write(output_directory, evaluation, tables)
    return evaluation


def compare(per_image: str | Path, other: str | Path) -> dict[str, dict[str, Any]]:
    """Compare two tables of scores of the same images, paired by id.

    Any program's scores can be compared: columns other than `id`, `group` and those of `SCORES`
    are not read, nor scores that only one of the tables has.

    Args:
        per_image: Path of a `per_image.csv`. Where it has a column `group`, the intervals are of
            groups drawn with all their images.
        other: Path of another, of the same ids in any order.

    Returns:
        For each score the two means, "mean" and "other_mean"; the mean "difference", the first
        minus the other, with its 95 % bootstrap "interval"; the p-values "wilcoxon_p" and
        "t_test_p"; and the "mark": "**" for p < 0.01, "*" for p < 0.05 by the Wilcoxon test, not
        corrected for the number of scores. See `significance.PairedComparison`.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged, or the ids or scores are not the same.

    Example:
    ```python
    compared = compare("runs/a/evaluation-ph2/per_image.csv", "unet/per_image.csv")
    compared["iou"]["wilcoxon_p"]
    ```
    """
    table, other_table = _read_table(Path(per_image)), _read_table(Path(other))
    if unpaired := sorted(table.keys() ^ other_table.keys()):
        raise ValueError(
            f"Tables can be compared on the same images only; {len(unpaired)} ids, such as "
            f"{unpaired[0]!r}, are in one of them only. Received: {per_image}, {other}"
        )
    compared = _compare(table, other_table)
    if not compared:
        raise ValueError(
            f"Both tables must have one of the columns {', '.join(SCORES)}. "
            f"Received: {per_image}, {other}"
        )
    return compared


def format_table(evaluation: dict[str, Any], style: str = "markdown") -> str:
    r"""Return an evaluation as a table for a paper, with what must be said about it.

    Args:
        evaluation: What `evaluate` returned. A comparison makes a second table.
        style: `"markdown"`, or `"latex"`, which needs `\usepackage{booktabs}`.

    Raises:
        ValueError: If the style is unknown.
    """
    if style not in TABLE_STYLES:
        raise ValueError(f"Styles are {', '.join(TABLE_STYLES)}. Received: {style=}")
    run = _name(evaluation["run"])
    images = f"{evaluation['images']} images of {evaluation['dataset']}"
    if evaluation["subset"] != "all":
        subset = f"{evaluation['subset']} images"
        images = f"the {evaluation['images']} {subset} of {evaluation['dataset']}"
    notes = " ".join(filter(None, (evaluation["convention"], evaluation["caution"])))
    tables = [(f"{run} on {images}.", *_group_cells(evaluation["groups"]), notes)]
    if "comparison" in evaluation:
        against = _name(evaluation["against"])
        title = f"{run} against {against} on {images}."
        notes = (
            f"Differences are {run} minus {against}, image by image; "
            "of HD95, less is better. By the Wilcoxon signed-rank test, ** p < 0.01 and "
            "* p < 0.05, of images taken as independent and not corrected for the number of scores."
        )
        tables.append((title, *_comparison_cells(evaluation), notes))
    if style == "latex":
        return "\n\n".join(
            latex_table(header, rows, f"{title} {notes}") for title, header, rows, notes in tables
        )
    return "\n\n".join(
        f"{title}\n\n{markdown_table(header, rows)}\n\n{notes}"
        for title, header, rows, notes in tables
    )


def _require_replaceable(output_directory: Path) -> None:
    if output_directory.exists() and not (
        output_directory.is_dir()
        and all(
            path.name in _FILES or path.name.startswith(UNFINISHED)
            for path in output_directory.iterdir()
        )
    ):
        raise FileExistsError(
            f"{output_directory} is in use: choose another output directory; it must be absent, "
            "empty or an earlier evaluation."
        )
    require_writable(output_directory)


def _require_same_images(
    output_directory: Path, examples: Examples, against: str | Path | None
) -> None:
    """Raise unless an earlier evaluation there is of the same images and against the same run."""
    if not (output_directory / "evaluation.json").exists():
        return
    earlier = read_json(output_directory, "evaluation.json", "identity")
    differences = {
        "identity": (earlier["identity"], examples.dataset),
        "against": (earlier.get("against"), None if against is None else str(against)),
    }
    for key, (was, is_) in differences.items():
        if was != is_:
            raise FileExistsError(
                f"{output_directory} holds another evaluation, whose {key} is {was}: name another "
                f"output directory (-o). Received: {is_}"
            )


def _describe_draws(examples: Examples) -> str:
    count = len(set(examples.groups))
    if count == len(examples.ids):
        return "of images taken as independent"
    return f"for which the {count} patients, videos or cases are drawn with all their images"


def _score(run: Run, examples: Examples, tolerance: float) -> dict[str, Row]:
    """Return the row of each image, by its id."""
    batches = ImageBatches(
        examples, run.recipe.training.batch_size, preprocessing=run.recipe.data.preprocessing
    )
    scores, predictions = score_images(run.network, batches)
    rows: dict[str, Row] = {}
    for index, id_ in enumerate(tqdm(examples.ids, desc="Measuring boundaries", disable=None)):
        mask = examples.segmentation_masks[index, ..., 0]
        distances = surface_distances(mask, predictions[index, ..., 0])
        rows[id_] = {
            "group": examples.groups[index],
            **{name: float(values[index]) for name, values in scores.items()},
            "hd95": distances.hausdorff(95),
            "boundary_f_score": distances.f_score(tolerance),
            "lesion_size": float(mask.mean()),
        }
    return rows


def _summarize(table: Mapping[str, Row]) -> dict[str, dict[str, Any]]:
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


def _compare(table: Mapping[str, Row], other: Mapping[str, Row]) -> dict[str, dict[str, Any]]:
    drawn = [row["group"] for row in table.values()]
    compared = {}
    for name in SCORES:
        if not all(name in next(iter(rows.values())) for rows in (table, other)):
            continue
        values, other_values = (
            np.array([rows[id_][name] for id_ in table]) for rows in (table, other)
        )
        paired = paired_comparison(values, other_values, drawn)
        compared[name] = {
            "mean": float(values.mean()),
            "other_mean": float(other_values.mean()),
            **asdict(paired),
            "mark": paired.mark,
        }
    return compared


def _read_table(path: Path) -> dict[str, Row]:
    with open(path, encoding="utf-8-sig", newline="") as file:  # spreadsheets begin with a mark
        try:
            lines = list(csv.DictReader(file))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path} is not a CSV file in UTF-8: {error}") from error
    table = {}
    for number, line in enumerate(lines, start=2):
        if line.get("id") is None:
            raise ValueError(f"{path} must have a column named id.")
        if line["id"] in table:
            raise ValueError(f"{path}, line {number}: the id {line['id']!r} occurs twice.")
        try:
            row = {name: float(line[name]) for name in SCORES if name in line}
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: a score is not a number.") from error
        if not all(map(math.isfinite, row.values())):
            raise ValueError(f"{path}, line {number}: a score is not finite.")
        table[line["id"]] = {"group": line.get("group") or line["id"], **row}
    if not table:
        raise ValueError(f"{path} holds no image.")
    return table


def _write(
    output_directory: Path, evaluation: dict[str, Any], tables: Sequence[Mapping[str, Row]]
) -> None:
    output_directory.mkdir(parents=True, exist_ok=True)
    for name in _FILES:  # evaluation.json first: while it exists, the others are its own
        (output_directory / name).unlink(missing_ok=True)
    for name, table in zip(("per_image.csv", "against.csv"), tables, strict=False):
        write_csv(output_directory / name, [{"id": id_, **row} for id_, row in table.items()])
    for name, style in (("table.md", "markdown"), ("table.tex", "latex")):
        write_text(output_directory / name, format_table(evaluation, style) + "\n")
    write_json(output_directory / "evaluation.json", evaluation)


def _group_cells(groups: dict[str, dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
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


def _comparison_cells(evaluation: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    runs = map(_name, (evaluation["run"], evaluation["against"]))
    header = ["", *runs, "difference", "Wilcoxon p", "t-test p"]
    rows = [
        [
            SCORES[name],
            score_cell(SCORES[name], score["mean"]),
            score_cell(SCORES[name], score["other_mean"]),
            score_cell(SCORES[name], score["difference"], score["interval"], score["mark"]),
            p_cell(score["wilcoxon_p"]),
            p_cell(score["t_test_p"]),
        ]
        for name, score in evaluation["comparison"].items()
    ]
    return header, rows


def _name(run_directory: str) -> str:
    """Return what a table calls a run: a path would mean nothing to its reader."""
    return Path(run_directory).resolve().name
