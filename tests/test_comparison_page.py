"""The page of a comparison: self-contained, complete, and no more certain than the numbers."""

import base64
import re

import pytest
from matplotlib.figure import Figure

from keras_lgmsnet import NOTICE
from keras_lgmsnet.comparison.changes import Change
from keras_lgmsnet.comparison.charts import draw_charts
from keras_lgmsnet.comparison.contestants import Contestant
from keras_lgmsnet.comparison.page import render_comparison
from keras_lgmsnet.comparison.tables import Comparison
from keras_lgmsnet.figures.captioned import CaptionedFigure
from tests.helpers.comparisons import VOLUME_RECIPE, comparison, scored_run
from tests.helpers.pages import Page

pytestmark = pytest.mark.no_backend


def make(**fields) -> Comparison:
    return comparison(
        {"<b>big</b>": [0.71, 0.73], "small": [0.70, 0.72], "poor": [0.3, 0.4]},
        sizes={"<b>big</b>": (3 * 10**7, 10**10), "small": (10**6, 10**9), "poor": (10**6, 10**9)},
        differences={"small": (-0.005, 0.4), "poor": (-0.37, 0.001)},
        **fields,
    )


def test_page_needs_nothing_else_and_tells_everything() -> None:
    found = make(
        notes=["Left out, since not finished: other."],
        changes=[Change("small", "<b>big</b>", "filters", (4, 4), (8, 8))],
    )
    panels = CaptionedFigure(Figure(figsize=(2, 2)), "Images of busi.", [])
    text = render_comparison(found, draw_charts(found), {"panels": panels})
    page = Page(text)
    assert not page.open  # every tag is closed
    assert not {"script", "link", "iframe", "b"} & {tag for tag, _ in page.tags}
    assert "http" not in re.sub(r'"data:[^"]+"', "", text)
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    kinds = []
    for image in images:
        media_type, data = re.fullmatch(r"data:(.+?);base64,(.+)", image["src"]).groups()
        start = {"image/webp": b"RIFF", "image/svg+xml": b"<?xml"}[media_type]
        assert base64.b64decode(data).startswith(start)
        kinds.append((image["alt"], media_type))
    assert kinds == [
        ("score by parameters", "image/svg+xml"),
        ("changes", "image/svg+xml"),
        ("panels", "image/webp"),
    ]
    for told in (
        NOTICE,
        "3 networks on busi",
        "<b>big</b>",
        "Trained on 2 splits of busi (seeds 0 and 1), scored on 3 validation images of busi, which",
        "Images of busi.",
        "What it does not show",
        "Trained for 500 epochs",
        "By IoU on busi",
        "Differences from <b>big</b>",
        "One argument changed",
        "That flatters every network",
    ):
        assert told in page.text, told
    assert page.text.count("Left out, since not finished: other.") == 1


def test_the_best_is_bold_and_the_second_underlined() -> None:
    text = render_comparison(make(), {}, {})
    assert re.findall(r"<strong>(.+?)</strong>", text) == ["72.00 ± 1.41"] * 2
    assert re.findall(r"<u>(.+?)</u>", text) == ["71.00 ± 1.41"] * 2
    assert "<sup>**</sup>" in text


def test_the_page_tells_which_to_take_and_how_sure_that_is() -> None:
    text = " ".join(Page(render_comparison(make(), {}, {})).text.split())
    assert "Highest score <b>big</b>, IoU 72.00 %" in text
    assert "By fewest parameters and multiply-adds: small (1.00 M parameters" in text
    assert "the splits cannot tell" not in text  # ahead by one point in both, alike
    assert "2 splits is itself uncertain" in text


def test_one_split_is_told_as_such() -> None:
    found = comparison({"one": [0.5], "two": [0.4]}, differences={"two": (-0.1, 0.2)})
    text = Page(render_comparison(found, {}, {})).text
    assert "One split and one training each" in text
    assert "1 split of busi (seed 0)" in text
    assert "± is the" not in text


def test_speeds_come_with_a_caution() -> None:
    found = make(speeds={"small": 30.0})
    text = Page(render_comparison(found, draw_charts(found), {})).text
    assert "Speeds are of the machine" in text
    assert "small, 30 a second" in text
    assert "No speed was measured" in Page(render_comparison(make(), {}, {})).text


def test_volumes_of_several_datasets() -> None:
    contestants = [
        Contestant(
            label,
            tuple(
                scored_run(score, dataset=dataset, recipe=VOLUME_RECIPE, subset="test")
                for dataset in ("btcv/1.0.0", "acdc/1.0.0")
            ),
        )
        for label, score in (("one", 0.8), ("two", 0.7))
    ]
    rows = [
        {
            **{"network": "two", "dataset": dataset, "score": "mean Dice", "cases": 3, "groups": 3},
            **{"mean": 0.7, "reference": 0.8, "difference": -0.1, "interval": None},
            **{"relative": -0.125, "wilcoxon_p": 0.5, "holm_p": 0.5},
        }
        for dataset in ("btcv/1.0.0", "acdc/1.0.0")
    ]
    sizes = {"one": (10**6, 10**9), "two": (10**5, 10**8)}
    found = Comparison(contestants, [], sizes, "one", rows)
    text = Page(render_comparison(found, draw_charts(found), {})).text
    assert "2 networks on btcv and acdc" in text
    assert "By mean Dice on btcv" in text
    assert "By mean Dice on acdc" in text
    assert "patches of volumes of 32 × 32 × 32 voxels" in text
    assert "That flatters" not in text  # scored on the test part
