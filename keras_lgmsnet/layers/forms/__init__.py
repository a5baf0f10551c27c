"""Which form of an operation is computed on which device, chosen by one table.

An operation of the layers, a convolution for instance, gives the same result however it is
arranged, but no library is fast at all of its own arrangements on a CPU. So there are several exact
forms of it. `keras_lgmsnet.layers.forms.table` says which one is taken, by backend and device;
`OPERATIONS` holds the forms, which the modules of the layers register.

A layer chooses its forms when it is built, once; a form that is made of other operations chooses
theirs when it is made or called. No form enters a layer's config or a file: a saved network takes
those of the machine that it is loaded on.
"""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from keras_lgmsnet.layers.forms.table import TABLE, Rule

BACKENDS = ("tensorflow", "jax", "torch")
DEVICES = ("cpu", "gpu")

_forced: ContextVar[str | None] = ContextVar("forced_device", default=None)


@dataclasses.dataclass(frozen=True)
class Form:
    """An exact way to compute an operation.

    Args:
        make: Returns what computes it; the arguments are told at `OPERATIONS`.
        backends: Those that it runs on.
        ranks: 2 if it takes images, 3 if it takes volumes.
        kernel_sizes: Widths of the kernels that it takes; `None` is any.
    """

    make: Callable[[], Callable[..., Any]]
    backends: tuple[str, ...]
    ranks: tuple[int, ...]
    kernel_sizes: tuple[int, ...] | None = None


# The forms of every operation by name, and the arguments that they are called with.
OPERATIONS: dict[str, dict[str, Form]] = {
    # inputs (batch, *sides, channels), kernel (*sizes, channels, filters)
    "convolution": {},
    # inputs (batch, *sides, channels), kernel (*sizes, channels / groups, filters)
    "grouped convolution": {},
    # inputs (batch, *sides, channels), kernel (*sizes, 1, channels)
    "depthwise convolution": {},
    # Those whose outputs, or taps, lie several pixels apart: the same and strides, dilation.
    "spaced convolution": {},
    "spaced depthwise convolution": {},
    # inputs (batch, *sides, channels), kernel_size
    "max pooling": {},
    # inputs (batch, *sides, channels)
    "linear upsampling": {},
    # query, key, value: each (batch, length, heads, features)
    "attention": {},
    # layer, a built `GroupNormalization`; inputs (batch, *sides, channels); training
    "group normalization": {},
    # layer, a built `BatchNormalization`; inputs (batch, *sides, channels); training
    "batch normalization": {},
    # a function from tensors to a tensor; it returns one that computes the same
    "recomputation": {},
    # the same, if each element of a batch is computed by itself, and how many numbers of one
    "sequences": {},
    # values, steps (batch, tokens, channels), writes, reads (batch, tokens, states), rates
    "selective scan": {},
}


def form(
    operation: str,
    name: str,
    *,
    backends: tuple[str, ...] = BACKENDS,
    ranks: tuple[int, ...] = (2, 3),
    kernel_sizes: tuple[int, ...] | None = None,
    made: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as a form.

    Args:
        operation: What it computes, a key of `OPERATIONS`.
        name: The form's.
        backends: Those that it runs on.
        ranks: 2 if it takes images, 3 if it takes volumes.
        kernel_sizes: Widths of the kernels that it takes; `None` is any.
        made: The function takes no arguments and returns the form. So a class of PyTorch's is
            defined only where PyTorch is the backend, and before `torch.compile` traces its use.

    Example:
    ```python
    @form("max pooling", "native")
    def pool(inputs, kernel_size):
        return keras.ops.max_pool(inputs, kernel_size, 2, data_format="channels_last")
    ```
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        make = function if made else lambda: function
        OPERATIONS[operation][name] = Form(make, backends, ranks, kernel_sizes)
        return function

    return register


def choose(
    operation: str,
    *,
    rank: int,
    kernel_size: int | None = None,
    channels: int | None = None,
    filters: int | None = None,
    dtype: str = "float32",
) -> Callable[..., Any]:
    """Return the form that the table has for the current backend and device.

    Args:
        operation: A key of `OPERATIONS`.
        rank: 2 for images, 3 for volumes.
        kernel_size: Width of a convolution's kernel.
        channels: Number of a convolution's input channels.
        filters: Number of a convolution's output channels.
        dtype: The name of the dtype computed in.
    """
    rule = rule_for(
        operation,
        rank=rank,
        kernel_size=kernel_size,
        channels=channels,
        filters=filters,
        dtype=dtype,
    )
    return OPERATIONS[operation][rule.form].make()


def rule_for(operation: str, **case: Any) -> Rule:
    """Return the rule by which `choose` chooses, of the same arguments."""
    case = {"backends": _backend(), **case}
    return next(rule for rule in TABLE if rule.holds(operation, device(), **case))


def device() -> str:
    """Return what the current backend computes on: `"cpu"` or, if that is no CPU, `"gpu"`."""
    return _forced.get() or _own_device()


@contextlib.contextmanager
def forced_device(name: str) -> Iterator[None]:
    """Have layers that are built within the context take the forms of a device.

    It moves no computation: for tests, for measurements, and for files that must not depend on the
    machine that writes them.

    Args:
        name: `"cpu"` or `"gpu"`.

    Raises:
        ValueError: If it is another one.

    Example:
    ```python
    with forced_device("gpu"):
        model = LGMSNet2D()
    ```
    """
    if name not in DEVICES:
        raise ValueError(f"A device is one of {', '.join(DEVICES)}. Received: {name!r}")
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


def _backend() -> str:
    import keras

    return keras.backend.backend()


@functools.cache
def _own_device() -> str:
    """Ask the backend in use, and no other. TensorFlow is asked for a list only, not to begin."""
    match _backend():
        case "jax":
            import jax

            kind = jax.default_backend()
        case "torch":
            import torch

            own = "gpu" if torch.accelerator.is_available() else "cpu"
            kind = os.environ.get("KERAS_TORCH_DEVICE", own)  # Keras's setting
        case "tensorflow":
            import tensorflow as tf

            kinds = {device.device_type.lower() for device in tf.config.get_visible_devices()}
            kind = "cpu" if kinds <= {"cpu"} else "gpu"
        case other:
            raise ValueError(f"No device is known of the backend. Received: {other}")
    return "cpu" if kind.startswith("cpu") else "gpu"
