"""BUSI: breast lesions in ultrasound images."""

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds

from keras_lgmsnet.files.paths import AnyPath
from tfds_builders._building import ImageBuilder
from tfds_builders._reading import Case, list_files

ROOT = "Dataset_BUSI_with_GT"


@dataclasses.dataclass(eq=False)
class BusiConfig(tfds.core.BuilderConfig):
    """Says which of the publisher's folders to read."""

    classes: tuple[str, ...] = ()


class Builder(ImageBuilder):
    """Reads the publisher's images and unites the several masks that some images have."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [
        BusiConfig(
            name="lesions",
            description="Benign and malignant lesions.",
            classes=("benign", "malignant"),
        ),
        BusiConfig(
            name="all",
            description="Benign and malignant lesions, and normal breasts, whose masks are empty.",
            classes=("benign", "malignant", "normal"),
        ),
    ]
    DEFAULT_BUILDER_CONFIG_NAME = "lesions"
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Download Dataset_BUSI.zip from https://scholar.cu.edu.eg/?q=afahmy/pages/dataset and put "
        f"it there, or the folder {ROOT} that is in it."
    )
    NUM_EXAMPLES: ClassVar = {"benign": 437, "malignant": 210, "normal": 133}
    LABELS: ClassVar = {0: "tissue", 1: "lesion"}
    HOMEPAGE = "https://scholar.cu.edu.eg/?q=afahmy/pages/dataset"

    def _cases(self, folder: Path) -> Iterable[Case]:
        for class_ in self.builder_config.classes:
            part = self._zipped_part(folder, f"{ROOT}/{class_}", "Dataset_BUSI.zip")
            images: dict[str, list[AnyPath]] = {}
            masks: dict[str, list[AnyPath]] = {}
            for name, path in list_files(part, ".png").items():
                if mask := re.fullmatch(r"(.+)_mask(_\d+)?", name):
                    masks.setdefault(mask[1], []).append(path)
                else:
                    images[name] = [path]
            parts = {f"images of {ROOT}/{class_}": images, f"masks of {ROOT}/{class_}": masks}
            for id_, (image, united) in self._pair(folder, parts, self.NUM_EXAMPLES[class_]):
                yield Case(id_, tuple(image), tuple(united), group=id_)
