"""MedNeXt's own tests; `test_networks` has those that every network passes."""

import keras
import numpy as np
import pytest

import keras_lgmsnet as kl
from tests.helpers.runs import scatter
from tests.helpers.stages import stage_outputs

pytestmark = pytest.mark.no_backend

TINY = {"depths": (1,) * 9, "expansions": (1,) * 9}


def test_initial_weights_are_pytorchs() -> None:
    keras.utils.set_random_seed(0)
    network = kl.models.create(
        "mednext", input_shape=(32, 32, 32, 2), num_classes=3, filters=8, **TINY
    )
    weights = kl.checkpoints.torch_state_dict(network)
    for name, values in weights.items():
        layer, _, role = name.rpartition(".")
        if layer.endswith("norm"):
            np.testing.assert_array_equal(values, 1 if role == "weight" else 0, err_msg=name)
        elif layer:
            # A transposed convolution's kernel begins with its inputs, in PyTorch as well.
            limit = np.prod(weights[f"{layer}.weight"].shape[1:]) ** -0.5
            assert 0.5 * limit < np.abs(values).max() <= limit, name
            # A deviation of so many numbers is off by less than five times this.
            assert abs(values.std() / limit * 3**0.5 - 1) < 2.5 / values.size**0.5, name


def test_a_doubled_volume_begins_with_zeros() -> None:
    """And its other voxels do not, nor do the norms know of the zeros."""
    network = scatter(
        kl.models.create("mednext", input_shape=(32, 32, 32, 1), num_classes=2, filters=2, **TINY)
    )
    names = [f"up{level}{part}" for level in (1, 4) for part in ("", "_depthwise", "_norm")]
    volumes = np.random.default_rng(0).random((1, 32, 32, 32, 1), "float32")
    outputs = stage_outputs(network, volumes, {name: network.get_layer(name) for name in names})
    for level, side in ((1, 32), (4, 4)):
        doubled = outputs[f"up{level}"]
        assert doubled.shape[1:-1] == (side,) * 3
        for axis in (1, 2, 3):
            assert not doubled.take(0, axis).any()
        assert doubled[:, 1:, 1:, 1:].all()
        convolved, normalized = outputs[f"up{level}_depthwise"], outputs[f"up{level}_norm"]
        assert convolved.shape == normalized.shape == (1, *(side - 1,) * 3, doubled.shape[-1] * 2)
        gamma, beta = network.get_layer(f"up{level}_norm").get_weights()
        voxels = (0, 1, 2, 3)
        centred = convolved - convolved.mean(voxels)
        expected = gamma * centred / np.sqrt((centred**2).mean(voxels) + 1e-5) + beta
        np.testing.assert_allclose(normalized, expected, rtol=0, atol=1e-4)
