"""Deploy form: a trained network rewritten, exactly, for the runtimes of phones and browsers.

`deploy` walks through a network and calls, for each layer, the rule for its type in
`keras_lgmsnet.export.rewriting.rules`, or else the layer itself. What the rules change, and why:

- Batch norms go into the kernels before them or, where a pointwise convolution follows, after them.
- A concatenation is made only where a layer needs it in one piece.
- Volumes are two-dimensional inside, the slices on the batch axis: LiteRT's fast kernels and GPUs
  take four axes at most.
- Doubling the sides, by repetition or by a transposed convolution, is a rearrangement of channels
  (48 ms for 58 of LiteRT's own transposed convolution of 64 channels to 256 × 256). A 3-wide
  convolution of repeated pixels takes only 4 of its 9 multiplications, of 27 in volumes 8: 172 ms
  for 255 from 128 to 64 channels at 256 × 256, in int8 190 for 377. It holds 16 weights for 9.
- The blocks of `keras_lgmsnet.layers` have forms of their own, see
  `keras_lgmsnet.export.rewriting.blocks`.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import KerasTensor

from keras_lgmsnet.export.rewriting import flat
from keras_lgmsnet.export.rewriting.flat import Features
from keras_lgmsnet.export.rewriting.rules import RULES
from keras_lgmsnet.export.rewriting.values import Value
from keras_lgmsnet.models.base import SegmentationNetwork

# Layers and operations of Keras that compute each value from those in the same place: of volumes
# they are applied to the slices.
_ELEMENTWISE_LAYERS = (
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.ELU,
    keras.layers.Add,
    keras.layers.Subtract,
    keras.layers.Multiply,
    keras.layers.Average,
    keras.layers.Maximum,
    keras.layers.Minimum,
)
_ELEMENTWISE_OPERATIONS = frozenset(
    """
    Absolute Add Divide Elu Exp Gelu HardSigmoid HardSilu HardTanh LeakyRelu Maximum Minimum
    Multiply Negative Relu Relu6 Selu Sigmoid Silu Softplus Sqrt Square Subtract Tanh TrueDivide
    """.split()  # noqa: SIM905 - a list of strings would take thirty lines
)


def deploy(model: keras.Model) -> keras.Model:
    """Return a faster network of the same function, for inference only.

    The result is a functional Keras model in float32, whose name, input and output shapes are the
    given model's. Every layer that has a rule is made of stock layers and operations, each of which
    has a LiteRT builtin; an image's tensors have four axes at most, and so do a volume's but for
    the input and the logits. If all layers have one, as all of this package do, the result can be
    saved, loaded without this package, exported, and run on every backend. A layer without a rule,
    or with weights and called several times, is called as it is, and so shares its weights with the
    given model.

    Args:
        model: A functional model of one input and one output, with known sides.

    Returns:
        A model from images `(batch, height, width, channels)` or volumes `(batch, depth, height,
        width, channels)` to outputs that differ from `model`'s by float32 rounding. It is not
        compiled; training it would not be training `model`, since no norm adapts.

    Raises:
        ValueError: If `model` is no functional model, has a `call` of its own or several inputs or
            outputs, a side is `None`, or a layer without a rule computes in another precision than
            float32.

    Example:
    >>> model = kl.models.create("unet", input_shape=(64, 64, 3), num_classes=1)
    >>> deploy(model).output_shape
    (None, 64, 64, 1)
    """
    inputs, outputs = (getattr(model, name, None) or [] for name in ("inputs", "outputs"))
    if (len(inputs), len(outputs)) != (1, 1):
        raise ValueError(
            "deploy rewrites a functional model of one input and one output. "
            f"Received: {type(model).__name__} of {len(inputs)} inputs and {len(outputs)} outputs"
        )
    if None in inputs[0].shape[1:]:
        raise ValueError(
            "deploy needs known sides: build the network with them in input_shape and copy the "
            f"weights with set_weights. Received: input_shape={inputs[0].shape[1:]}"
        )
    graph = keras.Model(inputs[0], outputs[0], name=model.name)
    if type(model).call not in (type(graph).call, keras.Sequential.call, SegmentationNetwork.call):
        raise ValueError(
            "deploy rewrites the graph of a functional model, so its class must not have a call of "
            f"its own: put that into a layer. Received: {type(model).__name__}"
        )
    image = keras.Input(inputs[0].shape[1:], dtype=inputs[0].dtype, name="image")
    return keras.models.clone_model(
        graph, image, clone_function=lambda layer: layer, call_function=_Rewriting(graph)
    )


class _Rewriting:
    """Calls the layers of a model one after the other, by a rule where there is one.

    It takes and returns tensors as the model has them, and keeps beside each what the next layer
    may use instead. What nobody uses in the end is no part of the result.

    Args:
        model: Functional, of one input and one output.
    """

    def __init__(self, model: keras.Model) -> None:
        self._values: dict[KerasTensor, Value] = {}
        calls = {layer: len(layer._inbound_nodes) for layer in model.layers}
        readers = Counter(
            id(tensor)
            for operation in model.operations
            for node in operation._inbound_nodes
            for tensor in node.input_tensors
        )
        readers[id(model.outputs[0])] += 1
        self._called_again = {layer for layer, number in calls.items() if number > 1}
        self._read_once = {
            layer
            for layer, number in calls.items()
            if number == 1 and readers[id(layer.output)] == 1
        }

    def __call__(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        """Return what the layer makes of symbolic tensors."""
        value = None
        # Not with `training=True`, or a mask; `training=False` goes without saying.
        if all(argument in (None, False) for argument in kwargs.values()):
            value = self._by_rule(layer, args) or self._by_slices(layer, args)
        if value is None:
            _require_float32(layer)
            return layer(*args, **kwargs)
        if layer not in self._read_once:
            value = dataclasses.replace(value, refold=None)
        self._values[value.tensor] = value
        return value.tensor

    def _by_rule(self, layer: Any, args: Any) -> Value | None:
        rule = RULES.get(type(layer))
        if (
            rule is None
            or getattr(layer, "data_format", "channels_last") != "channels_last"
            or (layer in self._called_again and layer.weights)  # a file would hold them repeatedly
        ):
            return None
        values = self._read(keras.tree.flatten(args))
        return None if values is None else rule(layer, *values)

    def _by_slices(self, layer: Any, args: Any) -> Value | None:
        """Apply what is elementwise to the slices of volumes."""
        arguments = keras.tree.flatten(args)
        tensors = [argument for argument in arguments if isinstance(argument, KerasTensor)]
        numbers = [argument for argument in arguments if not isinstance(argument, KerasTensor)]
        if (
            not _is_elementwise(layer)
            or len({(tensor.shape, tensor.dtype) for tensor in tensors}) != 1
            or any(np.ndim(number) for number in numbers)
        ):
            return None
        values = self._read(tensors)
        if values is None or values[0].features.depth is None:
            return None
        _require_float32(layer)
        slices = keras.tree.map_structure(
            lambda argument: (
                self._values[argument].settled.images
                if isinstance(argument, KerasTensor)
                else argument
            ),
            args,
        )
        return Value(layer.name, values[0].settled.replace(layer(*slices)))

    def _read(self, tensors: Sequence[Any]) -> list[Value] | None:
        """Return the tensors' values, if all are images or volumes of known sides in float32."""
        for tensor in tensors:
            if (
                len(tensor.shape) not in (4, 5)
                or None in tensor.shape[1:]
                or tensor.dtype != "float32"
            ):
                return None
            if tensor not in self._values:
                self._values[tensor] = Value(tensor.name, Features.from_input(tensor), tensor)
        return [self._values[tensor] for tensor in tensors]


def _is_elementwise(layer: Any) -> bool:
    if type(layer) is keras.layers.Activation:
        return flat.is_elementwise(layer.activation)
    # Keras does not tell the classes of its operations.
    is_operation = type(layer).__module__.startswith("keras.src.ops.")
    return type(layer) in _ELEMENTWISE_LAYERS or (
        is_operation and type(layer).__name__ in _ELEMENTWISE_OPERATIONS
    )


def _require_float32(layer: Any) -> None:
    """Raise `ValueError` where a layer, which is called as it is, computes in another precision."""
    if not isinstance(layer, keras.layers.Layer):
        return
    for part in layer._flatten_layers():
        if keras.backend.is_float_dtype(part.compute_dtype) and part.compute_dtype != "float32":
            raise ValueError(
                "deploy computes in float32: build the network with dtype='float32' and copy the "
                f"weights with set_weights. Received: {part.name} in {part.compute_dtype}"
            )
