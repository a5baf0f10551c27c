"""UNETR's and 3D UX-Net's own tests; `test_networks` has those that every network passes."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_lgmsnet as kl
from keras_lgmsnet import layers

once = pytest.mark.no_backend


def _arrays(network: keras.Model) -> dict[str, np.ndarray]:
    return {weight.path: ops.convert_to_numpy(weight) for weight in network.weights}


def _assert_is_uniform(array: np.ndarray, fan_in: int, name: str) -> None:
    limit = fan_in**-0.5
    assert np.abs(array).max() <= limit, name
    if array.size >= 64:
        # Of so many numbers, five deviations of their deviation.
        tolerance = 5 * 0.45 / np.sqrt(array.size)
        np.testing.assert_allclose(array.std(), limit / 3**0.5, rtol=tolerance, err_msg=name)


@once
def test_initial_weights_of_unetr_are_the_programs() -> None:
    small = {"filters": 4, "hidden_filters": 64, "depth": 2, "num_heads": 4}
    network = kl.models.create("unetr", input_shape=(32, 32, 32, 1), num_classes=3, **small)
    start = _arrays(network)
    for name in ("embedding/kernel", "positions/table"):
        assert start.pop(name).std() == pytest.approx(0.02, rel=0.15), name
    assert not start.pop("embedding/bias").any()
    for name, array in start.items():
        leaf = name.rpartition("/")[-1]
        if leaf == "gamma":
            np.testing.assert_array_equal(array, 1, err_msg=name)
        elif leaf == "beta":
            np.testing.assert_array_equal(array, 0, err_msg=name)
        elif leaf == "kernel":
            _assert_is_uniform(array, np.prod(array.shape[:-1]), name)
        else:
            kernel = start[name.replace("/bias", "/kernel")]
            _assert_is_uniform(array, np.prod(kernel.shape[:-1]), name)


@once
def test_initial_weights_of_ux_net_are_pytorchs() -> None:
    small = {"filters": (16, 16, 16, 16), "depths": (1, 1, 1, 1)}
    network = kl.models.create("ux_net", input_shape=(32, 32, 32, 1), num_classes=3, **small)
    start = _arrays(network)
    for name, array in start.items():
        leaf = name.rpartition("/")[-1]
        if leaf == "gamma":
            np.testing.assert_allclose(array, 1e-6 if "_scale" in name else 1, err_msg=name)
        elif leaf == "beta":
            np.testing.assert_array_equal(array, 0, err_msg=name)
        elif leaf == "kernel":
            _assert_is_uniform(array, np.prod(array.shape[:-1]), name)
        else:
            kernel = start[name.replace("/bias", "/kernel")]
            _assert_is_uniform(array, np.prod(kernel.shape[:-1]), name)


@once
@pytest.mark.parametrize(("depth", "taps"), [(12, (3, 6, 9)), (5, (1, 2, 3)), (1, (0, 0, 0))])
def test_where_the_skip_connections_of_unetr_begin(depth: int, taps: tuple[int, ...]) -> None:
    tiny = {"filters": 1, "hidden_filters": 4, "depth": depth, "num_heads": 1}
    network = kl.models.create("unetr", input_shape=(16, 16, 16, 1), num_classes=3, **tiny)
    for tap, name in zip(
        taps, ("encoder2_upsampling", "encoder3_upsampling", "encoder4"), strict=True
    ):
        first = network.get_layer(name)
        assert isinstance(first, layers.TransposedConv)
        assert first.input is network.get_layer(f"transformer{tap}").output
    decoder = network.get_layer("decoder5_upsampling")
    assert decoder.input is network.get_layer("transformer").output
