"""What the reports of images and of volumes share: the page, its curves, and how it holds pictures.

Everything is inside the page, so that it needs no other file.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import jinja2
import numpy as np
from matplotlib.figure import Figure

from keras_lgmsnet.about import NOTICE
from keras_lgmsnet.drawing.diagrams import make_figure, tick_whole_numbers
from keras_lgmsnet.kinds import Kind

# One mapping an epoch, of the scores and, preceded by `val_`, of their counterparts on the part for
# validation. `None` is a score that was not measured, as where validation was skipped.
History = Sequence[Mapping[str, float | None]]


def render_page(
    kind: Kind,
    *,
    title: str,
    metrics: Mapping[str, Any],
    means: Mapping[str, str],
    validation_means: Mapping[str, str] | None,
    history: History,
    recipe: Mapping[str, Mapping[str, Any]],
    environment: Mapping[str, str],
    diagrams: Sequence[Mapping[str, str]] = (),
    **values: Any,
) -> str:
    """Return a report, by the template of its kind, which extends `page.html.jinja`.

    Args:
        kind: What the run was trained on.
        title: Heading of the page.
        metrics: Contents of `metrics.json`.
        means: The mean scores of what was held out, as printed, by what to call them.
        validation_means: Those of the part for validation, where another was held out for a test.
        history: What the curves are drawn of.
        recipe: The resolved recipe, by section.
        environment: Backend and versions.
        diagrams: More of them to stand before the curves, each with "image", a data URI, and
            "alt", its text.
        **values: What the template of this kind names: every one must be there.
    """
    curves = {"loss": "Loss", **kind.headlines, "learning_rate": "Learning rate"}
    return render(
        "keras_lgmsnet.reports",
        f"{kind.name}.html.jinja",
        kind=kind,
        picked_by=kind.headlines[kind.best_by.removeprefix("val_")],
        title=title,
        metrics=metrics,
        means=means,
        validation_means=validation_means,
        diagrams=[*diagrams, *draw_curves(history, metrics["best_epoch"], curves)],
        recipe=recipe,
        environment=environment,
        **values,
    )


def render(package: str, template: str, **values: Any) -> str:
    """Return a page by a package's template, which extends `base.html.jinja` of this one.

    Args:
        package: Where the template is.
        template: Its name.
        **values: What it names: every one must be there, `title` too.
    """
    packages = dict.fromkeys((package, "keras_lgmsnet.reports"))
    templates = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(each, "") for each in packages]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    return templates.get_template(template).render(notice=NOTICE, **values)


def draw_curves(
    history: History, best_epoch: int, titles: Mapping[str, str]
) -> list[dict[str, str]]:
    """Return a diagram by epoch of each score, with "image", a data URI, and "alt", its text.

    Args:
        history: Scores of every epoch. Those that were not measured are not drawn; a score that no
            epoch has gets no diagram.
        best_epoch: The epoch to mark, counted from 1.
        titles: What to call each score, by its name in the history.
    """
    curves = []
    for name, title in titles.items():
        figure, axes = make_figure(title, xlabel="epoch")
        alt = None
        for key, label, color in (
            (name, "training", "#8a94a6"),
            (f"val_{name}", "validation", "#1262b3"),
        ):
            measured = {
                epoch: score
                for epoch, row in enumerate(history, start=1)
                if (score := row.get(key)) is not None
            }
            if measured:
                epochs, values = list(measured), list(measured.values())
                marker = "." if len(epochs) < 60 else None
                axes.plot(epochs, values, label=label, color=color, marker=marker)
                alt = f"{title} by epoch, ending at {values[-1]:.4g} after epoch {epochs[-1]}."
        if alt is None:
            continue
        axes.axvline(best_epoch, color="#c2410c", linestyle=":", label="best epoch")
        tick_whole_numbers(axes.xaxis)
        axes.legend(frameon=False)
        curves.append({"image": svg_uri(figure), "alt": alt})
    return curves


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
