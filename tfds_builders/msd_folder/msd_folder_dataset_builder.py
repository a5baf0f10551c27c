"""A user's own folder in the layout of the Medical Segmentation Decathlon or of nnU-Net."""

import collections
import dataclasses
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from keras_lgmsnet.files.nifti import ONE_CHANNEL, SUFFIXES
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

    VERSION = tfds.core.Version("1.2.0")
    RELEASE_NOTES: ClassVar = {
        "1.0.0": "First release.",
        "1.1.0": "Reads what prediction reads.",
        "1.2.0": "Takes voxel sizes from the qform where the sform has others, labels off by "
        "rounding, and the cases that dataset.json lists.",
    }
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
        ending = described.get("file_ending", SUFFIXES[0])
        if ending not in SUFFIXES:
            raise ValueError(
                f"{folder / 'dataset.json'} must name {' or '.join(SUFFIXES)} as its file_ending: "
                f"convert the volumes to NIfTI. Received: {ending!r}"
            )
        masks = list_files(folder / "labelsTr", *SUFFIXES)
        numbers = [f"{number:04d}" for number in range(len(read_channels(folder)))]
        images: dict[str, dict[str, AnyPath]] = {}
        for name, path in list_files(folder / "imagesTr", *SUFFIXES).items():
            # nnU-Net has a file for each channel, case_0000 and so on; the Decathlon one a case.
            numbered = ONE_CHANNEL.fullmatch(name)
            if numbered and name not in masks:
                images.setdefault(numbered[1], {})[numbered[2]] = path
            else:
                images[name] = {"": path}
        parts = {"imagesTr": images, "labelsTr": {id_: {"": path} for id_, path in masks.items()}}
        listed = _read_listed(folder, described)
        if listed:  # a case that it leaves out is not trained on
            parts = {
                part: {id_: files for id_, files in cases.items() if id_ in listed}
                for part, cases in parts.items()
            }
            count = len(listed) if count is None else count
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
        ValueError: If the file is damaged, a label is no integer from 0 to 255, two have one name,
            or none is 0.
    """
    labels = _read_description(folder)["labels"]
    # The Decathlon writes {"1": "liver"}, nnU-Net {"liver": 1}, some {"liver": "1"}.
    if all(isinstance(name, str) for name in labels.values()) and all(map(_is_number, labels)):
        pairs = [(value, name) for value, name in labels.items()]
    else:
        pairs = [(value, name) for name, value in labels.items()]
    path, received = folder / "dataset.json", f"Received: {labels}"
    # nnU-Net's regions are lists of integers.
    names = {int(value): name for value, name in pairs if _is_number(value)}
    if not pairs or len(names) < len(pairs) or not 0 <= min(names) <= max(names) <= 255:
        raise ValueError(
            f"{path} must give each label an integer of its own from 0 to 255. {received}"
        )
    if len(set(names.values())) < len(names):
        raise ValueError(f"{path} must give each label a name of its own. {received}")
    if "ignore" in names.values():
        raise ValueError(
            f"{path} must not have nnU-Net's label ignore, since all voxels are trained on and "
            f"scored; give those voxels another label. {received}"
        )
    if 0 not in names:
        raise ValueError(
            f"{path} must name the label 0, too, which is the background's: add it. {received}"
        )
    return dict(sorted(names.items()))


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


def _read_listed(folder: Path, described: Mapping[str, Any]) -> set[str]:
    """Return the ids of the cases that `dataset.json` lists; none where it has no list.

    Raises:
        ValueError: If it lists files that are not read, in other folders or by other names.
    """
    path = folder / "dataset.json"
    # The Decathlon has a list, nnU-Net an object by case.
    listed = described.get("training") or described.get("dataset") or []
    if isinstance(listed, dict):
        listed = list(listed.values())
    if not isinstance(listed, list):
        raise ValueError(f"{path} must list the cases in training. Received: {listed!r}")
    ids = set()
    for case in listed:
        images, labels = _texts(case, "image", "images"), _texts(case, "label")
        if not images or len(labels) != 1:
            raise ValueError(f"{path} must list each case's image and label. Received: {case!r}")
        id_ = _listed_name(path, "labelsTr", labels[0])
        names = [_listed_name(path, "imagesTr", image) for image in images]
        if any(name != id_ and ONE_CHANNEL.sub(r"\1", name) != id_ for name in names):
            raise ValueError(
                f"{path} must list image and label by one name, by which they are paired: rename "
                f"one. Received: {case!r}"
            )
        ids.add(id_)
    return ids


def _texts(case: Any, *keys: str) -> list[str]:
    """Return the texts under the first of the keys, one or a list; none where there are others."""
    value = next((case[key] for key in keys if key in case), None) if isinstance(case, dict) else 0
    values = value if isinstance(value, list) else [value]
    texts = [text for text in values if isinstance(text, str)]
    return texts if len(texts) == len(values) else []


def _listed_name(path: Path, part: str, text: str) -> str:
    """Return the name, without its suffix, of a file of a part that `dataset.json` lists."""
    file = PurePosixPath(text)
    suffix = next((end for end in SUFFIXES if file.name.lower().endswith(end)), None)
    if file.parts[:-1] != (part,) or suffix is None:
        raise ValueError(
            f"{path} must list files {part}/NAME{SUFFIXES[0]}, since no other are read: move or "
            f"rename them, or take the list out. Received: {text}"
        )
    return unicodedata.normalize("NFC", file.name[: -len(suffix)])


def _is_number(value: Any) -> bool:
    """Return whether a value is an integer, as a number or in up to three digits."""
    if isinstance(value, str):
        return re.fullmatch("[0-9]{1,3}", value) is not None
    return not isinstance(value, bool) and isinstance(value, int | float) and value % 1 == 0


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object, of which Python would keep the last of two values of one name."""
    values = dict(pairs)
    if len(values) < len(pairs):
        counted = collections.Counter(name for name, _ in pairs)
        raise ValueError(f"it has several values named {counted.most_common(1)[0][0]!r}")
    return values


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / "dataset.json"
    content = read_bytes(path, limit=2**24)
    try:
        described = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
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
