"""Evaluation: a run's network scored on what it held out, or on a dataset it never saw."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_lgmsnet.data.sources import describe_source
from keras_lgmsnet.evaluation.cases import CaseScoring, ScoreTable
from keras_lgmsnet.evaluation.score_tables import case_scoring, format_table
from keras_lgmsnet.evaluation.selection import describe_cautions
from keras_lgmsnet.files.writing import (
    UNFINISHED,
    require_writable,
    write_csv,
    write_json,
    write_text,
)
from keras_lgmsnet.kinds import KINDS, Kind
from keras_lgmsnet.run import Run
from keras_lgmsnet.run_directory import read_json, require_network
from keras_lgmsnet.scoring.surface import require_tolerance

_FILES = (
    "evaluation.json",
    *(case_scoring(kind).file_name for kind in KINDS),
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
    mask_threshold: int | None = None,
    reuse: bool = False,
) -> dict[str, Any]:
    """Score the best network of a run case by case, and write tables.

    Images are scored by the paper's protocol: resized as the recipe says, at a threshold of 0.5,
    each alone. Volumes are segmented in windows and scored on their own grids, region by region
    (by organ; of KiTS23 by its hierarchical regions), see `scoring.score_case`. Means come with
    95 % bootstrap intervals; where the dataset tells patients, videos or cases, those are drawn for
    the intervals, with all their images or volumes.

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
        mask_threshold: For `"image_folder"`, above which value, from 0 to 254 of 255, a mask of
            more than two values is foreground; by default as the run's recipe reads its own, and
            otherwise such a mask is refused.
        reuse: Whether an earlier evaluation in the output directory is returned as it is, where it
            is of the same network, data and tolerance.

    Returns:
        The contents of `evaluation.json`. Of images, "groups" is a mapping for "all" and for each
        size of lesion that occurs, with "images", "scores" ("mean" and "interval"), and the counts
        "missed", "with_lesion", "false_alarms" and "without_lesion". Of volumes, "regions" and
        "mean" are as `scoring.summarize` has them. Where there is another run, "comparison" is what
        `compare` returns.

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
    kind, kind_scoring = first.kind, case_scoring(first.kind)
    name = describe_source(dataset or first.recipe.data.source, manual_dir)
    asked = {
        "subset": "all" if dataset else first.subset,
        "against": None if against is None else str(against),
    }
    by_default = default_directory(run_directory, name if dataset else first.subset, against)
    output_directory = Path(output_directory or by_default)
    if output_directory != by_default:  # which is the run's own, wherever that is moved
        asked["run"] = str(run_directory)
    _require_replaceable(output_directory)
    examples, ids = kind_scoring.read(
        runs, dataset, manual_dir, data_dir, allow_incomplete, mask_threshold
    )
    _require_same(output_directory, {"identity": examples.dataset, **asked})
    networks = [_digest(require_network(run.directory)) for run in runs]
    caution = describe_cautions(runs, dataset, examples)
    same = {"networks": networks, "tolerance": tolerance, "caution": caution}
    if reuse and (earlier := _earlier(output_directory, same)):
        return earlier
    tables = [kind_scoring.score(run, examples, ids, tolerance) for run in runs]

    described = kind_scoring.describe(first, tables[0], tolerance)
    evaluation = {
        "run": str(run_directory),
        "kind": kind.name,
        "dataset": name,
        "identity": examples.dataset,
        "subset": asked["subset"],
        kind.name: len(ids),
        "tolerance": tolerance,
        "networks": networks,
        "backend": keras.backend.backend(),
        **described,
        "convention": f"{described['convention']} {_describe_intervals(kind, tables[0])}",
        "caution": caution,
    }
    if against is not None:
        evaluation["against"] = str(against)
        evaluation["comparison"] = kind_scoring.compare(*tables)
    _write(output_directory, evaluation, kind_scoring, tables)
    return evaluation


def default_directory(run_directory: Path, name: str, against: str | Path | None = None) -> Path:
    """Return where by default a run's evaluation is written.

    Args:
        run_directory: The run directory.
        name: Of the part scored, or what `describe_source` calls another dataset.
        against: The other run directory, if any.
    """
    suffix = name.replace("/", "-")
    if against is not None:
        suffix += f"-against-{Path(against).resolve().name}"
    return run_directory / f"evaluation-{suffix}"


def _require_replaceable(output_directory: Path) -> None:
    """Raise `OSError` unless a directory is free or an earlier evaluation, and can be written."""
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


def _earlier(output_directory: Path, same: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return an earlier evaluation, if there is one that has the same values."""
    if not (output_directory / "evaluation.json").exists():
        return None
    earlier = read_json(output_directory, "evaluation.json")
    return earlier if all(earlier.get(key) == value for key, value in same.items()) else None


def _digest(network: Path) -> str:
    """Return what tells a network's file from any other."""
    with open(network, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _describe_intervals(kind: Kind, table: ScoreTable) -> str:
    """Return what the bootstrap intervals are of, in a sentence."""
    groups = {id_: row["group"] for (id_, *_), row in table.items()}
    count = len(set(groups.values()))
    if count == 1:
        single = kind.example if len(groups) == 1 else "patient, video or case"
        return f"Means over a single {single} have no interval."
    draws = f"of {kind.name} taken as independent"
    if count < len(groups):
        draws = (
            f"for which the {count} patients, videos or cases are drawn with all their {kind.name}"
        )
    return f"Intervals are 95 % bootstrap intervals, {draws}."


def _write(
    output_directory: Path,
    evaluation: dict[str, Any],
    kind_scoring: CaseScoring[Any, Any],
    tables: Sequence[ScoreTable],
) -> None:
    output_directory.mkdir(parents=True, exist_ok=True)
    for name in _FILES:  # evaluation.json first: while it exists, the others are its own
        (output_directory / name).unlink(missing_ok=True)
    for name, table in zip((kind_scoring.file_name, "against.csv"), tables, strict=False):
        rows = [dict(zip(kind_scoring.keys, key, strict=True)) | row for key, row in table.items()]
        write_csv(output_directory / name, rows)
    for name, style in (("table.md", "markdown"), ("table.tex", "latex")):
        write_text(output_directory / name, format_table(evaluation, style) + "\n")
    write_json(output_directory / "evaluation.json", evaluation)
