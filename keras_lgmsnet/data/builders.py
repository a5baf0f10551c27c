"""Prepared copies of datasets, made by their builders on first use."""

import contextlib
import errno
import functools
import importlib
import io
import os
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

import tfds_builders
from keras_lgmsnet.files.paths import printable
from keras_lgmsnet.files.writing import require_writable
from keras_lgmsnet.kinds import IMAGES, VOLUMES, Kind
from keras_lgmsnet.process.progress import say
from keras_lgmsnet.process.quiet import is_verbose

if TYPE_CHECKING:
    from tfds_builders._building import SegmentationBuilder

# What prepared copies are kept in, of the formats that are read at random and without TensorFlow.
# There is no array_record for Windows; Parquet is read into memory as a whole.
FILE_FORMAT = "parquet" if sys.platform == "win32" else "array_record"


def require_masks_of_users(source: str, mask_threshold: int | None) -> None:
    """Raise `ValueError` if masks that are no user's own are to be read by a threshold."""
    if mask_threshold is not None and source != "image_folder":
        raise ValueError(
            "A mask_threshold is for images of your own, image_folder: other masks are read as "
            f"their publishers mean them. Received: {mask_threshold} for {source}"
        )


def prepare_dataset(
    source: str,
    kind: Kind,
    manual_dir: str | Path | None,
    data_dir: str | Path | None,
    *,
    allow_incomplete: bool,
    progress: bool,
    mask_threshold: int | None = None,
) -> "SegmentationBuilder":
    """Return the builder of a dataset that has a prepared copy, made now if need be.

    Args:
        source: Name of a dataset in the `tfds_builders` package, such as `"btcv"`, or of one of its
            configs, such as `"busi/all"`.
        kind: What the dataset must be of.
        manual_dir: Folder that holds the publisher's archives, read only where no prepared copy
            exists; for a dataset of the user's own, its folder. `None` for `downloads/manual` in
            `data_dir`.
        data_dir: Folder of prepared datasets; `None` for TensorFlow Datasets' own.
        allow_incomplete: Whether an archive may be short of its published count.
        progress: Whether to tell the progress.
        mask_threshold: For `"image_folder"`, as `load_examples` takes it.

    Raises:
        ValueError: If the dataset is unknown, of the other kind, incomplete or damaged, or takes no
            `mask_threshold`.
        FileNotFoundError: If there is neither a prepared copy nor an archive.
        OSError: If a copy cannot be written to `data_dir`, or does not fit.
    """
    require_masks_of_users(source, mask_threshold)
    name, _, config = source.partition("/")
    modules = pkgutil.iter_modules(tfds_builders.__path__)
    known = sorted(module.name for module in modules if module.ispkg)  # a folder each
    if name not in known:
        raise ValueError(
            f"The dataset builder must be one of {', '.join(known)}. Received: builder={name!r}"
        )
    if manual_dir is not None and not Path(manual_dir).expanduser().is_dir():
        raise FileNotFoundError(
            f"There is no folder {manual_dir} (--manual-dir, manual_dir=) to read {name} from."
        )
    # Takes seconds to import, which generated data need not pay.
    from tfds_builders._building import FolderBuilder, VolumeBuilder

    module = importlib.import_module(f"tfds_builders.{name}.{name}_dataset_builder")
    builder_kind = VOLUMES if issubclass(module.Builder, VolumeBuilder) else IMAGES
    if builder_kind is not kind:
        raise ValueError(
            f"The dataset must be of {kind.name}. Received: {name}, which has {builder_kind.name}"
        )
    if issubclass(module.Builder, FolderBuilder):
        if config or manual_dir is None:
            raise ValueError(
                f"{name} reads a folder of your own, which must be given as the folder to read: "
                f"--manual-dir FOLDER. Received: builder={source!r}, {manual_dir=}"
            )
        reading = {} if mask_threshold is None else {"mask_threshold": mask_threshold}
        config = module.Config(folder=str(manual_dir), **reading)
    elif config and config not in module.Builder.builder_configs:
        raise ValueError(
            f"The config of {name} must be one of "
            f"{', '.join(module.Builder.builder_configs) or 'none'}. Received: {config!r}"
        )
    make_builder = functools.partial(
        module.Builder,
        data_dir=data_dir,
        config=config or None,
        allow_incomplete=allow_incomplete,
    )
    builder = make_builder()
    manual_dir = Path(manual_dir or builder.data_dir_root / "downloads/manual").expanduser()
    if not builder.data_path.exists():
        return _prepare(make_builder, manual_dir, progress)
    if builder.info.file_format.value != FILE_FORMAT:
        raise ValueError(
            f"The prepared copy must be in the {FILE_FORMAT} format to be read on this system "
            f"without TensorFlow; delete it or choose another data_dir. "
            f"Received: {builder.data_path} in the {builder.info.file_format.value} format"
        )
    if allow_incomplete:
        builder.require_current(manual_dir)
    return builder


def _prepare(
    make_builder: Callable[[], "SegmentationBuilder"], manual_dir: Path, progress: bool
) -> "SegmentationBuilder":
    """Return the builder of a dataset whose copy is prepared now, by one process at a time."""
    import tensorflow_datasets as tfds

    builder = make_builder()
    name, root = builder.name, Path(builder.data_dir_root)
    if not manual_dir.is_dir() or not any(manual_dir.iterdir()):
        raise FileNotFoundError(
            f"{name} is neither prepared in {root} nor downloaded to {manual_dir}: name the folder "
            "with its archives (--manual-dir, manual_dir=). "
            f"{builder.MANUAL_DOWNLOAD_INSTRUCTIONS}"
        )
    mend = "choose another folder of prepared datasets (--data-dir, data_dir=)"
    require_writable(root, mend=f": {mend}")
    root.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(root / f".{name}.lock"):
        builder = make_builder()  # another process may have prepared it meanwhile
        builder.progress = progress
        if progress and not builder.data_path.exists():
            say(f"Preparing {name} in {printable(builder.data_path)}, once.")
        tfds.disable_progress_bar()  # in a log, thousands of lines
        # Its own lines on standard output tell less than that, and standard output is for results.
        quiet = (
            contextlib.nullcontext() if is_verbose() else contextlib.redirect_stdout(io.StringIO())
        )
        try:
            with quiet:
                builder.download_and_prepare(
                    download_config=tfds.download.DownloadConfig(manual_dir=manual_dir),
                    file_format=FILE_FORMAT,
                )
        except Exception as error:  # of as many types as there are libraries that write
            if os.strerror(errno.ENOSPC) not in str(error):
                raise
            raise OSError(f"{root} has no room for {name}: free some, or {mend}.") from error
    return builder
