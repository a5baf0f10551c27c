"""From a Keras model to the bytes of a LiteRT (TFLite) model, and what such bytes hold.

It runs on the TensorFlow backend only, so in the child process of `keras_lgmsnet.export.parent`.
"""

import dataclasses
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import flatbuffers
import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from keras_lgmsnet.export.promises import PRECISIONS

SIGNATURE = "serving_default"

# What LiteRT's GPU delegate takes, by its own check of compatibility (of one operator at a time;
# the tensors may have four axes at most).
GPU_OPERATORS = frozenset(
    """
    ABS ADD ADD_N AVERAGE_POOL_2D BATCH_MATMUL CAST CONCATENATION CONV_2D COS CUMSUM DENSIFY
    DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV ELU EQUAL EXP FLOOR FLOOR_DIV FLOOR_MOD
    FULLY_CONNECTED GATHER GELU GREATER GREATER_EQUAL HARD_SWISH LEAKY_RELU LESS LESS_EQUAL LOG
    LOGICAL_AND LOGISTIC LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL ONE_HOT
    PACK PAD PADV2 POW PRELU QUANTIZE REDUCE_MAX REDUCE_MIN REDUCE_PROD RELU RELU6 RELU_N1_TO_1
    RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SELECT SELECT_V2 SIGN SIN SLICE SOFTMAX
    SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM TANH TILE
    TRANSPOSE TRANSPOSE_CONV
    """.split()  # noqa: SIM905 - a list of strings would take sixty lines
)

# In int8 these stay in float: the attention, and GELU, lose the fast kernels otherwise; the
# norms would lose small variances beside large ones.
_FLOAT_OPERATORS = ("BATCH_MATMUL", "GELU", "SOFTMAX", "SPLIT", "TRANSPOSE")
_NORM_OPERATORS = ("MEAN", "RSQRT", "SQRT", "SQUARE", "SUB", "SUM")
_NORM_FOLLOWERS = ("ADD", "DIV", "FULLY_CONNECTED", "MUL")
# The scale of an int8 operator's result, before it is brought to the scale of the output: from the
# scales of its two inputs.
_SCALE_OF_RESULT: dict[str, Callable[[list[float]], float]] = {
    "CONV_2D": math.prod,
    "DEPTHWISE_CONV_2D": math.prod,
    "FULLY_CONNECTED": math.prod,
    "MUL": math.prod,
    "ADD": max,
    "SUB": max,
}
# By how much the kernels can multiply a result to bring it to the scale of the output.
_LARGEST_FACTOR = 256

_OPERATOR_NAMES, _TYPE_NAMES = (
    {code: name for name, code in vars(names).items() if isinstance(code, int)}
    for names in (schema.BuiltinOperator, schema.TensorType)
)


def to_tflite(
    model: keras.Model,
    precision: str = "float32",
    representative_images: np.ndarray | None = None,
    output: str = "logits",
) -> bytes:
    """Convert a model for one image (or volume) at a time, builtin operators only.

    Its signature `serving_default` leads from `image`, of the type of the model's input, to
    `output`, float32.

    Args:
        model: One input, one output, known sides; best what `deploy` returns.
        precision: Of the weights and the arithmetic: `"float32"`; `"float16"` weights, which a
            CPU expands to float32 when it loads them; `"dynamic"`, int8 weights by channel and
            activations quantized as they come; `"int8"`, both quantized beforehand, but for the
            attention's core, the norms, GELU and what is always 0, which stay float32.
        representative_images: For `"int8"` only: inputs of the model that span what will be met,
            `(images, *sides, channels)`; a hundred do.
        output: What the signature calls the output.

    Returns:
        The model, ready to be written to a `.tflite` file.

    Raises:
        ValueError: If the precision is unknown, or images are missing or of another shape.

    Example:
    ```python
    content = to_tflite(deploy(model), "int8", preprocess(images[:100]))
    inspect_tflite(content).delegated_share  # 1.0
    ```
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f"precision must be one of {', '.join(PRECISIONS)}. Received: precision={precision!r}"
        )
    if precision == "int8":
        images = _require_images(representative_images, model.input_shape[1:])
        content = _quantize(trace(model, output=output), images.astype(model.input.dtype))
    else:
        converter = _converter(*trace(model, output=output))
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        content = converter.convert()
    return _without_names(content)


def trace(
    model: keras.Model, batch_size: int | None = 1, output: str = "logits"
) -> tuple[Callable, tf.Module]:
    """Return a model's graph from `image` to what `output` names, and a holder of its variables.

    A known batch size makes every shape static, which the fast kernels ask for. The optimizer's
    variables are left out.
    """
    shape = (batch_size, *model.input_shape[1:])
    function = tf.function(
        lambda image: {output: model(image, training=False)},
        input_signature=[tf.TensorSpec(shape, model.input.dtype, name="image")],
        autograph=False,
    )
    variables = tf.Module()
    variables.all = [variable.value for variable in model.variables]
    return function.get_concrete_function(), variables


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What a LiteRT model holds, and who computes it.

    Args:
        operators: How many there are of each operator, by name and type of the output, such as
            `("CONV_2D", "FLOAT32")`.
        max_axes: Most axes of any tensor.
        not_delegated: The operators that LiteRT, having loaded the model on this CPU, did not hand
            over to XNNPACK but left to slower kernels of its own, by name.
        not_on_gpu: The operators, by name, that the GPU delegate does not know or that touch a
            tensor of more than four axes. This is read off the model; no GPU has tried it.
    """

    operators: Counter[tuple[str, str]]
    max_axes: int
    not_delegated: Counter[str]
    not_on_gpu: Counter[str]

    @property
    def delegated_share(self) -> float:
        """Share of the operators that XNNPACK computes, 0 to 1: of their number, not their time."""
        return 1 - self.not_delegated.total() / self.operators.total()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can say it."""
        return {
            "operators": self.operators.total(),
            "delegated_share": self.delegated_share,
            "max_axes": self.max_axes,
            "not_delegated": dict(self.not_delegated),
            "not_on_gpu": dict(self.not_on_gpu),
        }


def inspect_tflite(content: bytes) -> Inspection:
    """Read the operators and ranks of a model, and try which ones XNNPACK takes on this CPU.

    Args:
        content: Of a `.tflite` file.

    Raises:
        ValueError: If the interpreter refuses the model, for example for an operator that is no
            builtin.
    """
    model = _parse(content)
    operators: Counter[tuple[str, str]] = Counter()
    not_on_gpu: Counter[str] = Counter()
    for graph in model.subgraphs:
        for operator in graph.operators:
            name = _operator_name(model, operator)
            output = graph.tensors[operator.outputs[0]]
            operators[name, _TYPE_NAMES[output.type]] += 1
            tensors = [graph.tensors[i] for i in (*operator.inputs, *operator.outputs) if i >= 0]
            if name not in GPU_OPERATORS or max(map(_rank, tensors)) > 4:
                not_on_gpu[name] += 1
    ranks = [_rank(tensor) for graph in model.subgraphs for tensor in graph.tensors]
    return Inspection(operators, max(ranks), Counter(_not_delegated(content)), not_on_gpu)


def _rank(tensor: schema.TensorT) -> int:
    return 0 if tensor.shape is None else len(tensor.shape)


def _not_delegated(content: bytes) -> Iterator[str]:
    """Walk from the outputs to the inputs and yield what no delegate has taken over."""
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    # The list keeps the operators that a delegate has replaced; of two that make the same tensor
    # the delegate is the one that runs.
    makers = {}
    for operator in interpreter._get_ops_details():
        for tensor in operator["outputs"]:
            if tensor not in makers or operator["op_name"] == "DELEGATE":
                makers[tensor] = operator
    visited = set()
    tensors = [output["index"] for output in interpreter.get_output_details()]
    while tensors:
        operator = makers.get(tensors.pop())
        if operator is None or operator["index"] in visited:
            continue
        visited.add(operator["index"])
        tensors.extend(operator["inputs"])
        if operator["op_name"] != "DELEGATE":
            yield operator["op_name"]


def _converter(function: Callable, variables: tf.Module) -> tf.lite.TFLiteConverter:
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], variables)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter


def _quantize(traced: tuple[Callable, tf.Module], images: np.ndarray) -> bytes:
    in_float = _converter(*traced).convert()
    converter = _converter(*traced)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops.append(tf.lite.OpsSet.TFLITE_BUILTINS_INT8)

    def examples() -> Iterator[list[np.ndarray]]:
        return ([image[None]] for image in images)

    converter.representative_dataset = examples
    options = tf.lite.experimental.QuantizationDebugOptions(
        denylisted_ops=list(_FLOAT_OPERATORS),
        denylisted_nodes=[*_norm_nodes(in_float), *_score_nodes(in_float)],
    )
    with warnings.catch_warnings():
        # The debugger, which we use for its lists only, builds TensorFlow's own interpreter.
        warnings.filterwarnings("ignore", message=r"\s*Warning: tf.lite.Interpreter is deprecated")
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=converter, debug_dataset=examples, debug_options=options
        )
    content = debugger.get_nondebug_quantized_model()
    if silent := list(_silent_nodes(content)):
        options.denylisted_nodes += silent  # and so left in float, at the second try
        content = debugger.get_nondebug_quantized_model()
    return content


def _norm_nodes(content: bytes) -> Iterator[str]:
    """Yield the names of the nodes of the norms: means, and the elementwise ones after them."""
    model = _parse(content)
    graph = model.subgraphs[0]
    norm_tensors: set[int] = set()
    for operator in graph.operators:
        name = _operator_name(model, operator)
        if name in _NORM_OPERATORS or (
            name in _NORM_FOLLOWERS and not norm_tensors.isdisjoint(operator.inputs)
        ):
            norm_tensors.update(operator.outputs)
            yield graph.tensors[operator.outputs[0]].name.decode()


def _score_nodes(content: bytes) -> Iterator[str]:
    """Yield the names of the nodes that add something to the products of queries and keys.

    It may be a mask, of so large a number that in int8 the products themselves would be lost.
    """
    model = _parse(content)
    graph = model.subgraphs[0]
    scores: set[int] = set()
    for operator in graph.operators:
        name = _operator_name(model, operator)
        follows = not scores.isdisjoint(operator.inputs)
        if name == "BATCH_MATMUL" or (name in ("ADD", "RESHAPE") and follows):
            scores.update(operator.outputs)
        if name == "ADD" and follows:
            yield graph.tensors[operator.outputs[0]].name.decode()


def _silent_nodes(content: bytes) -> Iterator[str]:
    """Yield the names of the int8 nodes that LiteRT could not run, since they only ever gave 0.

    An int8 tensor holds integers, each of which stands for itself times the tensor's scale, and the
    converter sets that scale by the largest value that the tensor had for the images shown. Where
    it was 0 or nearly so for all of them, as of a ReLU that saw negative numbers only, the scale is
    next to 0. But a kernel adds and multiplies integers first, and then multiplies the result by
    its scale over the output's, which can be `_LARGEST_FACTOR` at most: beyond it XNNPACK refuses
    to run, which leaves LiteRT's memory corrupt, and LiteRT's own kernels abort. In float such
    nodes do no harm.
    """
    model = _parse(content)
    graph = model.subgraphs[0]
    for operator in graph.operators:
        scale_of_result = _SCALE_OF_RESULT.get(_operator_name(model, operator))
        output = graph.tensors[operator.outputs[0]]
        if scale_of_result is not None and output.type == schema.TensorType.INT8:
            scales = [max(graph.tensors[i].quantization.scale) for i in operator.inputs[:2]]
            if scale_of_result(scales) >= _LARGEST_FACTOR * output.quantization.scale[0]:
                yield output.name.decode()


def _require_images(images: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    """Return the images, or raise `ValueError` unless there are some of that shape."""
    if images is None or np.shape(images)[1:] != shape or not len(images):
        raise ValueError(
            "int8 needs representative_images, preprocessed inputs of shape (images, "
            f"{', '.join(map(str, shape))}), to know the activations' ranges. "
            "Received: representative_images of shape "
            f"{None if images is None else np.shape(images)}"
        )
    return images


def _without_names(content: bytes) -> bytes:
    """Drop the names of inner tensors, a twentieth of a small model."""
    model = _parse(content)
    for graph in model.subgraphs:
        for index, tensor in enumerate(graph.tensors):
            if index not in graph.inputs and index not in graph.outputs:
                tensor.name = None
    builder = _AlignedBuilder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class _AlignedBuilder(flatbuffers.Builder):
    """A builder that aligns weights to 16 bytes, as the schema demands; its own Python does not."""

    # The names are the library's, which calls this.
    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:  # noqa: N802, N803
        if elemSize == 1:
            alignment = 16
        return super().StartVector(elemSize, numElems, alignment)


def _parse(content: bytes) -> schema.ModelT:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))


def _operator_name(model: schema.ModelT, operator: schema.OperatorT) -> str:
    code = model.operatorCodes[operator.opcodeIndex]
    # Before there were more than 127 operators, the code had a field of one byte.
    return _OPERATOR_NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]
