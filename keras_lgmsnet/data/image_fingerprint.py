"""What a run's training images look like, and whether another image is like them.

A network is only as good as its training images are like those it is shown. Training writes
`fingerprint.json` to the run directory; prediction holds every image against it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np

from keras_lgmsnet.run_directory import read_json, write_json


@dataclass(frozen=True)
class Statistic:
    """One number of an image, and how far beyond the training images' range it may lie.

    Args:
        unit: What it is counted in.
        phrase: What a sentence says before and after the number.
        factor: The range's low end is divided and its high end multiplied by it.
        margin: Then subtracted from the low end and added to the high end.
    """

    unit: str
    phrase: tuple[str, str]
    factor: float = 1.0
    margin: float = 0.0


# Resizing forgives a factor of 2 of the side; the margins are small steps that the eye hardly sees,
# for training images that are all alike.
STATISTICS = {
    "shorter side": Statistic("pixels", ("the shorter side has", " pixels"), factor=2),
    "aspect ratio": Statistic(
        "longer to shorter side", ("the longer side is", " times the shorter"), factor=1.25
    ),
    "brightness": Statistic("mean grey value, 0 to 1", ("brightness is", ""), margin=0.1),
    "contrast": Statistic(
        "standard deviation of the grey values, 0 to 0.5", ("contrast is", ""), margin=0.05
    ),
    "colourfulness": Statistic(
        "of Hasler and Süsstrunk, 0 to about 0.7", ("colourfulness is", ""), margin=0.04
    ),
}


def measure(image: np.ndarray, size: Sequence[int]) -> dict[str, float]:
    """Returns an image's `STATISTICS`.

    Brightness, contrast and colourfulness depend on the image's resolution a little, so images to
    be compared should be resized alike.

    Args:
        image: RGB, `uint8`, shape `(height, width, 3)`, resized as for training.
        size: Height and width in pixels before it was resized.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    (brightness,), (contrast,) = cv2.meanStdDev(grey)
    red, green, blue = np.moveaxis(image.astype("float32"), -1, 0)
    red_green, yellow_blue = red - green, (red + green) / 2 - blue
    colourfulness = np.hypot(red_green.std(), yellow_blue.std()) + 0.3 * np.hypot(
        red_green.mean(), yellow_blue.mean()
    )
    values = (
        min(size),
        max(size) / min(size),
        brightness[0] / 255,
        contrast[0] / 255,
        colourfulness / 255,
    )
    return {name: float(value) for name, value in zip(STATISTICS, values, strict=True)}


@dataclass(frozen=True)
class Fingerprint:
    """The ranges of a run's training images.

    Args:
        num_images: Of how many images.
        ranges: Low and high end by the names of `STATISTICS`: the middle 98 % of the images, so
            that a few odd ones do not count.

    Example:
    ```python
    fingerprint = Fingerprint.read(Path("runs/isic"))
    fingerprint.deviations(measure(cv2.resize(image, (256, 256)), image.shape[:2]))
    ```
    """

    num_images: int
    ranges: dict[str, tuple[float, float]]

    @classmethod
    def of_images(cls, images: Iterable[np.ndarray], sizes: Iterable[Sequence[int]]) -> Self:
        """Returns the fingerprint of images, each given as `measure` takes it."""
        rows = [measure(image, size) for image, size in zip(images, sizes, strict=True)]
        return cls(len(rows), find_ranges(rows))

    @classmethod
    def read(cls, run_directory: Path) -> Self:
        """Returns the fingerprint in a run directory.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If it is damaged.
        """
        values = read_json(run_directory, "fingerprint.json", "num_images", "ranges")
        ranges = parse_ranges(run_directory / "fingerprint.json", values["ranges"], STATISTICS)
        return cls(values["num_images"], ranges)

    def write(self, run_directory: Path) -> None:
        """Writes the fingerprint to a run directory, atomically."""
        ranges = describe_ranges(self.ranges, STATISTICS)
        write_json(
            run_directory / "fingerprint.json", {"num_images": self.num_images, "ranges": ranges}
        )

    def deviations(self, statistics: dict[str, float]) -> list[str]:
        """Returns in words what lies outside the training images' range, by more than a little.

        Args:
            statistics: What `measure` returned.
        """
        return find_deviations(statistics, self.ranges, STATISTICS)


Ranges = dict[str, tuple[float, float]]


def find_ranges(rows: Sequence[Mapping[str, float]]) -> Ranges:
    """Returns the low and high end of each number: the middle 98 % of the rows."""
    ranges = {}
    for name in rows[0]:
        low, high = np.quantile([row[name] for row in rows], [0.01, 0.99])
        ranges[name] = (float(low), float(high))
    return ranges


def find_deviations(
    values: Mapping[str, float], ranges: Ranges, statistics: Mapping[str, Statistic]
) -> list[str]:
    """Returns in words which values lie outside their ranges by more than their statistics allow.

    Example:
    ```python
    statistics = {"brightness": Statistic("mean grey value", ("brightness is", ""), margin=0.1)}
    find_deviations({"brightness": 0.95}, {"brightness": (0.2, 0.8)}, statistics)
    # ["brightness is 0.95, in training 0.2 to 0.8"]
    ```
    """
    found = []
    for name, (low, high) in ranges.items():
        statistic, value = statistics[name], values[name]
        lowest = low / statistic.factor - statistic.margin
        highest = high * statistic.factor + statistic.margin
        if not lowest <= value <= highest:
            before, after = statistic.phrase
            trained = " to ".join(dict.fromkeys(map(_number, (low, high))))  # once, if they agree
            found.append(f"{before} {_number(value)}{after}, in training {trained}")
    return found


def describe_ranges(ranges: Ranges, statistics: Mapping[str, Statistic]) -> dict[str, Any]:
    """Returns ranges and their units as plain values, ready for JSON."""
    return {
        name: {"low": low, "high": high, "unit": statistics[name].unit}
        for name, (low, high) in ranges.items()
    }


def parse_ranges(path: Path, described: Any, names: Iterable[str]) -> Ranges:
    """Returns the ranges that `describe_ranges` described.

    Args:
        path: The file that they were read from, for the message.
        described: What was read.
        names: Of which numbers there must be ranges.

    Raises:
        ValueError: If one is missing or damaged.
    """
    try:
        ranges = {
            name: (float(described[name]["low"]), float(described[name]["high"])) for name in names
        }
    except (KeyError, TypeError, ValueError):
        ranges = {}
    if not ranges or not all(low <= high for low, high in ranges.values()):
        raise ValueError(
            f"{path} is damaged: its ranges must give a low and a high end of {', '.join(names)}."
        )
    return ranges


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
