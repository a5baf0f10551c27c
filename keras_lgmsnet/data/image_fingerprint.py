"""What a run's training images look like, and whether another image is like them.

A network is only as good as its training images are like those it is shown. Training writes
`fingerprint.json` to the run directory; prediction holds every image against it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import cv2
import numpy as np

from keras_lgmsnet.data.ranges import (
    Ranges,
    Statistic,
    describe_ranges,
    find_deviations,
    find_ranges,
    parse_ranges,
)
from keras_lgmsnet.files.writing import write_json
from keras_lgmsnet.run_directory import read_json

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
    """Return an image's `STATISTICS`.

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
    """The ranges of a run's training images, and how they were read.

    Args:
        num_images: Of how many images.
        ranges: Low and high end by the names of `STATISTICS`: the middle 98 % of the images, so
            that a few odd ones do not count.
        bits: By how many bits in use images are scaled whose files have more than 8 and do not say
            how many, as `files.images.read_image` takes them; `None` if there were none.

    Example:
    ```python
    fingerprint = Fingerprint.read(Path("runs/isic"))
    fingerprint.deviations(measure(cv2.resize(image, (256, 256)), image.shape[:2]))
    ```
    """

    num_images: int
    ranges: Ranges
    bits: int | None = None

    @classmethod
    def of_images(
        cls,
        images: Iterable[np.ndarray],
        sizes: Iterable[Sequence[int]],
        *,
        bits: int | None = None,
    ) -> Self:
        """Return the fingerprint of images, each given as `measure` takes it."""
        rows = [measure(image, size) for image, size in zip(images, sizes, strict=True)]
        return cls(len(rows), find_ranges(rows), bits)

    @classmethod
    def read(cls, run_directory: Path) -> Self:
        """Return the fingerprint in a run directory.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If it is damaged.
        """
        values = read_json(run_directory, "fingerprint.json", "num_images", "ranges")
        path = run_directory / "fingerprint.json"
        ranges = parse_ranges(path, values["ranges"], STATISTICS)
        bits = values.get("bits")  # which runs of earlier versions did not keep
        if not (bits is None or (type(bits) is int and 8 <= bits <= 64)):
            raise ValueError(f"{path} is damaged: bits must be 8 to 64. Received: {bits!r}")
        return cls(values["num_images"], ranges, bits)

    def write(self, run_directory: Path) -> None:
        """Write the fingerprint to a run directory, atomically."""
        ranges = describe_ranges(self.ranges, STATISTICS)
        write_json(
            run_directory / "fingerprint.json",
            {"num_images": self.num_images, "bits": self.bits, "ranges": ranges},
        )

    def deviations(self, statistics: dict[str, float]) -> list[str]:
        """Return in words what lies outside the training images' range, by more than a little.

        Args:
            statistics: What `measure` returned.
        """
        return find_deviations(statistics, self.ranges, STATISTICS)
