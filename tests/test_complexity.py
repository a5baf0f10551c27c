"""Multiply-adds against hand counts and against thop 0.1.1 on the plain-PyTorch network."""

import math

import keras
import pytest

from keras_lgmsnet import LGMSNet2D, layers, models
from keras_lgmsnet.models.complexity import count


def built(layer, *input_shape):
    layer.build((None, *input_shape))
    return layer


# Convolutions of `unet` for volumes by hand, its transposed ones by the positions of their inputs,
# and 4 operations for each of the values that its batch norms see, at four resolutions.
UNET_3D = (
    799_603_163_136 + 25_367_150_592 + 4 * (96**3 * 224 + 48**3 * 448 + 24**3 * 896 + 12**3 * 768)
)


@pytest.mark.no_backend  # `test_networks` counts the variables of every backend
@pytest.mark.parametrize(
    ("name", "arguments", "input_shape", "num_classes", "expected"),
    [
        # thop on the plain-PyTorch network with its softmax as a module; the paper: 2.32 M, 4.89 G
        ("lgmsnet", {}, (256, 256, 3), 1, (2_321_393, 4_892_515_328)),
        ("lgmsnet", {}, (32, 32, 32, 1), 14, (6_193_742, 2_499_813_952)),
        ("lgmsnet", {}, (96, 96, 96, 1), 14, (6_193_742, 67_779_707_904)),
        # thop; the paper: 34.52 M, 65.52 G
        ("unet", {}, (256, 256, 3), 1, (34_527_041, 65_522_368_512)),
        ("unet", {"block": "lms"}, (256, 256, 3), 1, (17_330_081, 52_309_524_480)),
        ("unet", {"block": "gms"}, (256, 256, 3), 1, (19_182_113, 54_211_768_320)),
        ("unet", {}, (96, 96, 96, 1), 14, (19_073_614, UNET_3D)),
    ],
)
def test_networks(name, arguments, input_shape, num_classes, expected):
    model = models.create(name, input_shape=input_shape, num_classes=num_classes, **arguments)
    assert count(model) == expected


@pytest.mark.parametrize(
    ("layer", "input_shape", "parameters", "multiply_adds"),
    [
        (layers.GroupedConv(6, 3, groups=2), (8, 8, 4), 6 * 18 + 6, 64 * 6 * 18),
        (layers.DepthwiseConv(5), (4, 4, 4, 2), 2 * 125 + 2, 64 * 2 * 125),
        (layers.GroupedConv(6, 3, strides=2), (8, 7, 4), 6 * 36 + 6, 16 * 6 * 36),
        (layers.DepthwiseConv(5, strides=2), (8, 8, 2), 2 * 25 + 2, 16 * 2 * 25),
        (layers.DepthwiseConv(5, dilation=2), (8, 8, 2), 2 * 25 + 2, 64 * 2 * 25),
        (keras.layers.Conv2D(4, 3, strides=2, padding="same"), (8, 8, 3), 112, 16 * 4 * 27),
        (keras.layers.Conv1D(4, 3, padding="same"), (8, 3), 40, 8 * 4 * 9),
        (keras.layers.Conv3D(4, 3), (4, 4, 4, 3), 328, 8 * 4 * 81),
        (keras.layers.Conv2D(6, 3, groups=2), (8, 8, 4), 6 * 18 + 6, 36 * 6 * 18),
        (
            keras.layers.Conv2D(4, 3, padding="same", data_format="channels_first"),
            (3, 8, 6),
            112,
            48 * 4 * 27,
        ),
        (keras.layers.DepthwiseConv1D(3, padding="same"), (8, 5), 20, 8 * 15),
        (keras.layers.DepthwiseConv2D(3, padding="same"), (8, 8, 5), 50, 64 * 45),
        # A kernel of one channel each, and one that mixes them.
        (keras.layers.SeparableConv2D(7, 3), (8, 8, 5), 87, 36 * (45 + 35)),
        (keras.layers.SeparableConv1D(7, 3), (8, 5), 57, 6 * (15 + 35)),
        # 8 × 8 inputs, each of which is multiplied by the whole kernel, whatever the stride.
        (keras.layers.Conv2DTranspose(4, 3, strides=2), (8, 8, 3), 112, 64 * 108),
        (keras.layers.Conv1DTranspose(4, 3, strides=2), (8, 3), 40, 8 * 36),
        (keras.layers.Conv3DTranspose(4, 2, strides=2), (4, 4, 4, 3), 100, 64 * 96),
        (layers.TransposedConv(5), (8, 8, 3), 60, 64 * 60),
        (layers.TransposedConv(5), (4, 4, 4, 3), 120, 64 * 120),
        (layers.TransposedDepthwiseConv(), (8, 8, 3), 27 + 3, 64 * 27),
        (layers.TransposedDepthwiseConv(), (4, 4, 4, 3), 81 + 3, 64 * 81),
        (layers.TransposedPointwiseConv(5, 2), (4, 4, 4, 3), 15 + 5, 64 * 15),
        (keras.layers.Dense(7), (5,), 42, 35),
        (keras.layers.Dense(7), (4, 4, 5), 42, 16 * 35),
        (keras.layers.PReLU(shared_axes=(1, 2)), (8, 8, 3), 3, 64 * 3),
        (keras.layers.BatchNormalization(), (8, 8, 3), 6, 4 * 64 * 3),
        (layers.GroupNormalization(-1, center=False, scale=False), (8, 8, 3), 0, 2 * 64 * 3),
        (keras.layers.BatchNormalization(center=False, scale=False), (8, 8, 3), 0, 2 * 64 * 3),
        (keras.layers.LayerNormalization(), (8, 8, 3), 6, 4 * 64 * 3),
        (keras.layers.LayerNormalization(center=False, scale=False), (8, 3), 0, 2 * 8 * 3),
        (layers.GroupNormalization(-1), (8, 8, 3), 6, 4 * 64 * 3),
        (keras.layers.GroupNormalization(-1), (8, 8, 3), 6, 4 * 64 * 3),
        (layers.GroupNormalization(3), (8, 8, 6), 12, 0),
        (keras.layers.GroupNormalization(3), (8, 8, 6), 12, 0),
        (layers.LinearUpsampling(), (4, 4, 3), 0, 11 * 64 * 3),
        (layers.LinearUpsampling(), (4, 4, 4, 3), 0, 0),
        (layers.LinearUpsampling(4), (4, 4, 3), 0, 11 * 256 * 3),
        (layers.CubicUpsampling(), (4, 4, 3), 0, 8 * 64 * 3),
        (layers.NearestUpsampling(), (4, 4, 3), 0, 64 * 3),
        (layers.NearestUpsampling(), (4, 4, 4, 3), 0, 512 * 3),
        (keras.layers.UpSampling2D(2), (4, 4, 3), 0, 64 * 3),
        (keras.layers.UpSampling2D((2, 1), interpolation="bilinear"), (4, 4, 3), 0, 11 * 32 * 3),
        (keras.layers.AveragePooling2D(2), (8, 8, 3), 0, 16 * 3),
        (keras.layers.GlobalAveragePooling2D(), (8, 8, 3), 0, 65 * 3),
        # The averages, and a multiply-add a weight.
        (layers.SqueezeExcitation(2), (8, 8, 4), 2 * 4 * 2 + 6, 65 * 4 + 2 * 4 * 2),
        (layers.GlobalResponseNormalization(), (8, 8, 3), 6, 0),
        (layers.LayerScale(), (8, 8, 3), 3, 0),
        (layers.ChannelwiseFeedForward(4), (8, 8, 3), 3 * (4 + 4 + 4 + 1), 64 * 3 * (4 + 4)),
        (
            layers.ParallelDepthwiseConv([(5, 1), (3, 2)], identity=True),
            (8, 8, 3),
            3 * (25 + 9 + 4),
            64 * 3 * (25 + 9 + 8),
        ),
        (layers.MaxPooling(), (8, 8, 3), 0, 0),
        (layers.MaxPooling(3), (8, 8, 3), 0, 0),
        # Two convolutions, one for the shortcut, and three norms.
        (
            layers.ResidualBlock(6, strides=2),
            (8, 8, 4),
            6 * (36 + 54 + 4) + 3 * 12,
            16 * 6 * (36 + 54 + 4) + 3 * 4 * 16 * 6,
        ),
        (keras.layers.MaxPooling2D(), (8, 8, 3), 0, 0),
        # The kernel, four operations a value of the norms, and the softmax of two heads.
        (
            layers.AxialAttention(1, 2),
            (4, 6, 8),
            128 + 2 * 16 + 2 * 6 + 2 * 16 + 8 * 7,
            24 * (128 + 4 * (16 + 6 * 4 + 16) + 2 * 11),
        ),
        (
            layers.AxialAttention(2, 2, positions=False),
            (4, 6, 8),
            128 + 2 * 16 + 2 * 2 + 2 * 8,
            24 * (128 + 4 * (16 + 2 * 6 + 8) + 2 * 17),
        ),
    ],
)
def test_layers(layer, input_shape, parameters, multiply_adds):
    assert count(built(layer, *input_shape)) == (parameters, multiply_adds)


def test_pyramid():
    pyramid = built(layers.AtrousPyramidPooling(2, (6, 12)), 4, 4, 5)
    # Outputs by kernels, whatever these meet, and norms of 4 operations a value.
    branches = 16 * 2 * (5 + 2 * 45 + 3 * 4) + 2 * (5 + 4)
    assert count(pyramid).multiply_adds == branches + 17 * 5 + 16 * 2 * (4 * 2 + 4)


def test_transformer():
    transformer = built(layers.SparseTransformer(feed_forward_dim=10), 4, 4, 5)
    weights = 5 * 96 + 32 * 5 + 5 * 10 + 10 * 5
    norms = 2 * 4 * 5  # two layer norms, 4 operations for each of 5 features
    softmax = 4 * 4 * (4 * 3 - 1)  # 4 sequences, 4 heads: rows of 4 tokens in 3 operations each
    assert count(transformer).multiply_adds == 16 * (weights + norms) + 4 * softmax


class Scaling(keras.layers.Layer):
    def build(self, input_shape):
        self.factors = self.add_weight(shape=input_shape[-1:])
        self.convolution = layers.GroupedConv(2, 1)
        self.convolution.build(input_shape)

    def call(self, inputs):
        return self.convolution(inputs * self.factors)


class CountedScaling(Scaling):
    def multiply_adds(self, input_shape):
        return math.prod(input_shape[1:]) + math.prod(input_shape[1:-1]) * 3 * 2


def test_layers_without_a_rule_are_refused():
    with pytest.raises(ValueError, match=r"multiply_adds\(input_shape\), .* Received: .*a Scaling"):
        count(built(Scaling(), 8, 8, 3))
    with pytest.raises(ValueError, match=r"no rule here.* Received: .*EinsumDense"):
        count(built(keras.layers.EinsumDense("bij,jk->bik", (8, 5)), 8, 3))


def test_layers_may_say_what_they_cost():
    # What the layer says is all; its convolution is not counted beside it.
    assert count(built(CountedScaling(), 8, 8, 3)) == (3 + 8, 64 * 3 + 64 * 6)


class Product(keras.layers.Layer):
    def build(self, first_shape, second_shape):
        pass

    def call(self, first, second):
        return first * second

    def compute_output_shape(self, first_shape, second_shape):
        return first_shape

    def multiply_adds(self, first_shape, second_shape):
        assert first_shape[-1] != second_shape[-1]
        return math.prod(first_shape[1:])


def test_layers_of_several_inputs_are_told_all_shapes():
    first, second = keras.Input((8, 8, 3)), keras.Input((8, 8, 1))
    assert count(keras.Model([first, second], Product()(first, second))) == (0, 64 * 3)


def test_unknown_sides_are_refused():
    with pytest.raises(ValueError, match=r"static sides.*\(None, None, None, 3\)"):
        count(LGMSNet2D(input_shape=(None, None, 3)))
