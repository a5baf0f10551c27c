"""What only MADGNet has; `test_networks` has what every network passes."""

import keras
import numpy as np
import pytest
import torch
from keras import ops

import keras_lgmsnet as kl
from keras_lgmsnet.layers.forms.interpolation import averaging_matrix
from keras_lgmsnet.models.published_names import named_variables

pytestmark = pytest.mark.no_backend

TINY = {
    "filters": (4, 4, 4, 4, 4),
    "depths": (1, 1, 1, 1),
    "decoder_filters": (32, 32, 32, 32),
    "frequencies": 1,
    "least_filters": 16,
}


def _create(sides: tuple[int, int] = (32, 32), **arguments) -> keras.Model:
    keras.utils.set_random_seed(0)
    return kl.models.create("madgnet", input_shape=(*sides, 3), num_classes=2, **TINY | arguments)


@pytest.mark.parametrize(("size", "cells"), [(16, 14), (2, 14), (112, 112), (5, 3), (9, 4), (1, 7)])
def test_averages_are_those_of_adaptive_pooling(size: int, cells: int) -> None:
    expected = torch.nn.functional.adaptive_avg_pool1d(torch.eye(size), cells).numpy().T
    np.testing.assert_allclose(averaging_matrix(size, cells), expected, atol=1e-7)


def test_sides_that_pooling_divides_with_a_remainder_are_not_pooled() -> None:
    # At the deepest stage 34 × 6: by 4 neither, by 2 both.
    network = _create((544, 96), scales=3)
    assert network.output_shape == (None, 544, 96, 2)
    pooled = {layer.name for layer in network.layers if layer.name.endswith("_pooling")}
    assert "decoder3_1_pooling" in pooled
    assert "decoder3_2_pooling" not in pooled
    assert "decoder2_2_pooling" in pooled


def test_heads_of_deeper_stages_are_trained_and_have_published_names() -> None:
    network, plain = _create(scales=1, auxiliary_outputs=True), _create(scales=1)
    names = dict(named_variables(network))
    assert {id(variable) for variable in names.values()} == {id(w) for w in network.weights}
    written = kl.checkpoints.torch_state_dict(network)
    idle = plain.idle_parameters()
    assert written.keys() == kl.checkpoints.torch_state_dict(plain).keys()
    assert {name: written[name].shape for name in idle} == idle
    assert network.idle_parameters() == {}
    kl.checkpoints.load_torch_state_dict(plain, written)

    images = np.random.default_rng(0).random((2, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(
        plain.predict_on_batch(images), network.predict_on_batch(images), atol=1e-6
    )
    start = {name: ops.convert_to_numpy(names[name]).copy() for name in idle}
    network.train_on_batch(images, np.repeat(images[..., :1] > 0.5, 2, axis=-1).astype("float32"))
    for name, values in start.items():
        assert np.any(ops.convert_to_numpy(names[name]) != values), name
