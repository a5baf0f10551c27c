"""ISIC 2018 task 1: skin lesions in dermoscopic images, outlined by experts."""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds

from tfds_builders._building import ImageBuilder
from tfds_builders._reading import Case, list_files

IMAGES = "ISIC2018_Task1-2_Training_Input"
SEGMENTATION_MASKS = "ISIC2018_Task1_Training_GroundTruth"


class Builder(ImageBuilder):
    """Reads the publisher's training images and masks, zipped or extracted."""

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release.", "1.1.0": "Adds `group`."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Download {IMAGES}.zip and {SEGMENTATION_MASKS}.zip from "
        "https://challenge.isic-archive.com/data/#2018 and put them there, zipped or extracted."
    )
    NUM_EXAMPLES = 2594
    LABELS: ClassVar = {0: "skin", 1: "lesion"}
    HOMEPAGE = "https://challenge.isic-archive.com/landing/2018/45/"

    def _cases(self, folder: Path) -> Iterable[Case]:
        images = self._zipped_part(folder, IMAGES, f"{IMAGES}.zip")
        masks = self._zipped_part(folder, SEGMENTATION_MASKS, f"{SEGMENTATION_MASKS}.zip")
        parts = {
            IMAGES: list_files(images, ".jpg"),
            SEGMENTATION_MASKS: list_files(masks, "_segmentation.png"),
        }
        for id_, (image, mask) in self._pair(folder, parts, self.NUM_EXAMPLES):
            yield Case(id_, (image,), (mask,), group=id_)
