"""Every form of an operation against plain PyTorch, and the table that chooses among them."""

import dataclasses
import functools
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import ops

from keras_lgmsnet import layers
from keras_lgmsnet.layers import forms, normalization
from keras_lgmsnet.layers.forms import convolution, winograd
from keras_lgmsnet.layers.forms.sequences import PIECE
from tests.helpers.gradients import gradients

BACKEND = keras.backend.backend()
CONDITIONS = ("backends", "rank", "kernel_size", "channels", "filters", "dtype")


def _forms(operation: str) -> list[tuple[str, int]]:
    """Return (form, rank) of all that runs on the backend."""
    return [
        (name, rank)
        for name, form in forms.OPERATIONS[operation].items()
        for rank in form.ranks
        if BACKEND in form.backends
    ]


def _draw(rank: int, side: int, channels: int) -> np.ndarray:
    # Sides differ, so that exchanged axes show.
    sides = [side + 2 * axis for axis in range(rank)]
    return np.random.default_rng(0).standard_normal((2, *sides, channels)).astype("float32")


def _to_torch(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.moveaxis(array, -1, 1).copy())


def _from_torch(tensor: torch.Tensor) -> np.ndarray:
    return np.moveaxis(tensor.detach().numpy(), 1, -1)


def _assert_close(received: Any, expected: np.ndarray, tolerance: float = 2e-5) -> None:
    received = ops.convert_to_numpy(received)
    np.testing.assert_allclose(received, expected, rtol=0, atol=tolerance * (1 + np.std(expected)))


# === Every form computes the same ===


# Of each channels, filters and groups, and those of strides and dilation that are tried.
CONVOLUTIONS = {
    "convolution": ([(3, 4, 1)], [{}]),
    "grouped convolution": ([(4, 6, 2), (6, 3, 3)], [{}]),
    "depthwise convolution": ([(3, 3, 3)], [{}]),
    "spaced convolution": ([(3, 4, 1)], [{"strides": 2}, {"dilation": 2}]),
    "spaced depthwise convolution": ([(3, 3, 3)], [{"strides": 2}, {"dilation": 2}]),
}


def _convolutions() -> Iterator[tuple[str, str, int, int]]:
    """Yield (operation, form, rank, taps), of depthwise convolutions of all kinds of kernels."""
    for operation in CONVOLUTIONS:
        usual = (1, 3, 9) if operation == "depthwise convolution" else (3,)
        for name, rank in _forms(operation):
            some = {"shifted": (1, 3), "gradient by taps": (3, 5)}  # one operation a tap
            sizes = forms.OPERATIONS[operation][name].kernel_sizes or some.get(name, usual)
            for taps in sizes:
                yield operation, name, rank, taps


@pytest.mark.parametrize(("operation", "name", "rank", "taps"), list(_convolutions()))
def test_every_form_of_convolution_is_the_same_sum(
    operation: str, name: str, rank: int, taps: int, monkeypatch
) -> None:
    monkeypatch.setattr(convolution, "LEAST_PIXELS", 0)
    monkeypatch.setattr(convolution, "LEAST_DEPTH", 0)
    form = forms.OPERATIONS[operation][name].make()
    sizes, spacings = CONVOLUTIONS[operation]
    conv = torch.nn.functional.conv2d if rank == 2 else torch.nn.functional.conv3d
    for (channels, filters, groups), spacing in itertools.product(sizes, spacings):
        x = _draw(rank, 17 if taps == 9 and rank == 2 else 5, channels)
        kernel_shape = (taps,) * rank + (channels // groups, filters)
        kernel = np.random.default_rng(1).standard_normal(kernel_shape).astype("float32")
        images = _to_torch(x).requires_grad_()
        weight = torch.from_numpy(np.moveaxis(kernel, (-1, -2), (0, 1)).copy()).requires_grad_()
        strides, dilation = spacing.get("strides", 1), spacing.get("dilation", 1)
        padding = dilation * (taps // 2)
        expected = conv(images, weight, None, strides, padding, dilation, groups)
        spaced = functools.partial(form, **spacing)
        _assert_close(spaced(*map(ops.convert_to_tensor, (x, kernel))), _from_torch(expected))
        expected.square().sum().backward()
        for_images, for_kernel = gradients(spaced, x, kernel)
        _assert_close(for_images, _from_torch(images.grad), 1e-4)
        _assert_close(for_kernel, np.moveaxis(weight.grad.numpy(), (0, 1), (-1, -2)), 1e-4)


@pytest.mark.skipif(BACKEND == "jax", reason="XLA computes without oneDNN")
@pytest.mark.parametrize("taps", [3, 5, 7, 9])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_kernels_gradient_in_bfloat16_is_written_whole(taps: int, groups: int) -> None:
    """Of volumes with sides smaller than the kernel, in memory that held NaN before."""
    operation = {1: "convolution", 2: "grouped convolution", 4: "depthwise convolution"}[groups]
    case = {"rank": 3, "kernel_size": taps, "channels": 4, "filters": 4, "dtype": "bfloat16"}
    with forms.forced_device("cpu"):
        form = forms.choose(operation, **case)
    kernel = np.random.default_rng(1).standard_normal((taps,) * 3 + (4 // groups, 4))
    for sides in ((2, 4, 5), (9, 2, 3), (4, 8, 2)):
        x = np.random.default_rng(0).standard_normal((1, *sides, 4))
        half = [ops.convert_to_numpy(ops.cast(array, "bfloat16")) for array in (x, kernel)]
        exact = [array.astype("float32") for array in half]
        _, expected = gradients(convolution.convolve, *exact)
        for _ in range(5):
            freed = [torch.full((2**size,), torch.nan) for size in range(5, 18)]
            del freed
            _, received = gradients(form, *half)
            _assert_close(received.astype("float32"), expected, 0.1)


@pytest.mark.parametrize("depth", range(1, 10))
def test_winograd_filters_volumes_of_any_depth(depth: int) -> None:
    x = np.random.default_rng(0).standard_normal((2, depth, 3, 4, 5)).astype("float32")
    kernel = np.random.default_rng(1).standard_normal((3, 3, 3, 5, 2)).astype("float32")
    expected = torch.nn.functional.conv3d(
        _to_torch(x), torch.from_numpy(np.moveaxis(kernel, (-1, -2), (0, 1)).copy()), padding=1
    )
    received = winograd.convolve_along_depth(
        *map(ops.convert_to_tensor, (x, kernel)), convolution.convolve
    )
    _assert_close(received, _from_torch(expected))


@pytest.mark.skipif(BACKEND != "torch", reason="calls PyTorch's oneDNN by name")
@pytest.mark.parametrize("sides", [(3, 4, 5), (4, 2, 3)])  # not shorter than the kernel, and so
def test_small_volumes_are_convolved_as_pytorch_does(sides: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal((1, *sides, 6)).astype("float32")
    kernel = np.random.default_rng(1).standard_normal((3, 3, 3, 6, 4)).astype("float32")
    images = _to_torch(x).requires_grad_()
    weight = torch.from_numpy(np.moveaxis(kernel, (-1, -2), (0, 1)).copy()).requires_grad_()
    expected = torch.nn.functional.conv3d(images, weight, padding=1)
    _assert_close(
        convolution.convolve(*map(ops.convert_to_tensor, (x, kernel))), _from_torch(expected)
    )
    expected.square().sum().backward()
    for_images, for_kernel = gradients(convolution.convolve, x, kernel)
    _assert_close(for_images, _from_torch(images.grad), 1e-4)
    _assert_close(for_kernel, np.moveaxis(weight.grad.numpy(), (0, 1), (-1, -2)), 1e-4)


@pytest.mark.skipif(BACKEND != "jax", reason="others have gradients of their own")
def test_gradient_by_taps_adds_up_half_precision_in_float32(monkeypatch) -> None:
    monkeypatch.setattr(convolution, "LEAST_PIXELS", 0)
    by_taps, native = (
        forms.OPERATIONS["convolution"][name].make() for name in ("gradient by taps", "native")
    )
    # Sums of 4096 numbers of one sign: in bfloat16 they would stand still at 256.
    x, kernel = np.ones((1, 64, 64, 1)), np.full((3, 3, 1, 1), 0.125)
    half = [array.astype("bfloat16") for array in (x, kernel)]
    _, for_kernel = gradients(by_taps, *half)
    _, expected = gradients(native, *(array.astype("float32") for array in (x, kernel)))
    assert keras.backend.standardize_dtype(for_kernel.dtype) == "bfloat16"
    np.testing.assert_allclose(for_kernel.astype("float32"), expected, rtol=0.01)


@pytest.mark.parametrize(("name", "rank"), _forms("max pooling"))
def test_every_form_of_max_pooling_is_pytorchs(name: str, rank: int) -> None:
    pool = torch.nn.functional.max_pool2d if rank == 2 else torch.nn.functional.max_pool3d
    form = forms.OPERATIONS["max pooling"][name]
    for size in form.kernel_sizes or (2, 3, 5):
        _assert_is_resampling(
            functools.partial(form.make(), kernel_size=size),
            rank,
            lambda images, size=size: pool(images, size, 2, padding=(size - 1) // 2),
        )


@pytest.mark.parametrize(("name", "rank"), _forms("linear upsampling"))
def test_every_form_of_linear_upsampling_is_pytorchs(name: str, rank: int) -> None:
    mode = "bilinear" if rank == 2 else "trilinear"

    def upsample(images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(images, scale_factor=2, mode=mode)

    _assert_is_resampling(forms.OPERATIONS["linear upsampling"][name].make(), rank, upsample)


def _assert_is_resampling(form: Callable, rank: int, peer: Callable) -> None:
    # Less than 0 nearly everywhere, where zeros around the border would be seen.
    x = _draw(rank, 4, 3) - 2
    images = _to_torch(x).requires_grad_()
    expected = peer(images)
    _assert_close(form(ops.convert_to_tensor(x)), _from_torch(expected))
    expected.square().sum().backward()
    _assert_close(gradients(form, x)[0], _from_torch(images.grad))


@pytest.mark.parametrize("name", [name for name, rank in _forms("attention") if rank == 2])
@pytest.mark.parametrize(("length", "keys"), [(1, 1), (5, 5), (5, 1), (1, 5), (2, 7)])
def test_every_form_of_attention_is_pytorchs(name: str, length: int, keys: int) -> None:
    form = forms.OPERATIONS["attention"][name].make()
    generator = np.random.default_rng(0)
    parts = [
        generator.standard_normal((2, number, 4, 8)).astype("float32")
        for number in (length, keys, keys)
    ]
    leaves = [torch.from_numpy(part).requires_grad_() for part in parts]
    expected = torch.nn.functional.scaled_dot_product_attention(
        *(leaf.transpose(1, 2) for leaf in leaves)
    ).transpose(1, 2)
    expected.square().sum().backward()
    _assert_close(form(*map(ops.convert_to_tensor, parts)), expected.detach().numpy())
    # Of a single key the weight is 1, so that only the value has a gradient.
    first = 2 if keys == 1 else 0
    received = gradients(lambda *some: form(*parts[:first], *some), *parts[first:])
    for gradient, leaf in zip(received, leaves[first:], strict=True):
        _assert_close(gradient, leaf.grad.numpy())


@pytest.mark.parametrize("name", [name for name, rank in _forms("attention") if rank == 2])
def test_no_form_of_attention_overflows_in_float16(name: str) -> None:
    if (name, BACKEND) in {("native", "jax"), ("native", "tensorflow")}:
        pytest.skip("The former XLA refuses on a CPU, the latter the table has for no float16.")
    form = forms.OPERATIONS["attention"][name].make()
    generator = np.random.default_rng(0)
    # Each query's product with its own key is 2e6, far beyond float16, and larger than any other.
    keys = np.eye(8, dtype="float16")[None, :, None]
    values = generator.standard_normal((1, 8, 1, 8)).astype("float16")
    parts = [2000 * keys, 1000 * keys, values]
    attended, *received = (
        ops.convert_to_numpy(ops.cast(part, "float32"))
        for part in (form(*map(ops.convert_to_tensor, parts)), *gradients(form, *parts))
    )
    np.testing.assert_allclose(attended, values, rtol=1e-3)
    for gradient in received:
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize(("name", "rank"), _forms("group normalization"))
@pytest.mark.parametrize("training", [False, True])
def test_every_form_of_group_normalization_is_pytorchs(
    name: str, rank: int, training: bool
) -> None:
    layer = layers.GroupNormalization(3)
    _assert_is_normalization(name, "group", layer, torch.nn.GroupNorm(3, 6), rank, training)


@pytest.mark.parametrize(("name", "rank"), _forms("batch normalization"))
@pytest.mark.parametrize("training", [False, True])
def test_every_form_of_batch_normalization_is_pytorchs(
    name: str, rank: int, training: bool
) -> None:
    layer = normalization.BatchNormalization()
    peer = (torch.nn.BatchNorm2d if rank == 2 else torch.nn.BatchNorm3d)(6).train(training)
    x = _assert_is_normalization(name, "batch", layer, peer, rank, training)
    # PyTorch corrects the variance that it keeps.
    pixels = x.size // 6
    correction = (pixels - 1) / pixels if training else 1
    _assert_close(layer.moving_mean, peer.running_mean.numpy())
    kept = 0.9 + (peer.running_var.numpy() - 0.9) * correction if training else np.ones(6)
    _assert_close(layer.moving_variance, kept)


def _assert_is_normalization(
    name: str, kind: str, layer: Any, peer: torch.nn.Module, rank: int, training: bool
) -> np.ndarray:
    """Compare the outputs, and the gradients of the input, the scale and the offset."""
    form = forms.OPERATIONS[f"{kind} normalization"][name].make()
    x = 5 + 3 * _draw(rank, 3, 6)
    generator = np.random.default_rng(1)
    gamma, beta = 1 + generator.random((2, 6), "float32")
    factors = generator.random(x.shape, "float32")  # of squares alone the input has no gradient
    layer.build(x.shape)
    layer.gamma.assign(gamma)
    layer.beta.assign(beta)
    peer.weight.data, peer.bias.data = torch.from_numpy(gamma), torch.from_numpy(beta)
    images = _to_torch(x).requires_grad_()
    expected = peer(images)
    _assert_close(form(layer, ops.convert_to_tensor(x), training), _from_torch(expected))
    (expected * _to_torch(factors)).square().sum().backward()

    def weighted(images: Any, gamma: Any, beta: Any) -> Any:
        layer.gamma, layer.beta = gamma, beta
        with keras.StatelessScope():  # what JAX traces must not enter the moving statistics
            return ops.multiply(form(layer, images, training), factors)

    for received, wanted in zip(
        gradients(weighted, x, gamma, beta),
        (_from_torch(images.grad), peer.weight.grad.numpy(), peer.bias.grad.numpy()),
        strict=True,
    ):
        _assert_close(received, wanted, 1e-4)
    return x


@pytest.mark.parametrize(("name", "rank"), _forms("recomputation"))
def test_every_form_of_recomputation_changes_nothing(name: str, rank: int) -> None:
    form, x = forms.OPERATIONS["recomputation"][name].make(), _draw(rank, 3, 2)
    for received, expected in zip(
        gradients(form(ops.gelu), x), gradients(ops.gelu, x), strict=True
    ):
        _assert_close(received, expected)


@pytest.mark.parametrize("size", [PIECE // 2, 2 * PIECE])  # two at a time, and one
@pytest.mark.parametrize("name", [name for name, rank in _forms("sequences") if rank == 3])
def test_every_form_of_sequences_changes_nothing(name: str, size: int) -> None:
    form = forms.OPERATIONS["sequences"][name].make()
    x, y = np.random.default_rng(0).standard_normal((2, 5, 3, 3)).astype("float32")

    def attend(x: Any, y: Any) -> Any:
        return ops.matmul(ops.softmax(ops.matmul(x, y)), y)

    for received, expected in zip(
        gradients(form(attend, size), x, y), gradients(attend, x, y), strict=True
    ):
        _assert_close(received, expected)


# === The table ===


def test_the_table_has_a_form_for_every_case(monkeypatch) -> None:
    for backend, device, operation, rank, taps, channels, dtype in itertools.product(
        forms.BACKENDS,
        forms.DEVICES,
        forms.OPERATIONS,
        (2, 3),
        (1, 3, 5, 7, 9),
        (1, 16, 128),
        ("float32", "float16", "bfloat16"),
    ):
        monkeypatch.setattr(forms, "_backend", lambda backend=backend: backend)
        case = {"rank": rank, "kernel_size": taps, "channels": channels, "filters": channels}
        with forms.forced_device(device):
            name = forms.rule_for(operation, **case, dtype=dtype).form
        form = forms.OPERATIONS[operation][name]
        assert backend in form.backends
        assert rank in form.ranks
        assert form.kernel_sizes is None or taps in form.kernel_sizes


def test_no_rule_stands_behind_one_that_holds_wherever_it_does() -> None:
    for earlier, rule in itertools.combinations(forms.TABLE, 2):
        assert (earlier.operation, earlier.device) != (rule.operation, rule.device) or any(
            getattr(earlier, name) not in (None, getattr(rule, name)) for name in CONDITIONS
        ), (earlier, rule)


def test_this_machines_device_and_the_forced_one() -> None:
    assert forms.device() == "cpu"
    with forms.forced_device("gpu"):
        assert forms.device() == "gpu"
        with forms.forced_device("cpu"):
            assert forms.device() == "cpu"
        assert forms.device() == "gpu"
    assert forms.device() == "cpu"
    with (
        pytest.raises(ValueError, match=r"one of cpu, gpu\. Received: 'cuda'"),
        forms.forced_device("cuda"),
    ):
        raise AssertionError


@pytest.mark.parametrize(
    ("setting", "device"), [("cpu", "cpu"), ("cpu:0", "cpu"), ("cuda", "gpu"), ("mps", "gpu")]
)
def test_the_device_that_keras_is_told_for_pytorch(setting: str, device: str, monkeypatch) -> None:
    monkeypatch.setattr(forms, "_backend", lambda: "torch")
    monkeypatch.setenv("KERAS_TORCH_DEVICE", setting)
    assert forms._own_device.__wrapped__() == device


@pytest.mark.parametrize("kinds", [("CPU",), ("CPU", "GPU"), ("CPU", "TPU")])
def test_the_devices_that_tensorflow_sees(kinds: tuple[str, ...], monkeypatch) -> None:
    seen = [SimpleNamespace(device_type=kind) for kind in kinds]
    tensorflow = SimpleNamespace(config=SimpleNamespace(get_visible_devices=lambda: seen))
    monkeypatch.setitem(sys.modules, "tensorflow", tensorflow)
    monkeypatch.setattr(forms, "_backend", lambda: "tensorflow")
    assert forms._own_device.__wrapped__() == ("cpu" if kinds == ("CPU",) else "gpu")


@pytest.mark.parametrize(("kind", "device"), [("cpu", "cpu"), ("gpu", "gpu"), ("tpu", "gpu")])
def test_the_device_that_jax_computes_on(kind: str, device: str, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "jax", SimpleNamespace(default_backend=lambda: kind))
    monkeypatch.setattr(forms, "_backend", lambda: "jax")
    assert forms._own_device.__wrapped__() == device


# === Layers of a GPU's table ===


def network_of_all_forms(rank: int, dtype: str = "float32") -> keras.Model:
    """Return a network of all layers that choose."""
    image = keras.Input((*(4, 6, 8)[:rank], 4))
    x = layers.LMSBlock((3, 5), dtype=dtype)(image)
    x = layers.LinearUpsampling(dtype=dtype)(layers.MaxPooling(dtype=dtype)(x))
    x = layers.GMSBlock(8, dtype=dtype)(x)
    x = layers.FusionBlock(4, dtype=dtype)(x)
    x = layers.GroupedConv(4, 3, strides=2, dtype=dtype)(x)
    x = layers.AxialAttention(1, num_heads=2, dtype=dtype)(x)
    x = layers.DepthwiseConv(3, dilation=2, dtype=dtype)(x)
    tokens = keras.layers.Reshape((-1, 4), dtype=dtype)(x)
    tokens = layers.SelectiveScan(2, dtype=dtype)(tokens)
    return keras.Model(image, keras.layers.Reshape(x.shape[1:], dtype=dtype)(tokens))


@pytest.mark.parametrize("device", forms.DEVICES)
def test_layers_take_the_forms_that_the_table_has_for_the_device(device: str, monkeypatch) -> None:
    called = set()

    def recorded(operation: str, name: str, form: forms.Form) -> forms.Form:
        def make() -> Callable:
            function = form.make()

            def record(*args: Any, **kwargs: Any) -> Any:
                called.add((operation, name))
                return function(*args, **kwargs)

            return record

        return dataclasses.replace(form, make=make)

    for operation, entries in forms.OPERATIONS.items():
        for name, form in entries.items():
            monkeypatch.setitem(entries, name, recorded(operation, name, form))
    for rank in (2, 3):
        with forms.forced_device(device):
            model = network_of_all_forms(rank)
        _trace(model, _draw(rank, 4, 4))
    allowed = {
        (rule.operation, rule.form)
        for rule in forms.TABLE
        if rule.device == device and (rule.backends is None or BACKEND in rule.backends)
    }
    assert called <= allowed
    assert {operation for operation, _ in called} == set(forms.OPERATIONS)


def _trace(model: keras.Model, x: np.ndarray) -> None:
    """Call a network, on JAX without compiling anything."""
    if BACKEND == "jax":
        import jax

        jax.eval_shape(model, x)
    else:
        model(x)


@pytest.mark.no_backend
def test_files_are_written_in_a_cpus_forms(monkeypatch) -> None:
    from keras_lgmsnet.export import child

    def read(run_directory: Path) -> None:
        raise ValueError(f"read on a {forms.device()}")

    monkeypatch.setattr(child.Run, "read", read)
    with forms.forced_device("gpu"), pytest.raises(ValueError, match="read on a cpu"):
        child.write_exports(Path(), Path(), [], "none", None, None)


@pytest.mark.skipif(BACKEND != "jax", reason="its programs can be read")
@pytest.mark.parametrize(
    ("layer", "casts"),
    [
        (layers.MaxPooling, 0),
        (layers.LinearUpsampling, 0),
        (layers.NearestUpsampling, 0),
        (lambda **kwargs: layers.GroupedConv(4, 3, groups=2, **kwargs), 0),
        (lambda **kwargs: layers.DepthwiseConv(5, **kwargs), 0),
        (lambda **kwargs: layers.GroupedConv(4, 3, strides=2, **kwargs), 0),
        (lambda **kwargs: layers.DepthwiseConv(5, strides=2, **kwargs), 0),
        # For the statistics; of its gradient, the inputs and the upstream gradient.
        (lambda **kwargs: layers.ConvNormActivation(4, 3, normalization="batch", **kwargs), 3),
        (lambda **kwargs: layers.ConvNormActivation(4, 3, normalization="instance", **kwargs), 3),
        (lambda **kwargs: layers.LMSBlock((3, 5), **kwargs), 9),
        (lambda **kwargs: layers.FusionBlock(4, **kwargs), 9),
    ],
)
@pytest.mark.parametrize("rank", [2, 3])
def test_only_statistics_are_computed_in_float32_on_a_gpu(
    layer: Callable, casts: int, rank: int
) -> None:
    import jax

    x = _draw(rank, 32, 4).astype("bfloat16")
    with forms.forced_device("gpu"):
        built = layer(dtype="mixed_bfloat16")
        built.build(x.shape)
    weights = [variable.value for variable in built.variables]

    def outputs(weights: Any, x: Any) -> Any:
        training = {"training": True} if casts else {}
        with keras.StatelessScope(zip(built.variables, weights, strict=True)):
            return built(x, **training)

    def train(weights: Any, x: Any) -> Any:
        y, gradient = jax.vjp(outputs, weights, x)
        return gradient(y)

    kept = jax.tree.leaves(jax.eval_shape(lambda *of: jax.vjp(outputs, *of)[1], weights, x))
    least = x.size // 8  # no weights are as large, nor what is made of pooled images smaller
    assert not [a for a in kept if a.dtype == "float32" and a.size >= least]
    assert _count_casts(jax.make_jaxpr(train)(weights, x).jaxpr, least) == casts


def _count_casts(jaxpr: Any, least: int) -> int:
    """Return how many tensors of at least some size a program casts to float32."""
    import jax

    count = 0
    for equation in jaxpr.eqns:
        of = [*equation.invars, *equation.outvars]
        if equation.primitive.name == "convert_element_type":
            count += of[1].aval.dtype == "float32" and of[1].aval.size >= least
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                count += _count_casts(inner, least)
    return count
