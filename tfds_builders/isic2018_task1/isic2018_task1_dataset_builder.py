"""ISIC 2018 task 1: skin lesions in dermoscopic images, outlined by experts."""

import itertools
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds

IMAGES = "ISIC2018_Task1-2_Training_Input"
SEGMENTATION_MASKS = "ISIC2018_Task1_Training_GroundTruth"


class Builder(tfds.core.GeneratorBasedBuilder):
    """Reads the publisher's training images and masks, zipped or extracted."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Download {IMAGES}.zip and {SEGMENTATION_MASKS}.zip from "
        "https://challenge.isic-archive.com/data/#2018 and put them there, zipped or extracted."
    )
    NUM_EXAMPLES = 2594

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), doc="RGB."),
                    "segmentation_mask": tfds.features.Image(
                        shape=(None, None, 1), use_colormap=True, doc="0 skin, 1 lesion."
                    ),
                    "id": tfds.features.Text(doc="The image's name, such as ISIC_0000000."),
                }
            ),
            supervised_keys=("image", "segmentation_mask"),
            homepage="https://challenge.isic-archive.com/landing/2018/45/",
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        manual_dir = Path(dl_manager.manual_dir)
        parts = {
            IMAGES: _files(manual_dir, IMAGES, ".jpg"),
            SEGMENTATION_MASKS: _files(manual_dir, SEGMENTATION_MASKS, "_segmentation.png"),
        }
        for (part, files), (other_part, other_files) in itertools.permutations(parts.items()):
            if missing := sorted(other_files.keys() - files.keys()):
                raise ValueError(
                    f"{part} in {manual_dir} has {len(files)} of {self.NUM_EXAMPLES} files and "
                    f"none for {missing[0]}, which {other_part} has; download it again."
                )
        if len(parts[IMAGES]) != self.NUM_EXAMPLES:
            raise ValueError(
                f"{IMAGES} and {SEGMENTATION_MASKS} in {manual_dir} must have "
                f"{self.NUM_EXAMPLES} files each; download both again. "
                f"Received: {len(parts[IMAGES])}"
            )
        return {"train": self._generate_examples(*parts.values())}

    def _generate_examples(
        self,
        images: dict[str, Path | zipfile.Path],
        segmentation_masks: dict[str, Path | zipfile.Path],
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for id_, image_path in images.items():
            mask_path = segmentation_masks[id_]
            encoded_image, image = _read(image_path)
            _, mask = _read(mask_path)
            if image.shape[2:] != (3,):
                raise ValueError(f"{image_path} must be a colour image. Received: {image.shape}")
            if mask.shape != image.shape[:2]:
                raise ValueError(
                    f"{mask_path} must be a grey image of its image's height and width, "
                    f"{image.shape[:2]}. Received: {mask.shape}"
                )
            # Encoded here, because TensorFlow Datasets encodes arrays with TensorFlow only.
            _, encoded_mask = cv2.imencode(".png", (mask > 127).astype(np.uint8))
            yield (
                id_,
                {"image": encoded_image, "segmentation_mask": encoded_mask.tobytes(), "id": id_},
            )


def _files(manual_dir: Path, part: str, suffix: str) -> dict[str, Path | zipfile.Path]:
    """Returns the part's files by id, from its folder or else from within its zip file."""
    folder = manual_dir / part
    if not folder.is_dir():
        archive = manual_dir / f"{part}.zip"
        try:
            folder = zipfile.Path(archive, f"{part}/")
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"Neither {folder} nor {archive} exists. {Builder.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            ) from error
        except zipfile.BadZipFile as error:
            raise ValueError(f"{archive} is damaged ({error}); download it again.") from error
    return {
        path.name.removesuffix(suffix): path
        for path in sorted(folder.iterdir(), key=lambda path: path.name)
        if path.name.endswith(suffix)
    }


def _read(path: Path | zipfile.Path) -> tuple[bytes, np.ndarray]:
    """Returns the file's bytes and the pixels that they encode."""
    try:
        encoded = path.read_bytes()
        pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    except (OSError, zipfile.BadZipFile, zlib.error, cv2.error) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if pixels is None:
        raise ValueError(f"{path} is not a readable image; download it again.")
    return encoded, pixels
