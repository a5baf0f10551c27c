"""The report of a run on volumes."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from keras_lgmsnet.drawing.cases import name_extremes
from keras_lgmsnet.drawing.diagrams import make_figure
from keras_lgmsnet.drawing.volumes import (
    SegmentedVolume,
    draw_montage,
    draw_planes,
    draw_surface,
    label_color,
)
from keras_lgmsnet.kinds import VOLUMES
from keras_lgmsnet.reports.page import History, picture_uri, render_page, svg_uri
from keras_lgmsnet.scoring.regions import SCORES, Scores, mean_over_regions, tabulate
from keras_lgmsnet.tables import score_cell


def render_volume_report(
    *,
    title: str,
    metrics: Mapping[str, Any],
    history: History,
    cases: Mapping[str, Mapping[str, Scores]],
    read_case: Callable[[str], SegmentedVolume],
    labels: Mapping[int, str],
    preparation: str,
    recipe: Mapping[str, Mapping[str, Any]],
    environment: Mapping[str, str],
) -> str:
    """Return the report as a page that needs no other file.

    Args:
        title: Heading of the page.
        metrics: Contents of `metrics.json`: "subset" (`"test"` or `"validation"`), "volumes" (their
            number), "best_epoch", "summary" (what `scoring.regions.summarize` returned),
            "convention" and "caution"; where the subset is `"test"`, "validation_summary", too.
        history: One mapping an epoch, such as of `loss`, `val_loss`, `val_dice` and
            `learning_rate`; `None` is what was not measured, as where validation was skipped.
        cases: What `scoring.regions.score_case` returned for every case scored, by its id.
        read_case: From an id to the case with its segmentations; called for the three cases that
            are shown, one after another, so that memory holds one at a time.
        labels: The name of every label, 0 being background.
        preparation: How volumes are resampled and normalised, `VolumeFingerprint.describe()`.
        recipe: The resolved recipe, by section.
        environment: Backend and versions.

    Example:
    ```python
    page = render_volume_report(
        title="LGMSNet on btcv",
        metrics=metrics,
        history=[{"loss": 1.2, "val_dice": None}, {"loss": 0.9, "val_dice": 0.4}],
        cases={"img0035": score_case(mask, prediction, regions, grid)},
        read_case=lambda id_: SegmentedVolume(image, mask, prediction, spacing, (-175, 250)),
        labels={0: "background", 1: "spleen"},
        preparation=fingerprint.describe(),
        recipe=recipe.to_dict(),
        environment={"backend": "jax"},
    )
    ```
    """
    ids = list(cases)
    dice = np.array([mean_over_regions(case)["dice"] for case in cases.values()], "float64")
    headings = name_extremes(dice, np.flatnonzero(~np.isnan(dice)))
    header, rows = tabulate(metrics["summary"])
    validation = metrics.get("validation_summary")
    return render_page(
        VOLUMES,
        title=title,
        metrics=metrics,
        means=_means(metrics["summary"]),
        validation_means=None if validation is None else _means(validation),
        chart=_chart(cases, metrics["summary"]),
        header=header,
        rows=rows,
        colors={name: label_color(label) for label, name in labels.items() if label},
        examples=[
            {
                "heading": heading,
                "id": ids[index],
                "dice": score_cell(SCORES["dice"], dice[index]),
                "pictures": _draw(read_case(ids[index])),
            }
            for index, heading in headings.items()
        ],
        history=history,
        preparation=preparation,
        recipe=recipe,
        environment=environment,
    )


def _means(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return mean scores as printed, by what to call them."""
    return {
        SCORES[name]: score_cell(SCORES[name], score["mean"])
        for name, score in summary["mean"].items()
    }


def _draw(volume: SegmentedVolume) -> list[dict[str, Any]]:
    """Return the pictures of a case, each with its caption."""
    x, y, z = np.multiply(volume.image.shape, volume.spacing).round().astype(int)
    planes = draw_planes(volume)
    pictures = {
        f"Axial plane, {x} × {y} mm": planes["axial"],
        f"Coronal plane, {x} × {z} mm": planes["coronal"],
        f"Sagittal plane, {y} × {z} mm": planes["sagittal"],
        "Surface of the ground truth": draw_surface(volume.segmentation_mask, volume.spacing),
        "Surface of the prediction": draw_surface(volume.prediction, volume.spacing),
    }
    drawn = [
        {"image": picture_uri(picture), "caption": caption, "wide": False}
        for caption, picture in pictures.items()
    ]
    montage = picture_uri(draw_montage(volume))
    return [*drawn, {"image": montage, "caption": "Axial planes from head to foot", "wide": True}]


def _chart(cases: Mapping[str, Mapping[str, Scores]], summary: Mapping[str, Any]) -> dict[str, str]:
    """Return the Dice of every case, a row of dots for each region, with its mean."""
    regions = summary["regions"]
    figure, axes = make_figure("Dice of every case", "Dice, %", height=1.1 + 0.3 * len(regions))
    figure.set_figwidth(8)
    rng = np.random.default_rng(0)  # moves dots apart, always alike
    for row, region in enumerate(regions):
        values = [case[region]["dice"] for case in cases.values()]
        dice = 100 * np.array([value for value in values if value is not None])
        axes.plot(
            dice,
            row + rng.uniform(-0.25, 0.25, len(dice)),
            ".",
            color="#1262b3",
            alpha=0.6,
            markeredgewidth=0,
            rasterized=True,  # thousands of dots would make a large file
            clip_on=False,
        )
        if len(dice):
            axes.plot([dice.mean()] * 2, [row - 0.38, row + 0.38], color="#c2410c", linewidth=2)
    axes.set(xlim=(0, 100), ylim=(len(regions) - 0.5, -0.5), yticks=range(len(regions)))
    axes.set_yticklabels(regions, parse_math=False)
    means = [
        f"{region} {score_cell(SCORES['dice'], summarized['scores']['dice']['mean'])}"
        for region, summarized in regions.items()
    ]
    return {
        "image": svg_uri(figure),
        "alt": f"Dice of every case by region, in percent; means: {', '.join(means)}.",
    }
