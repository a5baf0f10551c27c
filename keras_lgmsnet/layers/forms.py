"""Which form of an operation is computed on which device: one table, and what it was measured on.

An operation of the layers, a convolution for instance, gives the same result however it is
arranged, but no library is fast at all of its own arrangements on a CPU. So there are several exact
forms of it. `TABLE` says which one is taken, by backend and device; `OPERATIONS` holds the forms,
which the modules of the layers register.

A layer chooses its forms when it is built, once; a form that is made of other operations chooses
theirs when it is made or called. No form enters a layer's config or a file: a saved network takes
those of the machine that it is loaded on.
"""

import contextlib
import dataclasses
import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

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
}


@dataclasses.dataclass(frozen=True)
class Rule:
    """The form of an operation in some cases.

    Args:
        operation: Name of the operation.
        device: `"cpu"`, or `"gpu"` for all that is no CPU.
        form: Name of the form.
        backends: Those that the rule holds on; so with all that follow: `None` is any.
        rank: 2 for images, 3 for volumes.
        kernel_size: Widths of a convolution's kernel.
        channels: Numbers of the input's channels.
        filters: Numbers of the output's channels.
        dtype: Names of the dtypes computed in.
        measured: What the choice was measured on, and with what result; `None` where it was not.
    """

    operation: str
    device: str
    form: str
    backends: Sequence[str] | None = None
    rank: Sequence[int] | None = None
    kernel_size: Sequence[int] | None = None
    channels: Sequence[int] | None = None
    filters: Sequence[int] | None = None
    dtype: Sequence[str] | None = None
    measured: str | None = None

    def holds(self, operation: str, device: str, **case: Any) -> bool:
        """Say whether the rule is for a case."""
        return (operation, device) == (self.operation, self.device) and all(
            allowed is None or value in allowed
            for allowed, value in ((getattr(self, name), value) for name, value in case.items())
        )


def _at_least(number: int) -> range:
    return range(number, sys.maxsize)


_HALF = ("float16", "bfloat16")
_TWO_CORES = "Two cores of an Intel Xeon: "

# The first rule that holds is taken. On a GPU each operation has the library's own form until a
# measurement says otherwise.
TABLE = (
    # === Convolution ===
    Rule(
        "convolution",
        "cpu",
        "matrix product",
        ("jax", "torch"),
        kernel_size=(1,),
        measured=_TWO_CORES + "up to twice as fast; XLA's gradient of the kernel in a third",
    ),
    Rule(
        "convolution",
        "cpu",
        "gradient channels first",
        ("torch",),
        rank=(2,),
        channels=_at_least(64),
        filters=_at_least(64),
        measured=_TWO_CORES + "kernel's gradient, 256² × 64, 152 ms for 561",
    ),
    Rule(
        "convolution",
        "cpu",
        "gradient by taps",
        ("jax",),
        rank=(2,),
        measured=_TWO_CORES + "both gradients, 256² × 64, 392 ms for 830",
    ),
    Rule(
        "convolution",
        "cpu",
        "stacked",
        ("jax",),
        rank=(3,),
        measured=_TWO_CORES + "gradients, 96³, 32 to 16 channels, 1420 ms for 3724",
    ),
    Rule(
        "convolution",
        "cpu",
        "native where deep",
        ("tensorflow", "torch"),
        rank=(3,),
        dtype=("bfloat16",),
        measured="The native gradient of volumes shallower than the kernel is NaN now and then",
    ),
    Rule("convolution", "cpu", "native"),
    Rule("convolution", "gpu", "native"),
    # === Convolution in groups ===
    Rule(
        "grouped convolution",
        "cpu",
        "apart",
        ("tensorflow", "jax"),
        measured=_TWO_CORES + "training, 4 × 64² × 64, 2 groups: natively 16 to 20 times as long",
    ),
    Rule("grouped convolution", "cpu", "native where deep", rank=(3,), dtype=("bfloat16",)),
    Rule("grouped convolution", "cpu", "native"),
    Rule("grouped convolution", "gpu", "native"),
    # === Depthwise convolution ===
    Rule("depthwise convolution", "cpu", "scaled", kernel_size=(1,)),
    Rule(
        "depthwise convolution",
        "cpu",
        "banded",
        ("torch",),
        rank=(3,),
        kernel_size=_at_least(7),
        measured=_TWO_CORES + "gradients, kernel 9, 96³ × 4, 384 ms for 2197",
    ),
    Rule("depthwise convolution", "cpu", "native", ("torch",)),
    Rule("depthwise convolution", "cpu", "native 2D", ("tensorflow",), rank=(2,)),
    Rule("depthwise convolution", "cpu", "by taps", ("tensorflow",), kernel_size=(3,)),
    Rule(
        "depthwise convolution",
        "cpu",
        "banded",
        ("tensorflow",),
        measured=_TWO_CORES + "gradients, kernel 9, 96³ × 4, 398 ms, by taps 1296",
    ),
    Rule(
        "depthwise convolution",
        "cpu",
        "blocked",
        ("jax",),
        rank=(2,),
        measured=_TWO_CORES + "gradients, kernel 9, 8 × 256² × 4, 91 ms for 847",
    ),
    # The banded form takes one convolution a channel: with many channels and few taps, shifted sums
    # that XLA fuses into one loop win, and compile sooner.
    Rule(
        "depthwise convolution",
        "cpu",
        "shifted",
        ("jax",),
        kernel_size=(3,),
        channels=_at_least(9),
    ),
    Rule("depthwise convolution", "cpu", "banded", ("jax",)),
    Rule("depthwise convolution", "gpu", "scaled", kernel_size=(1,)),
    Rule("depthwise convolution", "gpu", "native 2D", ("tensorflow",), rank=(2,)),
    Rule("depthwise convolution", "gpu", "native"),
    # === Convolution of spaced outputs or taps ===
    Rule(
        "spaced convolution",
        "cpu",
        "gradient channels first",
        ("torch",),
        rank=(2,),
        channels=_at_least(64),
        filters=_at_least(64),
    ),
    Rule("spaced convolution", "cpu", "native"),
    Rule("spaced convolution", "gpu", "native"),
    Rule("spaced depthwise convolution", "cpu", "native", ("torch",)),
    Rule("spaced depthwise convolution", "cpu", "native 2D", ("tensorflow",), rank=(2,)),
    # XLA fuses the sums into one loop; TensorFlow has no such operation for volumes.
    Rule("spaced depthwise convolution", "cpu", "shifted"),
    Rule("spaced depthwise convolution", "gpu", "native 2D", ("tensorflow",), rank=(2,)),
    Rule("spaced depthwise convolution", "gpu", "native"),
    # === Resampling ===
    Rule(
        "max pooling",
        "cpu",
        "of positions",
        ("jax",),
        kernel_size=(2,),
        measured=_TWO_CORES + "the native gradient takes up to seven times as long",
    ),
    Rule("max pooling", "cpu", "by axis", ("jax",)),
    # TensorFlow pools volumes in no half precision on a CPU.
    Rule("max pooling", "cpu", "in float32"),
    Rule("max pooling", "gpu", "native"),
    # XLA has no resampling of its own; Keras makes a product with a large matrix of it.
    Rule("linear upsampling", "cpu", "by axis", ("jax",)),
    Rule("linear upsampling", "cpu", "interpolate", ("torch",)),
    Rule("linear upsampling", "cpu", "resize"),
    Rule("linear upsampling", "gpu", "by axis", ("jax",)),
    # TensorFlow's own returns float32, whatever it is given.
    Rule("linear upsampling", "gpu", "by axis", ("tensorflow",), dtype=_HALF),
    Rule("linear upsampling", "gpu", "interpolate", ("torch",)),
    Rule("linear upsampling", "gpu", "resize"),
    # === Attention ===
    Rule(
        "attention",
        "cpu",
        "by sequence",
        ("jax",),
        measured=_TWO_CORES + "8 × 256²: at once eight times as long, and twice with the gradient",
    ),
    # PyTorch's fused kernel never holds the weights, here 16 times as large as the input.
    Rule("attention", "cpu", "native", ("torch",)),
    Rule("attention", "cpu", "at once", ("tensorflow",)),
    Rule("attention", "gpu", "native"),
    # === Normalization ===
    Rule(
        "group normalization",
        "cpu",
        "at once",
        ("jax",),
        measured=_TWO_CORES + "axis by axis, means of products take 50 times as long",
    ),
    Rule(
        "group normalization",
        "cpu",
        "by axis",
        measured=_TWO_CORES + "training of LGMSNet3D on PyTorch, 96³: 6 s for 12 s",
    ),
    Rule("group normalization", "gpu", "native", ("torch",)),
    # What is kept for the gradient: the inputs, and no float32 copies of what is made of them.
    Rule("group normalization", "gpu", "whole"),
    # The kernels compute in float32.
    Rule("batch normalization", "cpu", "keras", dtype=("float64",)),
    Rule(
        "batch normalization",
        "cpu",
        "fused in training",
        ("tensorflow",),
        measured=_TWO_CORES + "training, 256² × 64: Keras's operations take 2.6 times as long",
    ),
    Rule(
        "batch normalization",
        "cpu",
        "fused in float32",
        ("torch",),
        measured=_TWO_CORES + "training, 256² × 64: Keras's operations take 5 times as long",
    ),
    Rule("batch normalization", "cpu", "keras"),
    Rule("batch normalization", "gpu", "fused", ("tensorflow", "torch")),
    Rule("batch normalization", "gpu", "whole"),
    # === Memory ===
    Rule(
        "recomputation",
        "cpu",
        "recomputed",
        ("jax",),
        rank=(3,),
        measured=_TWO_CORES + "gradient of LGMSNet3D, 96³: 5.4 GB for 8.4, in no more time",
    ),
    Rule("recomputation", "cpu", "kept"),
    Rule("recomputation", "gpu", "kept"),
)


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
