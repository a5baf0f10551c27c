"""Selective scans without a loop, since formats and their runtimes know few of these."""

from typing import Any

import numpy as np
from keras import KerasTensor, ops

from keras_lgmsnet.export.rewriting import flat
from keras_lgmsnet.export.rewriting.flat import Features
from keras_lgmsnet.export.rewriting.folding import kernel_and_bias, to_array
from keras_lgmsnet.export.rewriting.values import Value
from keras_lgmsnet.layers import SelectiveScan, ThreeOrderMamba
from keras_lgmsnet.layers.forms.selective_scan import chain


def three_order_mamba(layer: ThreeOrderMamba, value: Value) -> Value:
    """Apply the layer; the map of a norm before it goes into its first kernel."""
    name, x = layer.name, value.features
    images = flat.pointwise(x, *kernel_and_bias(layer.widen), f"{name}-widen").images
    tokens, gate = ops.split(_as_row(images, layer), 2, axis=-1)
    slices, length = layer.num_slices, layer.tokens // layer.num_slices

    def exchange(tokens: KerasTensor, rows: int, columns: int) -> KerasTensor:
        by_rows = ops.reshape(tokens, (-1, rows, columns, layer.width))
        return _as_row(ops.transpose(by_rows, (0, 2, 1, 3)), layer)

    forward, backward, sliced = (
        _mix(ordered, convolution, scan, f"{name}-{scan.name}")
        for ordered, convolution, scan in zip(
            (tokens, ops.flip(tokens, axis=2), exchange(tokens, slices, length)),
            layer.convolutions,
            layer.scans,
            strict=True,
        )
    )
    total = forward + ops.flip(backward, axis=2) + exchange(sliced, length, slices)
    mixed = Features(total * ops.silu(gate), None)
    outputs = flat.pointwise(mixed, *kernel_and_bias(layer.narrow), f"{name}-narrow").images
    return Value(name, x.replace(ops.reshape(outputs, (-1, *x.sides, layer.channels))))


def _as_row(images: KerasTensor, layer: ThreeOrderMamba) -> KerasTensor:
    """Return all pixels as an image of one row."""
    return ops.reshape(images, (-1, 1, layer.tokens, images.shape[-1]))


def _mix(tokens: KerasTensor, convolution: Any, scan: SelectiveScan, name: str) -> KerasTensor:
    kernel, bias = kernel_and_bias(convolution)
    padded = ops.pad(tokens, [(0, 0), (0, 0), (convolution.taps - 1, 0), (0, 0)])
    kernel = kernel.transpose(1, 0, 2)[..., None]
    convolved = flat.depthwise_2d(
        Features(padded, None), kernel, bias, f"{name}-convolution", "silu", padding="valid"
    )
    return selective_scan(scan, convolved.images, name)


def selective_scan(layer: SelectiveScan, values: KerasTensor, name: str) -> KerasTensor:
    """Scan the pixels of images of one row, in chunks side by side, token by token.

    With as many tokens as the third root of their number a chunk's are few enough to be written
    out, and the states of all chunks at a time are few enough to be held.
    """

    def project(x: KerasTensor, kernel: np.ndarray, bias: Any, of: str) -> KerasTensor:
        return flat.pointwise(Features(x, None), kernel, bias, f"{name}-{of}").images

    _, _, tokens, channels = values.shape
    ends = [layer.rank, layer.rank + layer.states]
    kernels = np.split(to_array(layer.projection.kernel), ends, axis=-1)
    # Two products with small matrices are one with a larger one, but of more rounding: kept apart.
    steps = project(values, kernels[0], None, "steps")
    steps = project(
        steps, to_array(layer.step_projection.kernel), to_array(layer.step_bias), "step_projection"
    )
    steps = ops.softplus(steps)
    writes = project(values, kernels[1], None, "writes")
    reads = project(values, kernels[2], None, "reads")

    length = max(round(tokens ** (1 / 3)), 1)
    chunks = -(-tokens // length)

    def cut(x: KerasTensor) -> KerasTensor:
        missing = chunks * length - tokens
        if missing:  # steps of zero change no state, and write nothing
            x = ops.pad(x, [(0, 0), (0, 0), (0, missing), (0, 0)])
        return ops.reshape(x, (-1, chunks, length, x.shape[-1]))

    rates = -np.exp(to_array(layer.log_rates).T).astype("float32")
    step, written, read_at = cut(steps), cut(steps * values), cut(reads)
    write_at = ops.transpose(cut(writes), (0, 1, 3, 2))

    def advance(state: KerasTensor | None, token: int) -> KerasTensor:
        place = slice(token, token + 1)
        added = write_at[..., place] * written[:, :, place]
        if state is None:
            return added
        return ops.exp(step[:, :, place] * rates) * state + added

    end = None
    for token in range(length):
        end = advance(end, token)
    decays = ops.exp(ops.sum(step, axis=2, keepdims=True) * rates)
    state, outputs = chain(decays, end), []
    for token in range(length):
        state = advance(state, token)
        outputs.append(ops.matmul(read_at[:, :, token : token + 1], state))
    scanned = ops.reshape(flat.join(outputs, axis=2), (-1, 1, chunks * length, channels))
    passed = values * to_array(layer.passed).astype("float32")
    return scanned[:, :, :tokens] + passed
