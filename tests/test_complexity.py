"""Multiply-adds against hand counts and against thop 0.1.1 on the plain-PyTorch network."""

import keras
import pytest

from keras_lgmsnet import LGMSNet2D, LGMSNet3D, layers
from keras_lgmsnet.models.complexity import count


def built(layer, *input_shape):
    layer.build((None, *input_shape))
    return layer


@pytest.mark.parametrize(
    ("model", "input_shape", "num_classes", "expected"),
    [
        # thop on the plain-PyTorch network with its softmax as a module; the paper: 2.32 M, 4.89 G
        (LGMSNet2D, (256, 256, 3), 1, (2_321_393, 4_892_515_328)),
        (LGMSNet3D, (32, 32, 32, 1), 14, (6_193_742, 2_499_813_952)),
        (LGMSNet3D, (96, 96, 96, 1), 14, (6_193_742, 67_779_707_904)),
    ],
)
def test_networks(model, input_shape, num_classes, expected):
    assert count(model(input_shape=input_shape, num_classes=num_classes)) == expected


@pytest.mark.parametrize(
    ("layer", "input_shape", "parameters", "multiply_adds"),
    [
        (layers.GroupedConv(6, 3, groups=2), (8, 8, 4), 6 * 18 + 6, 64 * 6 * 18),
        (layers.DepthwiseConv(5), (4, 4, 4, 2), 2 * 125 + 2, 64 * 2 * 125),
        (keras.layers.Conv2D(4, 3, strides=2, padding="same"), (8, 8, 3), 112, 16 * 4 * 27),
        (keras.layers.Dense(7), (5,), 42, 35),
        (keras.layers.BatchNormalization(), (8, 8, 3), 6, 4 * 64 * 3),
        (layers.GroupNormalization(-1, center=False, scale=False), (8, 8, 3), 0, 2 * 64 * 3),
        (layers.GroupNormalization(3), (8, 8, 3), 6, 0),
        (layers.LinearUpsampling(), (4, 4, 3), 0, 11 * 64 * 3),
        (layers.LinearUpsampling(), (4, 4, 4, 3), 0, 0),
    ],
)
def test_layers(layer, input_shape, parameters, multiply_adds):
    assert count(built(layer, *input_shape)) == (parameters, multiply_adds)


def test_transformer():
    transformer = built(layers.SparseTransformer(feed_forward_dim=10), 4, 4, 5)
    weights = 5 * 96 + 32 * 5 + 5 * 10 + 10 * 5
    norms = 2 * 4 * 5  # two layer norms, 4 operations for each of 5 features
    softmax = 4 * 4 * (4 * 3 - 1)  # 4 sequences, 4 heads: rows of 4 tokens in 3 operations each
    assert count(transformer).multiply_adds == 16 * (weights + norms) + 4 * softmax


def test_layers_without_a_rule_are_refused():
    with pytest.raises(ValueError, match=r"no rule here. Received: .*Conv2DTranspose"):
        count(built(keras.layers.Conv2DTranspose(4, 3, strides=2), 8, 8, 3))


def test_unknown_sides_are_refused():
    with pytest.raises(ValueError, match=r"static sides.*\(None, None, None, 3\)"):
        count(LGMSNet2D(input_shape=(None, None, 3)))
