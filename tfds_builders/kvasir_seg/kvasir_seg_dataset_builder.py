"""Kvasir-SEG: polyps in colonoscopy images."""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds

from tfds_builders._building import ImageBuilder
from tfds_builders._reading import Case, list_files

ROOT = "Kvasir-SEG"
ARCHIVE = "kvasir-seg.zip"


class Builder(ImageBuilder):
    """Reads the publisher's images and masks, zipped or extracted."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Download {ARCHIVE} from https://datasets.simula.no/kvasir-seg/ and put it there, or the "
        f"folder {ROOT} that is in it."
    )
    NUM_EXAMPLES = 1000
    LABELS: ClassVar = {0: "mucosa", 1: "polyp"}
    HOMEPAGE = "https://datasets.simula.no/kvasir-seg/"

    def _cases(self, folder: Path) -> Iterable[Case]:
        parts = {
            name: list_files(self._zipped_part(folder, name, ARCHIVE), ".jpg")
            for name in (f"{ROOT}/images", f"{ROOT}/masks")
        }
        for id_, (image, mask) in self._pair(folder, parts, self.NUM_EXAMPLES):
            yield Case(id_, (image,), (mask,), group=id_)
