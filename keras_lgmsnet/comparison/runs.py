"""Comparison of finished runs: read, counted, compared, and written as tables and as a page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_lgmsnet.comparison.changes import find_changes
from keras_lgmsnet.comparison.charts import draw_charts
from keras_lgmsnet.comparison.contestants import read_contestants
from keras_lgmsnet.comparison.differences import compare_with
from keras_lgmsnet.comparison.page import render_comparison
from keras_lgmsnet.comparison.pictures import draw_pictures
from keras_lgmsnet.comparison.sizes import count_sizes, read_speeds
from keras_lgmsnet.comparison.tables import Comparison
from keras_lgmsnet.comparison.unseen import score_unseen
from keras_lgmsnet.data.sources import describe_source
from keras_lgmsnet.figures.captioned import write_figures
from keras_lgmsnet.files.writing import (
    atomic_directory,
    require_unused,
    require_writable,
    write_text,
)


def compare_runs(
    paths: Sequence[str | Path],
    output_directory: str | Path | None = None,
    *,
    reference: str | None = None,
    speeds: str | Path | None = None,
    dataset: str | None = None,
    pictures: bool = False,
    images: Sequence[str] = (),
    manual_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    allow_incomplete: bool = False,
    mask_threshold: int | None = None,
) -> Comparison:
    """Compare finished runs, as the paper's tables compare networks.

    The output directory holds `comparison.html`, a page that needs no other file; the tables that
    `Comparison.text` returns, `comparison.md` and `comparison.tex`; `comparison.csv`, with every
    score of every run; and the figures, as PNG and PDF.

    Args:
        paths: Folders of runs, of `--split-seeds`, or of studies, as `read_contestants` takes them.
        output_directory: Where to write, absent or empty; by default nothing is written.
        reference: A label, with which the others are compared case by case, over the splits that
            both were trained on.
        speeds: A CSV file of `lgms-benchmark --networks`, whose images a second are told.
        dataset: Name of a dataset that no run was trained on, whose images or volumes are scored in
            place of those that the runs held out; the scores are kept in the runs, as `evaluate`
            does.
        pictures: Whether to draw what `draw_pictures` draws, which loads every network and reads
            the data.
        images: Ids of the images or volumes to draw, as `draw_pictures` takes them; with any,
            pictures are drawn.
        manual_dir: As for `evaluate`, of `dataset` or of what is drawn; and so are all others.
        data_dir: As for `evaluate`.
        allow_incomplete: As for `evaluate`.
        mask_threshold: As for `evaluate`.

    Returns:
        What was found; its `text` is the tables.

    Raises:
        ValueError: As `read_contestants`, `read_speeds` or `score_unseen` raises; or if there is no
            such label, or data are named without a dataset.
        OSError: As they raise; or if the output directory is in use, or cannot be written to.

    Example:
    ```python
    print(compare_runs(["studies/busi"], reference="LGMSNet").text())
    ```
    """
    if output_directory is not None:
        require_unused(Path(output_directory))
        require_writable(Path(output_directory))
    pictures = pictures or bool(images)
    if pictures and output_directory is None:
        raise ValueError(
            "Pictures are drawn into a folder: name it by -o (output_directory=). "
            f"Received: {output_directory=}"
        )
    data: dict[str, Any] = {
        "manual_dir": manual_dir,
        "data_dir": data_dir,
        "allow_incomplete": allow_incomplete,
        "mask_threshold": mask_threshold,
    }
    given = {name: value for name, value in data.items() if value not in (None, False)}
    if given and dataset is None and not pictures:
        raise ValueError(
            "Data are read only of another dataset, --dataset (dataset=), or for pictures, "
            f"--pictures (pictures=True). Received: {given}"
        )
    contestants, notes = read_contestants(paths)
    labels = [each.label for each in contestants]
    if reference is not None and reference not in labels:
        raise ValueError(
            f"The reference is one of {', '.join(labels)}. Received: reference={reference!r}"
        )
    sizes = count_sizes(contestants)
    of_label: dict[str, float] = {}
    if speeds is not None:
        of_label, told = read_speeds(speeds, contestants, sizes)
        notes.append(told)
    if dataset is not None:
        contestants = score_unseen(contestants, dataset, **data)
    differences: list[dict[str, Any]] = []
    if reference is not None:
        differences, remarks = compare_with(contestants, reference)
        notes += remarks
    comparison = Comparison(
        contestants,
        notes,
        sizes,
        reference,
        differences,
        of_label,
        find_changes(contestants),
        describe_source(dataset, manual_dir) if dataset else None,
    )
    if output_directory is not None:
        charts = draw_charts(comparison)
        drawn = draw_pictures(comparison, images=images, **data) if pictures else {}
        page = render_comparison(comparison, charts, drawn)
        with atomic_directory(Path(output_directory)) as folder:
            write_text(folder / "comparison.html", page)
            write_text(folder / "comparison.md", comparison.text() + "\n")
            write_text(folder / "comparison.tex", comparison.text("latex") + "\n")
            write_text(folder / "comparison.csv", comparison.csv())
            write_figures(folder, charts | drawn)
    return comparison
