"""BUS, also called BUSIS: breast tumours in ultrasound images of several devices."""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds

from keras_lgmsnet.files.images import SUFFIXES
from tfds_builders._building import ImageBuilder
from tfds_builders._reading import Case, list_files

IMAGES = ("images", "image", "imgs", "original", "Images", "Original")
SEGMENTATION_MASKS = ("masks", "mask", "GT", "gt", "ground_truth", "groundtruth", "Masks", "labels")


class Builder(ImageBuilder):
    """Reads a folder of images and one of masks with the same names.

    The archive is sent on request and its folders' names are not published, so usual ones are
    tried.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Request the images from http://cvprip.cs.usu.edu/busbench and put them there: the folder "
        "images, and the folder masks with a mask of the same name for each."
    )
    NUM_EXAMPLES = 562
    COLOR = False
    LABELS: ClassVar = {0: "tissue", 1: "tumour"}
    HOMEPAGE = "http://cvprip.cs.usu.edu/busbench"

    def _cases(self, folder: Path) -> Iterable[Case]:
        images, masks = self._part(folder, *IMAGES), self._part(folder, *SEGMENTATION_MASKS)
        parts = {
            images.name: list_files(images, *SUFFIXES),
            masks.name: list_files(masks, *SUFFIXES),
        }
        for id_, (image, mask) in self._pair(folder, parts, self.NUM_EXAMPLES):
            yield Case(id_, (image,), (mask,), group=id_)
