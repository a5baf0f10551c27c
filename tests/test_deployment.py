"""The deploy form against the network it was made of, every weight and statistic moved."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

from keras_lgmsnet import LGMSNet2D, LGMSNet3D, export
from keras_lgmsnet.export import flat
from keras_lgmsnet.export.deployment import deploy
from tests.helpers.runs import scatter

WIDE = {"dims": (8, 12, 16, 16, 24)}
NETWORKS = {
    "published kernels": (LGMSNet2D, (32, 64, 3), {"dims": (16, 16, 32, 16, 16)}),
    "one kernel": (LGMSNet2D, (64, 32, 1), {"kernel_sizes": (3,), "dims": (4,) * 5}),
    "more kernels than are joined at once": (
        LGMSNet2D,
        (32, 32, 3),
        {"kernel_sizes": (1, 3, 5, 3, 7), "dims": (5, 10, 20, 8, 8), "num_classes": 3},
    ),
    "groups as wide as a register": (
        LGMSNet2D,
        (32, 32, 3),
        {"kernel_sizes": (3, 5), "dims": (24, 40, 8, 8, 8)},
    ),
    "no transformer": (LGMSNet2D, (32, 32, 3), WIDE | {"transformer_ratio": 0.0}),
    "all transformer": (LGMSNet2D, (32, 32, 3), WIDE | {"transformer_ratio": 1.0}),
    "silu": (LGMSNet2D, (32, 32, 3), WIDE | {"activation": "silu"}),
    "instance norm": (LGMSNet2D, (64, 64, 3), WIDE | {"normalization": "instance"}),
    "volumes": (LGMSNet3D, (32, 32, 64, 1), {"dims": (4, 8, 8, 8, 8), "num_classes": 3}),
    "volumes, batch norm, few kernels": (
        LGMSNet3D,
        (32, 32, 32, 2),
        {"dims": (12, 6, 6, 8, 8), "kernel_sizes": (3, 5, 9), "normalization": "batch"},
    ),
}


@pytest.fixture(scope="module", params=NETWORKS.values(), ids=NETWORKS.keys())
def network(request) -> keras.Model:
    network_class, input_shape, arguments = request.param
    return scatter(network_class(input_shape, **arguments))


@pytest.fixture(scope="module")
def deployed(network) -> keras.Model:
    return deploy(network)


def images_for(network: keras.Model, number: int = 2) -> np.ndarray:
    shape = (number, *network.input_shape[1:])
    return np.random.default_rng(1).normal(size=shape).astype("float32")


def predict(model: keras.Model, images: np.ndarray) -> np.ndarray:
    if keras.backend.backend() == "jax":  # which compiles one operation after the other otherwise
        return model.predict_on_batch(images)
    return ops.convert_to_numpy(model(images, training=False))


def test_deployed_network_is_the_same_function(network, deployed) -> None:
    images = images_for(network)
    logits = predict(network, images)
    assert logits.std() > 0.1  # else a wrong one would pass
    # Instance norm of few pixels magnifies rounding, in the network itself by 8e-4.
    kind = network.normalization or ("instance" if network.rank == 3 else "batch")
    atol = {"batch": 1e-4, "instance": 2e-3}[kind]
    np.testing.assert_allclose(predict(deployed, images), logits, atol=atol)


def test_deployed_network_is_a_plain_model(network, deployed, tmp_path) -> None:
    assert isinstance(deployed, keras.Model)
    assert type(deployed).__module__.startswith("keras.")
    assert deployed.name == network.name
    assert deployed.input_shape == network.input_shape
    assert deployed.output_shape == network.output_shape
    assert {weight.dtype for weight in deployed.weights} == {"float32"}
    assert not any(type(layer).__module__.startswith("keras_lgmsnet") for layer in deployed.layers)

    deployed.save(tmp_path / "deployed.keras")
    reloaded = keras.saving.load_model(tmp_path / "deployed.keras")
    images = images_for(network)
    np.testing.assert_array_equal(predict(reloaded, images), predict(deployed, images))


def test_images_have_four_axes_at_most(network, deployed) -> None:
    ranks = [
        len(tensor.shape)
        for operation in deployed.operations
        for node in operation._inbound_nodes
        for tensor in node.output_tensors
    ]
    # Of a volume the input and the logits have five.
    assert sum(rank > 4 for rank in ranks) == (2 if network.rank == 3 else 0)


def test_the_network_itself_is_left_alone() -> None:
    network = scatter(LGMSNet2D((32, 32, 3), dims=(4, 4, 4, 4, 4)))
    before = network.get_weights()
    deploy(network)
    for weight, former in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, former)


def test_any_number_of_images_passes() -> None:
    network = scatter(LGMSNet2D((32, 64, 3), dims=(4, 4, 4, 4, 4)))
    deployed, images = deploy(network), images_for(network, 3)
    one_by_one = np.concatenate([predict(deployed, image[None]) for image in images])
    np.testing.assert_allclose(predict(deployed, images), one_by_one, atol=1e-4)


def test_attention_by_head_is_attention(monkeypatch) -> None:
    network = scatter(LGMSNet2D((32, 64, 3), dims=(4, 4, 8, 8, 8)))
    images = images_for(network)
    monkeypatch.setattr(flat, "WEIGHTS_IN_CACHE", 0)
    np.testing.assert_allclose(
        predict(deploy(network), images), predict(network, images), atol=1e-5
    )


def test_a_norm_that_scales_by_zero_deploys() -> None:
    network = scatter(LGMSNet2D((32, 32, 3), dims=(4, 4, 4, 4, 4)))
    for variable in network.weights:
        if variable.path.endswith("narrow_norm/gamma"):
            variable.assign(np.zeros(variable.shape))
    images = images_for(network)
    np.testing.assert_allclose(
        predict(deploy(network), images), predict(network, images), atol=1e-5
    )


def test_networks_of_half_precision_deploy_in_float32() -> None:
    half = LGMSNet2D((32, 32, 3), dims=(4, 4, 4, 4, 4), dtype="mixed_float16")
    full = LGMSNet2D((32, 32, 3), dims=(4, 4, 4, 4, 4), dtype="float32")
    full.set_weights(scatter(half).get_weights())
    deployed = deploy(half)
    assert {layer.compute_dtype for layer in deployed.layers} == {"float32"}
    images = images_for(full)
    np.testing.assert_allclose(predict(deployed, images), predict(full, images), atol=1e-4)


def test_kernels_of_runs_by_hand() -> None:
    # One row of four pixels, one channel; kernel (1, 10, 100) along the width.
    image = keras.Input((1, 4, 1))
    kernel = np.zeros((3, 3, 1, 1))
    kernel[1, :, 0, 0] = 1, 10, 100
    features = flat.Features.from_input(image)
    outputs = flat.depthwise_by_runs(features, kernel, np.array([0.5]), "by_hand", run=2)
    pixels = np.float32([1, 2, 3, 4]).reshape(1, 1, 4, 1)
    # Each pixel is 1 × the one before + 10 × itself + 100 × the one after.
    expected = [[210.5, 321.5], [432.5, 43.5]]
    actual = predict(keras.Model(image, outputs.images), pixels)
    np.testing.assert_allclose(actual.reshape(2, 2), expected)


def test_a_norm_yet_to_be_applied_is_never_dropped() -> None:
    images = keras.Input((4, 4, 2))
    pending = flat.Features(images, None, flat.Affine(scale=np.ones(2), offset=np.zeros(2)))
    with pytest.raises(ValueError, match=r"settle the features first"):
        flat.convolve(pending, np.zeros((3, 3, 2, 1)), None, "convolution")
    with pytest.raises(ValueError, match=r"settle the features first"):
        flat.concatenate([pending, pending])


def test_other_models_are_refused() -> None:
    image = keras.Input((32, 32, 3))
    with pytest.raises(ValueError, match=r"LGMSNet2D or LGMSNet3D. Received: Functional"):
        deploy(keras.Model(image, image + 1))


def test_unknown_sides_are_refused() -> None:
    network = LGMSNet2D((None, 32, 3), dims=(4, 4, 4, 4, 4))
    with pytest.raises(ValueError, match=r"set_weights. Received: input_shape=\(None, 32, 3\)"):
        deploy(network)


def test_deploy_is_reached_through_export() -> None:
    assert export.deploy is deploy
    with pytest.raises(AttributeError, match="attribute deployed"):
        _ = export.deployed


@pytest.mark.no_backend
def test_export_imports_no_keras() -> None:
    code = (
        "import json, sys; import keras_lgmsnet.export; print(json.dumps('keras' in sys.modules))"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert json.loads(child.stdout) is False
