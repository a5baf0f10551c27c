"""Datasets of volumes, opened and read as they are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keras_lgmsnet.data.builders import prepare_dataset
from keras_lgmsnet.data.cache import compute_once
from keras_lgmsnet.geometry import Grid
from keras_lgmsnet.kinds import VOLUMES


@dataclass(frozen=True, eq=False)
class VolumeExample:
    """A volume as its dataset has it.

    Args:
        id: Its unique name.
        image: `float32`, shape `(x, y, z, channels)`, in the dataset's own unit.
        segmentation_mask: Labels, `uint8`, shape `(x, y, z)`.
        grid: Where the voxels lie.
    """

    id: str
    image: np.ndarray
    segmentation_mask: np.ndarray
    grid: Grid


@dataclass(frozen=True, eq=False)
class VolumeSource:
    """A dataset of volumes, of which one at a time is in memory.

    Args:
        ids: One unique name a volume.
        groups: The patient or case of every volume.
        dataset: Which copy of which dataset they are of, as `Examples.dataset` has it.
        labels: Names of the labels 0, 1, 2 …, the background's first.
        channels: What each channel holds, such as `["CT"]`.
        examples: The volumes, read when they are indexed, in the order of the ids: `image`,
            `segmentation_mask` and `affine` as `tfds_builders` describes them.
        folder: Where to keep what is computed of them; it goes when the volumes go.
        remarks: Of volumes that lie elsewhere than their header's sform has them, the reason.
    """

    ids: list[str]
    groups: list[str]
    dataset: str
    labels: dict[int, str]
    channels: list[str]
    examples: Sequence[Mapping[str, Any]]
    folder: Path
    remarks: Mapping[str, str] = field(default_factory=dict)

    def describe_remarks(self) -> str | None:
        """Return what is remarkable about how volumes were read, in a sentence."""
        if not self.remarks:
            return None
        id_, remark = next(iter(self.remarks.items()))
        return f"Of {len(self.remarks)} of {len(self.ids)} volumes, such as {id_}: {remark}."

    def read(self, id_: str) -> VolumeExample:
        """Return a volume.

        Raises:
            ValueError: If the id is unknown.
        """
        example = self.examples[self._position(id_)]
        image = example["image"]
        grid = Grid(image.shape[:3], example["affine"])
        return VolumeExample(id_, image, example["segmentation_mask"][..., 0], grid)

    def compute_once(
        self, name: str, id_: str, compute: Callable[[VolumeExample], Sequence[np.ndarray]]
    ) -> tuple[np.ndarray, ...]:
        """Return what is computed of a volume, read from a file from the second time on.

        Args:
            name: Tells everything that decides the arrays besides the volume.
            id_: The volume's.
            compute: From a volume to the arrays.

        Raises:
            ValueError: If the id is unknown.
        """
        return compute_once(self.path(name, id_), lambda: compute(self.read(id_)))

    def path(self, name: str, id_: str) -> Path:
        """Return the file of `compute_once`, which may not be there.

        Raises:
            ValueError: If the id is unknown.
        """
        return self.folder / name / f"{self._position(id_):05d}.npy"

    def _position(self, id_: str) -> int:
        if id_ not in self.ids:
            raise ValueError(
                f"Ids must be among the {len(self.ids)} volumes of {self.dataset}. "
                f"Received: {id_!r}"
            )
        return self.ids.index(id_)


def load_volumes(
    source: str,
    manual_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    *,
    allow_incomplete: bool = False,
    progress: bool = True,
) -> VolumeSource:
    """Open a dataset of volumes, preparing it with TensorFlow Datasets on first use.

    TensorFlow is needed only to prepare more than a gigabyte. Nothing is decoded yet.

    Args:
        source: Name of a dataset of volumes in the `tfds_builders` package, such as `"btcv"`, or
            `"msd_folder"` for a folder of your own.
        manual_dir: Folder that holds the publisher's archives, read only where no prepared copy
            exists; it defaults to `downloads/manual` in `data_dir`. For `"msd_folder"`, the folder
            itself, which has a prepared copy for each content it has had.
        data_dir: Folder of prepared datasets. Defaults to TensorFlow Datasets' own,
            `~/tensorflow_datasets`.
        allow_incomplete: Whether to open the complete cases of an archive that is short of its
            published count, prepared apart.
        progress: Whether to tell the progress.

    Returns:
        The dataset.

    Raises:
        ValueError: If the dataset is unknown or of images, its labels leave a number out, or the
            archives are incomplete or damaged.
        FileNotFoundError: If there is neither a prepared copy nor an archive.

    Example:
    ```python
    source = load_volumes("msd_folder", "/data/Task04_Hippocampus")
    example = source.read(source.ids[0])
    example.image.shape, example.grid.spacing, source.labels
    ```
    """
    builder = prepare_dataset(
        source,
        VOLUMES,
        manual_dir,
        data_dir,
        allow_incomplete=allow_incomplete,
        progress=progress,
    )
    import tensorflow_datasets as tfds

    metadata = builder.info.metadata
    labels = {int(label): name for label, name in metadata["labels"].items()}
    if sorted(labels) != list(range(len(labels))) or len(labels) < 2:
        raise ValueError(
            "The labels must be numbered 0 for the background, then 1, 2 and so on without a gap; "
            f"renumber them in the label maps and in dataset.json. Received: {labels}"
        )
    folder = Path(builder.data_path)

    def read_names() -> tuple[np.ndarray, np.ndarray]:
        arrays = ("image", "segmentation_mask", "spacing", "affine")
        skip = {array: tfds.decode.SkipDecoding() for array in arrays}
        examples = builder.as_data_source("train", decoders=skip)
        names = [(example["id"].decode(), example["group"].decode()) for example in examples]
        ids, groups = zip(*names, strict=True)
        return np.array(ids), np.array(groups)

    # Each record is read as a whole, though little of it is wanted.
    ids, groups = compute_once(folder / "names-v1.npy", read_names)
    return VolumeSource(
        ids=ids.tolist(),
        groups=groups.tolist(),
        dataset=builder.identity,
        labels=dict(sorted(labels.items())),
        channels=list(metadata["channels"]),
        examples=builder.as_data_source("train"),
        folder=folder,
        remarks=metadata.get("remarks", {}),
    )
