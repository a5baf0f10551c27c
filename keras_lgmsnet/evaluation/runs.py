"""Evaluation: a run's network scored on what it held out, or on a dataset it never saw."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import keras

from keras_lgmsnet.data.sources import describe_source
from keras_lgmsnet.evaluation import images as image_evaluation
from keras_lgmsnet.evaluation import volumes as volume_evaluation
from keras_lgmsnet.evaluation.selection import describe_cautions
from keras_lgmsnet.files.writing import (
    UNFINISHED,
    require_writable,
    write_csv,
    write_json,
    write_text,
)
from keras_lgmsnet.run import Run
from keras_lgmsnet.run_directory import read_json
from keras_lgmsnet.scoring.surface import require_tolerance
from keras_lgmsnet.tables import TABLE_STYLES, latex_table, markdown_table

# What differs between images and volumes: modules of the same functions.
_KINDS: dict[str, ModuleType] = {"images": image_evaluation, "volumes": volume_evaluation}

# Rows of scores by what tells them apart: the id, and of volumes also the region.
Table = dict[tuple[str, ...], dict[str, Any]]

_FILES = (
    "evaluation.json",
    *(kind.TABLE for kind in _KINDS.values()),
    "against.csv",
    "table.md",
    "table.tex",
)


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
    """Score the best network of a run case by case, and write tables.

    Images are scored by the paper's protocol: resized as the recipe says, at a threshold of 0.5,
    each alone. Volumes are segmented in windows and scored on their own grids, region by region
    (by organ; of KiTS23 by its hierarchical regions), see `volume_scoring.score_case`. Means come
    with 95 % bootstrap intervals; where the dataset tells patients, videos or cases, those are
    drawn for the intervals, with all their images or volumes.

    The output directory holds

    - `per_image.csv`: for each image its id, its group (patient, video or case, or else its id),
      IoU, F1, sensitivity, precision, specificity, accuracy, HD95 in pixels, boundary F-score, and
      the share of it that is lesion;
    - or `per_case.csv`: for each volume and region the id, the region, the group, Dice, IoU, HD95
      in mm, NSD, absolute volume difference, volume and predicted volume in ml; the scores are
      empty where the region is neither there nor predicted;
    - `against.csv`: the same of the other run, where there is one;
    - `table.md`, `table.tex`: what `format_table` returns;
    - `evaluation.json`: what this returns; written last, so the others are complete if it exists.

    Args:
        run_directory: What `lgms-train` wrote, on any backend.
        output_directory: Where to write; absent, empty, or an earlier evaluation of the same run on
            the same data, which is replaced. By default, in the run directory, `evaluation-` and
            the dataset's name (of a folder of your own, such as `evaluation-image_folder-` and the
            folder's name), or `evaluation-test` or `evaluation-validation`.
        dataset: Name of a dataset in `tfds_builders`, all of whose images or volumes are scored,
            such as one that the run never saw; by default the run's own test part, or its
            validation part where none was set aside for a test.
        against: Another run directory to score on the same, and to compare with.
        manual_dir: Folder with the dataset's archives, as downloaded from its publisher; for
            `"image_folder"` and `"msd_folder"`, the folder itself.
        data_dir: Folder of prepared datasets; by default TensorFlow Datasets' own.
        tolerance: Distance within which boundaries agree: in pixels, for the boundary F-score; in
            mm, for the NSD of volumes.
        allow_incomplete: Whether to score the complete cases of an archive that is short of its
            published count.

    Returns:
        The contents of `evaluation.json`. Of images, "groups" is a mapping for "all" and for each
        size of lesion that occurs, with "images", "scores" ("mean" and "interval"), and the counts
        "missed", "with_lesion", "false_alarms" and "without_lesion". Of volumes, "regions" and
        "mean" are as `volume_scoring.summarize` has them. Where there is another run, "comparison"
        is what `compare` returns.

    Raises:
        ValueError: If a file of a run is damaged; if the dataset is unknown, incomplete or was
            trained on, or, for the run's own, is not the one it was trained on; or if the two runs
            cannot be scored on the same.
        OSError: If a directory is no run, data is absent, or `output_directory` is in use or
            cannot be written to.

    Example:
    ```python
    evaluation = evaluate("runs/isic", dataset="ph2", manual_dir="Downloads/ph2")
    evaluation["groups"]["all"]["scores"]["iou"]  # {"mean": 0.8575, "interval": [0.84, 0.87]}
    evaluation = evaluate("runs/btcv")
    evaluation["regions"]["spleen"]["scores"]["dice"], evaluation["mean"]["dice"]
    ```
    """
    run_directory = Path(run_directory)
    require_tolerance(tolerance)
    runs = [Run.read(Path(run)) for run in (run_directory, against) if run is not None]
    if len({run.kind.name for run in runs}) > 1:
        raise ValueError(
            "Runs on images and on volumes cannot be compared. Received: "
            + ", ".join(f"{run.directory}, on {run.kind.name}" for run in runs)
        )
    first = runs[0]
    kind = _KINDS[first.kind.name]
    name = describe_source(dataset or first.recipe.data.source, manual_dir)
    suffix = (name if dataset else first.subset).replace("/", "-")
    if against is not None:
        suffix += f"-against-{runs[1].directory.resolve().name}"
    asked = {
        "subset": "all" if dataset else first.subset,
        "against": None if against is None else str(against),
    }
    by_default = run_directory / f"evaluation-{suffix}"
    output_directory = Path(output_directory or by_default)
    if output_directory != by_default:  # which is the run's own, wherever that is moved
        asked["run"] = str(run_directory)
    _require_replaceable(output_directory)
    examples, ids = kind.read(runs, dataset, manual_dir, data_dir, allow_incomplete)
    _require_same(output_directory, {"identity": examples.dataset, **asked})
    tables = [kind.score(run, examples, ids, tolerance) for run in runs]

    described = kind.describe(first, tables[0], tolerance)
    draws = _describe_draws(first.kind.name, tables[0])
    evaluation = {
        "run": str(run_directory),
        "kind": first.kind.name,
        "dataset": name,
        "identity": examples.dataset,
        "subset": asked["subset"],
        first.kind.name: len(ids),
        "tolerance": tolerance,
        "backend": keras.backend.backend(),
        **described,
        "convention": (
            f"{described['convention']} Intervals are 95 % bootstrap intervals, {draws}."
        ),
        "caution": describe_cautions(runs, dataset, examples),
    }
    if against is not None:
        evaluation["against"] = str(against)
        evaluation["comparison"] = kind.compare(*tables)
    _write(output_directory, evaluation, tables)
    return evaluation


def compare(per_image: str | Path, other: str | Path) -> dict[str, dict[str, Any]]:
    """Compare two tables of scores of the same images or volumes, paired by id.

    Any program's scores can be compared: columns other than `id`, `group`, of volumes also
    `region`, and those of the scores are not read, nor scores that only one of the tables has.

    Args:
        per_image: Path of a `per_image.csv`, or of a `per_case.csv`, whose empty cells are scores
            that a region does not have. Where it has a column `group`, the intervals are of groups
            drawn with all their images or volumes.
        other: Path of another, of the same ids, and regions, in any order.

    Returns:
        Of images, for each score the two means, "mean" and "other_mean"; the mean "difference",
        the first minus the other, with its 95 % bootstrap "interval"; the p-values "wilcoxon_p"
        and "t_test_p"; and the "mark": "**" for p < 0.01, "*" for p < 0.05 by the Wilcoxon test,
        not corrected for the number of scores. See `significance.PairedComparison`. Of volumes,
        the same of the Dice of each region, under "regions", and of each volume's mean over its
        regions, under "mean"; None where no volume has any.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged, or the ids or scores are not the same.

    Example:
    ```python
    compared = compare("runs/a/evaluation-ph2/per_image.csv", "unet/per_image.csv")
    compared["iou"]["wilcoxon_p"]
    ```
    """
    (kind, table), (_, other_table) = (_read_table(Path(path)) for path in (per_image, other))
    if unpaired := sorted(table.keys() ^ other_table.keys()):
        raise ValueError(
            f"Tables can be compared on the same {kind} only; {len(unpaired)} ids, such as "
            f"{', '.join(unpaired[0])!r}, are in one of them only. Received: {per_image}, {other}"
        )
    needed = _KINDS[kind].COMPARED
    if not any(
        all(name in row for rows in (table, other_table) for row in rows.values())
        for name in needed
    ):
        raise ValueError(
            f"Both tables must have one of the columns {', '.join(needed)}. "
            f"Received: {per_image}, {other}"
        )
    return _KINDS[kind].compare(table, other_table)


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
    kind = evaluation["kind"]
    run = _name(evaluation["run"])
    scored = f"{evaluation[kind]} {kind} of {evaluation['dataset']}"
    if evaluation["subset"] != "all":
        scored = f"the {evaluation[kind]} {evaluation['subset']} {kind} of {evaluation['dataset']}"
    notes = " ".join(filter(None, (evaluation["convention"], evaluation["caution"])))
    tables = [(f"{run} on {scored}.", *_KINDS[kind].tabulate(evaluation), notes)]
    if "comparison" in evaluation:
        against = _name(evaluation["against"])
        cells = _KINDS[kind].tabulate_comparison(evaluation["comparison"], (run, against))
        title = f"{run} against {against} on {scored}."
        notes = (
            f"Differences are {run} minus {against}, {kind.removesuffix('s')} by "
            f"{kind.removesuffix('s')}; {_KINDS[kind].COMPARISON_NOTE}. By the Wilcoxon "
            "signed-rank test, ** p < 0.01 and * p < 0.05, of "
            f"{kind} taken as independent and not corrected for the number of rows."
        )
        tables.append((title, *cells, notes))
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


def _require_same(output_directory: Path, asked: Mapping[str, str | None]) -> None:
    """Raise unless an earlier evaluation there, if any, has the values that are asked for."""
    if not (output_directory / "evaluation.json").exists():
        return
    earlier = read_json(output_directory, "evaluation.json", "identity")
    for key, value in asked.items():
        if (was := earlier.get(key)) != value:
            raise FileExistsError(
                f"{output_directory} holds another evaluation, whose {key} is {was}: name another "
                f"output directory (-o). Received: {value}"
            )


def _describe_draws(kind: str, table: Table) -> str:
    groups = {id_: row["group"] for (id_, *_), row in table.items()}
    count = len(set(groups.values()))
    if count == len(groups):
        return f"of {kind} taken as independent"
    return f"for which the {count} patients, videos or cases are drawn with all their {kind}"


def _read_table(path: Path) -> tuple[str, Table]:
    """Return of what kind a table is, and its rows."""
    with open(path, encoding="utf-8-sig", newline="") as file:  # spreadsheets begin with a mark
        try:
            lines = list(csv.DictReader(file))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path} is not a CSV file in UTF-8: {error}") from error
    kind = "volumes" if lines and "region" in lines[0] else "images"
    keys, columns = _KINDS[kind].KEYS, _KINDS[kind].COMPARED
    table: Table = {}
    for number, line in enumerate(lines, start=2):
        key = tuple(line.get(name) for name in keys)
        if None in key:
            raise ValueError(f"{path} must have a column named {keys[key.index(None)]}.")
        if key in table:
            raise ValueError(f"{path}, line {number}: the id {', '.join(key)!r} occurs twice.")
        row: dict[str, Any] = {"group": line.get("group") or key[0]}
        for name in columns:
            if name in line:
                row[name] = _parse_score(line[name], kind, f"{path}, line {number}")
        table[key] = row
    if not table:
        raise ValueError(f"{path} holds no image.")
    return kind, table


def _parse_score(text: str | None, kind: str, where: str) -> float | None:
    if text == "" and kind == "volumes":
        return None  # of a region that is neither there nor predicted
    try:
        score = float(text)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: a score is not a number.") from error
    if not math.isfinite(score):
        raise ValueError(f"{where}: a score is not finite.")
    return score


def _write(output_directory: Path, evaluation: dict[str, Any], tables: Sequence[Table]) -> None:
    kind = _KINDS[evaluation["kind"]]
    output_directory.mkdir(parents=True, exist_ok=True)
    for name in _FILES:  # evaluation.json first: while it exists, the others are its own
        (output_directory / name).unlink(missing_ok=True)
    for name, table in zip((kind.TABLE, "against.csv"), tables, strict=False):
        rows = [dict(zip(kind.KEYS, key, strict=True)) | row for key, row in table.items()]
        write_csv(output_directory / name, rows)
    for name, style in (("table.md", "markdown"), ("table.tex", "latex")):
        write_text(output_directory / name, format_table(evaluation, style) + "\n")
    write_json(output_directory / "evaluation.json", evaluation)


def _name(run_directory: str) -> str:
    """Return what a table calls a run: a path would mean nothing to its reader."""
    return Path(run_directory).resolve().name
