"""Tables of scores: read from files, compared, and printed for papers."""

import csv
import math
from pathlib import Path
from typing import Any

from keras_lgmsnet.evaluation.cases import CaseScoring, Row, ScoreTable
from keras_lgmsnet.evaluation.images import ImageScoring
from keras_lgmsnet.evaluation.volumes import VolumeScoring
from keras_lgmsnet.kinds import IMAGES, VOLUMES, Kind, kind_named
from keras_lgmsnet.tables import TABLE_STYLES, latex_table, markdown_table


def case_scoring(kind: Kind) -> CaseScoring[Any, Any]:
    """Return how cases of a kind are scored."""
    return kind.choose(images=ImageScoring(), volumes=VolumeScoring())


def compare(per_image: str | Path, other: str | Path) -> dict[str, Any]:
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
        not corrected for the number of scores. See `scoring.PairedComparison`. Of volumes, the
        same of the Dice of each region, under "regions", and of each volume's mean over its
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
    (kind, table), (_, other_table) = (read_table(Path(path)) for path in (per_image, other))
    if unpaired := sorted(table.keys() ^ other_table.keys()):
        raise ValueError(
            f"Tables can be compared on the same {kind.name} only; {len(unpaired)} ids, such as "
            f"{', '.join(unpaired[0])!r}, are in one of them only. Received: {per_image}, {other}"
        )
    kind_scoring = case_scoring(kind)
    if not any(
        all(name in row for rows in (table, other_table) for row in rows.values())
        for name in kind_scoring.compared
    ):
        raise ValueError(
            f"Both tables must have one of the columns {', '.join(kind_scoring.compared)}. "
            f"Received: {per_image}, {other}"
        )
    return kind_scoring.compare(table, other_table)


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
    kind = kind_named(evaluation["kind"])
    kind_scoring = case_scoring(kind)
    run, dataset, count = _name(evaluation["run"]), evaluation["dataset"], evaluation[kind.name]
    scored = f"{count} {kind.noun(count)} of {dataset}"
    if evaluation["subset"] != "all":
        scored = f"the {count} {evaluation['subset']} {kind.noun(count)} of {dataset}"
    notes = " ".join(filter(None, (evaluation["convention"], evaluation["caution"])))
    tables = [(f"{run} on {scored}.", *kind_scoring.tabulate(evaluation), notes)]
    if "comparison" in evaluation:
        against = _name(evaluation["against"])
        cells = kind_scoring.tabulate_comparison(evaluation["comparison"], (run, against))
        title = f"{run} against {against} on {scored}."
        notes = (
            f"Differences are {run} minus {against}, {kind.example} by {kind.example}; "
            f"{kind_scoring.comparison_note}. By the Wilcoxon signed-rank test, ** p < 0.01 and "
            f"* p < 0.05, of {kind.name} taken as independent and not corrected for the number of "
            "rows."
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


def read_table(path: Path) -> tuple[Kind, ScoreTable]:
    """Return of what kind a table is, and its rows.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged.
    """
    with open(path, encoding="utf-8-sig", newline="") as file:  # spreadsheets begin with a mark
        try:
            lines = list(csv.DictReader(file))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path} is not a CSV file in UTF-8: {error}") from error
    kind = VOLUMES if lines and "region" in lines[0] else IMAGES
    kind_scoring = case_scoring(kind)
    table: ScoreTable = {}
    for number, line in enumerate(lines, start=2):
        for name in kind_scoring.keys:
            if line.get(name) is None:
                raise ValueError(f"{path} must have a column named {name}.")
        key = tuple(line[name] for name in kind_scoring.keys)
        if key in table:
            raise ValueError(f"{path}, line {number}: the id {', '.join(key)!r} occurs twice.")
        row: Row = {"group": line.get("group") or key[0]}
        for name in kind_scoring.compared:
            if name in line:
                is_absent = kind_scoring.scores_may_be_absent and line[name] == ""
                where = f"{path}, line {number}"
                row[name] = None if is_absent else _parse_score(line[name], where)
        table[key] = row
    if not table:
        raise ValueError(f"{path} holds no image.")
    return kind, table


def _parse_score(text: str | None, where: str) -> float:
    try:
        score = float(text or "")  # a line that is too short has `None`
    except ValueError as error:
        raise ValueError(f"{where}: a score is not a number.") from error
    if not math.isfinite(score):
        raise ValueError(f"{where}: a score is not finite.")
    return score


def _name(run_directory: str) -> str:
    """Return what a table calls a run: a path would mean nothing to its reader."""
    return Path(run_directory).resolve().name
