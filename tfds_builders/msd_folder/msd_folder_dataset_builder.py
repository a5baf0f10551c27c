"""A user's own folder in the layout of the Medical Segmentation Decathlon or of nnU-Net."""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from keras_lgmsnet.files.nifti import SUFFIXES
from keras_lgmsnet.files.paths import AnyPath, read_bytes
from tfds_builders._building import FolderBuilder, FolderConfig, VolumeBuilder
from tfds_builders._reading import Case, list_files


@dataclasses.dataclass(eq=False)
class Config(FolderConfig):
    """The folder that holds `imagesTr`, `labelsTr` and `dataset.json`."""

    PARTS: ClassVar = ("dataset.json", "imagesTr", "labelsTr")


class Builder(FolderBuilder, VolumeBuilder):
    """Reads the training volumes; `dataset.json` names labels and channels and counts the cases.

    Example:
    ```python
    builder = Builder(config=Config(folder="/data/Task04_Hippocampus"))
    builder.download_and_prepare(file_format="array_record")
    examples = builder.as_data_source("train")
    builder.info.metadata["labels"]  # {"0": "background", "1": "Anterior", "2": "Posterior"}
    builder.info.metadata["channels"]  # ["MRI"]
    ```
    """

    VERSION = tfds.core.Version("1.1.0")
    BUILDER_CONFIGS: ClassVar = [Config(description="The folder that is given.")]

    def _labels(self) -> Mapping[int, str]:
        folder = self.builder_config.folder
        return read_labels(Path(folder)) if folder else self.LABELS

    def _channels(self) -> Sequence[str]:
        folder = self.builder_config.folder
        return read_channels(Path(folder)) if folder else self.CHANNELS

    def _cases(self, folder: Path) -> Iterable[Case]:
        described = _read_description(folder)
        count = described.get("numTraining")
        if not isinstance(count, int | None) or isinstance(count, bool):
            raise ValueError(
                f"{folder / 'dataset.json'} must count the cases in numTraining by an integer. "
                f"Received: {count!r}"
            )
        masks = list_files(folder / "labelsTr", *SUFFIXES)
        numbers = [f"{number:04d}" for number in range(len(read_channels(folder)))]
        images: dict[str, dict[str, AnyPath]] = {}
        for name, path in list_files(folder / "imagesTr", *SUFFIXES).items():
            # nnU-Net has a file for each channel, case_0000 and so on; the Decathlon one a case.
            numbered = re.fullmatch(r"(.+)_(\d{4})", name)
            if numbered and name not in masks:
                images.setdefault(numbered[1], {})[numbered[2]] = path
            else:
                images[name] = {"": path}
        parts = {"imagesTr": images, "labelsTr": {id_: {"": path} for id_, path in masks.items()}}
        for id_, (files, mask) in self._pair(folder, parts, count):
            if "" not in files and sorted(files) != numbers:
                raise ValueError(
                    f"imagesTr in {folder} must have the files _{', _'.join(numbers)} for {id_}, "
                    f"one for each channel in dataset.json. Received: _{', _'.join(sorted(files))}"
                )
            channels = tuple(files[number] for number in sorted(files))
            yield Case(id_, channels, (mask[""],), group=id_)

    def _example(self, case: Case) -> dict[str, Any]:
        example = super()._example(case)
        count = len(self._channels())
        if example["image"].shape[3] != count:
            raise ValueError(
                f"{case.images[0]} must have as many channels as dataset.json names, {count}. "
                f"Received: shape {example['image'].shape}"
            )
        return example


def read_labels(folder: Path) -> Mapping[int, str]:
    """Return the labels' names by value, in either spelling of `dataset.json`.

    Raises:
        ValueError: If the file is damaged, or a label is no integer from 0 to 255.
    """
    labels = _read_description(folder)["labels"]
    # The Decathlon writes {"1": "liver"}, nnU-Net {"liver": 1}.
    if all(isinstance(name, str) for name in labels.values()):
        labels = {name: value for value, name in labels.items()}
    try:
        values = {int(value): name for name, value in labels.items()}
    except (TypeError, ValueError, OverflowError):  # nnU-Net's regions are lists of integers
        values = {}
    if not values or len(values) != len(labels) or not all(0 <= value <= 255 for value in values):
        raise ValueError(
            f"{folder / 'dataset.json'} must give each label an integer of its own from 0 to 255. "
            f"Received: {labels}"
        )
    if "ignore" in values.values():
        raise ValueError(
            f"{folder / 'dataset.json'} must not have nnU-Net's label ignore, since all voxels are "
            f"trained on and scored; give those voxels another label. Received: {labels}"
        )
    return dict(sorted(values.items()))


def read_channels(folder: Path) -> Sequence[str]:
    """Return what each channel holds, such as `["CT"]`, in either spelling of `dataset.json`.

    Raises:
        ValueError: If the file is damaged, or a channel has no name or number of its own.
    """
    described = _read_description(folder)
    # The Decathlon writes {"modality": {"0": "CT"}}, nnU-Net {"channel_names": {"0": "CT"}}.
    channels = described.get("channel_names") or described.get("modality") or ["image"]
    if isinstance(channels, list):
        channels = {str(number): name for number, name in enumerate(channels)}
    names = [channels.get(str(number)) for number in range(len(channels))]
    texts = [name for name in names if isinstance(name, str)]
    if len(texts) < len(names):
        raise ValueError(
            f"{folder / 'dataset.json'} must name the channels by their numbers from 0 on, such as "
            f'{{"0": "CT"}}. Received: {channels}'
        )
    return texts


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / "dataset.json"
    try:
        described = json.loads(read_bytes(path, limit=2**24).decode("utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(described, dict) or not isinstance(described.get("labels"), dict):
        raise ValueError(f"{path} must hold an object with the object labels in it.")
    for name in ("channel_names", "modality"):
        if not isinstance(described.get(name), dict | list | None):
            raise ValueError(
                f"{path} must name the channels in {name} by an object. "
                f"Received: {described[name]!r}"
            )
    return described
