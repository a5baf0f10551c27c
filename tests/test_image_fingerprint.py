"""Fingerprints of images: statistics by hand, ranges that forgive a little."""

from pathlib import Path

import numpy as np
import pytest

from keras_lgmsnet.data.image_fingerprint import STATISTICS, Fingerprint, measure
from keras_lgmsnet.files.writing import write_json
from keras_lgmsnet.run_directory import read_json

pytestmark = pytest.mark.no_backend

GREY = np.full((4, 4, 3), 51, "uint8")


def test_statistics_of_grey_by_hand() -> None:
    image = GREY.copy()
    image[:2] = 153
    assert measure(image, (300, 400)) == pytest.approx(
        {
            "shorter side": 300,
            "aspect ratio": 4 / 3,
            "brightness": 0.4,
            "contrast": 0.2,
            "colourfulness": 0,
        }
    )


def test_colourfulness_by_hand() -> None:
    """Half red, half black: red − green and yellow − blue are 255 and 127.5, or 0."""
    image = np.zeros((4, 4, 3), "uint8")
    image[:2, :, 0] = 255
    expected = np.hypot(0.5, 0.25) + 0.3 * np.hypot(0.5, 0.25)
    assert measure(image, (4, 4))["colourfulness"] == pytest.approx(expected)


def test_odd_training_images_do_not_count() -> None:
    sizes = [(100 + n, 200) for n in range(100)] + [(5000, 5000)]
    fingerprint = Fingerprint.of_images([GREY] * 101, sizes)
    assert fingerprint.num_images == 101
    # The first and last of a hundred steps are cut off.
    assert fingerprint.ranges["shorter side"] == (101, 199)
    assert fingerprint.ranges["brightness"] == pytest.approx((0.2, 0.2))


@pytest.mark.parametrize(
    ("name", "inside", "outside", "sentence"),
    [
        ("shorter side", 51, 49, "the shorter side has 49 pixels, in training 100 to 200"),
        ("shorter side", 399, 401, "the shorter side has 401 pixels, in training 100 to 200"),
        ("shorter side", 100, 12345, "the shorter side has 12345 pixels, in training 100 to 200"),
        ("aspect ratio", 2.4, 2.6, "the longer side is 2.6 times the shorter, in training 1 to 2"),
        ("brightness", 0.11, 0.09, "brightness is 0.09, in training 0.2 to 0.6"),
        ("brightness", 0.69, 0.71, "brightness is 0.71, in training 0.2 to 0.6"),
        ("contrast", 0.21, 0.14, "contrast is 0.14, in training 0.2 to 0.25"),
        ("colourfulness", 0.03, 0.05, "colourfulness is 0.05, in training 0"),
    ],
)
def test_deviations(name, inside, outside, sentence) -> None:
    ranges = {
        "shorter side": (100, 200),
        "aspect ratio": (1, 2),
        "brightness": (0.2, 0.6),
        "contrast": (0.2, 0.25),
        "colourfulness": (0, 0),
    }
    fingerprint = Fingerprint(10, ranges)
    ordinary = {name: low for name, (low, _) in ranges.items()}
    assert fingerprint.deviations(ordinary | {name: inside}) == []
    assert fingerprint.deviations(ordinary | {name: outside}) == [sentence]


def test_round_trip(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype="uint8")
    fingerprint = Fingerprint.of_images(images, [(8, 8)] * 5, bits=12)
    fingerprint.write(tmp_path)
    assert Fingerprint.read(tmp_path) == fingerprint
    ranges = read_json(tmp_path, "fingerprint.json")["ranges"]
    assert ranges["shorter side"] == {"low": 8.0, "high": 8.0, "unit": "pixels"}


@pytest.mark.parametrize(
    "ranges",
    [
        {},
        [],
        None,
        {name: {"low": 0} for name in STATISTICS},
        {name: {"low": 0, "high": "x"} for name in STATISTICS},
        {name: {"low": 0, "high": float("nan")} for name in STATISTICS},
        {name: {"low": 1, "high": 0} for name in STATISTICS},
    ],
)
def test_damaged(ranges, tmp_path: Path) -> None:
    write_json(tmp_path / "fingerprint.json", {"num_images": 1, "ranges": ranges})
    with pytest.raises(ValueError, match=r"fingerprint.json is damaged: its ranges must give"):
        Fingerprint.read(tmp_path)


@pytest.mark.parametrize("bits", [7, 65, 12.0, "12", True])
def test_damaged_bits(bits, tmp_path: Path) -> None:
    Fingerprint.of_images([GREY], [(4, 4)], bits=bits).write(tmp_path)
    with pytest.raises(ValueError, match=r"fingerprint.json is damaged: bits must be 8 to 64"):
        Fingerprint.read(tmp_path)


def test_a_fingerprint_of_an_earlier_version_has_no_bits(tmp_path: Path) -> None:
    Fingerprint.of_images([GREY], [(4, 4)]).write(tmp_path)
    values = read_json(tmp_path, "fingerprint.json")
    del values["bits"]
    write_json(tmp_path / "fingerprint.json", values)
    assert Fingerprint.read(tmp_path).bits is None


def test_absent(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Fingerprint.read(tmp_path)
