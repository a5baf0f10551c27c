"""The builders' base classes.

A builder derives from `ImageBuilder` (2D) or `VolumeBuilder` (3D) and lists its cases; a builder of
a user's own folder also from `FolderBuilder`.
"""

import abc
import copy
import dataclasses
import hashlib
import itertools
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import tensorflow_datasets as tfds

from keras_lgmsnet.files.images import undeclared_bits
from keras_lgmsnet.files.masks import read_mask
from keras_lgmsnet.files.nifti import read_channels, read_label_map, require_same_grid
from keras_lgmsnet.files.paths import AnyPath
from keras_lgmsnet.process.progress import track
from tfds_builders._reading import Case, check_link, encode_png, open_zip, read_encoded, walk
from tfds_builders._writing import ExampleWriter

CaseFiles = TypeVar("CaseFiles")  # what a part of an archive has for a case

_GO_ON = (
    "correct that, or set allow_incomplete=True (lgms-train --set data.allow_incomplete=true, "
    "lgms-evaluate and lgms-figures --allow-incomplete) to go on with the complete cases"
)


class SegmentationBuilder(tfds.core.GeneratorBasedBuilder):
    """Base of all builders.

    Args:
        allow_incomplete: Whether to go on with the complete cases of an archive that is short of
            its published count, instead of raising a `ValueError`. They are prepared under a
            config of their own, `incomplete`, so that they never pass for the whole dataset.
        config: As in TensorFlow Datasets.
        **kwargs: Further arguments of TensorFlow Datasets' builders, such as `data_dir`.
    """

    LABELS: ClassVar[Mapping[int, str]] = {0: "background", 1: "lesion"}
    HOMEPAGE: ClassVar[str | None] = None
    GROUP: ClassVar[str] = "The id, as the source tells no patients."
    progress = False  # whether to tell it

    def __init__(
        self,
        *,
        allow_incomplete: bool = False,
        config: str | tfds.core.BuilderConfig | None = None,
        **kwargs: Any,
    ) -> None:
        self.allow_incomplete = allow_incomplete
        super().__init__(config=self._incomplete(config) if allow_incomplete else config, **kwargs)

    @property
    def identity(self) -> str:
        """Which copy of which dataset is prepared, as `name/config/version`.

        An incomplete one adds a digest of its cases: `ph2/incomplete/1.0.0@89abcdef01234567`.
        """
        name = self.info.full_name
        return f"{name}@{self.info.metadata['cases']}" if self.allow_incomplete else name

    def require_current(self, folder: Path) -> None:
        """Raise a `ValueError` if the archive has other cases than the prepared copy.

        Of an incomplete archive, more may have arrived. The prepared copy of an archive that is no
        longer there counts as current.

        Args:
            folder: Where the archive was.
        """
        try:
            cases = _digest_cases(self._cases(folder))
        except FileNotFoundError:
            return
        if self.info.metadata.get("cases") != cases:
            raise ValueError(
                f"The prepared copy has other cases than the archive in {folder}, which changed "
                f"since; delete it or choose another data_dir. Received: {self.data_path}"
            )

    @abc.abstractmethod
    def _cases(self, folder: Path) -> Iterable[Case]:
        """List the cases of a complete archive in the folder."""

    @abc.abstractmethod
    def _example(self, case: Case) -> dict[str, Any]:
        """Read a case."""

    @abc.abstractmethod
    def _features(self) -> dict[str, tfds.features.FeatureConnector]:
        """Return the features besides `id` and `group`."""

    def _labels(self) -> Mapping[int, str]:
        """Return the names of the mask's labels."""
        return self.LABELS

    def _incomplete(
        self, config: str | tfds.core.BuilderConfig | None
    ) -> str | tfds.core.BuilderConfig:
        """Return a config under whose name an incomplete archive is prepared."""
        if isinstance(config, str):
            complete = self.get_builder_config(name=config)
            if complete is None:
                return config  # which TensorFlow Datasets refuses
        else:
            complete = config or self.get_default_builder_config()
        incomplete = copy.copy(complete) or tfds.core.BuilderConfig(name="")
        incomplete.name = f"{incomplete.name}_incomplete".lstrip("_")
        return incomplete

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    **self._features(),
                    "id": tfds.features.Text(doc="The example's unique name."),
                    "group": tfds.features.Text(doc=self.GROUP),
                }
            ),
            supervised_keys=("image", "segmentation_mask"),
            homepage=self.HOMEPAGE,
            metadata=tfds.core.MetadataDict(self._metadata()),
        )

    def _metadata(self) -> dict[str, Any]:
        return {"labels": {str(value): name for value, name in self._labels().items()}}

    def _example_writer(self) -> tfds.core.ExampleWriter:
        return ExampleWriter(self.info.file_format, progress=self.progress)

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        # Listed before anything is read, so that a short archive is refused at once.
        cases = list(self._cases(self._folder(dl_manager)))
        self.info.metadata["cases"] = _digest_cases(cases)
        return {"train": self._generate_examples(cases)}

    def _folder(self, dl_manager: tfds.download.DownloadManager) -> Path:
        """Return where the archive is."""
        return Path(dl_manager.manual_dir)

    def _generate_examples(self, cases: Sequence[Case]) -> Iterator[tuple[str, dict[str, Any]]]:
        for case in track(cases, label=f"Preparing {self.name}", unit="case", shown=self.progress):
            yield case.id, {**self._example(case), "id": case.id, "group": case.group}

    def _part(self, folder: Path, *names: str) -> Path:
        """Find a folder of the archive.

        Args:
            folder: Where the archive is.
            *names: The folder's path in the archive as published, then other spellings of it.

        Raises:
            FileNotFoundError: If there is none.
        """
        part = _find_folder(folder, names)
        if part is None:
            expected = f"{folder} holds no folder {' or '.join(names)}."
            raise FileNotFoundError(f"{expected} {self.MANUAL_DOWNLOAD_INSTRUCTIONS}")
        return part

    def _zipped_part(self, folder: Path, name: str, archive: str) -> AnyPath:
        """Find a folder of an archive that the publisher ships as a zip file, extracted or not.

        Args:
            folder: Where the archive is.
            name: The folder's path in the archive.
            archive: The zip file.

        Returns:
            The extracted folder, or else the folder in the zip file.

        Raises:
            FileNotFoundError: If there is neither.
            ValueError: If the zip file is damaged or not the publisher's.
        """
        part = _find_folder(folder, [name])
        if part is not None:
            return part
        try:
            return zipfile.Path(open_zip(folder / archive), f"{name}/")
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"Neither {folder / name} nor {folder / archive} exists. "
                f"{self.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            ) from error

    def _pair(
        self, folder: Path, parts: Mapping[str, Mapping[str, CaseFiles]], count: int | None = None
    ) -> Iterator[tuple[str, tuple[CaseFiles, ...]]]:
        """Join the parts of an archive by id.

        Args:
            folder: Where the parts are, for messages.
            parts: What each part has for an id, by the part's name.
            count: How many ids the publisher counts; `None` counts those of any part.

        Returns:
            Each id, sorted as a string, with what every part has for it.

        Raises:
            ValueError: If a part lacks an id that another has, or the count is another, unless
                `allow_incomplete`; if there is nothing to yield at all.
        """
        counted = len(set().union(*parts.values())) if count is None else count
        if not counted:
            raise ValueError(
                f"{' and '.join(parts)} in {folder} must hold files of a kind that is read, of "
                "the same names. Received: none"
            )
        for (part, files), (other_part, other) in itertools.permutations(parts.items(), 2):
            missing = sorted(other.keys() - files.keys())
            if missing and not self.allow_incomplete:
                raise ValueError(
                    f"{part} in {folder} has {len(files)} of {counted} files and none for "
                    f"{missing[0]}, which {other_part} has; {_GO_ON}."
                )
        ids = sorted(set.intersection(*(set(files) for files in parts.values())))
        self._check_count(
            f"{' and '.join(parts)} in {folder} must have {counted} files each", ids, counted
        )
        return ((id_, tuple(files[id_] for files in parts.values())) for id_ in ids)

    def _check_count(self, expectation: str, received: Sized, count: int) -> None:
        """Raise a `ValueError` if the count is not the published one and has to be."""
        short = count - len(received)
        if not received or (short and not self.allow_incomplete):
            raise ValueError(
                f"{expectation}; {_GO_ON}. "
                f"Received: {len(received)}, {abs(short)} too {'many' if short < 0 else 'few'}"
            )


class ImageBuilder(SegmentationBuilder):
    """Base of the builders of 2D images, whose mask is 0 or 1.

    Images are read as `keras_lgmsnet.files.images.read_image` reads them. A JPEG or PNG of grey or
    RGB of 8 bits, upright and opaque, is kept as it is, byte by byte; anything else becomes such a
    PNG. Grey images are decoded to three equal channels. Where files have more than 8 bits and do
    not say how many are in use, all are scaled by those of the image that uses most, which the
    metadata's `bits` keeps.
    """

    COLOR: ClassVar[bool] = True  # grey images are not the published ones
    USERS_OWN: ClassVar[bool] = False  # masks of any origin

    def _features(self) -> dict[str, tfds.features.FeatureConnector]:
        background, foreground = self.LABELS.values()
        return {
            "image": tfds.features.Image(shape=(None, None, 3), doc="RGB."),
            "segmentation_mask": tfds.features.Image(
                shape=(None, None, 1), use_colormap=True, doc=f"0 {background}, 1 {foreground}."
            ),
        }

    def _example(self, case: Case) -> dict[str, Any]:
        (path,) = case.images
        image = read_encoded(path, self.info.metadata.get("bits"))
        if self.COLOR and image.is_grey:
            raise ValueError(f"{path} must be a colour image. Received: {image.shape}")
        threshold = self._mask_threshold()
        masks, nums_between = zip(
            *(
                read_mask(path, image.shape, two_valued=self.USERS_OWN, threshold=threshold)
                for path in case.segmentation_masks
            ),
            strict=True,
        )
        if num_between := sum(nums_between):
            self.info.metadata.setdefault("pixels_between", {})[case.id] = num_between
        if image.has_own_scale:
            self.info.metadata.setdefault("own_scale", []).append(case.id)
        return {
            "image": image.content,
            "segmentation_mask": encode_png(np.maximum.reduce(masks)),
        }

    def _generate_examples(self, cases: Sequence[Case]) -> Iterator[tuple[str, dict[str, Any]]]:
        paths = (path for case in cases for path in case.images)
        if bits := max(filter(None, map(undeclared_bits, paths)), default=None):
            self.info.metadata["bits"] = bits
        return super()._generate_examples(cases)

    def _mask_threshold(self) -> int | None:
        """Return the value above which masks of more than two values are foreground, if any."""
        return None


class VolumeBuilder(SegmentationBuilder):
    """Base of the builders of 3D volumes in NIfTI files, with voxels in the file's own order.

    Axis `i` of a volume is the file's; `affine` maps a voxel's indices to millimetres to the
    patient's right, front and top. What each channel holds is named in the metadata's `channels`:
    `"CT"` for Hounsfield units. Its `remarks` tell, by the id, which volumes lie elsewhere than the
    header's sform has them, and why.
    """

    CHANNELS: ClassVar[tuple[str, ...]] = ("CT",)

    def _channels(self) -> Sequence[str]:
        """Return what each channel holds."""
        return self.CHANNELS

    def _metadata(self) -> dict[str, Any]:
        return {**super()._metadata(), "channels": list(self._channels())}

    def _features(self) -> dict[str, tfds.features.FeatureConnector]:
        return {
            "image": tfds.features.Tensor(
                shape=(None, None, None, None),
                dtype=np.float32,
                encoding="zlib",
                doc="Voxels in the file's units (Hounsfield units in CT), channels last.",
            ),
            "segmentation_mask": tfds.features.Tensor(
                shape=(None, None, None, 1), dtype=np.uint8, encoding="zlib", doc="Labels."
            ),
            "spacing": tfds.features.Tensor(
                shape=(3,), dtype=np.float32, doc="Millimetres between voxels along each axis."
            ),
            "affine": tfds.features.Tensor(
                shape=(4, 4), dtype=np.float32, doc="From voxel indices to RAS+ millimetres."
            ),
        }

    def _example(self, case: Case) -> dict[str, Any]:
        scan = read_channels(case.images)
        if scan.remark:
            self.info.metadata.setdefault("remarks", {})[case.id] = scan.remark
        (mask_path,) = case.segmentation_masks
        mask, mask_affine = read_label_map(mask_path, self._labels())
        require_same_grid(mask_path, mask.shape, mask_affine, scan.grid)
        return {
            "image": scan.image,
            "segmentation_mask": mask[..., None],
            "spacing": np.array(scan.grid.spacing, np.float32),
            "affine": scan.affine.astype(np.float32),
        }


@dataclasses.dataclass(eq=False)
class FolderConfig(tfds.core.BuilderConfig):
    """Says which folder of the user's to read.

    Its name, and so the place of the prepared copy, follows from the folder's path and the content
    of all its files that count: a changed folder is prepared anew, and an unchanged one is not.
    To find out, every file is read once, at about a gigabyte a second.

    Args:
        name: Ignored.
        folder: The folder's path.

    Raises:
        FileNotFoundError: If the folder or one of its parts does not exist.
        ValueError: If a file cannot be read or is a link to elsewhere.
    """

    PARTS: ClassVar[tuple[str, ...]] = ()

    name: str = "folder"
    folder: str = ""
    content: str = dataclasses.field(default="", init=False)  # its digest, wherever the folder is

    def __post_init__(self) -> None:
        if not self.folder:
            return
        folder = Path(self.folder).expanduser().resolve()
        digest = hashlib.blake2b(digest_size=8)
        for part in self.PARTS:
            if not (folder / part).exists():
                raise FileNotFoundError(
                    f"{folder} must hold {', '.join(self.PARTS)}. Received: no {part}"
                )
            check_link(folder / part, folder)
            for path in [folder / part] if (folder / part).is_file() else walk(folder / part):
                try:
                    with path.open("rb") as file:
                        content = hashlib.file_digest(file, "blake2b").digest()
                except OSError as error:
                    raise ValueError(f"{path} cannot be read: {error}") from error
                digest.update(os.fsencode(path.relative_to(folder)) + b"\0" + content)
        self.content = digest.hexdigest()
        self.folder = str(folder)
        place = hashlib.blake2b(os.fsencode(folder) + b"\0" + digest.digest(), digest_size=8)
        place.update(self.reading.encode())
        self.name = f"{re.sub(r'[^A-Za-z0-9-]+', '_', folder.name)}_{place.hexdigest()}"

    @property
    def reading(self) -> str:
        """What else decides the prepared copy: how the files are to be read."""
        return ""


class FolderBuilder(SegmentationBuilder):
    """Base of the builders of a user's own folder, which a `FolderConfig` names."""

    builder_config: FolderConfig

    @property
    def identity(self) -> str:
        """What the folder held, wherever it lay, as `name@content/version`.

        Where the config says how it was read, that follows:
        `image_folder@89abcdef01234567/1.2.0/mask_threshold=127`.
        """
        identity = f"{self.name}@{self.builder_config.content}/{self.version}"
        reading = self.builder_config.reading
        return f"{identity}/{reading}" if reading else identity

    def _folder(self, dl_manager: tfds.download.DownloadManager) -> Path:
        if not self.builder_config.folder:
            raise ValueError(
                "The folder to read must be given, in Python by "
                f"config={type(self.builder_config).__name__}(folder=...), to tfds build by "
                """--config='{"folder": "..."}'. Received: none"""
            )
        return Path(self.builder_config.folder)


def _find_folder(folder: Path, names: Sequence[str]) -> Path | None:
    """Return the first part of an extracted archive that is there; `None` if none is."""
    for name in names:
        if (folder / name).is_dir():
            return folder / name
        # The archive's own top folder may be what the user named.
        if Path(name).parts[0] == folder.name and (folder.parent / name).is_dir():
            return folder.parent / name
    return None


def _digest_cases(cases: Iterable[Case]) -> str:
    """Return a digest of the cases' ids and the names of their files."""
    digest = hashlib.blake2b(digest_size=8)
    for case in cases:
        names = [case.id, *(path.name for path in (*case.images, *case.segmentation_masks))]
        digest.update("\0".join(names).encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()
