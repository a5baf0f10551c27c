"""The table that chooses among the forms of an operation, and what the choices were measured on."""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any


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
_TWO_EPYC_CORES = "Two cores of an AMD EPYC: "
_EPYC_CORE = "One core of an AMD EPYC: "
_UNWRITTEN = "Natively the kernel's gradient of volumes smaller than the kernel is partly unwritten"

# The first rule that holds is taken. On a GPU each operation has the library's own form until a
# measurement says otherwise.
TABLE = (
    # === Convolution ===
    # oneDNN's gradients of shallow volumes in bfloat16 are NaN now and then, of single taps, too.
    Rule(
        "convolution",
        "cpu",
        "native",
        ("torch",),
        kernel_size=(1,),
        dtype=("float32",),
        measured=_TWO_EPYC_CORES + "CMUNeXt, 256²: 1.2 times as long by matrix product",
    ),
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
        "by Winograd",
        ("jax",),
        rank=(3,),
        kernel_size=(3,),
        channels=_at_least(16),
        filters=_at_least(16),
        dtype=("float32",),
        measured=_TWO_EPYC_CORES + "64³ × 64 channels, 195 ms, by taps 440",
    ),
    Rule(
        "convolution",
        "cpu",
        "by taps",
        ("jax",),
        rank=(3,),
        channels=_at_least(16),
        filters=_at_least(16),
        measured=_EPYC_CORE
        + "64³, 96 to 48 channels, 626 ms, stacked 738, gradients 2432 for 3044",
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
        "native where large",
        ("tensorflow", "torch"),
        rank=(3,),
        dtype=("bfloat16",),
        measured=_UNWRITTEN,
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
    Rule(
        "grouped convolution",
        "cpu",
        "native where large",
        rank=(3,),
        dtype=("bfloat16",),
        measured=_UNWRITTEN,
    ),
    Rule("grouped convolution", "cpu", "native"),
    Rule("grouped convolution", "gpu", "native"),
    # === Depthwise convolution ===
    Rule("depthwise convolution", "cpu", "scaled", kernel_size=(1,)),
    # Many channels would be as many convolutions in the banded form.
    Rule(
        "depthwise convolution",
        "cpu",
        "kernel's gradient by taps",
        ("torch",),
        rank=(3,),
        kernel_size=(7,),
        channels=_at_least(48),
        dtype=("float32",),
        measured=_EPYC_CORE + "gradients, kernel 7, 4³ × 384, 5 ms for 142, 32³ × 48, 86 for 132",
    ),
    Rule(
        "depthwise convolution",
        "cpu",
        "by taps",
        ("tensorflow",),
        rank=(3,),
        kernel_size=(7,),
        channels=_at_least(48),
        measured=_EPYC_CORE + "gradients, kernel 7, 4³ × 384, 8 ms for 119, 32³ × 48, 212 for 188",
    ),
    Rule(
        "depthwise convolution",
        "cpu",
        "by rows",
        ("jax",),
        rank=(3,),
        kernel_size=(7,),
        channels=_at_least(48),
        measured=_EPYC_CORE + "gradients, kernel 7, 4³ × 384, 3 ms for 304, 32³ × 48, 161 for 439",
    ),
    Rule(
        "depthwise convolution",
        "cpu",
        "banded",
        ("torch",),
        rank=(3,),
        kernel_size=_at_least(7),
        measured=_TWO_CORES + "gradients, kernel 9, 96³ × 4, 384 ms for 2197",
    ),
    Rule(
        "depthwise convolution",
        "cpu",
        "native where large",
        ("torch",),
        rank=(3,),
        dtype=("bfloat16",),
        measured=_UNWRITTEN,
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
        "by rows",
        ("jax",),
        rank=(2,),
        kernel_size=_at_least(11),
        channels=_at_least(64),
        measured=_TWO_CORES + "gradients, kernel 13, 2 × 16² × 320, 60 ms for 1195",
    ),
    Rule(
        "depthwise convolution",
        "cpu",
        "shifted, set apart",
        ("jax",),
        rank=(2,),
        kernel_size=(3, 5, 7),
        measured=_TWO_EPYC_CORES + "kernel 3, 64² × 256, 0.5 ms for 6.2, gradients 8.6 for 12",
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
    Rule(
        "spaced depthwise convolution",
        "cpu",
        "on sub-grids",
        ("torch",),
        rank=(2,),
        measured=_TWO_CORES + "gradients, 7 × 7 taps 2 apart, 2 × 64² × 80, 239 ms for 1540",
    ),
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
    # TensorFlow's own computes in float32, whatever it is given.
    Rule("linear upsampling", "cpu", "by axis", ("tensorflow",), dtype=("float64",)),
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
    # Keras's own computes the products of queries and keys in float16, where large ones overflow.
    Rule("attention", "gpu", "at once", ("tensorflow",), dtype=("float16",)),
    Rule("attention", "gpu", "native"),
    Rule(
        "sequences",
        "cpu",
        "in pieces",
        ("torch",),
        measured=_TWO_CORES + "MedT, 256²: at once 2.5 times as long, in training too",
    ),
    Rule(
        "sequences",
        "cpu",
        "in a loop",
        ("jax",),
        rank=(3,),
        measured=_TWO_EPYC_CORES + "Swin UNETR, 64³: 0.97 s, at once 1.27",
    ),
    Rule("sequences", "cpu", "at once"),
    Rule("sequences", "gpu", "at once"),
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
    # === Selective scan ===
    Rule(
        "selective scan",
        "cpu",
        "looped",
        ("torch",),
        measured="A core of an AMD EPYC: 32,768 tokens × 96 × 16 states 0.15 s, gradients 0.52",
    ),
    Rule(
        "selective scan",
        "cpu",
        "looped in XLA",
        ("jax",),
        measured=_TWO_EPYC_CORES + "32,768 tokens × 96 × 16 states 0.08 s, gradients 0.46",
    ),
    Rule(
        "selective scan",
        "cpu",
        "looped over pieces",
        measured="A core of an AMD EPYC: 32,768 tokens × 96 × 16 states 0.20 s, gradients 0.67",
    ),
    Rule("selective scan", "gpu", "looped", ("torch",)),
    Rule("selective scan", "gpu", "looped in XLA", ("jax",)),
    Rule("selective scan", "gpu", "looped over pieces"),
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
