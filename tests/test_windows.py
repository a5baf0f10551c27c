"""Sliding windows: exact where they must be, and frugal."""

import itertools
import tracemalloc
from types import SimpleNamespace

import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import special
from scipy.sparse import csr_array

from keras_lgmsnet.geometry import Grid, weights_from_canonical
from keras_lgmsnet.inference.windows import (
    _starts,
    _weights,
    mirrored,
    segment_volume,
    sliding_window,
)


@st.composite
def _images_and_windows(draw) -> tuple[np.ndarray, tuple[int, ...]]:
    rank = draw(st.sampled_from([2, 3]))
    sides = draw(st.tuples(*[st.integers(1, 13)] * rank))
    window_size = draw(st.tuples(*[st.integers(1, 6)] * rank))
    image = np.random.default_rng(0).normal(size=(*sides, 2)).astype("float32")
    return image, window_size


@pytest.mark.no_backend
@hypothesis.settings(deadline=None)
@hypothesis.given(
    _images_and_windows(),
    st.floats(0, 0.9),
    st.sampled_from(["gaussian", "constant"]),
    st.integers(1, 5),
)
def test_what_depends_on_the_pixel_alone_comes_out_exactly(
    image_and_window, overlap, weighting, batch_size
) -> None:
    image, window_size = image_and_window

    def predict(windows: np.ndarray) -> np.ndarray:
        assert windows.shape == (batch_size, *window_size, 2)
        return np.concatenate([windows, 2 * windows[..., :1]], axis=-1)

    predictions = sliding_window(
        predict, image, window_size, overlap=overlap, weighting=weighting, batch_size=batch_size
    )
    assert predictions.dtype == "float32"
    expected = np.concatenate([image, 2 * image[..., :1]], axis=-1)
    np.testing.assert_allclose(predictions, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.no_backend
def test_average_by_hand() -> None:
    """Windows of 4 at 0, 2 and 4 on a row of 8 pixels; each predicts its number."""
    numbers = iter([1.0, 2.0, 4.0])

    def predict(windows: np.ndarray) -> np.ndarray:
        return np.full((1, 1, 4, 1), next(numbers))

    image = np.zeros((1, 8, 3), "uint8")
    predictions = sliding_window(predict, image, (1, 4), overlap=0.5, weighting="constant")
    np.testing.assert_array_equal(predictions[0, :, 0], [1, 1, 1.5, 1.5, 3, 3, 4, 4])


@pytest.mark.no_backend
def test_gaussian_trusts_the_centre() -> None:
    numbers = iter([0.0, 1.0])

    def predict(windows: np.ndarray) -> np.ndarray:
        return np.full((1, 8, 1), next(numbers))

    # Of windows at 0 and 4, the deviation is 1: pixel 4 is 0.5 right of the first one's centre
    # and 3.5 left of the second one's.
    predictions = sliding_window(predict, np.zeros((12, 1)), (8,), overlap=0.5)[:, 0]
    first, second = np.exp([-(0.5**2) / 2, -(3.5**2) / 2]) / np.exp(-(0.5**2) / 2)
    assert predictions[4] == pytest.approx(second / (first + second))
    assert predictions[:4].tolist() == [0] * 4
    assert predictions[8:].tolist() == [1] * 4


@pytest.mark.no_backend
@pytest.mark.parametrize("window_size", [(256, 256), (96, 96, 96), (1, 64)])
def test_weights_are_never_zero(window_size) -> None:
    weights = _weights(window_size, "gaussian")
    assert weights.min() >= np.float32(1e-3)
    assert weights.max() == 1


@pytest.mark.no_backend
@pytest.mark.parametrize(
    ("side", "overlap", "expected"),
    [(4, 0.5, [0]), (5, 0.5, [0, 1]), (8, 0.5, [0, 2, 4]), (8, 0, [0, 4]), (9, 0, [0, 2, 5])],
)
def test_windows_lie_evenly(side, overlap, expected) -> None:
    assert _starts(side, 4, overlap) == expected


@pytest.mark.no_backend
def test_small_image_is_centred_and_continued() -> None:
    seen = []

    def predict(windows: np.ndarray) -> np.ndarray:
        seen.append(windows[0, ..., 0])
        return windows

    image = np.array([[1, 2]], "uint8")[..., None]
    predictions = sliding_window(predict, image, (2, 5))
    np.testing.assert_array_equal(seen, [[[1, 1, 2, 2, 2], [1, 1, 2, 2, 2]]])
    np.testing.assert_array_equal(predictions, image)
    assert seen[0].dtype == "uint8"


@pytest.mark.no_backend
def test_last_batch_is_filled_up() -> None:
    sizes = []

    def predict(windows: np.ndarray) -> np.ndarray:
        sizes.append(len(windows))
        return windows

    image = np.arange(12.0)[:, None]
    predictions = sliding_window(predict, image, (4,), overlap=0, batch_size=2)
    assert sizes == [2, 2]
    np.testing.assert_array_equal(predictions, image)


@pytest.mark.no_backend
def test_predictions_are_reduced_slab_by_slab() -> None:
    rows = []

    def reduce(predictions: np.ndarray) -> np.ndarray:
        rows.append(len(predictions))
        assert predictions.shape[1:] == (6, 7, 3)
        return predictions.argmax(axis=-1).astype("uint8")

    volume = np.random.default_rng(0).normal(size=(40, 6, 7, 3))
    labels = sliding_window(lambda windows: windows, volume, (8, 4, 4), reduce=reduce)
    assert max(rows) <= 8
    assert sum(rows) == 40
    assert labels.dtype == "uint8"
    np.testing.assert_array_equal(labels, volume.argmax(axis=-1))


@pytest.mark.no_backend
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window_size": (4,)}, r"one side .* window_size=\(4,\), image.shape=\(6, 6, 1\)"),
        ({"window_size": (4, 0)}, r"at least 1 for each"),
        ({"image": np.zeros((0, 6, 1))}, r"must not be empty"),
        ({"overlap": 1.0}, r"in \[0, 1\). Received: overlap=1.0"),
        ({"overlap": float("nan")}, r"in \[0, 1\). Received: overlap=nan"),
        ({"batch_size": 0}, r"Received: batch_size=0"),
        ({"weighting": "linear"}, r"Received: weighting='linear'"),
        ({"predict": lambda windows: windows[:, 1:]}, r"\(1, 4, 4\).*Received: \(1, 3, 4, 1\)"),
    ],
)
def test_mistakes(changes, message) -> None:
    arguments = {"predict": lambda x: x, "image": np.zeros((6, 6, 1)), "window_size": (4, 4)}
    with pytest.raises(ValueError, match=message):
        sliding_window(**(arguments | changes))


@pytest.mark.parametrize("mirror", [False, True])
def test_a_volume_is_segmented_as_by_all_logits_at_once(mirror) -> None:
    """A network of one convolution, on the backend in use."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 8, 2))
    network = keras.Model(inputs, keras.layers.Conv3D(5, 3, padding="same")(inputs))
    volume = np.random.default_rng(0).normal(size=(19, 11, 14, 2)).astype("float32")
    arguments = {"window_size": (8, 8, 8), "batch_size": 3, "mirror": mirror}
    labels, probabilities = segment_volume(network, volume, **arguments, confidence=True)

    logits, totals = np.zeros((19, 11, 14, 5)), np.zeros((19, 11, 14, 1))
    weights = _weights((8, 8, 8), "gaussian")[..., None]
    flips = [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)] if mirror else [()]
    for start in itertools.product((0, 4, 7, 11), (0, 3), (0, 3, 6)):
        region = tuple(slice(first, first + 8) for first in start)
        for axes in flips:
            window = np.ascontiguousarray(np.flip(volume[region], axes))
            prediction = np.asarray(network.predict_on_batch(window[None]))[0]
            logits[region] += weights * np.flip(prediction, axes) / len(flips)
        totals[region] += weights
    expected = special.softmax(logits / totals, axis=-1)
    np.testing.assert_allclose(probabilities, expected.max(axis=-1), rtol=1e-4)
    is_tie = np.diff(np.sort(expected, axis=-1)[..., -2:], axis=-1)[..., 0] < 1e-5
    assert is_tie.mean() < 0.01
    np.testing.assert_array_equal(labels[~is_tie], expected.argmax(axis=-1)[~is_tie])
    assert labels.dtype == "uint8"
    np.testing.assert_array_equal(segment_volume(network, volume, **arguments), labels)


def _per_voxel_network(num_classes: int) -> SimpleNamespace:
    """Stand in for a network whose logits are a voxel's value times 0, 1, 2 …"""
    factors = np.arange(num_classes, dtype="float32")
    return SimpleNamespace(
        output_shape=(None, None, None, None, num_classes),
        predict_on_batch=lambda windows: windows * factors,
    )


@pytest.mark.no_backend
@pytest.mark.parametrize("shapes", [[(9, 8), None], [(9, 8), None, (4, 7)]])
def test_resampling_must_fit(shapes: list) -> None:
    resampling = [shape if shape is None else csr_array(shape) for shape in shapes]
    volume = np.zeros((8, 8, 8, 1), "float32")
    with pytest.raises(ValueError, match=r"Received: shapes .*\(9, 8\).*=\(8, 8, 8, 1\)"):
        segment_volume(_per_voxel_network(2), volume, (8, 8, 8), resampling=resampling)


@pytest.mark.no_backend
@pytest.mark.parametrize("finer", [1, 2])
def test_memory_grows_with_labels_and_a_slab_not_with_classes(finer: int) -> None:
    num_classes, peaks = 50, []
    for side in (24, 48):
        volume = np.ones((side, side, side, 1), "float32")
        scan = Grid((finer * side,) * 3, np.eye(4))
        resampling, _ = weights_from_canonical(scan, (finer,) * 3, (slice(None),) * 3)
        tracemalloc.start()
        segment_volume(
            _per_voxel_network(num_classes), volume, (8, 8, 8), overlap=0.5, resampling=resampling
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        slab = 8 * side**2 * (num_classes + 1) * 4
        planes = 0 if finer == 1 else 6 * (finer * side) ** 2 * num_classes * 4
        assert peaks[-1] < 1.75 * slab + planes + 2 * (finer * side) ** 3
    # Eight times the voxels: the slab, four times as large, is nearly all there is.
    assert peaks[1] < 4.5 * peaks[0]
    assert peaks[1] < (finer * 48) ** 3 * num_classes * 4 / 3


@pytest.mark.no_backend
def test_mirrored_by_hand() -> None:
    """A prediction that sees only a window's first pixel sees each corner once."""
    seen = []

    def predict(windows: np.ndarray) -> np.ndarray:
        seen.append(windows[0, 0, 0, 0])
        prediction = np.zeros_like(windows)
        prediction[:, 0, 0] = 8
        return prediction

    window = np.array([[1, 2, 3], [4, 5, 6]], "float32")[None, ..., None]
    prediction = mirrored(predict)(window)[0, ..., 0]
    assert sorted(seen) == [1, 3, 4, 6]
    np.testing.assert_array_equal(prediction, [[2, 0, 2], [2, 0, 2]])


@pytest.mark.no_backend
@pytest.mark.parametrize("num_classes", [1, 257])
def test_classes_that_labels_cannot_tell(num_classes) -> None:
    with pytest.raises(ValueError, match=rf"2 to 256 classes.*Received: one of {num_classes}"):
        segment_volume(_per_voxel_network(num_classes), np.zeros((4, 4, 4, 1)), (4, 4, 4))


@pytest.mark.no_backend
def test_numbers_that_are_not_finite() -> None:
    volume = np.full((4, 4, 4, 1), np.inf, "float32")
    with pytest.raises(ValueError, match="not finite"), np.errstate(invalid="ignore"):
        segment_volume(_per_voxel_network(2), volume, (4, 4, 4))
