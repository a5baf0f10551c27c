"""CVC-300 as in polyp papers: CVC-EndoSceneStill, CVC-300 and CVC-612 together."""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds

from keras_lgmsnet.files.images import SUFFIXES
from tfds_builders._building import ImageBuilder
from tfds_builders._reading import Case, list_files


class Builder(ImageBuilder):
    """Reads the frames and polyp masks of both parts of CVC-EndoSceneStill."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Download CVC-EndoSceneStill from "
        "https://pages.cvc.uab.es/CVC-Colon/index.php/databases/cvc-endoscenestill/, extract it "
        "and put its folders CVC-300 and CVC-612 there."
    )
    NUM_EXAMPLES: ClassVar = {"CVC-300": 300, "CVC-612": 612}
    LABELS: ClassVar = {0: "mucosa", 1: "polyp"}
    HOMEPAGE = "https://pages.cvc.uab.es/CVC-Colon/index.php/databases/cvc-endoscenestill/"
    GROUP = "The id, as the archive does not tell which video a frame is from."

    def _cases(self, folder: Path) -> Iterable[Case]:
        for source, count in self.NUM_EXAMPLES.items():
            parts = {
                name: list_files(self._part(folder, name, f"CVC-EndoSceneStill/{name}"), *SUFFIXES)
                for name in (f"{source}/bbdd", f"{source}/gtpolyp")
            }
            for number, (image, mask) in self._pair(folder, parts, count):
                id_ = f"{source}_{number}"  # both parts count from 1
                yield Case(id_, (image,), (mask,), group=id_)
