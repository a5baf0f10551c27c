"""A user's own folder of images and masks."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds

from keras_lgmsnet.files.images import SUFFIXES
from tfds_builders._building import FolderBuilder, FolderConfig, ImageBuilder
from tfds_builders._reading import Case, by_id, walk


@dataclasses.dataclass(eq=False)
class Config(FolderConfig):
    """The folder that holds the folders `images` and `masks`."""

    PARTS: ClassVar = ("images", "masks")


class Builder(FolderBuilder, ImageBuilder):
    """Reads the images in `images` and the masks of the same names in `masks`.

    Example:
    ```python
    builder = Builder(config=Config(folder="/data/ultrasound"))
    builder.download_and_prepare(file_format="array_record")
    examples = builder.as_data_source("train")
    ```
    """

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES: ClassVar = {
        "1.0.0": "First release.",
        "1.1.0": "Reads GIF, WebP, DICOM and more than 8 bits, as prediction does.",
    }
    BUILDER_CONFIGS: ClassVar = [Config(description="The folder that is given.")]
    COLOR = False
    USERS_OWN = True
    LABELS: ClassVar = {0: "background", 1: "foreground"}
    GROUP = "The subfolder of `images` that the image is in; the id of an image in none."

    def _cases(self, folder: Path) -> Iterable[Case]:
        parts = {
            name: by_id(
                {path: path.relative_to(folder / name).as_posix() for path in walk(folder / name)},
                *SUFFIXES,
            )
            for name in Config.PARTS
        }
        for id_, (image, mask) in self._pair(folder, parts):
            group, _, _ = id_.rpartition("/")
            yield Case(id_, (image,), (mask,), group=group or id_)
