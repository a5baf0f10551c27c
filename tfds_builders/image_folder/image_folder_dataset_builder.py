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
    """The folder that holds the folders `images` and `masks`, and how the masks are read.

    Args:
        name: Ignored.
        folder: The folder's path.
        mask_threshold: Above which value, from 0 to 254 of 255, a mask of more than two values is
            foreground. By default such a mask is refused, because they might be further classes.
            For each threshold, the folder has a prepared copy.

    Raises:
        FileNotFoundError: If the folder or one of its parts does not exist.
        ValueError: If a file cannot be read or is a link to elsewhere, or the threshold is out of
            range.
    """

    PARTS: ClassVar = ("images", "masks")

    mask_threshold: int | None = None

    def __post_init__(self) -> None:
        threshold = self.mask_threshold
        if not (threshold is None or (type(threshold) is int and 0 <= threshold < 255)):
            raise ValueError(
                f"mask_threshold must be an integer from 0 to 254, or None. Received: {threshold!r}"
            )
        super().__post_init__()

    @property
    def reading(self) -> str:
        """The threshold, if there is one."""
        return "" if self.mask_threshold is None else f"mask_threshold={self.mask_threshold}"


class Builder(FolderBuilder, ImageBuilder):
    """Reads the images in `images` and the masks of the same names in `masks`.

    Example:
    ```python
    builder = Builder(config=Config(folder="/data/ultrasound"))
    builder.download_and_prepare(file_format="array_record")
    examples = builder.as_data_source("train")
    ```
    """

    VERSION = tfds.core.Version("1.2.0")
    RELEASE_NOTES: ClassVar = {
        "1.0.0": "First release.",
        "1.1.0": "Reads GIF, WebP, DICOM and more than 8 bits, as prediction does.",
        "1.2.0": "Reads masks that are told by opacity, and images by their declared bits.",
    }
    BUILDER_CONFIGS: ClassVar = [Config(description="The folder that is given.")]
    COLOR = False
    USERS_OWN = True
    LABELS: ClassVar = {0: "background", 1: "foreground"}
    GROUP = "The subfolder of `images` that the image is in; the id of an image in none."
    builder_config: Config

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

    def _mask_threshold(self) -> int | None:
        return self.builder_config.mask_threshold
