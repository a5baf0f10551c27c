"""BTCV: 13 abdominal organs in portal venous CT."""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds

from keras_lgmsnet.files.nifti import SUFFIXES
from tfds_builders._building import VolumeBuilder
from tfds_builders._reading import Case, list_files

ROOT = "RawData/Training"
ORGANS = (
    "spleen",
    "right kidney",
    "left kidney",
    "gallbladder",
    "oesophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior vena cava",
    "portal and splenic veins",
    "pancreas",
    "right adrenal gland",
    "left adrenal gland",
)


class Builder(VolumeBuilder):
    """Reads the publisher's 30 labelled training volumes, zipped or extracted."""

    VERSION = tfds.core.Version("1.1.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Download RawData.zip (Abdomen) from https://www.synapse.org/Synapse:syn3193805 and put it "
        "there, or the folder RawData that is in it."
    )
    NUM_EXAMPLES = 30
    LABELS: ClassVar = dict(enumerate(("background", *ORGANS)))
    HOMEPAGE = "https://www.synapse.org/Synapse:syn3193805"
    GROUP = "The id: each volume is of another patient."

    def _cases(self, folder: Path) -> Iterable[Case]:
        parts = {}
        for name in ("img", "label"):
            part = self._zipped_part(folder, f"{ROOT}/{name}", "RawData.zip")
            parts[f"{ROOT}/{name}"] = {
                file.removeprefix(name): path for file, path in list_files(part, *SUFFIXES).items()
            }
        for id_, (image, mask) in self._pair(folder, parts, self.NUM_EXAMPLES):
            yield Case(id_, (image,), (mask,), group=id_)
