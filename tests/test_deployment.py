"""The deploy form against the network it was made of, every weight and statistic moved."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

from keras_lgmsnet import LGMSNet2D, LGMSNet3D, export, layers
from keras_lgmsnet.export.deployment import deploy
from keras_lgmsnet.export.rewriting import flat
from keras_lgmsnet.export.rewriting.flat import Features
from keras_lgmsnet.export.rewriting.folding import Affine
from keras_lgmsnet.layers.base import leaky_relu
from keras_lgmsnet.layers.normalization import BatchNormalization
from keras_lgmsnet.models.unet import UNet2D, UNet3D
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
    "u-net": (UNet2D, (16, 8, 3), {"filters": (4, 8, 12)}),
    "u-net with local blocks": (UNet2D, (16, 8, 3), {"filters": (4, 8, 12), "block": "lms"}),
    "u-net with a global block": (UNet2D, (16, 8, 3), {"filters": (4, 8, 12), "block": "gms"}),
    "u-net for volumes": (UNet3D, (8, 8, 16, 2), {"filters": (4, 8, 12), "num_classes": 3}),
}

once = pytest.mark.no_backend  # networks are rewritten alike, whatever computes them
# Of LGMSNets the first backend is enough; they would take the others long.
NAMES = [
    pytest.param(name, marks=once if network_class in (LGMSNet2D, LGMSNet3D) else ())
    for name, (network_class, *_) in NETWORKS.items()
]


@pytest.fixture(scope="module", params=NAMES)
def network(request) -> keras.Model:
    network_class, input_shape, arguments = NETWORKS[request.param]
    return scatter(network_class(input_shape, **arguments))


@pytest.fixture(scope="module")
def deployed(network) -> keras.Model:
    return deploy(network)


def images_for(network: keras.Model, number: int = 2) -> np.ndarray:
    shape = (number, *network.input_shape[1:])
    return np.random.default_rng(1).normal(size=shape).astype("float32")


def number_of_volumes(model: keras.Model) -> int:
    """Count the tensors of more than four axes."""
    return sum(
        len(tensor.shape) > 4
        for operation in model.operations
        for node in operation._inbound_nodes
        for tensor in node.output_tensors
    )


def types(model: keras.Model) -> list[type]:
    return [type(operation) for operation in model.operations]


def assert_same_function(deployed: keras.Model, network: keras.Model, atol: float = 1e-4) -> None:
    images = images_for(network)
    expected = predict(network, images)
    assert expected.std() > 0.05  # else a wrong one would pass
    np.testing.assert_allclose(predict(deployed, images), expected, atol=atol)


def predict(model: keras.Model, images: np.ndarray) -> np.ndarray:
    if keras.backend.backend() == "jax":  # which compiles one operation after the other otherwise
        return model.predict_on_batch(images)
    return ops.convert_to_numpy(model(images, training=False))


def test_deployed_network_is_the_same_function(network, deployed) -> None:
    images = images_for(network)
    logits = predict(network, images)
    assert logits.std() > 0.1  # else a wrong one would pass
    # Instance norm of few pixels magnifies rounding, in the network itself by 8e-4.
    kind = getattr(network, "normalization", "batch")
    kind = kind or ("instance" if network.rank == 3 else "batch")
    atol = {"batch": 1e-4, "instance": 2e-3}[kind]
    np.testing.assert_allclose(predict(deployed, images), logits, atol=atol)


def test_deployed_network_is_a_plain_model(network, deployed) -> None:
    assert isinstance(deployed, keras.Model)
    assert type(deployed).__module__.startswith("keras.")
    assert deployed.name == network.name
    assert deployed.input_shape == network.input_shape
    assert deployed.output_shape == network.output_shape
    assert {weight.dtype for weight in deployed.weights} == {"float32"}
    assert not any(type(layer).__module__.startswith("keras_lgmsnet") for layer in deployed.layers)


@once
@pytest.mark.parametrize(
    "network", ["published kernels", "volumes", "u-net with a global block"], indirect=True
)
def test_deployed_network_is_saved(network, tmp_path) -> None:
    deployed = deploy(network)
    deployed.save(tmp_path / "deployed.keras")
    reloaded = keras.saving.load_model(tmp_path / "deployed.keras")
    images = images_for(network)
    np.testing.assert_array_equal(predict(reloaded, images), predict(deployed, images))


def test_images_have_four_axes_at_most(network, deployed) -> None:
    # Of a volume the input and the logits have five.
    assert number_of_volumes(deployed) == (2 if network.rank == 3 else 0)


@once
def test_the_network_itself_is_left_alone() -> None:
    network = scatter(LGMSNet2D((32, 32, 3), dims=(4, 4, 4, 4, 4)))
    before = network.get_weights()
    deploy(network)
    for weight, former in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, former)


@once
def test_any_number_of_images_passes() -> None:
    network = scatter(LGMSNet2D((32, 64, 3), dims=(4, 4, 4, 4, 4)))
    deployed, images = deploy(network), images_for(network, 3)
    one_by_one = np.concatenate([predict(deployed, image[None]) for image in images])
    np.testing.assert_allclose(predict(deployed, images), one_by_one, atol=1e-4)


@once
def test_attention_by_head_is_attention(monkeypatch) -> None:
    network = scatter(LGMSNet2D((32, 64, 3), dims=(4, 4, 8, 8, 8)))
    images = images_for(network)
    monkeypatch.setattr(flat, "WEIGHTS_IN_CACHE", 0)
    np.testing.assert_allclose(
        predict(deploy(network), images), predict(network, images), atol=1e-5
    )


@once
def test_a_norm_that_scales_by_zero_deploys() -> None:
    network = scatter(LGMSNet2D((32, 32, 3), dims=(4, 4, 4, 4, 4)))
    for variable in network.weights:
        if variable.path.endswith("narrow_norm/gamma"):
            variable.assign(np.zeros(variable.shape))
    images = images_for(network)
    np.testing.assert_allclose(
        predict(deploy(network), images), predict(network, images), atol=1e-5
    )


@once
def test_networks_of_half_precision_deploy_in_float32() -> None:
    half = LGMSNet2D((32, 32, 3), dims=(4, 4, 4, 4, 4), dtype="mixed_float16")
    full = LGMSNet2D((32, 32, 3), dims=(4, 4, 4, 4, 4), dtype="float32")
    full.set_weights(scatter(half).get_weights())
    deployed = deploy(half)
    assert {layer.compute_dtype for layer in deployed.layers} == {"float32"}
    images = images_for(full)
    np.testing.assert_allclose(predict(deployed, images), predict(full, images), atol=1e-4)


@once
def test_kernels_of_runs_by_hand() -> None:
    # One row of four pixels, one channel; kernel (1, 10, 100) along the width.
    image = keras.Input((1, 4, 1))
    kernel = np.zeros((3, 3, 1, 1))
    kernel[1, :, 0, 0] = 1, 10, 100
    features = Features.from_input(image)
    outputs = flat.depthwise_by_runs(features, kernel, np.array([0.5]), "by_hand", run=2)
    pixels = np.float32([1, 2, 3, 4]).reshape(1, 1, 4, 1)
    # Each pixel is 1 × the one before + 10 × itself + 100 × the one after.
    expected = [[210.5, 321.5], [432.5, 43.5]]
    actual = predict(keras.Model(image, outputs.images), pixels)
    np.testing.assert_allclose(actual.reshape(2, 2), expected)


@once
def test_a_norm_yet_to_be_applied_is_never_dropped() -> None:
    images = keras.Input((4, 4, 2))
    pending = Features(images, None, Affine(scale=np.ones(2), offset=np.zeros(2)))
    with pytest.raises(ValueError, match=r"settle the features first"):
        flat.convolve(pending, np.zeros((3, 3, 2, 1)), None, "convolution")
    with pytest.raises(ValueError, match=r"settle the features first"):
        flat.concatenate([pending, pending])


SOFTMAX = {"activation": "softmax"}  # which is none of a value by itself
LAYERS = {
    "dense": lambda: layers.GroupedConv(6, 3),
    "pointwise": lambda: layers.GroupedConv(6, 1, use_bias=False),
    "groups": lambda: layers.GroupedConv(8, 3, groups=2),
    "pointwise groups": lambda: layers.GroupedConv(8, 1, groups=2),
    "a group a channel": lambda: layers.GroupedConv(4, 5, groups=4, use_bias=False),
    "depthwise": lambda: layers.DepthwiseConv(3),
    "large depthwise": lambda: layers.DepthwiseConv(5),
    "scale": lambda: layers.DepthwiseConv(1),
    "strided": lambda: layers.GroupedConv(6, 3, strides=2),
    "strided pointwise": lambda: layers.GroupedConv(6, 1, strides=2),
    "groups of one filter": lambda: layers.GroupedConv(2, 3, groups=2),
    "strided groups of one filter": lambda: layers.GroupedConv(2, 3, groups=2, strides=2),
    "strided groups": lambda: layers.GroupedConv(8, 3, groups=2, strides=2),
    "strided depthwise": lambda: layers.DepthwiseConv(5, strides=2),
    "strided scale": lambda: layers.DepthwiseConv(1, strides=2),
    "dilated": lambda: layers.GroupedConv(6, 3, dilation=2),
    "dilated beyond the border": lambda: layers.GroupedConv(6, 5, dilation=3),
    "dilated depthwise beyond the border": lambda: layers.DepthwiseConv(5, dilation=3),
    "atrous pyramid": lambda: layers.AtrousPyramidPooling(6, (1, 2, 9)),
    "dilated depthwise": lambda: layers.DepthwiseConv(5, dilation=2),
    "strided step": lambda: layers.ConvNormActivation(6, 3, strides=2),
    "step": lambda: layers.ConvNormActivation(6, 3),
    "step with instance norm": lambda: layers.ConvNormActivation(6, 3, normalization="instance"),
    "local block": lambda: layers.LMSBlock((3, 5)),
    "local block with softmax": lambda: layers.LMSBlock((3, 5), **SOFTMAX),
    "step with softmax": lambda: layers.ConvNormActivation(6, 3, **SOFTMAX),
    "global block": lambda: layers.GMSBlock(6),
    "fusion": lambda: layers.FusionBlock(6),
    "transformer": lambda: layers.SparseTransformer(6),
    "attention": lambda: layers.MultiHeadAttention(2),
    "joined attention": lambda: layers.MultiHeadAttention(2, "query_key_value", use_bias=False),
    "positions": lambda: layers.PositionEmbedding(),
    "standardized": lambda: layers.StandardizedConv(8, 3, strides=2),
    "attention within windows": lambda: layers.WindowAttention(2, 2),
    "attention within shifted windows": lambda: layers.WindowAttention(2, 2, shift=1),
    "attention within windows filled up": lambda: layers.WindowAttention(1, 4, shift=2),
    "attention of pixels to themselves": lambda: layers.WindowAttention(2, 1),
    "patch embedding": lambda: layers.PatchEmbedding(6, 2),
    "flat patch embedding": lambda: layers.PatchEmbedding(6, 2, flat_kernel=True),
    "feed-forward of each channel": lambda: layers.ChannelwiseFeedForward(),
    "patch merging": lambda: layers.PatchMerging(6),
    "patch expansion": lambda: layers.PatchExpansion(6),
    "large patch expansion": lambda: layers.PatchExpansion(6, 3),
    "parallel depthwise": lambda: layers.ParallelDepthwiseConv([(5, 1), (3, 2)]),
    "parallel depthwise and identity": lambda: layers.ParallelDepthwiseConv([(3, 1), (1, 1)], True),
    "squeeze-excitation": lambda: layers.SqueezeExcitation(3),
    "response norm": lambda: layers.GlobalResponseNormalization(),
    "layer scale": lambda: layers.LayerScale(),
    "depthwise residual": lambda: layers.DepthwiseResidual(),
    "pooling": lambda: layers.MaxPooling(),
    "overlapping pooling": lambda: layers.MaxPooling(3),
    "residual block": lambda: layers.ResidualBlock(4),
    "strided residual block": lambda: layers.ResidualBlock(6, strides=2),
    "residual block with batch norm": lambda: layers.ResidualBlock(6, normalization="batch"),
    "leaky residual block": lambda: layers.ResidualBlock(6, activation=leaky_relu),
    "bottleneck": lambda: layers.ResidualBlock(6, strides=2, bottleneck=4),
    "linear upsampling": lambda: layers.LinearUpsampling(),
    "large linear upsampling": lambda: layers.LinearUpsampling(4),
    "aligned linear upsampling": lambda: layers.LinearUpsampling(align_corners=True),
    "cubic upsampling": lambda: layers.CubicUpsampling(),
    "nearest upsampling": lambda: layers.NearestUpsampling(),
    "transposed": lambda: layers.TransposedConv(6),
    "transposed depthwise": lambda: layers.TransposedDepthwiseConv("normal"),
    "transposed pointwise": lambda: layers.TransposedPointwiseConv(6, 1, "normal"),
    "strided transposed pointwise": lambda: layers.TransposedPointwiseConv(6, 3, "normal"),
    "group norm": lambda: layers.GroupNormalization(2),
    "layer norm": lambda: keras.layers.LayerNormalization(epsilon=1e-5),
    "instance norm": lambda: layers.GroupNormalization(-1, center=False, scale=False),
}


# Rules are no backend's own; that backends agree on what they make, whole networks show.
@once
@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())
def test_layers_deploy_exactly(layer, rank) -> None:
    # Between two norms that could be folded, the latter into a convolution if there is one.
    image = keras.Input((4, 8, 6, 4)[-rank - 1 :])
    x = layer()(BatchNormalization()(image))
    network = scatter(keras.Model(image, BatchNormalization()(x)))
    deployed = deploy(network)
    assert_same_function(deployed, network)
    assert not {BatchNormalization, keras.layers.LayerNormalization} & {*types(deployed)}
    own = [cls for cls in types(deployed) if cls.__module__.startswith("keras_lgmsnet")]
    if getattr(network.layers[2], "activation", None) is keras.activations.softmax:
        # It is not known to map each value by itself, so the layer is called as it is.
        assert own == [type(network.layers[2])]
    else:
        assert own == []
        assert number_of_volumes(deployed) == (2 if rank == 3 else 0)


@once
@pytest.mark.parametrize("normalization", ["batch", "instance"])
@pytest.mark.parametrize("rank", [2, 3])
def test_repeated_pixels_are_convolved_before_they_are_repeated(rank, normalization) -> None:
    image = keras.Input((4, 2, 6, 3)[-rank - 1 :])
    repeated = layers.NearestUpsampling()(image)
    x = layers.ConvNormActivation(5, 3, activation="relu", normalization=normalization)(repeated)
    network = scatter(keras.Model(image, x))
    deployed = deploy(network)
    assert_same_function(deployed, network)
    convolutions = [layer for layer in deployed.layers if isinstance(layer, keras.layers.Conv2D)]
    assert {layer.kernel_size for layer in convolutions} == {(2, 2)}
    assert len(convolutions) == 2**rank


@once
@pytest.mark.parametrize("identity", [True, False])
def test_parallel_convolutions_norms_and_scale_become_one_convolution(identity) -> None:
    image = keras.Input((8, 6, 4))
    x = layers.ParallelDepthwiseConv([(7, 1), (3, 3), (3, 1)], identity)(image)
    x = layers.LayerScale()(BatchNormalization()(x))
    network = scatter(keras.Model(image, BatchNormalization()(x)))
    deployed = deploy(network)
    assert_same_function(deployed, network)
    assert types(deployed) == [keras.layers.InputLayer, keras.layers.DepthwiseConv2D]
    assert deployed.layers[1].kernel_size == (7, 7)


@once
@pytest.mark.parametrize("joined", [None, "key_value"])
@pytest.mark.parametrize("sides", [(2, 4), (1, 1), (2, 2, 4)])
def test_attention_to_other_tokens_deploys(sides, joined) -> None:
    image = keras.Input((*(4, 6, 6)[-len(sides) :], 8))
    source = image[(slice(None), *map(slice, sides))][..., :6]
    x = layers.MultiHeadAttention(2, joined)(image, BatchNormalization()(source))
    network = scatter(keras.Model(image, x))
    deployed = deploy(network)
    assert_same_function(deployed, network)
    assert layers.MultiHeadAttention not in types(deployed)


class Wave(keras.layers.Layer):
    """A layer without a rule, with a weight."""

    def build(self, input_shape):
        self.frequency = self.add_weight(shape=input_shape[-1:], initializer="ones")

    def call(self, inputs):
        return ops.sin(inputs * self.frequency)


def stock_network(rank: int) -> keras.Model:
    """Of layers of Keras for images or volumes, one of the tester's own and additions."""
    kinds = keras.layers

    def layer(name, *arguments, **options):
        return getattr(kinds, f"{name}{rank}D")(*arguments, **options)

    def transposed(filters, kernel_size, **options):
        cls = {2: kinds.Conv2DTranspose, 3: kinds.Conv3DTranspose}[rank]
        return cls(filters, kernel_size, strides=2, padding="same", **options)

    image = keras.Input((4, 8, 12, 3)[-rank - 1 :])
    x = layer("Conv", 8, 3, padding="same", use_bias=False)(image)
    x = skip = kinds.ReLU()(kinds.BatchNormalization()(x))
    shared = layer("Conv", 8, 3, padding="same")
    x = shared(x) + ops.gelu(shared(x)) * 0.5
    x = kinds.Add()([x, skip])
    x = layer("MaxPooling", 2)(x)
    x = layer("Conv", 6, 3, strides=2, padding="same")(x)  # not as ours is
    x = kinds.BatchNormalization(center=False)(x)
    x = kinds.Dropout(0.5)(Wave()(x))
    x = kinds.BatchNormalization(scale=False)(transposed(6, 3)(x))
    x = kinds.BatchNormalization()(transposed(6, 2)(x))
    if rank == 2:
        x = kinds.BatchNormalization()(kinds.DepthwiseConv2D(3, depth_multiplier=2)(x))
        x = kinds.ZeroPadding2D(1)(x)
    x = kinds.Concatenate()([x, skip])
    x = layer("Conv", 6, 3, padding="same", groups=2, activation="silu")(x)
    x = kinds.GroupNormalization(3)(x)
    x = layer("ZeroPadding", ((1, 0), (0, 2), (1, 1))[:rank])(x)
    x = layer("UpSampling", 2)(x)
    x = layer("Conv", 4, 3, padding="same")(x)
    x = kinds.BatchNormalization()(kinds.Dense(4)(kinds.Dense(5, activation="relu")(x)))
    return keras.Model(image, kinds.Dense(2)(x))


@once
@pytest.mark.parametrize("rank", [2, 3])
def test_networks_of_other_layers_deploy(rank) -> None:
    network = scatter(stock_network(rank))
    deployed = deploy(network)
    assert_same_function(deployed, network)
    assert keras.layers.BatchNormalization not in types(deployed)
    assert keras.layers.GroupNormalization not in types(deployed)
    own = [layer for layer in deployed.layers if layer in network.layers]
    # What the network calls twice, and the layer of the tester's own.
    assert {type(layer) for layer in own if layer.weights} == {
        Wave,
        type(network.get_layer(index=4)),
    }
    if rank == 3:
        # Input and output; the layers just named; two convolutions that are not like ours.
        assert number_of_volumes(deployed) < 20
        assert not {keras.layers.MaxPooling3D, keras.layers.ZeroPadding3D} & {*types(deployed)}


@once
def test_a_convolution_that_others_read_is_computed_once() -> None:
    image = keras.Input((8, 8, 3))
    x = layers.GroupedConv(4, 3)(image)
    network = scatter(keras.Model(image, BatchNormalization()(x) * x))
    deployed = deploy(network)
    assert_same_function(deployed, network)
    assert types(deployed).count(keras.layers.Conv2D) == 1
    # Nor is one whose output the network returns: here the norm's is not.
    network = keras.Model(image, x)
    assert_same_function(deploy(network), network)


@once
def test_norms_of_other_axes_are_left_as_they_are() -> None:
    image = keras.Input((8, 6, 3))
    x = keras.layers.Conv2D(4, 3, padding="same")(image)
    x = keras.layers.BatchNormalization(axis=1)(x)
    network = scatter(keras.Model(image, keras.layers.Concatenate(axis=1)([x, x])))
    deployed = deploy(network)
    assert_same_function(deployed, network)
    assert keras.layers.BatchNormalization in types(deployed)


@once
def test_layers_that_inherit_are_left_as_they_are() -> None:
    class Square(layers.GroupedConv):
        def call(self, inputs):
            return super().call(inputs) ** 2

    image = keras.Input((8, 8, 3))
    network = scatter(keras.Model(image, Square(4, 3)(image)))
    deployed = deploy(network)
    assert_same_function(deployed, network)
    assert Square in types(deployed)


@once
def test_arguments_of_a_call_are_kept() -> None:
    image = keras.Input((8, 8, 3))
    norm = keras.layers.BatchNormalization(momentum=1.0)
    network = keras.Model(image, norm(5 * image, training=True))
    images = images_for(network)
    # By the batch's own statistics, unless the call of the network says otherwise.
    outputs = [ops.convert_to_numpy(model(images)) for model in (network, deploy(network))]
    np.testing.assert_allclose(*outputs, atol=1e-5)
    assert outputs[0].std() == pytest.approx(1, abs=0.05)


@once
def test_averages_over_axes_are_not_taken_slice_by_slice() -> None:
    volume = keras.Input((4, 8, 8, 2))
    x = ops.max(volume, axis=1, keepdims=True) + volume
    network = keras.Model(volume, ops.average(x, axis=3, weights=None)[..., None, :] * x)
    assert_same_function(deploy(network), network)


@once
def test_inner_networks_are_called_as_they_are() -> None:
    inner = LGMSNet2D((32, 32, 3), dims=(4, 4, 4, 4, 4))
    image = keras.Input((32, 32, 3))
    network = scatter(keras.Model(image, inner(image)))
    assert_same_function(deploy(network), network)


@once
def test_deploying_twice_is_deploying() -> None:
    network = scatter(stock_network(2))
    first, second = deploy(network), deploy(network)
    assert types(first) == types(second)
    assert_same_function(second, network)
    assert_same_function(deploy(second), network)


@once
def test_other_models_are_refused() -> None:
    image, other = keras.Input((32, 32, 3)), keras.Input((32, 32, 3))
    for inputs, outputs, numbers in (
        ([image, other], image + other, "2 inputs and 1 outputs"),
        (image, [image + 1, image + 2], "1 inputs and 2 outputs"),
    ):
        with pytest.raises(ValueError, match=rf"one output. Received: Functional of {numbers}"):
            deploy(keras.Model(inputs, outputs))

    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ValueError, match=r"a functional model .* Received: Subclassed of 0 inputs"):
        deploy(Subclassed())


@once
def test_a_call_of_the_models_own_is_not_dropped() -> None:
    class Sigmoid(keras.Model):
        def call(self, inputs):
            return keras.ops.sigmoid(super().call(inputs))

    image = keras.Input((32, 32, 3))
    with pytest.raises(ValueError, match=r"a call of its own: .* Received: Sigmoid"):
        deploy(Sigmoid(image, image + 1))


@once
def test_layers_without_a_rule_in_half_precision_are_refused() -> None:
    image = keras.Input((8, 8, 3))
    network = keras.Model(image, Wave(dtype="mixed_float16", name="wave")(image))
    with pytest.raises(ValueError, match=r"dtype='float32' .* Received: wave in float16"):
        deploy(network)


@once
def test_unknown_sides_are_refused() -> None:
    network = LGMSNet2D((None, 32, 3), dims=(4, 4, 4, 4, 4))
    with pytest.raises(ValueError, match=r"set_weights. Received: input_shape=\(None, 32, 3\)"):
        deploy(network)


@once
def test_deploy_is_reached_through_export() -> None:
    assert export.deploy is deploy
    with pytest.raises(AttributeError, match="attribute deployed"):
        _ = export.deployed


@once
def test_export_imports_no_keras() -> None:
    code = (
        "import json, sys; import keras_lgmsnet.export; print(json.dumps('keras' in sys.modules))"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert json.loads(child.stdout) is False
