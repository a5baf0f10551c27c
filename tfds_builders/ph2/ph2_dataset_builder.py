"""PH2: melanocytic lesions in dermoscopic images."""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds

from tfds_builders._building import ImageBuilder
from tfds_builders._reading import Case, case_files

ROOT = "PH2Dataset/PH2 Dataset images"


class Builder(ImageBuilder):
    """Reads the publisher's extracted archive, which has a folder for each case."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Download PH2Dataset.rar from https://www.fc.up.pt/addi/ph2%20database.html, extract it "
        "and put its folder PH2Dataset there."
    )
    NUM_EXAMPLES = 200
    LABELS: ClassVar = {0: "skin", 1: "lesion"}
    HOMEPAGE = "https://www.fc.up.pt/addi/ph2%20database.html"

    def _cases(self, folder: Path) -> Iterable[Case]:
        root = self._part(folder, ROOT)
        parts = {
            "Dermoscopic_Image": case_files(root, "{0}_Dermoscopic_Image/{0}.bmp"),
            "lesion": case_files(root, "{0}_lesion/{0}_lesion.bmp"),
        }
        for id_, (image, mask) in self._pair(root, parts, self.NUM_EXAMPLES):
            yield Case(id_, (image,), (mask,), group=id_)
