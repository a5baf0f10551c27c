"""Swin UNETR's own tests; `test_networks` has those that every network passes."""

import keras
import numpy as np
import pytest

import keras_lgmsnet as kl

TINY = {"filters": 6, "depths": (2, 1, 1, 1), "num_heads": (3, 1, 2, 1), "num_classes": 3}


@pytest.mark.no_backend  # the initializers are NumPy's and Keras's
def test_it_starts_with_the_weights_of_its_program() -> None:
    keras.utils.set_random_seed(0)
    network = kl.models.create("swin_unetr", input_shape=(32, 32, 32, 1), window=4, **TINY)
    weights = kl.checkpoints.torch_state_dict(network)
    uniform: dict[str, list[np.ndarray]] = {"weight": [], "bias": []}
    tables = []
    for name, values in weights.items():
        owner, _, role = name.rpartition(".")
        if role == "relative_position_bias_table":
            tables.append(values)
        elif "norm" in owner:
            np.testing.assert_array_equal(values, float(role == "weight"), err_msg=name)
        elif role in uniform:
            fan_in = np.prod(weights[f"{owner}.weight"].shape[1:])
            uniform[role].append(values.ravel() * np.sqrt(fan_in))
    for parts in uniform.values():
        values = np.concatenate(parts)
        assert values.std() == pytest.approx(1 / np.sqrt(3), rel=0.05)
        assert 0.99 < np.abs(values).max() <= 1 + 1e-6
        assert len({array.tobytes() for array in parts}) == len(parts)
    assert np.concatenate([table.ravel() for table in tables]).std() == pytest.approx(0.02, rel=0.1)
    assert len({table.tobytes() for table in tables}) == len(tables)


@pytest.mark.no_backend
def test_distinct_octants_are_merged_each_once() -> None:
    networks = [
        kl.models.create(
            "swin_unetr", input_shape=(32, 32, 32, 1), window=2, distinct_octants=distinct, **TINY
        )
        for distinct in (False, True)
    ]
    mergings = [network.get_layer("transformer1_merging").places() for network in networks]
    assert [len(set(places)) for places in mergings] == [6, 8]
    assert [len(places) for places in mergings] == [8, 8]
    networks[1].set_weights(networks[0].get_weights())
    volumes = np.random.default_rng(0).random((1, 32, 32, 32, 1), "float32")
    slip, distinct = (network.predict_on_batch(volumes) for network in networks)
    assert np.abs(slip - distinct).max() > 1e-3 * slip.std()
