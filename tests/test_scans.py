"""A scan is segmented on its own voxels, whatever their orientation and spacing."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from keras_lgmsnet.data.volume_fingerprint import VolumeFingerprint
from keras_lgmsnet.geometry import Grid
from keras_lgmsnet.inference.scans import segment_scan
from keras_lgmsnet.recipe.schema import VolumeData
from tests.helpers.grids import dice, ellipsoid, resamplings

pytestmark = pytest.mark.no_backend

DATA = VolumeData(source="btcv", patch_size=(32, 32, 32))
FINGERPRINT = VolumeFingerprint(
    num_volumes=1,
    channels=("CT",),
    labels=("background", "organ"),
    spacing=(2.0, 1.0, 1.5),
    normalization="window",
    intensity_windows=((-100, 300),),
    ranges={},
)
# Voxels of 2, 1.5 and 1 mm whose axes point to the left, the head and the back.
GRID = Grid((20, 30, 40), [[-2, 0, 0, 9], [0, 0, -1, 8], [0, 1.5, 0, 7], [0, 0, 0, 1]])


class Shares:
    """A network that takes a voxel's normalised intensity for its probability."""

    output_shape = (None, 32, 32, 32, 2)

    def __init__(self) -> None:
        self.windows = 0

    def predict_on_batch(self, windows: np.ndarray) -> np.ndarray:
        self.windows += len(windows)
        shares = np.clip(windows, 1e-6, 1 - 1e-6)
        return np.log(np.concatenate([1 - shares, shares], axis=-1))


def scan() -> np.ndarray:
    """Air, but for a body with an organ that touches its border."""
    image = np.full((*GRID.shape, 1), -1000.0, "float32")
    image[3:15, 5:25, 4:30] = 0
    image[3:9, 10:14, 6:20] = 200
    return image


@pytest.mark.parametrize("crop_foreground", [True, False])
def test_labels_lie_where_the_scan_has_them(crop_foreground) -> None:
    data = dataclasses.replace(DATA, crop_foreground=crop_foreground)
    network = Shares()
    labels = segment_scan(network, scan(), GRID, FINGERPRINT, data)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, scan()[..., 0] > 100)
    # Canonical, the scan has 20 × 40 × 30 voxels, its body 12 × 26 × 20.
    assert network.windows == (1 if crop_foreground else 2)


def test_confidence_is_that_of_the_label() -> None:
    labels, probabilities = segment_scan(Shares(), scan(), GRID, FINGERPRINT, DATA, confidence=True)
    np.testing.assert_array_equal(labels, scan()[..., 0] > 100)
    # The organ is at 0.75 of the window and the body at 0.25.
    expected = np.where(scan()[..., 0] > -1000, 0.75, 1)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-5)


@settings(max_examples=200, deadline=None)
@given(resamplings(most=3), st.integers(0, 2**32 - 1))
def test_an_outline_is_as_fine_as_the_scan(resampling: tuple, seed: int) -> None:
    """Of what reaches 4 voxels of the network's to each side, by a network that tells shares.

    Labels of the network's voxels, brought back one by one, have a Dice of 0.93 in the mean there.
    """
    grid, spacing = resampling
    mask, grid = ellipsoid(grid, spacing, radii=np.array([4, 4.5, 5]), seed=seed)
    fingerprint = dataclasses.replace(FINGERPRINT, spacing=spacing, intensity_windows=((0, 1),))
    image = mask[..., None].astype("float32")
    labels, probabilities = segment_scan(Shares(), image, grid, fingerprint, DATA, confidence=True)
    assert labels.shape == probabilities.shape == grid.shape
    assert dice(labels > 0, mask) >= 0.97
    assert 0.499 < probabilities.min() <= probabilities.max() <= 1


def test_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"channels CT. Received: shape \(20, 40, 30, 2\)"):
        segment_scan(Shares(), np.tile(scan(), 2), GRID, FINGERPRINT, DATA)


def test_mirrored_windows_are_averaged() -> None:
    network = Shares()
    segment_scan(network, scan(), GRID, FINGERPRINT, DATA, mirror=True)
    assert network.windows == 8
