"""The report of a run: one HTML page with everything inside."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import jinja2
import numpy as np
from matplotlib.figure import Figure

from keras_lgmsnet.about import NOTICE
from keras_lgmsnet.drawing.diagrams import make_figure


def render_page(template: str, **values: Any) -> str:
    """Return a page of a template in this package, which may extend `report_frame.html.jinja`.

    Args:
        template: File name of the template.
        **values: What the template and the frame name: every one must be there.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("keras_lgmsnet.reports", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(template).render(notice=NOTICE, **values)


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


def _data_uri(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
