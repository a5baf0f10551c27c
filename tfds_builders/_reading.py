"""What the builders share: finding, pairing, checking and encoding the files of a dataset.

A builder derives from `ImageBuilder` (2D) or `VolumeBuilder` (3D) and lists its cases; a builder of
a user's own folder also from `FolderBuilder`. Nothing is ever extracted to disk, and no link that
leads out of a dataset's folder of files is followed. Images are read by `keras_lgmsnet.image_files`
and volumes by `keras_lgmsnet.volume_files`, up to a size that is known before they are decoded.
Examples are encoded with OpenCV, because TensorFlow Datasets encodes arrays as images with
TensorFlow only.
"""

import abc
import copy
import dataclasses
import hashlib
import itertools
import os
import re
import struct
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, TypeVar

import cv2
import numpy as np
import tensorflow_datasets as tfds

from keras_lgmsnet import image_files, volume_files
from keras_lgmsnet.geometry import Grid
from keras_lgmsnet.volume_files import AnyPath, opened, read_label_map, read_volume

Found = TypeVar("Found")

IMAGE_SUFFIXES = image_files.SUFFIXES
NIFTI_SUFFIXES = volume_files.SUFFIXES
GO_ON = (
    "correct that, or set allow_incomplete=True (lgms-train --set data.allow_incomplete=true, "
    "lgms-evaluate and lgms-figures --allow-incomplete) to go on with the complete cases"
)


@dataclasses.dataclass(frozen=True)
class Case:
    """One example's files.

    Args:
        id: Its unique name.
        images: One file, or one file a channel in 3D.
        segmentation_masks: One file, or several of which the example's mask is the union.
        group: What must stay on one side of a split: the patient, video or case if the source
            tells, otherwise the id.
    """

    id: str
    images: tuple[AnyPath, ...]
    segmentation_masks: tuple[AnyPath, ...]
    group: str


class SegmentationBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
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

    def __init__(
        self,
        *,
        allow_incomplete: bool = False,
        config: str | tfds.core.BuilderConfig | None = None,
        **kwargs: Any,
    ) -> None:
        self.allow_incomplete = allow_incomplete
        if allow_incomplete:
            if config is None:
                config = self.get_default_builder_config()
            elif isinstance(config, str):
                config = self.get_builder_config(name=config) or config
            if not isinstance(config, str):
                config = copy.copy(config) or tfds.core.BuilderConfig(name="")
                config.name = f"{config.name}_incomplete".lstrip("_")
        super().__init__(config=config, **kwargs)

    @property
    def identity(self) -> str:
        """Says which copy of which dataset is prepared, as `name/config/version`.

        An incomplete one adds a digest of its cases: `ph2/incomplete/1.0.0@89abcdef01234567`.
        """
        name = self.info.full_name
        return f"{name}@{self.info.metadata['cases']}" if self.allow_incomplete else name

    def require_current(self, folder: Path) -> None:
        """Raises a `ValueError` if the archive has other cases than the prepared copy.

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
        """Lists the cases of a complete archive in the folder."""

    @abc.abstractmethod
    def _example(self, case: Case) -> dict[str, Any]:
        """Reads a case."""

    @abc.abstractmethod
    def _features(self) -> dict[str, tfds.features.FeatureConnector]:
        """Returns the features besides `id` and `group`."""

    def _labels(self) -> Mapping[int, str]:
        return self.LABELS

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

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        # Listed before anything is read, so that a short archive is refused at once.
        cases = list(self._cases(self._folder(dl_manager)))
        self.info.metadata["cases"] = _digest_cases(cases)
        return {"train": self._generate_examples(cases)}

    def _folder(self, dl_manager: tfds.download.DownloadManager) -> Path:
        return Path(dl_manager.manual_dir)

    def _generate_examples(self, cases: Iterable[Case]) -> Iterator[tuple[str, dict[str, Any]]]:
        for case in cases:
            yield case.id, {**self._example(case), "id": case.id, "group": case.group}

    def _part(self, folder: Path, *names: str, archive: str | None = None) -> AnyPath:
        """Finds a part of the archive.

        Args:
            folder: Where the archive is.
            *names: The part's path in the archive as published, then other spellings of it.
            archive: The zip file in which the publisher ships the part, if so.

        Returns:
            The part's folder, or else the folder within the zip file.
        """
        for name in names:
            if (folder / name).is_dir():
                return folder / name
            # The archive's own top folder may be what the user named.
            if Path(name).parts[0] == folder.name and (folder.parent / name).is_dir():
                return folder.parent / name
        if archive is None:
            raise FileNotFoundError(
                f"{folder} holds no folder {' or '.join(names)}. "
                f"{self.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            )
        try:
            opened = zipfile.ZipFile(folder / archive)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"Neither {folder / names[0]} nor {folder / archive} exists. "
                f"{self.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            ) from error
        # A NotImplementedError is a newer version of the format, a ValueError a name's encoding.
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
            raise ValueError(
                f"{folder / archive} is damaged ({error}); download it again."
            ) from error
        for member in opened.infolist():
            name = member.filename
            if PurePosixPath(name).is_absolute() or ".." in re.split(r"[/\\]", name):
                raise ValueError(
                    f"{folder / archive} is not the published archive: it holds a file outside "
                    f"itself; download it again. Received: {name!r}"
                )
            # Of these only, zipfile inflates no more than it is asked for.
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(
                    f"{folder / archive} is not the published archive: it must be compressed by "
                    f"deflation, if at all; download it again. Received: {name!r}, compressed "
                    f"by method {member.compress_type}"
                )
        return zipfile.Path(opened, f"{names[0]}/")

    def _pair(
        self, folder: Path, parts: Mapping[str, Mapping[str, Found]], count: int | None = None
    ) -> Iterator[tuple[str, tuple[Found, ...]]]:
        """Joins the parts of an archive by id.

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
        for (part, found), (other_part, other) in itertools.permutations(parts.items(), 2):
            missing = sorted(other.keys() - found.keys())
            if missing and not self.allow_incomplete:
                raise ValueError(
                    f"{part} in {folder} has {len(found)} of {counted} files and none for "
                    f"{missing[0]}, which {other_part} has; {GO_ON}."
                )
        ids = sorted(set.intersection(*(set(found) for found in parts.values())))
        self._check_count(
            f"{' and '.join(parts)} in {folder} must have {counted} files each", ids, counted
        )
        return ((id_, tuple(found[id_] for found in parts.values())) for id_ in ids)

    def _check_count(self, expectation: str, found: Sized, count: int) -> None:
        """Raises a `ValueError` if the count is not the published one and has to be."""
        short = count - len(found)
        if not found or (short and not self.allow_incomplete):
            raise ValueError(
                f"{expectation}; {GO_ON}. "
                f"Received: {len(found)}, {abs(short)} too {'many' if short < 0 else 'few'}"
            )


class ImageBuilder(SegmentationBuilder, skip_registration=True):
    """Base of the builders of 2D images, whose mask is 0 or 1.

    Images are read as `keras_lgmsnet.image_files.read_image` reads them. A JPEG or PNG of grey or
    RGB of 8 bits, upright and opaque, is kept as it is, byte by byte; anything else becomes such a
    PNG. Grey images are decoded to three equal channels.
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
        encoded, shape = read_image(path)
        if self.COLOR and len(shape) == 2:
            raise ValueError(f"{path} must be a colour image. Received: {shape}")
        masks = [
            read_mask(mask_path, shape[:2], two_valued=self.USERS_OWN)
            for mask_path in case.segmentation_masks
        ]
        return {
            "image": encoded,
            "segmentation_mask": encode_png(np.maximum.reduce(masks)),
        }


class VolumeBuilder(SegmentationBuilder, skip_registration=True):
    """Base of the builders of 3D volumes in NIfTI files, with voxels in the file's own order.

    Axis `i` of a volume is the file's; `affine` maps a voxel's indices to millimetres to the
    patient's right, front and top, as nibabel reads it. What each channel holds is named in the
    metadata's `channels`: `"CT"` for Hounsfield units.
    """

    CHANNELS: ClassVar[tuple[str, ...]] = ("CT",)

    def _channels(self) -> Sequence[str]:
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
        channels = [read_volume(path) for path in case.images]
        grid = channels[0].grid
        for path, channel in zip(case.images, channels, strict=True):
            _check_same_grid(path, channel.image.shape[:3], channel.affine, grid)
        (mask_path,) = case.segmentation_masks
        mask, mask_affine = read_label_map(mask_path, self._labels())
        _check_same_grid(mask_path, mask.shape, mask_affine, grid)
        return {
            "image": np.concatenate([channel.image for channel in channels], axis=-1),
            "segmentation_mask": mask[..., None],
            "spacing": np.float32(grid.spacing),
            "affine": grid.affine.astype(np.float32),
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
        self.name = f"{re.sub(r'[^A-Za-z0-9-]+', '_', folder.name)}_{place.hexdigest()}"


class FolderBuilder(SegmentationBuilder, skip_registration=True):
    """Base of the builders of a user's own folder, which a `FolderConfig` names."""

    builder_config: FolderConfig

    @property
    def identity(self) -> str:
        """Says what the folder held, wherever it lay, as `name@content/version`."""
        return f"{self.name}@{self.builder_config.content}/{self.version}"

    def _folder(self, dl_manager: tfds.download.DownloadManager) -> Path:
        if not self.builder_config.folder:
            raise ValueError(
                "The folder to read must be given, in Python by "
                f"config={type(self.builder_config).__name__}(folder=...), to tfds build by "
                """--config='{"folder": "..."}'. Received: none"""
            )
        return Path(self.builder_config.folder)


def _digest_cases(cases: Iterable[Case]) -> str:
    """Returns a digest of the cases' ids and the names of their files."""
    digest = hashlib.blake2b(digest_size=8)
    for case in cases:
        names = [case.id, *(path.name for path in (*case.images, *case.segmentation_masks))]
        digest.update("\0".join(names).encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()


def list_files(part: AnyPath, *suffixes: str) -> dict[str, AnyPath]:
    """Returns a folder's files by id: their names without the suffix, in Unicode's NFC form.

    Args:
        part: A folder, or a folder in a zip file. What lies in its subfolders is not listed, nor
            are hidden files.
        *suffixes: The endings of the files to list, whatever their case.

    Raises:
        ValueError: If two files have one id, a name is not Unicode, or a file is a link that leads
            out of the folder.
    """
    paths = [path for path in part.iterdir() if not path.name.startswith(".")]
    if isinstance(part, Path):
        for path in paths:
            check_link(path, part)
    return by_id({path: path.name for path in paths if path.is_file()}, *suffixes)


def case_files(part: Path, name: str) -> dict[str, AnyPath]:
    """Returns the files of an archive that has a folder for each case, by that folder's name.

    Args:
        part: The folder that holds the cases' folders.
        name: The file's path in the case's folder, with `{}` for the case.

    Raises:
        ValueError: If a link leads out of the part, or a name is not Unicode.
    """
    paths = {case.name: case / name.format(case.name) for case in part.iterdir()}
    for path in paths.values():
        _require_text(path)
        check_link(path, part)
    return {id_: path for id_, path in sorted(paths.items()) if path.is_file()}


def by_id(names: Mapping[AnyPath, str], *suffixes: str) -> dict[str, AnyPath]:
    """Returns those files whose name has one of the suffixes, by the name without it.

    Raises:
        ValueError: If two files have one id, or a name is not Unicode.
    """
    files: dict[str, AnyPath] = {}
    for path, name in sorted(names.items(), key=lambda item: item[1]):
        suffix = next((suffix for suffix in suffixes if name.lower().endswith(suffix)), None)
        if suffix is None:
            continue
        _require_text(path)
        id_ = unicodedata.normalize("NFC", name[: -len(suffix)])
        if id_ in files:
            raise ValueError(f"{path} and {files[id_]} have the same id; rename or remove one.")
        files[id_] = path
    return files


def walk(folder: Path) -> list[Path]:
    """Returns all files below a folder, sorted, without hidden ones.

    Raises:
        ValueError: If there is a link to a folder or to nothing, or one that leads out of the
            folder; if there is a pipe or the like; or if a folder cannot be listed.
    """

    def fail(error: OSError) -> None:
        raise ValueError(f"{error.filename} cannot be listed: {error.strerror}") from error

    paths = []
    for parent, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            if (Path(parent) / name).is_symlink():
                raise ValueError(
                    f"{Path(parent) / name} must be a folder, not a link to one; "
                    "replace it by the folder."
                )
        paths += [Path(parent) / name for name in files if not name.startswith(".")]
    for path in paths:
        check_link(path, folder)
        if not path.is_file():  # which might be waited for without end
            raise ValueError(f"{path} cannot be read: it is no file, nor a link to one; remove it.")
    return sorted(paths)


def check_link(path: Path, folder: Path) -> None:
    """Raises a `ValueError` if a link leads from the folder to this path outside it."""
    target = Path(os.path.realpath(path))
    if not target.is_relative_to(os.path.realpath(folder)):
        raise ValueError(
            f"{path} must be in {folder}, not a link to elsewhere; replace it by what it links "
            f"to. Received: a link to {target}"
        )


def read_image(path: AnyPath) -> tuple[bytes, tuple[int, ...]]:
    """Reads an image, see `keras_lgmsnet.image_files.read_image`.

    Args:
        path: The file, or the file in a zip file.

    Returns:
        The image as JPEG or PNG of 8 bits: the file's bytes where every decoder takes them for the
        same pixels, otherwise a PNG. And its shape, `(height, width)` if it is grey, or
        `(height, width, 3)`.

    Raises:
        ValueError: If the file is unreadable, damaged or refused.
    """
    content = read_bytes(path)
    with image_files.refusals_named(path):
        image, plain = image_files.decode_image(content)
        shape = (image.height, image.width, *((3,) if image.mode == "RGB" else ()))
        return content if plain else encode_png(image_files.to_8_bits(image)), shape


def read_mask(path: AnyPath, shape: tuple[int, int], *, two_valued: bool = False) -> np.ndarray:
    """Reads a mask file; the arguments and the result are those of `binary_mask`.

    Formats and palettes are those of `keras_lgmsnet.image_files.read_image`, without DICOM, whose
    values depend on a window. `two_valued` does not apply to JPEGs, whose compression makes further
    values.

    Raises:
        ValueError: If the file is unreadable or no mask of that shape.
    """
    content = read_bytes(path)
    if image_files.is_dicom(content):
        raise ValueError(
            f"{path} must be {', '.join(image_files.FORMATS)}; convert it. Received: DICOM"
        )
    with image_files.refusals_named(path):
        pixels = np.asarray(image_files.decode_image(content)[0])
    lossy = content.startswith(b"\xff\xd8\xff")
    return binary_mask(pixels, shape, str(path), two_valued=two_valued and not lossy)


def binary_mask(
    pixels: np.ndarray, shape: tuple[int, int], source: str, *, two_valued: bool = False
) -> np.ndarray:
    """Turns a mask's pixels into 0 and 1.

    Foreground is what is brighter than 127; in a mask of 0 and 1 only, what is 1. A mask of more
    than 8 bits holds 0 and 1, 0 and 255, or 0 and 65535, only.

    Args:
        pixels: `uint8`, grey, or with three channels that are grey; or grey of any other type.
        shape: Height and width of the mask's image.
        source: What to call the mask in an error.
        two_valued: Whether to refuse a mask that holds more than two values: they might be further
            classes, which a threshold would silently merge.

    Returns:
        0 or 1, `uint8`, of the given shape.

    Raises:
        ValueError: If the mask has another size, colours, or values that leave open what is
            foreground.
    """
    # The compression of a JPEG may tint grey a little.
    if pixels.ndim == 3 and np.ptp(pixels[..., :3], axis=-1).max(initial=0) <= 8:
        pixels = pixels[..., 0]
    if pixels.shape != shape:
        raise ValueError(
            f"{source} must be a grey image of its image's height and width, {shape}. "
            f"Received: {pixels.shape}"
        )
    if pixels.dtype == np.uint8:
        values = np.flatnonzero(np.bincount(pixels.ravel(), minlength=256))
        threshold_will_do = not two_valued and values[-1] > 127
    else:
        values = np.unique(pixels)
        threshold_will_do = False
    if not any({*values} <= {0, full} for full in (1, 255, 65535)) and not threshold_will_do:
        raise ValueError(
            f"{source} must hold 0 and 255, or 0 and 1, only. "
            f"Received: {', '.join(map(str, values[:5]))}{' …' if len(values) > 5 else ''}"
        )
    return (pixels > (0 if values[-1] == 1 else 127)).astype(np.uint8)


def encode_png(pixels: np.ndarray) -> bytes:
    """Encodes grey or RGB pixels of 8 bits as PNG."""
    return cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1].tobytes()


def read_bytes(path: AnyPath, limit: int = image_files.MAX_BYTES) -> bytes:
    """Returns a file's content.

    Args:
        path: The file, or the file in a zip file.
        limit: The most bytes that it may have, to be known before they are read.

    Raises:
        ValueError: If it is too long or cannot be read, because of the file system or of a damaged
            zip file.
    """
    with opened(path) as file:
        if isinstance(path, zipfile.Path):
            size = path.root.getinfo(path.at).file_size
        else:
            size = path.stat().st_size
        if size > limit:
            raise ValueError(
                f"{path} must have at most {limit:,} bytes, uncompressed. Received: {size:,}"
            )
        # With the size, because zipfile inflates all there is when it is told none.
        return file.read(size)


def _require_text(path: AnyPath) -> None:
    """Raises a `ValueError` if a name is none in Unicode, as ids are."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{image_files.printable(path)} must have a name in UTF-8; rename it. "
            f"Received: {os.fsencode(path.name)!r}"
        ) from error


def _check_same_grid(
    path: AnyPath, shape: tuple[int, ...], affine: np.ndarray | None, expected: Grid
) -> None:
    if shape != expected.shape:
        raise ValueError(f"{path} must have its image's size, {expected.shape}. Received: {shape}")
    if affine is None:
        return
    corners = [[*corner, 1] for corner in itertools.product(*((0, side - 1) for side in shape))]
    offset = np.linalg.norm((np.array(corners) @ (affine - expected.affine).T)[:, :3], axis=-1)
    if offset.max() > min(expected.spacing) / 2:
        raise ValueError(
            f"{path} must lie where its image lies, to half a voxel; correct its affine. "
            f"Received: {offset.max():.1f} mm away"
        )
