"""Convolution on PyTorch, each gradient in the memory layout that a CPU computes it fastest in."""

import functools
from collections.abc import Callable
from typing import Any

from keras_lgmsnet.layers.forms import form


def convolve(inputs: Any, kernel: Any, strides: int = 1, dilation: int = 1) -> Any:
    """Convolve images or volumes, zeros around, without the copies that Keras makes.

    Keras would copy the inputs to channels first and back: 135 ms for 72, 256² × 64 channels, and
    979 for 375, 96³ × 32.

    Args:
        inputs: Shape `(batch, *sides, channels)`.
        kernel: Shape `(*kernel_size, channels / groups, filters)`, odd sizes.
        strides: The distance between outputs.
        dilation: The distance between taps.
    """
    import torch

    images, weight = inputs.movedim(-1, 1), _weight(kernel)
    settings = _settings(inputs, kernel, strides, dilation)
    if _is_for_onednn(inputs, kernel):
        spacing = (settings[name] for name in ("padding", "stride", "dilation", "groups"))
        outputs = torch.mkldnn_convolution(images, weight, None, *spacing)
    else:
        outputs = torch.convolution(images, weight, None, **settings)
    return outputs.movedim(1, -1)


@form("convolution", "gradient channels first", backends=("torch",), made=True)
@form("spaced convolution", "gradient channels first", backends=("torch",), made=True)
@functools.cache
def convolution_with_own_gradient() -> Callable[..., Any]:
    """Return `convolve` with a gradient of the kernel that is computed with the channels first.

    With the channels last, as everything else has them, oneDNN takes three times as long for that
    gradient where there are many: on two cores, 3 × 3 taps, milliseconds, 256² × 64 channels 152
    and 561, 128² × 128 136 and 499, 32² × 512 130 and 216. The copies to channels first cost less
    than that, but more than what is gained of few channels, or of volumes.

    It is defined in a function, once, since PyTorch is imported only where it is the backend.
    """
    import torch

    class Convolution(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, inputs: Any, kernel: Any, *spacing: int) -> Any:
            context.save_for_backward(inputs, kernel)
            context.spacing = spacing
            return convolve(inputs, kernel, *spacing)

        @staticmethod
        def backward(context: Any, upstream: Any) -> tuple[Any, Any, None, None]:
            inputs, kernel = context.saved_tensors
            rank, weight = kernel.ndim - 2, _weight(kernel)
            settings = _settings(inputs, kernel, *context.spacing)

            def gradients(upstream: Any, inputs: Any, *wanted: bool) -> tuple[Any, Any, Any]:
                return torch.ops.aten.convolution_backward(
                    upstream, inputs, weight, None, *settings.values(), (*wanted, False)
                )

            images, upstream = inputs.movedim(-1, 1), upstream.movedim(-1, 1)
            for_inputs = for_kernel = None
            if context.needs_input_grad[0]:
                for_inputs = gradients(upstream, images, True, False)[0].movedim(1, -1)
            if context.needs_input_grad[1]:
                for_weight = gradients(upstream.contiguous(), images.contiguous(), False, True)[1]
                # The optimizer would read it several times in the order of the kernel.
                for_kernel = for_weight.permute(*range(2, rank + 2), 1, 0).contiguous()
            return for_inputs, for_kernel, None, None

    def convolve_with_gradient(
        inputs: Any, kernel: Any, strides: int = 1, dilation: int = 1
    ) -> Any:
        # Exporters of PyTorch know no autograd functions.
        call = Convolution.apply if torch.is_grad_enabled() else convolve
        return call(inputs, kernel, strides, dilation)

    return convolve_with_gradient


@form(
    "depthwise convolution",
    "kernel's gradient by taps",
    backends=("torch",),
    ranks=(3,),
    made=True,
)
@functools.cache
def depthwise_with_own_gradient() -> Callable[..., Any]:
    """Return `convolve` with gradients that oneDNN computes as fast as it convolves.

    Its own of volumes take long: on one core of an AMD EPYC, 7³ taps, milliseconds for inputs and
    kernel, 4³ × 384 channels 56 and 6, 8³ × 192 45 and 35, 32³ × 48 96 and 84, where the
    convolution takes 0.2, 0.4 and 5.5. The inputs' gradient is a convolution by the flipped kernel.
    The kernel's is, for each tap along the depth, that of a convolution of images, 6, 5 and 81.
    """
    import torch

    class Depthwise(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, inputs: Any, kernel: Any) -> Any:
            context.save_for_backward(inputs, kernel)
            return convolve(inputs, kernel)

        @staticmethod
        def backward(context: Any, upstream: Any) -> tuple[Any, Any]:
            inputs, kernel = context.saved_tensors
            for_inputs = for_kernel = None
            if context.needs_input_grad[0]:
                for_inputs = convolve(upstream, kernel.flip(0, 1, 2))
            if context.needs_input_grad[1]:
                taps, depth = kernel.shape[0], inputs.shape[1]
                reach = taps // 2
                padded = torch.nn.functional.pad(inputs, (0, 0, 0, 0, 0, 0, reach, reach))
                slices = upstream.flatten(0, 1).movedim(-1, 1)
                of_taps = []
                for tap in range(taps):
                    images = padded[:, tap : tap + depth].flatten(0, 1)
                    settings = _settings(images, kernel[tap], 1, 1)
                    _, gradient, _ = torch.ops.aten.convolution_backward(
                        slices,
                        images.movedim(-1, 1),
                        _weight(kernel[tap]),
                        None,
                        *settings.values(),
                        (False, True, False),
                    )
                    of_taps.append(gradient.permute(2, 3, 1, 0))
                # The optimizer would read it several times in the order of the kernel.
                for_kernel = torch.stack(of_taps).contiguous()
            return for_inputs, for_kernel

    def convolve_with_gradient(inputs: Any, kernel: Any) -> Any:
        # Exporters of PyTorch know no autograd functions.
        call = Depthwise.apply if torch.is_grad_enabled() else convolve
        return call(inputs, kernel)

    return convolve_with_gradient


def _is_for_onednn(inputs: Any, kernel: Any) -> bool:
    """Say whether to call oneDNN by name, as PyTorch does but of small volumes.

    Of a single one of few voxels and channels it takes a program of its own: on two cores of an AMD
    EPYC, 3³ taps, milliseconds, 8³ × 256 channels 13.1 for 3.1, 16³ × 64 15.1 for 1.6.
    """
    import torch

    return (
        inputs.ndim == 5
        and inputs.dtype == torch.float32
        and inputs.device.type == "cpu"
        and torch.backends.mkldnn.is_available()
        and not torch.compiler.is_compiling()  # exporters know the general operation only
        and all(side >= taps for side, taps in zip(inputs.shape[1:4], kernel.shape, strict=False))
    )


def _weight(kernel: Any) -> Any:
    """Return a kernel as PyTorch has it, `(filters, channels / groups, *kernel_size)`.

    In float32 it lies in memory as the inputs do, with the channels last, as oneDNN wants it: the
    transpose of a matrix takes a third of the time in which oneDNN would arrange the kernel by
    itself. In bfloat16 oneDNN's gradients of small volumes are NaN now and then with such kernels.
    """
    import torch

    *sizes, channels, filters = kernel.shape
    if kernel.dtype == torch.float32:
        weight = kernel.reshape(-1, filters).t().contiguous()
        return weight.reshape(filters, *sizes, channels).movedim(-1, 1)
    weight = kernel.permute(len(sizes) + 1, len(sizes), *range(len(sizes)))
    # Of one filter PyTorch refuses the gradient in float16 as the kernel lies.
    return weight.contiguous() if filters == 1 else weight


def _settings(inputs: Any, kernel: Any, strides: int, dilation: int) -> dict[str, Any]:
    """Return the arguments of PyTorch's convolution, zeros around."""
    rank = kernel.ndim - 2
    return {
        "stride": (strides,) * rank,
        "padding": tuple(dilation * (size // 2) for size in kernel.shape[:rank]),
        "dilation": (dilation,) * rank,
        "transposed": False,
        "output_padding": (0,) * rank,
        "groups": inputs.shape[-1] // kernel.shape[-2],
    }
