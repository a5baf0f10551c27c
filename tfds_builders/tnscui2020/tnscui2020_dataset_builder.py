"""TN-SCUI 2020: thyroid nodules in ultrasound images."""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds

from keras_lgmsnet.files.images import SUFFIXES
from tfds_builders._building import ImageBuilder
from tfds_builders._reading import Case, list_files


class Builder(ImageBuilder):
    """Reads the training images and masks of the challenge."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Request the training data from https://tn-scui2020.grand-challenge.org and put its "
        "folders image and mask there."
    )
    NUM_EXAMPLES = 3644
    COLOR = False
    LABELS: ClassVar = {0: "tissue", 1: "nodule"}
    HOMEPAGE = "https://tn-scui2020.grand-challenge.org"

    def _cases(self, folder: Path) -> Iterable[Case]:
        parts = {
            name: list_files(self._part(folder, name, f"{name}s"), *SUFFIXES)
            for name in ("image", "mask")
        }
        for id_, (image, mask) in self._pair(folder, parts, self.NUM_EXAMPLES):
            yield Case(id_, (image,), (mask,), group=id_)
