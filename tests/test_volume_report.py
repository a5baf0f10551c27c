"""The report of volumes: self-contained, complete, and of the right cases."""

import base64
import re

import numpy as np
import pytest

from keras_lgmsnet import NOTICE
from keras_lgmsnet.drawing import volumes as volume_pictures
from keras_lgmsnet.drawing.volumes import SegmentedVolume, label_color
from keras_lgmsnet.evaluation.volumes import describe_convention
from keras_lgmsnet.reports.volumes import render_volume_report
from keras_lgmsnet.scoring.regions import SCORES, summarize
from tests.helpers.pages import Page

pytestmark = pytest.mark.no_backend

LABELS = {0: "background", 1: "liver", 2: "<b>cyst</b>"}


@pytest.fixture(autouse=True)
def _small(monkeypatch) -> None:
    monkeypatch.setattr(volume_pictures, "_SURFACE_SIDE", 40)
    monkeypatch.setattr(volume_pictures, "_SIDE", 60)


def case(dice: float | None, cyst: float | None = None) -> dict:
    """Scores of a case; without a cyst by default."""
    values = {"liver": dice, "<b>cyst</b>": cyst}
    return {
        name: dict.fromkeys(SCORES, value) | {"volume": value or 0.0, "predicted_volume": 1.0}
        for name, value in values.items()
    }


def read_case(id_: str) -> SegmentedVolume:
    labels = np.zeros((8, 8, 8), "uint8")
    labels[2:5, 2:5, 2:5] = 1
    return SegmentedVolume(np.zeros((8, 8, 8)), labels, labels, (1, 1, 2))


def render(cases: dict, **changes) -> Page:
    summary = summarize(list(cases.values()), list(cases))
    metrics = {
        "subset": "validation",
        "volumes": len(cases),
        "best_epoch": 2,
        "summary": summary,
        "convention": describe_convention(2),
        "caution": "Beware.",
    }
    arguments = {
        "title": "LGMSNet on test",
        "metrics": metrics | changes.pop("metrics", {}),
        "history": [
            {"loss": 1.0, "dice": 0.1, "val_dice": None, "learning_rate": 0.0},
            {"loss": 0.5, "dice": 0.2, "val_dice": 0.4, "learning_rate": 0.1},
            {"loss": 0.2, "dice": 0.3, "val_dice": None, "learning_rate": 0.0},
        ],
        "cases": cases,
        "read_case": read_case,
        "labels": LABELS,
        "preparation": "Volumes are resampled to 1 × 1 × 2 mm.",
        "recipe": {"data": {"source": "test"}, "training": {"epochs": 3}},
        "environment": {"backend": "jax"},
    }
    return Page(render_volume_report(**(arguments | changes)))


CASES = {"a": case(0.5), "b": case(0.9, 0.7), "c": case(0.7), "d": case(0.1), "e": case(0.2)}


def test_page_needs_nothing_else_and_tells_everything() -> None:
    page = render(CASES)
    assert not page.open  # every tag is closed
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 3 * 6 + 1 + 3
    for image in images:
        media_type, data = re.fullmatch(r"data:(.+?);base64,(.+)", image["src"]).groups()
        start = {"image/webp": b"RIFF", "image/svg+xml": b"<?xml"}[media_type]
        assert base64.b64decode(data).startswith(start)
        assert image["alt"]
    assert not {"script", "link", "iframe", "b"} & {tag for tag, _ in page.tags}
    for text in (
        NOTICE,
        "Volumes are resampled to 1 × 1 × 2 mm.",
        "5 validation volumes",
        "after epoch 2",
        "surfaces agree within 2 mm. Beware.",
        "Each dot is a case, each line the mean of its region.",
        "In brackets: 95 % bootstrap intervals of the means.",
        "tinted is the ground truth, outlined the prediction",
        "the patient's right is left",
        "<b>cyst</b>",
        "Axial plane, 8 × 8 mm",
        "Coronal plane, 8 × 16 mm",
        "epochs",
        "jax",
    ):
        assert text in page.text
    assert "Dice by epoch, ending at 0.4 after epoch 2." in [image["alt"] for image in images]
    styles = [attributes.get("style", "") for _, attributes in page.tags]
    assert f"background: {label_color(2)}" in styles


def test_regions_and_means() -> None:
    text = render(CASES).text
    assert re.search(r"liver\s*48\.00 \[", text)
    assert re.search(r"<b>cyst</b>\s*70\.00\s*70\.00", text)  # of one case: no interval
    assert re.search(r"Mean\s*59\.00 \[", text)
    assert re.search(r"Dice, %\s*59\.00\s*IoU, %\s*59\.00\s*HD95, mm\s*0\.59", text)


def test_cells_of_regions_are_broken_before_brackets_only() -> None:
    text = render(CASES).text
    assert re.search(r"48\.00 \[\d+\.\d+,\u00a0\d+\.\d+\]", text)
    assert "0\u00a0of\u00a05" in text


def test_the_best_the_median_and_the_worst_case_are_shown() -> None:
    read = []
    text = render(CASES, read_case=lambda id_: read.append(id_) or read_case(id_)).text
    assert re.findall(r"(\w+): (\w), mean Dice ([\d.]+) %", text) == [
        ("Best", "b", "80.00"),
        ("Median", "a", "50.00"),
        ("Worst", "d", "10.00"),
    ]
    assert sorted(read) == ["a", "b", "d"]  # each once


def test_cases_without_any_score_are_not_shown() -> None:
    page = render({"a": case(None), "b": case(0.5)})
    assert "Best, median, worst: b" in page.text
    assert page.text.count("mean Dice") == 1
    page = render({"a": case(None)})
    assert "mean Dice" not in page.text
    assert re.search(r"Mean\s*–", page.text)


def test_names_are_not_formulas() -> None:
    cases = {"a": {r"$\foo$": case(0.5)["liver"]}}
    page = render(cases, labels={0: "background", 1: r"$\foo$"})
    alts = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert r"Dice of every case by region, in percent; means: $\foo$ 50.00." in alts


def test_scores_of_the_test_go_first() -> None:
    metrics = {
        "subset": "test",
        "caution": None,
        "validation_summary": summarize([case(0.3)], ["v"]),
    }
    text = render(CASES, metrics=metrics).text
    assert "Test scores" in text
    assert "by whose Dice that epoch was picked" in text
    assert "Dice, % 30.00" in text
    assert "None" not in text.split("Recipe")[0]
