"""What a run's training volumes look like, and what follows for reading any volume.

From the spacing and the intensities of the volumes trained on follow, where the recipe leaves it
open, the spacing that all volumes are resampled to and how they are normalised. Training writes
what was chosen to `fingerprint.json` in the run directory, with the ranges of the training volumes;
whatever reads a volume for the network afterwards goes by it.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np

from keras_lgmsnet.data.ranges import (
    Ranges,
    Statistic,
    describe_ranges,
    find_deviations,
    find_ranges,
    parse_ranges,
)
from keras_lgmsnet.data.volumes import VolumeExample, VolumeSource
from keras_lgmsnet.files.writing import write_json
from keras_lgmsnet.geometry import Grid, canonical_grid
from keras_lgmsnet.process.progress import track
from keras_lgmsnet.recipe.schema import VolumeData
from keras_lgmsnet.run_directory import read_json
from keras_lgmsnet.tables import markdown_table

AXES = ("x", "y", "z")  # to the right, to the front and up
PERCENTILES = {5: "dark", 50: "middle", 95: "bright"}  # and what sentences call the values there
LABELLED_PERCENTILES = (0.5, 99.5)
ANISOTROPIC = 3  # times as coarse along one axis as along the others, and as few voxels
# Deviations from the mean that a voxel may have: those of 202 public MR and CT volumes have 15 at
# most, and float16, in which volumes are prepared, ends at 65504.
FURTHEST = 100
_DEVIATIONS = "standard deviations from the mean"
_SAMPLES = 10_000  # voxels of a volume that its intensities are measured on
_SAMPLING = "v1"  # to be changed with what is sampled, so that no older file is taken for it


@dataclass(frozen=True)
class VolumeFingerprint:
    """How volumes are read for a network, and the ranges of those it was trained on.

    Args:
        num_volumes: Of how many training volumes.
        channels: What each channel holds, such as `("CT",)`.
        labels: Names of the labels 0, 1, 2 …, which are the network's classes.
        spacing: Millimetres between voxels along the RAS axes, which volumes are resampled to.
        normalization: `"window"` scales each channel's intensity window to 0 … 1 and clips what
            lies outside; `"z_score"` subtracts a volume's mean and divides by its deviation.
        intensity_windows: Low and high end for each channel in the dataset's own unit; `None` for
            `"z_score"`.
        ranges: Low and high end of the volumes' spacings, sizes and intensities: the middle 98 %
            of the volumes, so that a few odd ones do not count.
        proposed: Which of the recipe's `spacing`, `normalization` and `intensity_window` were
            left open.

    Example:
    ```python
    fingerprint = VolumeFingerprint.of_volumes(source, splits["train"], recipe.data)
    print(fingerprint.tabulate())
    image = fingerprint.normalize(to_canonical(image, grid, fingerprint.spacing))
    ```
    """

    num_volumes: int
    channels: tuple[str, ...]
    labels: tuple[str, ...]
    spacing: tuple[float, float, float]
    normalization: Literal["window", "z_score"]
    intensity_windows: tuple[tuple[float, float], ...] | None
    ranges: Ranges
    proposed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        windows = self.intensity_windows
        if min(self.spacing) <= 0:
            raise ValueError(f"spacing must be above 0. Received: {self.spacing}")
        if self.normalization not in ("window", "z_score"):
            raise ValueError(
                f"normalization must be 'window' or 'z_score'. Received: {self.normalization!r}"
            )
        if self.normalization == "z_score" and windows is not None:
            raise ValueError(f"'z_score' needs no intensity_windows. Received: {windows}")
        if self.normalization == "window" and (
            windows is None
            or len(windows) != len(self.channels)
            or not all(low < high for low, high in windows)
        ):
            raise ValueError(
                "intensity_windows must have a low and a higher end for each of the channels "
                f"{', '.join(self.channels)}. Received: {windows}"
            )

    @classmethod
    def of_volumes(
        cls,
        source: VolumeSource,
        ids: Iterable[str],
        data: VolumeData,
        *,
        progress: bool = True,
    ) -> Self:
        """Return the fingerprint of the volumes that are trained on.

        Each volume is read once; what was sampled of it is kept beside the prepared copy.

        - Spacing: the median of the volumes' along each axis. Where one axis is more than three
          times as coarse as the others and has less than a third of their voxels, the tenth
          percentile along that axis, so that little is lost of the finer volumes; but nothing finer
          than along the others. This is nnU-Net's rule.
        - Normalisation: `"window"` if all channels are CT, otherwise `"z_score"`.
        - Intensity windows: from the percentile 0.5 to 99.5 of the labelled voxels.

        Args:
            source: The dataset.
            ids: The volumes trained on, at least one.
            data: What is not `None` in it is taken as it is.
            progress: Whether to tell the progress.

        Raises:
            ValueError: If an id is unknown, or there are no labelled voxels, or none that differ,
                to propose a window from.
        """
        grids, voxels, labelled = [], [], []
        for id_ in track(ids, label="Measuring volumes", unit="volume", shown=progress):
            shape, affine, sample, labelled_sample = source.compute_once(
                f"samples-{_SAMPLING}", id_, _sample_example
            )
            grids.append(canonical_grid(Grid(tuple(shape.tolist()), np.array(affine))))
            # Copied, since each array holds its file open.
            voxels.append(np.array(sample))
            labelled.append(np.array(labelled_sample))
        normalization, window = data.normalization, data.intensity_window
        if normalization is None:
            is_ct = all(channel.strip().casefold() == "ct" for channel in source.channels)
            normalization = "window" if is_ct or window else "z_score"
        windows = None
        if normalization == "window":
            windows = (
                [window] * len(source.channels)
                if window
                else _propose_windows(_percentiles(np.concatenate(labelled)))
            )
        fingerprint = cls(
            num_volumes=len(grids),
            channels=tuple(source.channels),
            labels=tuple(source.labels.values()),
            spacing=data.spacing or _propose_spacing(grids),
            normalization=normalization,
            intensity_windows=_windows(windows),
            ranges={},
            proposed=tuple(
                name
                for name, is_proposed in (
                    ("spacing", data.spacing is None),
                    ("normalization", data.normalization is None and window is None),
                    ("intensity_window", windows is not None and window is None),
                )
                if is_proposed
            ),
        )
        rows = [fingerprint._measure(*volume) for volume in zip(voxels, grids, strict=True)]
        return dataclasses.replace(fingerprint, ranges=find_ranges(rows))

    @classmethod
    def read(cls, run_directory: Path) -> Self:
        """Return the fingerprint in a run directory.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If it is damaged.
        """
        path = run_directory / "fingerprint.json"
        fields = [field.name for field in dataclasses.fields(cls)]
        values = read_json(run_directory, path.name, *fields)
        try:
            x, y, z = _numbers(values["spacing"], 3)
            fingerprint = cls(
                num_volumes=values["num_volumes"],
                channels=tuple(values["channels"]),
                labels=tuple(values["labels"]),
                spacing=(x, y, z),
                normalization=values["normalization"],
                intensity_windows=_windows(values["intensity_windows"]),
                ranges={},
                proposed=tuple(values["proposed"]),
            )
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged: {error}") from error
        ranges = parse_ranges(path, values["ranges"], fingerprint._statistics())
        return dataclasses.replace(fingerprint, ranges=ranges)

    def write(self, run_directory: Path) -> None:
        """Write the fingerprint to a run directory, atomically."""
        values = dataclasses.asdict(self)
        values["ranges"] = describe_ranges(self.ranges, self._statistics())
        write_json(run_directory / "fingerprint.json", values)

    def normalize(self, image: np.ndarray) -> np.ndarray:
        """Return an image as the network is fed.

        The mean and the deviation of `"z_score"` are those of the voxels brighter than the image's
        darkest, channel by channel, so that a blank background does not count. What lies further
        than `FURTHEST` deviations from the mean, such as that background, is brought there. An
        image of one value becomes 0.

        Args:
            image: Shape `(x, y, z, channels)`, in the unit of the volumes trained on, canonical and
                not cropped.

        Returns:
            `float32`, of the same shape.

        Raises:
            ValueError: If the image has other channels.
        """
        self._require_channels(image)
        windows = self.intensity_windows
        normalized = np.array(image, "float32")
        for number in range(len(self.channels)):
            channel = normalized[..., number]
            if windows is not None:
                low, high = windows[number]
                np.clip(channel, low, high, out=channel)
                channel -= low
                channel /= high - low
            else:
                foreground = _foreground(channel)
                mean = float(foreground.mean(dtype="float64"))
                deviation = float(foreground.std(dtype="float64")) or 1
                furthest = FURTHEST * deviation
                np.clip(channel, mean - furthest, mean + furthest, out=channel)
                channel -= mean
                channel /= deviation
        return normalized

    def deviations(self, image: np.ndarray, grid: Grid) -> list[str]:
        """Return in words what of a scan lies outside the training volumes' range, by much.

        Spacing and size may lie beyond it by a factor of 1.5, intensities by 15 % of the window or
        half a standard deviation.

        Args:
            image: Shape `(x, y, z, channels)`, as it was read from its file.
            grid: Where its voxels lie.

        Raises:
            ValueError: If the image has other channels.

        Example:
        ```python
        for sentence in fingerprint.deviations(volume.image, volume.grid):
            print(sentence)  # "voxels are 8 mm apart along z, in training 2.5 to 5"
        ```
        """
        self._require_channels(image)
        values = self._measure(_sample(image), canonical_grid(grid))
        return find_deviations(values, self.ranges, self._statistics())

    def describe(self) -> str:
        """Return in a sentence or two how volumes are read, and what of it was proposed."""
        if self.intensity_windows is not None:
            normalized = f"{', '.join(self._describe_windows())} is scaled to 0 to 1"
        else:
            normalized = "each is brought to mean 0 and standard deviation 1"
        spacing = " × ".join(f"{side:.3g}" for side in self.spacing)
        text = f"Volumes are resampled to {spacing} mm, and {normalized}."
        if self.proposed:
            keys = ", ".join(f"data.{name}" for name in self.proposed)
            text += (
                f" That is proposed from {self.num_volumes} training volumes of "
                f"{', '.join(self.channels)}; set {keys} to choose otherwise."
            )
        return text

    def tabulate(self) -> str:
        """Return a table of how volumes are read, and where each value comes from."""
        is_z_score = self.intensity_windows is None
        values = {
            "spacing": f"{' × '.join(f'{side:.3g}' for side in self.spacing)} mm",
            "normalization": "z_score, to mean 0 and deviation 1" if is_z_score else "window",
            "intensity_window": ", ".join(self._describe_windows()),
        }
        proposals = {
            "spacing": f"the spacings of {self.num_volumes} training volumes",
            "normalization": f"the channels, {', '.join(self.channels)}",
            "intensity_window": "the middle 99 % of the labelled voxels",
        }
        rows = [
            (f"data.{name}", value, proposals[name] if name in self.proposed else "the recipe")
            for name, value in values.items()
            if value
        ]
        return markdown_table(("field", "value", "taken from"), rows)

    def _describe_windows(self) -> list[str]:
        """Return the window of each channel in words: `"CT from -100 to 200"`."""
        return [
            f"{name} from {low:.5g} to {high:.5g}"
            for name, (low, high) in zip(self._names(), self.intensity_windows or (), strict=False)
        ]

    def _require_channels(self, image: np.ndarray) -> None:
        count = len(self.channels)
        if image.ndim != 4 or image.shape[-1] != count:
            mend = (
                "; of several files, one a channel, give all, named NAME_0000, NAME_0001 and so "
                "on, or stack them along a fourth axis"
            )
            raise ValueError(
                f"The image must be of shape (x, y, z, {count}), with the channels "
                f"{', '.join(self.channels)}{mend if count > 1 else ''}. "
                f"Received: shape {image.shape}"
            )

    def _names(self) -> list[str]:
        """Return a name of its own for each channel."""
        if len(set(self.channels)) == len(self.channels):
            return list(self.channels)
        return [f"{name} {number}" for number, name in enumerate(self.channels)]

    def _statistics(self) -> dict[str, Statistic]:
        """Return the numbers of a volume that ranges are kept of."""
        windows, statistics = self.intensity_windows, {}
        for name, before, after in (
            ("spacing", "voxels are", "mm apart"),
            ("size", "the scan covers", "mm"),
        ):
            for axis in AXES:
                phrase = (before, f" {after} along {axis}")
                statistics[f"{name} along {axis} in mm"] = Statistic("mm", phrase, factor=1.5)
        for number, name in enumerate(self._names()):
            if windows is not None:
                low, high = windows[number]
                unit, after, margin = "the volumes' own, clipped", "", 0.15 * (high - low)
            else:
                unit, after, margin = _DEVIATIONS, f" {_DEVIATIONS}", 0.5
            for percentile, values in PERCENTILES.items():
                phrase = (f"{values} {name} values ({percentile}th percentile) are", after)
                statistics[f"{name} percentile {percentile}"] = Statistic(
                    unit, phrase, margin=margin
                )
        return statistics

    def _measure(self, sample: np.ndarray, grid: Grid) -> dict[str, float]:
        """Return a volume's statistics.

        Args:
            sample: Some of its voxels, shape `(voxels, channels)`.
            grid: Its voxels' place, in RAS order.
        """
        windows = self.intensity_windows
        values = [*grid.spacing, *np.multiply(grid.spacing, grid.shape)]
        for number in range(len(self.channels)):
            channel = sample[:, number].astype("float64")
            if windows is not None:
                foreground = _foreground(channel.clip(*windows[number]))
            else:
                foreground = _foreground(channel)
                foreground = (foreground - foreground.mean()) / (foreground.std() or 1)
            values += list(np.percentile(foreground, list(PERCENTILES)))
        return dict(zip(self._statistics(), map(float, values), strict=True))


def _foreground(channel: np.ndarray) -> np.ndarray:
    """Return the voxels that are brighter than the darkest; all where they are alike."""
    brighter = channel[channel > channel.min()]
    return brighter if len(brighter) else channel


def _propose_spacing(grids: Sequence[Grid]) -> tuple[float, float, float]:
    """Return nnU-Net's target spacing, see `VolumeFingerprint.of_volumes`."""
    spacings = np.array([grid.spacing for grid in grids])
    spacing = np.median(spacings, axis=0)
    shape = np.median([grid.shape for grid in grids], axis=0)
    coarsest = int(np.argmax(spacing))
    finer = np.delete(spacing, coarsest).max()
    fewest = np.delete(shape, coarsest).min()
    if spacing[coarsest] > ANISOTROPIC * finer and ANISOTROPIC * shape[coarsest] < fewest:
        spacing[coarsest] = max(finer, np.percentile(spacings[:, coarsest], 10))
    return tuple(spacing.round(6).tolist())  # affines are float32


def _percentiles(voxels: np.ndarray) -> list[list[float]]:
    """Return each channel's `LABELLED_PERCENTILES`, or nothing where there are no voxels."""
    if not len(voxels):
        return []
    return np.percentile(voxels, LABELLED_PERCENTILES, axis=0).T.tolist()


def _propose_windows(percentiles: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """Return each channel's window, from the lowest to the highest of its percentiles.

    The ends are rounded outwards to a twentieth of the window or less, so that the folds of a
    cross-validation mostly agree on one window, and share what is prepared by it.
    """
    if not percentiles or not all(low < high for low, high in percentiles):
        raise ValueError(
            "To propose an intensity window, the training volumes must have labelled voxels of "
            f"several intensities; set data.intensity_window. Received: {percentiles or 'none'}"
        )
    scales = [10.0 ** -np.floor(np.log10((high - low) / 20)) for low, high in percentiles]
    return [
        (float(np.floor(low * scale) / scale), float(np.ceil(high * scale) / scale))
        for (low, high), scale in zip(percentiles, scales, strict=True)
    ]


def _sample_example(example: VolumeExample) -> list[np.ndarray]:
    """Return what a fingerprint needs of a volume: its grid, some voxels and some labelled ones."""
    labelled = example.image[example.segmentation_mask > 0]
    return [
        np.array(example.grid.shape),
        example.grid.affine,
        _sample(example.image),
        _sample(labelled),
    ]


def _sample(voxels: np.ndarray) -> np.ndarray:
    """Return at most `_SAMPLES` voxels of shape `(voxels, channels)`, the same every time."""
    sides = voxels.shape[:-1]
    count = math.prod(sides)
    if count <= _SAMPLES:
        return voxels.reshape(-1, voxels.shape[-1])
    drawn = np.random.default_rng(0).integers(count, size=_SAMPLES)
    return voxels[np.unravel_index(drawn, sides)]


def _numbers(values: Sequence[float], length: int) -> tuple[float, ...]:
    """Return values as numbers of which there must be so many."""
    numbers = tuple(map(float, values))
    if not all(map(math.isfinite, numbers)) or len(numbers) != length:
        raise ValueError(f"There must be {length} finite numbers. Received: {values}")
    return numbers


def _windows(rows: Sequence[Sequence[float]] | None) -> tuple[tuple[float, float], ...] | None:
    """Return intensity windows as a low and a high end each."""
    if rows is None:
        return None
    return tuple((low, high) for low, high in (_numbers(row, 2) for row in rows))
