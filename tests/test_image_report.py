"""The report page: self-contained, complete, and drawn where the masks are."""

import base64
import re

import cv2
import matplotlib.axes
import numpy as np
import pytest

from keras_lgmsnet import NOTICE
from keras_lgmsnet.drawing.outlines import PREDICTION_COLOR, TRUTH_COLOR, outlined
from keras_lgmsnet.reports.images import render_image_report
from keras_lgmsnet.reports.page import draw_curves, picture_uri
from tests.helpers.pages import Page

pytestmark = pytest.mark.no_backend

SIDE = 32


def square(left: int, right: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE, 1), "uint8")
    mask[left:right, left:right] = 1
    return mask


def render(count: int = 9, **changes) -> Page:
    arguments = {
        "title": "LGMSNet on test",
        "metrics": {
            "subset": "validation",
            "means": {"iou": 0.81254, "f1": 0.9, "sensitivity": 0.5},
            "images": count,
            "best_epoch": 2,
            "convention": "How.",
            "caution": "Beware.",
        },
        "history": [
            {
                "loss": 1 / epoch,
                "iou": 0.3 * epoch,
                "f1": 0.3 * epoch,
                "val_loss": 2 / epoch,
                "val_iou": 0.25 * epoch,
                "val_f1": 0.25 * epoch,
                "learning_rate": 0.01,
            }
            for epoch in (1, 2, 3)
        ],
        "ids": [f"case {index}" for index in range(count)],
        "images": np.full((count, SIDE, SIDE, 3), 128, "uint8"),
        "segmentation_masks": np.stack([square(8, 24)] * count),
        "predictions": np.stack([square(9, 24).astype(bool)] * count),
        "ious": np.linspace(0, 1, count),
        "recipe": {"data": {"source": "test"}, "training": {"epochs": 3}},
        "environment": {"backend": "jax", "keras": "3.15"},
    }
    return Page(render_image_report(**(arguments | changes)))


def test_page_needs_nothing_else() -> None:
    page = render()
    assert not page.open  # every tag is closed
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(sources) == 9 + 5
    for source in sources:
        media_type, data = re.fullmatch(r"data:(.+?);base64,(.+)", source).groups()
        start = {"image/webp": b"RIFF", "image/svg+xml": b"<?xml"}[media_type]
        assert base64.b64decode(data).startswith(start)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}


def test_page_tells_everything() -> None:
    page = render()
    for text in (
        NOTICE,
        "0.8125",
        "Sensitivity",
        "9 validation images",
        "after epoch 2",
        "How. Beware.",
        "ground truth",
        "prediction",
        "epochs",
        "jax",
        "3.15",
    ):
        assert text in page.text
    alternatives = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert all(alternatives)
    assert "Loss by epoch, ending at 0.6667 after epoch 3." in alternatives
    assert "Learning rate by epoch, ending at 0.01 after epoch 3." in alternatives
    assert "Histogram of IoU; quartiles 0.250, 0.500 and 0.750." in alternatives


def test_scores_of_test_images_go_first() -> None:
    metrics = {
        "subset": "test",
        "means": {"iou": 0.7, "f1": 0.8},
        "validation_means": {"iou": 0.75125, "f1": 0.85},
        "images": 9,
        "best_epoch": 2,
        "convention": "How.",
        "caution": None,
    }
    text = " ".join(render(metrics=metrics).text.split())
    assert "Test scores IoU0.7000 F10.8000" in text
    assert "9 test images, of the network after epoch 2. How. On the validation images" in text
    assert "that epoch was picked: IoU 0.7512, F1 0.8500." in text
    assert "None" not in text
    assert "that epoch was picked" not in render().text


def test_cases_are_the_best_median_and_worst() -> None:
    order = re.findall(r"(Best|Median|Worst|case \d+)", render(11).text)
    # IoU rises with the index.
    expected = "Best/case 10/case 9/case 8/Median/case 6/case 5/case 4/Worst/case 2/case 1/case 0"
    assert order == expected.split("/")


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_few_images(count) -> None:
    cases = re.findall(r"case \d+", render(count).text)
    assert len(cases) == 3
    assert len(set(cases)) == min(count, 3)


def test_images_without_lesion() -> None:
    """A false alarm is shown and says so; an image with nothing to outline is only counted."""
    nothing, lesion = square(0, 0), square(8, 24)
    text = render(
        4,
        segmentation_masks=np.stack([nothing, lesion, lesion, nothing]),
        predictions=np.stack([lesion, nothing, lesion, nothing]),
    ).text
    assert re.findall(r"(case \d)IoU [\d.]+(, no lesion)?", text) == [
        ("case 2", ""),
        ("case 1", ""),
        ("case 0", ", no lesion"),
    ]
    assert "Not shown: images without lesion where none was predicted, 1 of 4." in text
    assert "Not shown" not in render().text


def test_nothing_to_outline_at_all() -> None:
    masks = np.stack([square(0, 0)] * 2)
    page = render(2, segmentation_masks=masks, predictions=masks)
    assert "2 of 2" in page.text
    assert not re.search(r"case \d", page.text)


def test_one_epoch() -> None:
    row = {"loss": 1.0, "iou": 0.1, "f1": 0.2, "val_loss": 1.0, "learning_rate": 0.1}
    page = render(history=[row | {"val_iou": 0.1, "val_f1": 0.2}])
    assert "Loss by epoch, ending at 1 after epoch 1." in [tag[1].get("alt") for tag in page.tags]


def test_skipped_scores_are_not_drawn(monkeypatch) -> None:
    drawn = {}
    monkeypatch.setattr(
        matplotlib.axes.Axes,
        "plot",
        lambda self, x, y, label, **style: drawn.setdefault(label, (x, y)),
    )
    history = [{"dice": 0.1 * epoch, "val_dice": None} for epoch in (1, 2, 3)]
    history[1]["val_dice"] = 0.5
    (curve,) = draw_curves(history, 2, {"dice": "Dice"})
    assert drawn["validation"] == ([2], [0.5])
    assert drawn["training"] == ([1, 2, 3], [0.1, 0.2, pytest.approx(0.3)])
    assert curve["alt"] == "Dice by epoch, ending at 0.5 after epoch 2."


def test_a_score_that_no_epoch_has_gets_no_diagram() -> None:
    history = [{"loss": 1.0, "val_loss": None, "dice": None}]
    (curve,) = draw_curves(history, 1, {"iou": "IoU", "loss": "Loss", "dice": "Dice"})
    assert curve["alt"] == "Loss by epoch, ending at 1 after epoch 1."
    assert draw_curves([], 1, {"loss": "Loss"}) == []


def test_names_are_escaped() -> None:
    page = render(1, ids=["<script>alert(1)</script>"])
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<script>alert(1)</script>" in page.text


def outline_pixels(uri: str, color: str) -> np.ndarray:
    """Return where the picture is near a color, as rows and columns of the small image."""
    webp = np.frombuffer(base64.b64decode(uri.partition(",")[2]), "uint8")
    image = cv2.imdecode(webp, cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    near = np.abs(image - list(bytes.fromhex(color[1:]))).max(axis=-1) < 60
    return np.argwhere(near) / (len(image) / SIDE)


def test_outlines_lie_on_the_masks() -> None:
    grey = np.full((SIDE, SIDE, 3), 128, "uint8")
    uri = picture_uri(outlined(grey, square(4, 28), square(10, 20)))
    truth = outline_pixels(uri, TRUTH_COLOR)
    prediction = outline_pixels(uri, PREDICTION_COLOR)
    for pixels, left, right in ((truth, 4, 28), (prediction, 10, 20)):
        np.testing.assert_allclose(pixels.min(axis=0), left, atol=0.3)
        np.testing.assert_allclose(pixels.max(axis=0), right, atol=0.3)


def test_every_class_and_part_is_outlined() -> None:
    grey = np.full((SIDE, SIDE, 3), 128, "uint8")
    masks = np.concatenate([square(2, 8), square(20, 30)], axis=-1)
    uri = picture_uri(outlined(grey, masks, np.zeros_like(masks)))
    truth = outline_pixels(uri, TRUTH_COLOR)
    np.testing.assert_allclose([truth.min(), truth.max()], [2, 30], atol=0.3)
    assert len(outline_pixels(uri, PREDICTION_COLOR)) == 0


def test_empty_and_full_masks_are_drawn() -> None:
    grey = np.full((SIDE, SIDE, 3), 128, "uint8")
    uri = picture_uri(outlined(grey, square(0, 0), square(0, SIDE)))
    assert len(outline_pixels(uri, TRUTH_COLOR)) == 0
    assert len(outline_pixels(uri, PREDICTION_COLOR)) > 100
