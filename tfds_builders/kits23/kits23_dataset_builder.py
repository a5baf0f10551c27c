"""KiTS23: kidneys, kidney tumours and cysts in CT."""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds

from tfds_builders._building import VolumeBuilder
from tfds_builders._reading import Case, case_files


class Builder(VolumeBuilder):
    """Reads the public cases, as the publisher's program downloads them."""

    VERSION = tfds.core.Version("1.1.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Clone https://github.com/neheller/kits23, install it, run kits23_download_data, and give "
        "the clone, which holds the folder dataset."
    )
    NUM_EXAMPLES = 489
    LABELS: ClassVar = {0: "background", 1: "kidney", 2: "tumour", 3: "cyst"}
    HOMEPAGE = "https://kits-challenge.org/kits23/"
    GROUP = "The id: each case is another patient."

    def _cases(self, folder: Path) -> Iterable[Case]:
        root = self._part(folder, "dataset")
        parts = {name: case_files(root, name) for name in ("imaging.nii.gz", "segmentation.nii.gz")}
        for id_, (image, mask) in self._pair(root, parts, self.NUM_EXAMPLES):
            yield Case(id_, (image,), (mask,), group=id_)
