"""Prediction of volumes: from a run directory and scans to label maps in the scans' own space."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_lgmsnet.data.volume_fingerprint import VolumeFingerprint
from keras_lgmsnet.files.nifti import (
    ONE_CHANNEL,
    SUFFIXES,
    read_channels,
    write_label_map,
    write_map,
)
from keras_lgmsnet.files.paths import printable
from keras_lgmsnet.files.volume import Volume
from keras_lgmsnet.files.writing import write_json
from keras_lgmsnet.geometry import Grid, canonical_grid
from keras_lgmsnet.inference.inputs import (
    MARKER,
    list_files,
    place_beside,
    require_output_folder,
)
from keras_lgmsnet.inference.predictor import FilePrediction, Predictor, read_recipe_of
from keras_lgmsnet.inference.scans import segment_scan
from keras_lgmsnet.inference.windows import Segmentation
from keras_lgmsnet.kinds import VOLUMES
from keras_lgmsnet.recipe.schema import VolumeData, VolumeRecipe


@dataclass(frozen=True, kw_only=True)
class VolumePrediction(FilePrediction):
    """What became of one scan; a row of `results.csv`.

    Args:
        path: The scan's file.
        name: Its outputs are `segmentations/NAME.nii.gz` and so on, see `predict_volumes`.
        volumes: Millilitres by label, to three decimals; `None` if the file was not read.
        flags: In what the scan differs from those trained on; `None` if the file was not read.
        error: Why the file was not predicted, in one sentence; `None` if it was.
    """

    volumes: dict[str, float] | None = None

    @property
    def found(self) -> str:
        """The volumes in words, of a scan that was read: `"liver 1520.310 ml, cyst 0.000 ml"`."""
        volumes = self.volumes or {}
        return ", ".join(f"{name} {volume:.3f} ml" for name, volume in volumes.items())


def predict_volumes(
    run_directory: str | Path,
    scans: str | Path | Iterable[str | Path],
    output: str | Path,
    *,
    overlap: float | None = None,
    mirror: bool = False,
    confidence: bool = False,
) -> list[VolumePrediction]:
    """Segment NIfTI scans with the best network of a run.

    Every output lies voxel by voxel where its scan lies, with the scan's own header. A file that
    cannot be read, or does not fit the network, is noted and does not stop the others. The output
    directory holds

    - `segmentations/NAME.nii.gz`: the label of every voxel, `uint8`;
    - `segmentations/NAME.json`: the labels' names and volumes, the scan's spacing, what is unlike
      the volumes trained on, the run, the method with the network's spacing, the versions;
    - `confidence/NAME.nii.gz`, if asked for: the probability of each voxel's label, `float32`;
    - `results.csv`: one row a scan: path, name, status (`predicted` or `failed`), the volume of
      each label in ml, flags and error; written after an interruption, too;
    - `lgms-predict.json`: the run, the method, the versions.

    NAME is formed as `predict_images` forms it. One scan can be written to a file instead, such as
    `seg.nii.gz`, with `seg.json` and, if asked for, `seg_confidence.nii.gz` beside it.

    Args:
        run_directory: What `lgms-train` wrote; only `recipe.json`, `model.keras` and
            `fingerprint.json` are read.
        scans: NIfTI files, see `keras_lgmsnet.files.read_volume`, and folders, which are looked
            through for files in `.nii.gz` and `.nii`, earlier output directories left out. For a
            network of several channels, files `NAME_0000`, `NAME_0001` … beside each other, as many
            as it has channels, are one scan.
        output: The directory to write, absent or empty; or, for one file, a file that ends in
            `.nii.gz` or `.nii` and does not exist yet.
        overlap: Smallest share of its side that a window has in common with the next, in [0, 1);
            by default the recipe's.
        mirror: Whether to average over the windows' mirror images, which takes 8 times as long.
        confidence: Whether to write the probabilities.

    Returns:
        The rows of `results.csv`, in the order of the scans.

    Raises:
        ValueError: If a file of the run is damaged or of a run on images, the network does not fit
            the recipe or returns numbers that are not finite, several scans are to go to one file,
            or `output` is named like an image, such as `seg.png`.
        OSError: If `run_directory` is no trained run, a scan or folder does not exist, a folder
            holds no scan, or `output` is in use or cannot be written to.

    Example:
    ```python
    for row in predict_volumes("runs/btcv", "scan.nii.gz", "seg.nii.gz"):
        print(row.path, row.volumes, row.flags, row.error)
    ```
    """
    run_directory, output = Path(run_directory), Path(output)
    recipe: VolumeRecipe = read_recipe_of(VOLUMES, run_directory)
    data = recipe.data
    if overlap is not None:
        data = dataclasses.replace(data, overlap=overlap)
    fingerprint = VolumeFingerprint.read(run_directory)
    listed = list_files(scans, _VolumePredictor.unit, SUFFIXES, (".nii.gz", ".json"))
    files, channels = _join_channels(listed, len(fingerprint.channels))
    is_file = output.name.lower().endswith(SUFFIXES)
    lay_out = _beside if is_file else _inside
    outputs = lay_out(output, files, confidence)
    predictor = _VolumePredictor(run_directory, data, fingerprint, channels, outputs, mirror=mirror)

    for folder in {path.parent for paths in outputs.values() for path in paths if path}:
        folder.mkdir(parents=True, exist_ok=True)
    if not is_file:
        write_json(output / MARKER, predictor.description)
    return predictor.predict_files(files, None if is_file else output / "results.csv")


class _Outputs(NamedTuple):
    """Where to write what is predicted of one scan; `confidence` only if it is asked for."""

    segmentation: Path
    description: Path
    confidence: Path | None = None


class _VolumePredictor(Predictor[Volume, VolumePrediction]):
    """A network for scans, and where to write what it predicts of each."""

    unit = "scan"
    network_input = "windows"
    row_class = VolumePrediction

    def __init__(
        self,
        run_directory: Path,
        data: VolumeData,
        fingerprint: VolumeFingerprint,
        channels: Mapping[Path, tuple[Path, ...]],
        outputs: Mapping[Path, _Outputs],
        *,
        mirror: bool,
    ) -> None:
        super().__init__(
            run_directory,
            (*data.patch_size, len(fingerprint.channels)),
            len(fingerprint.labels),
            {
                "network_spacing_mm": fingerprint.spacing,
                "window_size": data.patch_size,
                "overlap": data.overlap,
                "weighting": "gaussian",
                "mirror": mirror,
            },
        )
        self.data = data
        self.fingerprint = fingerprint
        self.channels = channels
        self.outputs = outputs
        self.mirror = mirror

    def read(self, path: Path) -> tuple[Volume, tuple[str, ...]]:
        scan = read_channels(self.channels[path])
        try:
            canonical_grid(scan.grid, self.fingerprint.spacing)
            deviations = self.fingerprint.deviations(scan.image, scan.grid)
        except ValueError as error:
            raise ValueError(f"{printable(path)} does not fit the network: {error}") from error
        return scan, (*deviations, *filter(None, [scan.remark]))

    def predict(self, path: Path, scan: Volume, row: VolumePrediction) -> VolumePrediction:
        outputs = self.outputs[path]
        segmented = segment_scan(
            self.network,
            scan.image,
            scan.grid,
            self.fingerprint,
            self.data,
            mirror=self.mirror,
            confidence=outputs.confidence is not None,
            progress=row.name,
        )
        labels, confidence = segmented if isinstance(segmented, Segmentation) else (segmented, None)
        if outputs.confidence is not None and confidence is not None:
            write_map(outputs.confidence, confidence, scan)
        volumes = _measure(labels, scan.grid, self.fingerprint.labels)
        write_label_map(outputs.segmentation, labels, scan)
        write_json(
            outputs.description,
            {
                "scan": printable(path.absolute()),
                "shape": scan.grid.shape,
                "spacing_mm": scan.grid.spacing,
                "orientation": scan.grid.orientation,
                "labels": dict(enumerate(self.fingerprint.labels)),
                "volumes_ml": volumes,
                "unlike_the_training_volumes": row.flags,
                **self.description,
            },
        )
        return dataclasses.replace(row, volumes=volumes)

    def measures(self, row: VolumePrediction) -> dict[str, str]:
        volumes = {name: f"{volume:.3f}" for name, volume in (row.volumes or {}).items()}
        return {f"{name}, ml": volumes.get(name, "") for name in self.fingerprint.labels[1:]}


def _join_channels(
    files: Mapping[Path, str], count: int
) -> tuple[dict[Path, str], dict[Path, tuple[Path, ...]]]:
    """Return each scan by its first file: the name of its outputs, and all its files.

    Args:
        files: All files, with a name each.
        count: How many channels a scan has.
    """
    numbered: dict[Path, dict[str, Path]] = {}
    for path in files:
        suffix = next((end for end in SUFFIXES if path.name.lower().endswith(end)), "")
        channel = ONE_CHANNEL.fullmatch(path.name[: len(path.name) - len(suffix)])
        if channel:
            numbered.setdefault(path.with_name(channel[1]), {})[channel[2]] = path
    names = dict(files)
    scans: dict[Path, tuple[Path, ...]] = {path: (path,) for path in files}
    taken = {name.casefold() for name in files.values()}
    for parts in numbered.values():
        if count == 1 or sorted(parts) != [f"{number:04d}" for number in range(count)]:
            continue  # not one scan: numbered scans
        first, *others = (parts[number] for number in sorted(parts))
        name = names[first].removesuffix("_0000")
        if name.casefold() not in taken:
            names[first] = name
        scans[first] = (first, *others)
        for other in others:
            del names[other], scans[other]
    return names, scans


def _inside(directory: Path, files: Mapping[Path, str], confidence: bool) -> dict[Path, _Outputs]:
    """Return where to write in a directory, which must be new, for each scan by its name."""
    require_output_folder(directory, ".nii.gz")
    segmentations = directory / "segmentations"
    return {
        path: _Outputs(
            segmentations / f"{name}.nii.gz",
            segmentations / f"{name}.json",
            directory / "confidence" / f"{name}.nii.gz" if confidence else None,
        )
        for path, name in files.items()
    }


def _beside(
    segmentation: Path, files: Mapping[Path, str], confidence: bool
) -> dict[Path, _Outputs]:
    """Return where to write besides a file, none of which may exist, for the one scan."""
    suffix = next(suffix for suffix in SUFFIXES if segmentation.name.lower().endswith(suffix))
    endings = [".json", f"_confidence{suffix}"] if confidence else [".json"]
    paths = place_beside(segmentation, len(files), _VolumePredictor.unit, suffix, endings)
    return dict.fromkeys(files, _Outputs(*paths))


def _measure(labels: np.ndarray, grid: Grid, names: Sequence[str]) -> dict[str, float]:
    """Return the volume of each label in ml, to a microlitre, without the background's."""
    counts = np.zeros(len(names), int)
    for plane in labels:  # at once, NumPy would make integers of 8 bytes of all labels
        counts += np.bincount(plane.ravel(), minlength=len(names))
    volumes = (counts * grid.voxel_volume).round(3).tolist()
    return dict(zip(names[1:], volumes[1:], strict=True))
