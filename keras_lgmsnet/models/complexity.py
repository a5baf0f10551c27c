"""Parameters and multiply-adds of a network."""

import math
from typing import Any, NamedTuple

import keras

from keras_lgmsnet.layers import (
    AtrousPyramidPooling,
    CubicUpsampling,
    DepthwiseConv,
    GlobalResponseNormalization,
    GroupedConv,
    GroupNormalization,
    LayerScale,
    LinearUpsampling,
    MultiHeadAttention,
    NearestUpsampling,
    PatchEmbedding,
    PositionEmbedding,
    SparseTransformer,
    SqueezeExcitation,
    TransposedConv,
    TransposedDepthwiseConv,
    TransposedPointwiseConv,
)
from keras_lgmsnet.layers.gms import NUM_HEADS

# Layers that apply every weight of their kernel once at every output position.
_KERNEL_LAYERS = (
    DepthwiseConv,
    GroupedConv,
    PatchEmbedding,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Dense,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
)
# Layers that apply it once at every input position.
_TRANSPOSED_LAYERS = (
    TransposedConv,
    TransposedDepthwiseConv,
    TransposedPointwiseConv,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
_SEPARABLE_LAYERS = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
_GROUP_NORMS = (GroupNormalization, keras.layers.GroupNormalization)
_UPSAMPLINGS = (
    NearestUpsampling,
    keras.layers.UpSampling1D,
    keras.layers.UpSampling2D,
    keras.layers.UpSampling3D,
)
_AVERAGE_POOLINGS = (
    keras.layers.AveragePooling1D,
    keras.layers.AveragePooling2D,
    keras.layers.AveragePooling3D,
)
_GLOBAL_AVERAGE_POOLINGS = (
    keras.layers.GlobalAveragePooling1D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalAveragePooling3D,
)
# Operations a value, by how it is interpolated.
_UPSAMPLING_OPERATIONS = {"nearest": 1, "bilinear": 11, "bicubic": 259}


class Complexity(NamedTuple):
    """Trainable parameters, and multiply-adds for one image."""

    parameters: int
    multiply_adds: int


def count(model: keras.layers.Layer) -> Complexity:
    """Count the parameters of a network and its multiply-adds for one image of its input size.

    The rule is that of the PyTorch tool thop, which gives the paper's 4.89 G for `LGMSNet2D` at
    256 × 256: a multiply-add for every weight a kernel applies at every position; of every value 4
    operations for batch, layer and instance normalization (2 without scale and offset), 3 for the
    softmax of the attention, 11 for bilinear and 1 for nearest upsampling, 1 for an average and for
    PReLU. Biases, other activations, maxima, group and global response normalization, factors by
    channel (`LayerScale` and those of `SqueezeExcitation`), sums, trilinear upsampling and, the
    largest omission, the two products of the attention (0.30 G of `LGMSNet2D`) do not count, and
    neither do operations that are no layers. A layer that is called several times counts once.

    In two things thop is not followed. A transposed convolution applies its kernel once at every
    input position, but thop multiplies it by the output positions, 4 or 8 times as many. And a
    `CubicUpsampling`, whose weights are fixed, takes 4 operations of a value along each axis, where
    thop has 259, as if it solved the equations of the weights for each value anew.

    A layer of one's own that has weights, computes more than its inner layers do, or shows them the
    image in pieces, such as windows on the batch axis, says how much it computes in all, for one
    image, by a method `multiply_adds` that takes the shapes of its inputs. What is inside it is not
    counted then.

    Args:
        model: A built model or layer, with static sides.

    Returns:
        Trainable parameters and multiply-adds.

    Raises:
        ValueError: When the model's sides are not static, or it has a layer with weights that the
            rule does not know.

    Example:
    ```python
    count(LGMSNet2D(input_shape=(256, 256, 3)))
    # Complexity(parameters=2321393, multiply_adds=4892515328)
    ```
    """
    parameters = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    return Complexity(parameters, _multiply_adds(model, 1))


def _multiply_adds(layer: keras.layers.Layer, batch_size: int) -> int:
    """Count those of a layer and of the layers within it, which were built with any batch size."""
    if hasattr(layer, "multiply_adds"):
        return batch_size * layer.multiply_adds(*_input_shapes(layer))
    if isinstance(layer, SparseTransformer):
        batch_size *= 2**layer.rank  # of its inner layers as well
    sublayers = layer._flatten_layers(include_self=False, recursive=False)
    return batch_size * _own_multiply_adds(layer) + sum(
        _multiply_adds(sublayer, batch_size) for sublayer in sublayers
    )


def _own_multiply_adds(layer: Any) -> int:
    """Count those of a layer for one example, without the layers within it."""
    if isinstance(layer, SparseTransformer):
        tokens = math.prod(_input_shape(layer)[1:-1]) // 2**layer.rank
        return NUM_HEADS * tokens * (3 * tokens - 1)
    if isinstance(layer, MultiHeadAttention):
        shapes = _input_shapes(layer)
        queries, keys = (math.prod(shape[1:-1]) for shape in (shapes[0], shapes[-1]))
        return layer.num_heads * queries * (3 * keys - 1)
    if isinstance(layer, _KERNEL_LAYERS):
        return _output_positions(layer) * math.prod(layer.kernel.shape)
    if isinstance(layer, _SEPARABLE_LAYERS):
        kernels = (layer.depthwise_kernel, layer.pointwise_kernel)
        return _output_positions(layer) * sum(math.prod(kernel.shape) for kernel in kernels)
    if isinstance(layer, _TRANSPOSED_LAYERS):
        return _positions(layer, _input_shape(layer)) * math.prod(layer.kernel.shape)
    if isinstance(layer, keras.layers.BatchNormalization | keras.layers.LayerNormalization):
        return _norm_multiply_adds(layer)
    if isinstance(layer, _GROUP_NORMS):
        # Keras's, once built, has the number of channels where -1 was.
        is_instance_norm = layer.groups in (-1, _input_shape(layer)[getattr(layer, "axis", -1)])
        return _norm_multiply_adds(layer) if is_instance_norm else 0
    if isinstance(layer, LinearUpsampling):
        return 11 * _output_values(layer) if layer.rank == 2 else 0
    if isinstance(layer, CubicUpsampling):
        return 4 * layer.rank * _output_values(layer)
    if isinstance(layer, _UPSAMPLINGS):
        interpolation = getattr(layer, "interpolation", "nearest")
        return _UPSAMPLING_OPERATIONS.get(interpolation, 0) * _output_values(layer)
    if isinstance(layer, (*_AVERAGE_POOLINGS, keras.layers.PReLU)):
        return _output_values(layer)
    if isinstance(layer, _GLOBAL_AVERAGE_POOLINGS):
        return math.prod(_input_shape(layer)[1:]) + _output_values(layer)
    if isinstance(layer, AtrousPyramidPooling | SqueezeExcitation):
        return math.prod(_input_shape(layer)[1:]) + layer.channels
    if isinstance(layer, GlobalResponseNormalization | LayerScale | PositionEmbedding):
        return 0
    if layer._trainable_variables:
        raise ValueError(
            "The multiply-adds of this layer have no rule here: if it is your own, give it a "
            "method multiply_adds(input_shape), see keras_lgmsnet.models.complexity.count. "
            f"Received: {layer.name}, a {type(layer).__name__}"
        )
    return 0


def _norm_multiply_adds(norm: Any) -> int:
    return (4 if norm.scale or norm.center else 2) * math.prod(_input_shape(norm)[1:])


def _output_values(layer: Any) -> int:
    return math.prod(layer.compute_output_shape(_input_shape(layer))[1:])


def _output_positions(layer: Any) -> int:
    return _positions(layer, layer.compute_output_shape(_input_shape(layer)))


def _positions(layer: Any, shape: tuple[int, ...]) -> int:
    channels_first = getattr(layer, "data_format", None) == "channels_first"
    return math.prod(shape[2:] if channels_first else shape[1:-1])


def _input_shape(layer: keras.layers.Layer) -> tuple[int, ...]:
    """Return the shape of the one input that a layer was built with, whose sides must be known."""
    (shape,) = _input_shapes(layer)
    return shape


def _input_shapes(layer: keras.layers.Layer) -> list[tuple[int, ...]]:
    """Return the shapes that a layer was built with, whose sides must be known."""
    config = layer.get_build_config()
    if config is None:  # of a layer of Keras that has nothing to build, called in a graph
        shapes = [tensor.shape for tensor in keras.tree.flatten(layer.input)]
    elif "shapes_dict" in config:
        # None is that of an argument left at its default.
        shapes = [shape for shape in config["shapes_dict"].values() if shape is not None]
    else:
        shapes = [config["input_shape"]]
    for shape in shapes:
        if None in shape[1:]:
            raise ValueError(
                "Multiply-adds depend on the size of the image: build the model with static sides. "
                f"Received: {layer.name} with input shape {tuple(shape)}"
            )
    return [tuple(shape) for shape in shapes]
