"""UniRepLKNet's own tests; `test_networks` has those that every network passes."""

import keras
import numpy as np
import pytest

import keras_lgmsnet as kl
from keras_lgmsnet.export.deployment import deploy
from tests.helpers.runs import scatter

TINY = {"filters": (4, 4, 4, 4, 4), "depths": (1, 2, 1, 1), "num_classes": 1}


@pytest.mark.no_backend
def test_one_channel_is_three_equal_ones() -> None:
    gray, colored = (
        kl.models.create("unireplknet", input_shape=(16, 16, channels), **TINY)
        for channels in (1, 3)
    )
    colored.set_weights(scatter(gray).get_weights())
    image = np.random.default_rng(0).random((1, 16, 16, 1), "float32")
    logits = gray.predict_on_batch(image)
    expected = colored.predict_on_batch(np.repeat(image, 3, axis=-1))
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * expected.std())


@pytest.mark.no_backend
def test_a_block_has_one_depthwise_convolution_when_deployed() -> None:
    network = kl.models.create("unireplknet", input_shape=(16, 16, 3), **TINY)
    deployed = deploy(network)
    kernels = [
        layer.kernel_size
        for layer in deployed.layers
        if isinstance(layer, keras.layers.DepthwiseConv2D)
    ]
    # The stem's, and what is left of its norms before convolutions with a border.
    assert kernels.count((3, 3)) == 2
    assert kernels.count((13, 13)) == 4
    assert set(kernels) == {(1, 1), (3, 3), (13, 13)}
