"""A network on an image of any size: overlapping windows, averaged."""

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, overload

import numpy as np

from keras_lgmsnet.geometry import Weights, resample_slabs
from keras_lgmsnet.process.progress import track

if TYPE_CHECKING:
    import keras


class Segmentation(NamedTuple):
    """The labels of a volume's voxels, and how probable they are.

    Args:
        labels: The label of every voxel, `uint8` of shape `(*sides,)`.
        confidence: The probability of every voxel's label, `float32` of the same shape.
    """

    labels: np.ndarray
    confidence: np.ndarray


@overload
def segment_volume(
    network: "keras.Model",
    volume: np.ndarray,
    window_size: Sequence[int],
    *,
    overlap: float = ...,
    batch_size: int = ...,
    mirror: bool = ...,
    resampling: Sequence[Weights | None] | None = ...,
    confidence: Literal[False] = ...,
    progress: str | None = ...,
) -> np.ndarray: ...


@overload
def segment_volume(
    network: "keras.Model",
    volume: np.ndarray,
    window_size: Sequence[int],
    *,
    overlap: float = ...,
    batch_size: int = ...,
    mirror: bool = ...,
    resampling: Sequence[Weights | None] | None = ...,
    confidence: Literal[True],
    progress: str | None = ...,
) -> Segmentation: ...


@overload
def segment_volume(
    network: "keras.Model",
    volume: np.ndarray,
    window_size: Sequence[int],
    *,
    overlap: float = ...,
    batch_size: int = ...,
    mirror: bool = ...,
    resampling: Sequence[Weights | None] | None = ...,
    confidence: bool,
    progress: str | None = ...,
) -> np.ndarray | Segmentation: ...


def segment_volume(
    network: "keras.Model",
    volume: np.ndarray,
    window_size: Sequence[int],
    *,
    overlap: float = 0.5,
    batch_size: int = 1,
    mirror: bool = False,
    resampling: Sequence[Weights | None] | None = None,
    confidence: bool = False,
    progress: str | None = None,
) -> np.ndarray | Segmentation:
    """Segment a volume of any size by a network for windows of it.

    Logits are averaged as by `sliding_window`, as the published program does, and made
    probabilities, of which only the largest is kept, slab by slab, so memory never holds all
    classes of the volume.

    Args:
        network: From volumes of `window_size` to the logits of two classes or more.
        volume: Preprocessed as the network was trained, shape `(*sides, channels)`.
        window_size: One side for each of the volume's.
        overlap: Smallest share of a window's side that it has in common with the next, in [0, 1).
        batch_size: Windows predicted at once.
        mirror: Whether to average each window's logits over its mirror images along all axes
            (test-time augmentation), which takes 8 times as long.
        resampling: How to resample the probabilities before the largest is chosen, one for each
            side, as `geometry.resample_slabs` takes it; by default they stay as they are. Where
            weights lack to 1, there is background: class 0.
        confidence: Whether to return the probability of each label, too.
        progress: What to call what is done, to tell its progress; by default nothing is told.

    Returns:
        The label of every voxel, `uint8` of the volume's sides after `resampling`; with
        `confidence`, a pair of them and their probabilities, the softmax of the averaged logits
        after `resampling`, `float32`.

    Raises:
        ValueError: If an argument is out of range, the resampling does not fit the volume, the
            network has fewer than 2 classes or more than 256, or it returns numbers that are not
            finite.

    Example:
    ```python
    network = keras.saving.load_model("model.keras")
    labels = segment_volume(network, volume, (96, 96, 96), overlap=0.5)
    labels, probabilities = segment_volume(network, volume, (96, 96, 96), confidence=True)
    ```
    """
    num_classes = network.output_shape[-1]
    if not 2 <= num_classes <= 256:
        raise ValueError(
            "A volume is segmented by a network of 2 to 256 classes, background included. "
            f"Received: one of {num_classes}"
        )
    if resampling is not None:
        _require_fit(resampling, volume)
    slabs = _averaged_slabs(
        mirrored(network.predict_on_batch) if mirror else network.predict_on_batch,
        volume,
        window_size,
        overlap=overlap,
        batch_size=batch_size,
        progress=progress,
    )
    slabs, rows = map(_softmax, slabs), len(volume)
    if resampling is not None:
        slabs = map(_with_background, resample_slabs(slabs, resampling))
        rows = rows if resampling[0] is None else resampling[0].shape[0]
    if not confidence:
        return _gather(map(_labels, slabs), rows)
    records = _gather(map(_with_confidence, slabs), rows)
    return Segmentation(records["label"], records["probability"])


def sliding_window(
    predict: Callable[[np.ndarray], np.ndarray],
    image: np.ndarray,
    window_size: Sequence[int],
    *,
    overlap: float = 0.5,
    weighting: Literal["gaussian", "constant"] = "gaussian",
    batch_size: int = 1,
    reduce: Callable[[np.ndarray], np.ndarray] | None = None,
    progress: str | None = None,
) -> np.ndarray:
    """Predict an image or a volume window by window and average where windows overlap.

    The windows lie evenly from border to border, next to each other no further apart than the
    overlap allows. An image that is smaller than a window is centred in one and continued by its
    outermost pixels. The rank is read from the image.

    The windows go along the first axis once, and what they have passed is averaged, reduced and
    let go: besides image and result, memory holds one slab of the predictions of all classes, as
    thick as a window.

    Args:
        predict: From windows, shape `(batch_size, *window_size, channels)` in the image's dtype,
            to predictions, shape `(batch_size, *window_size, num_classes)`. Every call gets
            `batch_size` windows, the last one filled up with repetitions, so that a compiled
            network sees one shape only.
        image: Shape `(*sides, channels)`.
        window_size: One side for each of the image's.
        overlap: Smallest share of a window's side that it has in common with the next, in [0, 1).
        weighting: How a window's predictions weigh: `"constant"` is all alike, `"gaussian"` less
            towards its borders, where the network sees less around them, but never 0: a standard
            deviation of an eighth of the side, and at least 0.001 of the centre's weight.
        batch_size: Windows in a call of `predict`.
        reduce: From averaged predictions, shape `(rows, *sides[1:], num_classes)` and `float32`,
            to what is kept of them, such as the largest class; the first `len(sides)` axes must
            stay, and the predictions may be overwritten. By default they are kept as they are.
        progress: What to call what is done, to tell its progress; by default nothing is told.

    Returns:
        The averaged predictions, `float32` of shape `(*sides, num_classes)`, or what `reduce` makes
        of them.

    Raises:
        ValueError: If an argument is out of range, or `predict` returns another shape.

    Example:
    ```python
    logits = sliding_window(network.predict_on_batch, volume, (96, 96, 96), batch_size=2)
    labels = sliding_window(
        network.predict_on_batch, volume, (96, 96, 96), reduce=lambda x: x.argmax(-1).astype("u1")
    )
    ```
    """
    slabs = _averaged_slabs(
        predict,
        image,
        window_size,
        overlap=overlap,
        weighting=weighting,
        batch_size=batch_size,
        progress=progress,
    )
    return _gather(map(reduce, slabs) if reduce else slabs, len(image))


def mirrored(predict: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that averages predictions over the mirror images of their windows.

    All sides are mirrored, each alone and in all combinations: a window of an image is predicted 4
    times, one of a volume 8 times.

    Args:
        predict: From windows, shape `(batch, *sides, channels)`, to predictions, shape `(batch,
            *sides, num_classes)`.

    Example:
    ```python
    logits = sliding_window(mirrored(network.predict_on_batch), image, (256, 256))
    ```
    """

    def predict_mirrored(windows: np.ndarray) -> np.ndarray:
        sides = range(1, windows.ndim - 1)
        subsets = [
            axes for count in range(len(sides) + 1) for axes in itertools.combinations(sides, count)
        ]
        predictions = (
            np.flip(np.asarray(predict(np.ascontiguousarray(np.flip(windows, axes)))), axes)
            for axes in subsets
        )
        return functools.reduce(np.add, predictions) / len(subsets)

    return predict_mirrored


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of logits, in their own type and without overflow."""
    return (1 + np.tanh(logits / 2)) / 2


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of logits, overwriting them: of a slab, SciPy's copies are large."""
    if not np.isfinite(logits).all():
        raise ValueError("The network returns numbers that are not finite: train it again.")
    logits -= logits.max(axis=-1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=-1, keepdims=True)
    return logits


def _with_background(probabilities: np.ndarray) -> np.ndarray:
    """Return probabilities to which class 0 has what they lack to 1."""
    probabilities[..., 0] += 1 - probabilities.sum(axis=-1)
    return probabilities


def _labels(probabilities: np.ndarray) -> np.ndarray:
    return probabilities.argmax(axis=-1).astype("uint8")


def _with_confidence(probabilities: np.ndarray) -> np.ndarray:
    """Return the label of each voxel and its probability, as one array of records."""
    kept = np.empty(probabilities.shape[:-1], [("label", "uint8"), ("probability", "float32")])
    kept["label"] = _labels(probabilities)
    kept["probability"] = np.minimum(probabilities.max(axis=-1), 1)  # what rounding adds is cut
    return kept


def _averaged_slabs(
    predict: Callable[[np.ndarray], np.ndarray],
    image: np.ndarray,
    window_size: Sequence[int],
    *,
    overlap: float,
    batch_size: int,
    progress: str | None,
    weighting: str = "gaussian",
) -> Iterator[np.ndarray]:
    """Yield the averaged predictions slab by slab, each to be used before the next is asked for.

    The arguments are those of `sliding_window`.
    """
    _require_windows(image, window_size, overlap, batch_size)
    margins = [
        (max(0, window - side) // 2, (max(0, window - side) + 1) // 2)
        for side, window in zip(image.shape, window_size, strict=False)
    ]
    padded = np.pad(image, [*margins, (0, 0)], mode="edge") if np.any(margins) else image
    # Where there is a margin along the first axis, there is one slab.
    unpadded = _region([before for before, _ in margins], image.shape[:-1])
    starts = list(
        itertools.product(
            *(
                _starts(side, window, overlap)
                for side, window in zip(padded.shape, window_size, strict=False)
            )
        )
    )
    weights = _weights(window_size, weighting)
    slab: _Slab | None = None
    for start, prediction in _predict_windows(
        predict, padded, window_size, starts, batch_size=batch_size, progress=progress
    ):
        if slab is None:
            slab = _Slab(padded.shape[1:-1], weights, prediction.shape[-1])
        if rows := start[0] - slab.top:
            yield slab.average(rows)[unpadded]
            slab.move_on(rows)
        slab.add(start, prediction)
    assert slab is not None  # an image has one window at least
    yield slab.average(padded.shape[0] - slab.top)[unpadded]


def _predict_windows(
    predict: Callable[[np.ndarray], np.ndarray],
    image: np.ndarray,
    window_size: Sequence[int],
    starts: list[tuple[int, ...]],
    *,
    batch_size: int,
    progress: str | None,
) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Yield where each window begins, with its prediction."""
    with track(
        label=progress or "",
        unit="window",
        total=len(starts),
        leave=False,
        shown=progress is not None,
    ) as done:
        for first in range(0, len(starts), batch_size):
            batch = starts[first : first + batch_size]
            filled = batch + batch[-1:] * (batch_size - len(batch))
            windows = np.stack([image[_region(start, window_size)] for start in filled])
            predictions = np.asarray(predict(windows))
            if predictions.shape[:-1] != windows.shape[:-1]:
                raise ValueError(
                    f"The predictions' shape must be {windows.shape[:-1]} and classes. "
                    f"Received: {predictions.shape}"
                )
            yield from zip(batch, predictions, strict=False)  # what fills the batch up is dropped
            done.update(len(batch))


def _gather(slabs: Iterable[np.ndarray], rows: int) -> np.ndarray:
    """Return slabs as the one array of so many rows that they are."""
    whole: np.ndarray | None = None
    top = 0
    for slab in slabs:
        if whole is None:
            whole = np.empty((rows, *slab.shape[1:]), slab.dtype)
        whole[top : top + len(slab)] = slab
        top += len(slab)
    assert whole is not None  # an image has one slab at least
    return whole


class _Slab:
    """Weighted sums of the predictions in the rows that the windows have not yet passed."""

    def __init__(self, sides: tuple[int, ...], weights: np.ndarray, num_classes: int) -> None:
        self.weights = weights[..., None]
        self.top = 0  # the row of the image that the buffers begin with
        self.sums = np.zeros((len(weights), *sides, num_classes), "float32")
        self.totals = np.zeros((len(weights), *sides, 1), "float32")

    def add(self, start: tuple[int, ...], prediction: np.ndarray) -> None:
        """Add a window's prediction; it begins in the buffers' first row."""
        region = (slice(None), *_region(start[1:], self.weights.shape[1:-1]))
        self.sums[region] += self.weights * prediction
        self.totals[region] += self.weights

    def average(self, rows: int) -> np.ndarray:
        """Return the averages of the first rows, which no further window touches."""
        self.sums[:rows] /= self.totals[:rows]
        return self.sums[:rows]

    def move_on(self, rows: int) -> None:
        """Let the first rows go."""
        self.top += rows
        for buffer in (self.sums, self.totals):
            for row in range(len(buffer) - rows):  # at once, NumPy would copy the buffer
                buffer[row] = buffer[row + rows]
            buffer[len(buffer) - rows :] = 0


def _require_windows(
    image: np.ndarray, window_size: Sequence[int], overlap: float, batch_size: int
) -> None:
    """Raise `ValueError` unless an image can be gone over in such windows."""
    if len(window_size) != image.ndim - 1 or min(window_size) < 1:
        raise ValueError(
            "The window size must have one side of at least 1 for each of the image's, "
            f"(*sides, channels). Received: {window_size=}, image.shape={image.shape}"
        )
    if image.size == 0:
        raise ValueError(f"The image must not be empty. Received: image.shape={image.shape}")
    if not 0 <= overlap < 1:
        raise ValueError(f"The overlap must lie in [0, 1). Received: {overlap=}")
    if batch_size < 1:
        raise ValueError(f"The batch size must be at least 1. Received: {batch_size=}")


def _require_fit(resampling: Sequence[Weights | None], volume: np.ndarray) -> None:
    """Raise `ValueError` unless there are weights for each of a volume's sides."""
    sides = volume.shape[:-1]
    expected = [
        side if weights is None else weights.shape[1]
        for side, weights in zip(sides, resampling, strict=False)
    ]
    if len(resampling) != len(sides) or expected != list(sides):
        shapes = [None if weights is None else weights.shape for weights in resampling]
        raise ValueError(
            "The resampling needs weights of shape (new_side, side), or None, for each side of the "
            f"volume. Received: shapes {shapes}, volume.shape={volume.shape}"
        )


def _starts(side: int, window: int, overlap: float) -> list[int]:
    """Return where windows begin along an axis that is at least as long as one."""
    stride = max(1, int(window * (1 - overlap)))
    count = 1 + math.ceil((side - window) / stride)
    return np.linspace(0, side - window, count).round().astype(int).tolist()


def _weights(window_size: Sequence[int], weighting: str) -> np.ndarray:
    """Return what each pixel of a window weighs."""
    if weighting == "constant":
        return np.ones(tuple(window_size), "float32")
    if weighting != "gaussian":
        raise ValueError(f"The weighting must be 'gaussian' or 'constant'. Received: {weighting=}")
    weights = np.ones(())
    for side in window_size:
        distance = (np.arange(side) - (side - 1) / 2) / (side / 8)
        weights = weights[..., None] * np.exp(-(distance**2) / 2)
    return np.maximum(weights / weights.max(), 1e-3).astype("float32")


def _region(start: Sequence[int], size: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(first, first + side) for first, side in zip(start, size, strict=True))
