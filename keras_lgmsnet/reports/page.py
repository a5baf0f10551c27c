"""The report of a run: one HTML page with everything inside."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import jinja2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from keras_lgmsnet import NOTICE

TRUTH_COLOR = "#00e5ff"
PREDICTION_COLOR = "#ffb300"
_CURVES = {"loss": "Loss", "iou": "IoU", "f1": "F1", "learning_rate": "Learning rate"}


def render_report(
    *,
    title: str,
    metrics: dict[str, Any],
    history: Sequence[dict[str, float]],
    ids: Sequence[str],
    images: np.ndarray,
    segmentation_masks: np.ndarray,
    predictions: np.ndarray,
    ious: np.ndarray,
    recipe: dict[str, dict[str, Any]],
    environment: dict[str, str],
) -> str:
    """Return the report as a page that needs no other file.

    Args:
        title: Heading of the page.
        metrics: Contents of `metrics.json`.
        history: One mapping an epoch: `loss`, `iou`, `f1`, their `val_` counterparts, and
            `learning_rate`.
        ids: Name of every image scored: those of the metrics' "subset".
        images: 8-bit RGB, shape `(images, height, width, 3)`.
        segmentation_masks: True masks of 0 and 1, shape `(images, height, width, num_classes)`.
        predictions: Predicted masks, of the same shape.
        ious: IoU of every image.
        recipe: The resolved recipe, by section.
        environment: Backend and versions.
    """

    def case(index: int) -> dict[str, Any]:
        return {
            "id": ids[index],
            "iou": ious[index],
            "has_lesion": segmentation_masks[index].any(),
            "image": picture_uri(
                outlined(images[index], segmentation_masks[index], predictions[index])
            ),
        }

    # A picture without outlines shows nothing, however right it is.
    shows = np.logical_or(segmentation_masks, predictions).any(axis=(1, 2, 3))
    groups = best_median_worst(ious, np.flatnonzero(shows))
    return render_page(
        "report.html.jinja",
        title=title,
        metrics=metrics,
        figures=[
            _distribution(ious, metrics["subset"]),
            *draw_curves(history, metrics["best_epoch"], _CURVES),
        ],
        groups={name: [case(index) for index in indices] for name, indices in groups.items()},
        num_hidden=int(np.count_nonzero(~shows)),
        recipe=recipe,
        environment=environment,
        truth_color=TRUTH_COLOR,
        prediction_color=PREDICTION_COLOR,
    )


def render_page(template: str, **values: Any) -> str:
    """Return a page of a template in this package, which may extend `report_frame.html.jinja`.

    Args:
        template: File name of the template.
        **values: What the template and the frame name: every one must be there.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("keras_lgmsnet", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(template).render(notice=NOTICE, **values)


def draw_outlines(image: np.ndarray, masks: np.ndarray, color: str, thickness: int) -> None:
    """Draw the outlines of masks onto an image, in place.

    Args:
        image: 8-bit RGB, contiguous, shape `(height, width, 3)`.
        masks: 0 and 1, shape `(..., num_classes)`; enlarged to the image's size.
        color: Such as `"#ffb300"`.
        thickness: In pixels of the image.
    """
    size = image.shape[1::-1]
    rgb = tuple(bytes.fromhex(color[1:]))
    for mask in np.moveaxis(masks, -1, 0):
        enlarged = cv2.resize(mask.astype("uint8"), size, interpolation=cv2.INTER_NEAREST)
        outlines, _ = cv2.findContours(enlarged, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(image, outlines, -1, rgb, thickness, cv2.LINE_AA)


def outlined(
    image: np.ndarray, segmentation_mask: np.ndarray, prediction: np.ndarray | None = None
) -> np.ndarray:
    """Return an image, enlarged to some 512 pixels, with the outlines of its masks.

    Args:
        image: 8-bit RGB, shape `(height, width, 3)`.
        segmentation_mask: The true mask of 0 and 1, shape `(height, width, num_classes)`.
        prediction: The predicted mask, of the same shape.
    """
    height, width = image.shape[:2]
    scale = max(1, round(512 / max(height, width)))  # room for outlines finer than a pixel
    size = (width * scale, height * scale)
    canvas = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    # The wide outline first, so that both show where they coincide.
    draw_outlines(canvas, segmentation_mask, TRUTH_COLOR, 4)
    if prediction is not None:
        draw_outlines(canvas, prediction, PREDICTION_COLOR, 2)
    return canvas


def style_axes(axes: Axes) -> None:
    """Give axes the look of all diagrams: a light grid, and no frame."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e5e7eb", linewidth=0.6)
    axes.set_axisbelow(True)


def make_figure(title: str, xlabel: str, height: float = 3.0) -> tuple[Figure, Axes]:
    """Return a figure with one diagram in it; its height is in inches."""
    figure = Figure(figsize=(4.4, height), layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=xlabel)
    style_axes(axes)
    return figure, axes


def draw_curves(
    history: Sequence[dict[str, float | None]], best_epoch: int, titles: Mapping[str, str]
) -> list[dict[str, str]]:
    """Return a diagram by epoch of each score, with "image", a data URI, and "alt", its text.

    Args:
        history: One mapping an epoch, of the scores and, preceded by `val_`, of their counterparts
            on the validation's part. `None` is a score that was skipped, and not drawn.
        best_epoch: The epoch to mark, counted from 1.
        titles: What to call each score that is drawn, by its name in the history.
    """
    curves = []
    for name, title in titles.items():
        figure, axes = make_figure(title, xlabel="epoch")
        for key, label, color in (
            (name, "training", "#8a94a6"),
            (f"val_{name}", "validation", "#1262b3"),
        ):
            epochs = [n for n, row in enumerate(history, start=1) if row.get(key) is not None]
            if epochs:
                values = [history[epoch - 1][key] for epoch in epochs]
                marker = "." if len(epochs) < 60 else None
                axes.plot(epochs, values, label=label, color=color, marker=marker)
                last = f"{title} by epoch, ending at {values[-1]:.4g} after epoch {epochs[-1]}."
        axes.axvline(best_epoch, color="#c2410c", linestyle=":", label="best epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False)
        curves.append({"image": svg_uri(figure), "alt": last})
    return curves


def best_median_worst(
    scores: np.ndarray, candidates: np.ndarray, limit: int = 3
) -> dict[str, list[int]]:
    """Choose cases to show, best first, without repeating one where possible.

    Args:
        scores: One a case.
        candidates: Indices of the cases to choose from, at least one.
        limit: How many to choose of each kind, at most.

    Returns:
        Indices for "Best", "Median" and "Worst".
    """
    order = candidates[np.argsort(-scores[candidates], kind="stable")].tolist()
    count = max(1, min(limit, len(order) // 3))
    middle = (len(order) - count) // 2
    return {
        "Best": order[:count],
        "Median": order[middle : middle + count],
        "Worst": order[-count:],
    }


def picture_uri(picture: np.ndarray) -> str:
    """Return a picture, 8-bit RGB of shape `(height, width, 3)`, as a data URI."""
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, webp = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, 80])
    return _data_uri("image/webp", webp.tobytes())


def svg_uri(figure: Figure) -> str:
    """Return a figure as a data URI."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", dpi=150)
    return _data_uri("image/svg+xml", buffer.getvalue())


def _distribution(ious: np.ndarray, subset: str) -> dict[str, str]:
    figure, axes = make_figure(f"IoU of the {subset} images", xlabel="IoU")
    axes.hist(ious, bins=np.linspace(0, 1, 21), color="#1262b3", edgecolor="white")
    axes.axvline(ious.mean(), color="#c2410c", linestyle=":", label="mean")
    axes.set(ylabel="images", xlim=(0, 1))
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False)
    low, middle, high = np.quantile(ious, [0.25, 0.5, 0.75])
    return {
        "image": svg_uri(figure),
        "alt": f"Histogram of IoU; quartiles {low:.3f}, {middle:.3f} and {high:.3f}.",
    }


def _data_uri(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
