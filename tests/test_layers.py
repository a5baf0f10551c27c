"""Every layer against plain PyTorch, on tiny widths."""

from collections.abc import Callable

import keras
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from keras import ops

from keras_lgmsnet import layers
from keras_lgmsnet.benchmark.peers import lgmsnet as plain_pytorch
from keras_lgmsnet.layers import initializers, normalization
from keras_lgmsnet.layers.forms.recomputation import choose_recomputation
from keras_lgmsnet.models import torch_weights
from keras_lgmsnet.models.published_names import named_variables
from tests.helpers import twins
from tests.helpers.gradients import compiled, gradients
from tests.helpers.reference import draw_state_dict

# JAX compiles each shape anew, so a few examples on every backend go further than many on one.
few = settings(
    deadline=None, max_examples=4 if keras.backend.backend() == "jax" else 8, derandomize=True
)
ranks = st.sampled_from([2, 3])


def _inputs(rank: int, side: int, channels: int, batch: int = 2) -> np.ndarray:
    # Sides differ, so that exchanged axes show.
    sides = [side + 2 * axis for axis in range(rank)]
    return np.random.default_rng(0).standard_normal((batch, *sides, channels)).astype("float32")


def _to_torch(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.moveaxis(array, -1, 1).copy())


def _from_torch(tensor: torch.Tensor) -> np.ndarray:
    return np.moveaxis(tensor.detach().numpy(), 1, -1)


def _assert_close(outputs, expected: np.ndarray, tolerance: float = 2e-5) -> None:
    outputs = ops.convert_to_numpy(outputs)
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=tolerance * (1 + np.std(expected)))


def _assert_equals_peer(layer: keras.layers.Layer, peer: torch.nn.Module, x: np.ndarray) -> None:
    """Give both the same random weights and compare outputs, and the input's gradient."""
    layer.build(x.shape)
    state_dict = draw_state_dict(
        {
            name: tuple(value.shape)
            for name, value in peer.state_dict().items()
            if "num_batches" not in name
        }
    )
    variables = dict(named_variables(layer))
    assert variables.keys() == state_dict.keys()
    torch_weights.assign(variables, state_dict)
    peer.load_state_dict({n: torch.from_numpy(v) for n, v in state_dict.items()}, strict=False)
    images = _to_torch(x).requires_grad_()
    expected = peer.eval()(images)
    outputs = compiled(lambda images: layer(images, training=False))(x)
    _assert_close(outputs, _from_torch(expected))
    expected.square().sum().backward()
    # Without moving statistics, training computes the same, with gradients of its own.
    for training in (False,) if layer.non_trainable_variables else (False, True):
        (gradient,) = gradients(lambda images, is_=training: layer(images, training=is_), x)
        _assert_close(gradient, _from_torch(images.grad))


@few
@given(ranks, st.sampled_from([(3,), (1, 5), (3, 5, 7, 9), (5, 3, 1)]), st.integers(1, 3))
def test_lms_block_equals_plain_pytorch(rank: int, kernel_sizes: tuple, width: int) -> None:
    channels = width * len(kernel_sizes)
    _assert_equals_peer(
        layers.LMSBlock(kernel_sizes, activation="silu"),
        plain_pytorch.LMSBlock(rank, channels, kernel_sizes, "silu"),
        _inputs(rank, 5, channels),
    )


@few
# A layer norm over one or two channels would amplify round-off three hundredfold.
@given(ranks, st.integers(1, 5), st.sampled_from([8, 12]), st.sampled_from([0, 0.5, 0.75, 1]))
def test_gms_block_equals_plain_pytorch(
    rank: int, channels: int, filters: int, ratio: float
) -> None:
    _assert_equals_peer(
        layers.GMSBlock(filters, ratio),
        plain_pytorch.GMSBlock(rank, channels, filters, ratio),
        _inputs(rank, 4, channels),
    )


@few
@given(ranks, st.integers(1, 4), st.integers(1, 4))
def test_fusion_block_equals_plain_pytorch(rank: int, half: int, filters: int) -> None:
    _assert_equals_peer(
        layers.FusionBlock(filters),
        plain_pytorch.FusionBlock(rank, 2 * half, filters),
        _inputs(rank, 3, 2 * half),
    )


class _PlainPyramid(torch.nn.Module):
    def __init__(self, channels: int, filters: int, dilations: tuple[int, ...]) -> None:
        super().__init__()

        def step(channels: int, taps: int = 1, dilation: int = 1) -> list[torch.nn.Module]:
            padding = dilation * (taps // 2)
            convolution = torch.nn.Conv2d(
                channels, filters, taps, padding=padding, dilation=dilation, bias=False
            )
            return [convolution, torch.nn.BatchNorm2d(filters), torch.nn.ReLU()]

        branches = [
            step(channels),
            *(step(channels, 3, dilation) for dilation in dilations),
            [torch.nn.AdaptiveAvgPool2d(1), *step(channels)],
        ]
        self.convs = torch.nn.ModuleList(torch.nn.Sequential(*branch) for branch in branches)
        self.project = torch.nn.Sequential(*step(len(branches) * filters))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        outputs = [branch(images).expand(-1, -1, *images.shape[2:]) for branch in self.convs]
        return self.project(torch.cat(outputs, 1))


# Of a side of 5 pixels and one of 7: near taps, some beyond the border, and all but the middle one.
@pytest.mark.parametrize("dilations", [(1, 5), (6, 12, 36)])
def test_atrous_pyramid_pooling_equals_plain_pytorch(dilations: tuple[int, ...]) -> None:
    _assert_equals_peer(
        layers.AtrousPyramidPooling(4, dilations), _PlainPyramid(3, 4, dilations), _inputs(2, 5, 3)
    )


def test_the_mean_of_one_image_tells_a_training_pyramid_nothing() -> None:
    layer = layers.AtrousPyramidPooling(4, (2,), dropout=0.0)
    x = _inputs(2, 4, 3, batch=1)
    layer.build(x.shape)
    layer.context.norm.beta.assign([0.0, 1.0, 2.0, 3.0])
    outputs = compiled(lambda images: layer.context(images, training=True))(x)
    _assert_close(outputs, np.broadcast_to(np.float32([0, 1, 2, 3]), outputs.shape))


@few
@given(ranks, st.sampled_from([1, 3, 5, 7, 11]), st.integers(1, 3), st.integers(1, 20))
def test_depthwise_conv(rank: int, kernel_size: int, channels: int, side: int) -> None:
    x = _inputs(rank, side if rank == 2 else min(side, 6), channels)
    layer = layers.DepthwiseConv(kernel_size)
    layer.build(x.shape)
    layer.bias.assign(np.arange(channels, dtype="float32"))
    peer = plain_pytorch.conv(rank, channels, channels, kernel_size, groups=channels)
    kernel = np.moveaxis(ops.convert_to_numpy(layer.kernel), (-1, -2), (0, 1)).copy()
    peer.load_state_dict({"weight": torch.from_numpy(kernel), "bias": torch.arange(channels) * 1.0})
    _assert_close(layer(x), _from_torch(peer(_to_torch(x))))


@few
@given(ranks, st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.sampled_from([1, 3]))
def test_grouped_conv(rank: int, groups: int, inside: int, outside: int, kernel_size: int) -> None:
    x = _inputs(rank, 4, groups * inside)
    layer = layers.GroupedConv(groups * outside, kernel_size, groups=groups, use_bias=False)
    outputs = layer(x)
    peer = plain_pytorch.conv(
        rank, groups * inside, groups * outside, kernel_size, groups=groups, bias=False
    )
    kernel = np.moveaxis(ops.convert_to_numpy(layer.kernel), (-1, -2), (0, 1)).copy()
    peer.load_state_dict({"weight": torch.from_numpy(kernel)})
    _assert_close(outputs, _from_torch(peer(_to_torch(x))))


@few
@given(
    ranks,
    st.sampled_from([(2, 1), (3, 1), (1, 2), (1, 3)]),
    st.sampled_from([1, 3, 5]),
    st.integers(1, 7),
    st.integers(1, 2),
)
def test_strides_and_dilation_are_pytorchs(
    rank: int, spacing: tuple, kernel_size: int, side: int, groups: int
) -> None:
    strides, dilation = spacing
    arguments = {"strides": strides, "dilation": dilation, "bias_initializer": "ones"}
    x = _inputs(rank, side, 4)
    conv = torch.nn.functional.conv2d if rank == 2 else torch.nn.functional.conv3d
    for layer, number in (
        # TensorFlow has gradients of a volume's groups in compiled programs only.
        (layers.GroupedConv(6, kernel_size, groups if rank == 2 else 1, **arguments), groups),
        (layers.DepthwiseConv(kernel_size, **arguments), 4),
    ):
        number = number if rank == 2 or number == 4 else 1
        layer.build(x.shape)
        images = _to_torch(x).requires_grad_()
        kernel = np.moveaxis(ops.convert_to_numpy(layer.kernel), (-1, -2), (0, 1)).copy()
        weight = torch.from_numpy(kernel).requires_grad_()
        expected = 1 + conv(
            images,
            weight,
            stride=strides,
            padding=dilation * (kernel_size // 2),
            dilation=dilation,
            groups=number,
        )
        assert layer.compute_output_shape(x.shape) == _from_torch(expected).shape
        _assert_close(layer(x), _from_torch(expected))
        expected.square().sum().backward()
        (gradient,) = gradients(layer, x)
        _assert_close(gradient, _from_torch(images.grad), 1e-4)


def test_strided_convolution_by_hand() -> None:
    # Zeros on both sides, so that the first output sees one of them and the first two pixels.
    layer = layers.GroupedConv(1, 3, use_bias=False, kernel_initializer="ones", strides=2)
    x = np.arange(1, 17, dtype="float32").reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x))[0, :, :, 0], [[14, 30], [57, 99]])


def test_volumes_shallower_than_the_kernel_train_in_bfloat16() -> None:
    # TensorFlow's and PyTorch's own gradients of this are NaN every second time.
    model = keras.Sequential(
        [keras.Input((2, 2, 2, 16)), layers.GroupedConv(16, 3, dtype="mixed_bfloat16")]
    )
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    x = np.random.default_rng(0).standard_normal((2, 2, 2, 2, 16))
    for _ in range(20):
        model.train_on_batch(x, x)
    assert all(np.isfinite(weights).all() for weights in model.get_weights())


@few
@given(ranks, st.integers(1, 5), st.integers(1, 3))
def test_linear_upsampling(rank: int, side: int, channels: int) -> None:
    x = _inputs(rank, side, channels)
    mode = "bilinear" if rank == 2 else "trilinear"
    expected = _from_torch(torch.nn.functional.interpolate(_to_torch(x), scale_factor=2, mode=mode))
    _assert_close(layers.LinearUpsampling()(x), expected)


@few
@given(st.integers(1, 6), st.sampled_from([1, 2, 3, 8]), st.booleans())
def test_interpolation_by_any_factor_is_pytorchs(side: int, factor: int, aligned: bool) -> None:
    for layer_class, mode, rank in (
        (layers.LinearUpsampling, "bilinear", 2),
        (layers.LinearUpsampling, "trilinear", 3),
        (layers.CubicUpsampling, "bicubic", 2),
    ):
        x = _inputs(rank, side, 2)
        images = _to_torch(x).requires_grad_()
        expected = torch.nn.functional.interpolate(
            images, scale_factor=factor, mode=mode, align_corners=aligned
        )
        layer = layer_class(factor, aligned)
        _assert_close(layer(x), _from_torch(expected))
        expected.square().sum().backward()
        _assert_close(gradients(layer, x)[0], _from_torch(images.grad), 1e-4)


def test_cubic_upsampling_by_hand() -> None:
    x = np.float32([0, 0, 1, 0, 0]).reshape(1, 1, 5, 1)
    outputs = ops.convert_to_numpy(layers.CubicUpsampling()(x))
    far, near, middle, last = -0.10546875, 0.87890625, 0.26171875, -0.03515625
    expected = [0, last, far, middle, near, near, middle, far, last, 0]
    np.testing.assert_allclose(outputs[0, :, :, 0], [expected, expected], atol=1e-7)
    volume = ops.convert_to_numpy(layers.CubicUpsampling()(x[:, None]))
    np.testing.assert_allclose(volume, np.tile(outputs[:, None], (1, 2, 1, 1, 1)), atol=1e-7)


@pytest.mark.parametrize("aligned", [False, True])
def test_sides_may_be_known_to_the_graph_only(aligned: bool) -> None:
    x = _inputs(2, 4, 3)
    image = keras.Input((None, None, 3))
    model = keras.Model(image, layers.CubicUpsampling(2, aligned)(image))
    assert model.output_shape == (None, None, None, 3)
    expected = ops.convert_to_numpy(layers.CubicUpsampling(2, aligned)(x))
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=1e-6)


@few
@given(ranks, st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_nearest_upsampling_and_transposed_convolution_are_pytorchs(
    rank: int, side: int, channels: int, filters: int
) -> None:
    x = _inputs(rank, side, channels)
    repeated = torch.nn.functional.interpolate(_to_torch(x), scale_factor=2, mode="nearest")
    np.testing.assert_array_equal(
        ops.convert_to_numpy(layers.NearestUpsampling()(x)), _from_torch(repeated)
    )
    layer = layers.TransposedConv(filters)
    outputs = layer(x)
    kernel = np.moveaxis(ops.convert_to_numpy(layer.kernel), (-1, -2), (0, 1)).copy()
    conv_transpose = getattr(torch.nn.functional, f"conv_transpose{rank}d")
    expected = conv_transpose(_to_torch(x), torch.from_numpy(kernel), stride=2)
    _assert_close(outputs, _from_torch(expected))


@few
@given(ranks, st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_transposed_convolutions_of_odd_kernels_are_pytorchs(
    rank: int, side: int, channels: int, filters: int, strides: int
) -> None:
    x = _inputs(rank, side, channels)
    conv_transpose = getattr(torch.nn.functional, f"conv_transpose{rank}d")
    for layer, options in (
        (
            layers.TransposedDepthwiseConv("normal"),
            {"stride": 2, "padding": 1, "groups": channels},
        ),
        (layers.TransposedPointwiseConv(filters, strides, "normal"), {"stride": strides}),
    ):
        outputs = layer(x)
        kernel, bias = (ops.convert_to_numpy(weight) for weight in layer.weights)
        kernel = torch.from_numpy(np.moveaxis(kernel, (-1, -2), (0, 1)).copy())
        expected = conv_transpose(_to_torch(x), kernel, torch.from_numpy(bias.copy()), **options)
        _assert_close(outputs, _from_torch(expected))
        assert layer.compute_output_shape(x.shape) == tuple(outputs.shape)


@few
@given(ranks, st.integers(1, 4), st.integers(1, 3), st.integers(1, 2))
def test_unfold_gathers_positions_and_fold_puts_them_back(
    rank: int, half: int, channels: int, batch: int
) -> None:
    x = _inputs(rank, 2 * half, channels, batch)
    sequences = layers.PatchUnfold()(x)
    expected = plain_pytorch.unfold_patches(_to_torch(x)).numpy()  # batch, position, token, channel
    expected = np.moveaxis(expected, 1, 0).reshape(-1, *expected.shape[2:])
    np.testing.assert_array_equal(ops.convert_to_numpy(sequences), expected)
    np.testing.assert_array_equal(ops.convert_to_numpy(layers.PatchFold()(sequences, x)), x)


@pytest.mark.parametrize("axis", [1, 2])
def test_axial_shift_by_hand(axis: int) -> None:
    # Parts of 2, 2, 2 and 1 channels; the last of five has none.
    row = np.arange(1, 5, dtype="float32")
    moved = [[3, 4, 0, 0], [2, 3, 4, 0], [1, 2, 3, 4], [0, 1, 2, 3]]
    images = np.tile(row.reshape((1, -1, 1, 1) if axis == 1 else (1, 1, -1, 1)), (1, 1, 1, 7))
    outputs = ops.convert_to_numpy(layers.AxialShift(axis)(images))
    for channel, number in enumerate((0, 0, 1, 1, 2, 2, 3)):
        np.testing.assert_array_equal(outputs[..., channel].ravel(), moved[number])


@pytest.mark.parametrize(("rank", "axis", "positions"), [(2, 1, True), (2, 2, False), (3, 2, True)])
def test_axial_attention_equals_plain_pytorch(rank: int, axis: int, positions: bool) -> None:
    x = _inputs(rank, 3, 8)
    layer = layers.AxialAttention(axis, num_heads=2, positions=positions)
    peer = twins.AxialAttention(axis, x.shape[axis], 8, 2, positions)
    _assert_equals_peer(layer, peer, x)

    # In training as well, of which each score's statistics are taken without the scores.
    images = _to_torch(x).requires_grad_()
    factors = np.random.default_rng(1).random(x.shape, "float32")  # of squares alone there is none
    peer.zero_grad()
    expected = peer.train()(images) * _to_torch(factors)
    expected.square().sum().backward()
    variables = dict(named_variables(layer))
    trainable = {id(variable): name for name, variable in variables.items() if variable.trainable}

    def weighted(images, *values):
        outputs, _ = layer.stateless_call(values, others, images, training=True)
        return ops.multiply(outputs, factors)

    weights, others = (
        [ops.convert_to_numpy(variable) for variable in group]
        for group in (layer.trainable_variables, layer.non_trainable_variables)
    )
    names = [trainable[id(variable)] for variable in layer.trainable_variables]
    received = gradients(weighted, x, *weights)
    _assert_close(received[0], _from_torch(images.grad), 1e-3)
    parameters = dict(peer.named_parameters())
    for name, variable, gradient in zip(
        names, layer.trainable_variables, received[1:], strict=True
    ):
        wanted = parameters[name].grad.numpy()
        wanted = np.transpose(wanted, np.argsort(torch_weights._torch_axes(variable)))
        _assert_close(gradient, wanted, 1e-3)
    outputs = compiled(lambda *values: weighted(*values))(x, *weights)
    _assert_close(outputs, _from_torch(expected), 1e-4)
    layer(x, training=True)
    for name, buffer in peer.named_buffers():
        if name.endswith("running_mean"):
            _assert_close(variables[name], buffer.numpy())


@pytest.mark.parametrize(("kernel_size", "padding"), [(2, 0), (3, 1), (5, 2)])
@pytest.mark.parametrize("rank", [2, 3])
def test_max_pooling(rank: int, kernel_size: int, padding: int) -> None:
    x = _inputs(rank, 4, 2) - 5  # less than the zeros that are not around the border
    pool = torch.nn.functional.max_pool2d if rank == 2 else torch.nn.functional.max_pool3d
    outputs = ops.convert_to_numpy(layers.MaxPooling(kernel_size)(x))
    np.testing.assert_array_equal(outputs, _from_torch(pool(_to_torch(x), kernel_size, 2, padding)))


@pytest.mark.parametrize("joined", [None, "key_value", "query_key_value"])
@pytest.mark.parametrize("use_bias", [True, False])
def test_multi_head_attention_equals_plain_pytorch(joined: str | None, use_bias: bool) -> None:
    x, source = (
        np.random.default_rng(0).standard_normal((2, length, 6)).astype("float32")
        for length in (5, 4)
    )
    layer = layers.MultiHeadAttention(3, joined, use_bias, bias_initializer="random_normal")
    tensors = [torch.from_numpy(x).requires_grad_()]
    if joined == "query_key_value":
        layer.build(x.shape)
    else:
        layer.build(x.shape, source.shape)
        tensors.append(torch.from_numpy(source).requires_grad_())
    assert len(layer.projections) == {None: 3, "key_value": 2, "query_key_value": 1}[joined]
    peer = torch.nn.MultiheadAttention(6, 3, batch_first=True)
    kernels, biases, (kernel, bias) = (
        [ops.convert_to_numpy(dense.kernel) for dense in layer.projections],
        [ops.convert_to_numpy(dense.bias) for dense in layer.projections if use_bias],
        map(ops.convert_to_numpy, (layer.project.kernel, layer.project.bias)),
    )
    state_dict = {
        "in_proj_weight": np.concatenate(kernels, axis=1).T,
        "in_proj_bias": np.concatenate(biases) if use_bias else np.zeros(18),
        "out_proj.weight": kernel.T,
        "out_proj.bias": bias,
    }
    peer.load_state_dict({name: torch.tensor(array) for name, array in state_dict.items()})
    expected, _ = peer(tensors[0], tensors[-1], tensors[-1])
    arrays = [tensor.detach().numpy() for tensor in tensors]
    _assert_close(layer(*arrays), expected.detach().numpy())
    expected.square().sum().backward()
    for gradient, tensor in zip(gradients(layer, *arrays), tensors, strict=True):
        _assert_close(gradient, tensor.grad.numpy())


def test_heads_attend_over_all_pixels() -> None:
    x = _inputs(3, 2, 4)
    layer = layers.MultiHeadAttention(2)
    outputs = ops.convert_to_numpy(layer(x))
    tokens = ops.convert_to_numpy(layer(x.reshape(2, -1, 4)))
    np.testing.assert_allclose(outputs, tokens.reshape(x.shape), atol=1e-6)


def test_dense_layers_of_the_attention_start_apart() -> None:
    layer = layers.MultiHeadAttention(
        2, kernel_initializer="glorot_uniform", bias_initializer=initializers.FanInUniform()
    )
    layer.build((None, 5, 16))
    dense = [*layer.projections, layer.project]
    for name, limit in (("kernel", np.sqrt(6 / 32)), ("bias", 1 / 4)):
        arrays = [ops.convert_to_numpy(getattr(part, name)) for part in dense]
        for number, array in enumerate(arrays):
            assert 0.8 * limit < np.abs(array).max() < limit
            assert not any(np.any(array == other) for other in arrays[:number])


@pytest.mark.parametrize(
    ("sides", "window", "shift"),
    [
        ((6, 4), 2, 0),
        ((6, 4), 2, 1),
        ((8, 5), 4, 1),
        ((3, 7), 3, 2),
        ((4, 6, 5), 4, 2),
        ((2, 3), 1, 0),
    ],
)
def test_window_attention_equals_plain_pytorch(
    sides: tuple[int, ...], window: int, shift: int
) -> None:
    layer = layers.WindowAttention(2, window, shift)
    x = np.random.default_rng(0).standard_normal((2, *sides, 4)).astype("float32")
    _assert_equals_peer(layer, twins.WindowAttention(sides, 4, 2, window, shift), x)


def test_window_masks_by_hand() -> None:
    layer = layers.WindowAttention(1, 2, shift=1)
    # Of four pixels along each axis, the last two windows hold pixels of both ends.
    first, across, down, both = -layer.tiling((1, 4, 4, 1)).mask() // 100
    np.testing.assert_array_equal(first, np.zeros((4, 4)))
    np.testing.assert_array_equal(across, [[0, 1, 0, 1], [1, 0, 1, 0]] * 2)
    np.testing.assert_array_equal(down, np.kron([[0, 1], [1, 0]], np.ones((2, 2))))
    np.testing.assert_array_equal(both, 1 - np.eye(4))
    assert layer.tiling((1, 2, 2, 1)).mask() is None
    layer.build((None, 4, 4, 1))
    expected = [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]
    np.testing.assert_array_equal(layer.position_index, expected)


class _PlainPatches(torch.nn.Module):
    """Merges patches of 2 pixels along each axis, the first axis fastest; or makes them."""

    def __init__(self, rank: int, channels: int, filters: int, factor: int | None) -> None:
        super().__init__()
        self.rank, self.factor = rank, factor
        if factor is None:
            width = 2**rank * channels
            self.norm = torch.nn.LayerNorm(width)
            self.reduction = torch.nn.Linear(width, filters, bias=False)
        else:
            self.expand = torch.nn.Linear(channels, factor**rank * filters, bias=False)
            self.norm = torch.nn.LayerNorm(filters)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        factor, rank = self.factor or 2, self.rank
        x = images.movedim(1, -1)
        if self.factor is None:
            for axis in range(rank):
                x = x.unflatten(1 + 2 * axis, (-1, 2))
            pixels = [2 + 2 * axis for axis in reversed(range(rank))]
            x = x.permute(0, *(1 + 2 * axis for axis in range(rank)), *pixels, -1)
            return self.reduction(self.norm(x.flatten(1 + rank))).movedim(-1, 1)
        x = self.expand(x).unflatten(-1, (*[factor] * rank, -1))
        axes = [axis for side in range(1, 1 + rank) for axis in (side, side + rank)]
        x = x.permute(0, *axes, -1)
        for axis in range(1, 1 + rank):
            x = x.flatten(axis, axis + 1)
        return self.norm(x).movedim(-1, 1)


@pytest.mark.parametrize("factor", [None, 2, 3])
@pytest.mark.parametrize("rank", [2, 3])
def test_patches_are_merged_and_expanded_as_by_plain_pytorch(rank: int, factor: int | None) -> None:
    layer = layers.PatchMerging(5) if factor is None else layers.PatchExpansion(5, factor)
    _assert_equals_peer(layer, _PlainPatches(rank, 4, 5, factor), _inputs(rank, 2, 4))


def test_patches_are_merged_in_a_given_order() -> None:
    x = np.arange(1, 5, dtype="float32").reshape(1, 2, 2, 1)
    layer = layers.PatchMerging(4, [(1, 1), (0, 1), (0, 1), (0, 0)])
    layer.build(x.shape)
    layer.reduction.kernel.assign(np.eye(4))
    expected = np.float32([4, 2, 2, 1])
    expected = (expected - expected.mean()) / expected.std()
    _assert_close(layer(x)[0, 0, 0], expected)


@pytest.mark.parametrize("rank", [2, 3])
def test_patch_embedding_is_a_convolution(rank: int) -> None:
    conv = torch.nn.Conv2d if rank == 2 else torch.nn.Conv3d
    _assert_equals_peer(layers.PatchEmbedding(5, 2), conv(3, 5, 2, 2), _inputs(rank, 4, 3))


@pytest.mark.parametrize("rank", [2, 3])
def test_a_flat_kernel_is_that_of_a_dense_layer_of_patches(rank: int) -> None:
    x = _inputs(rank, 4, 3)
    layer, flat = layers.PatchEmbedding(5, 2), layers.PatchEmbedding(5, 2, flat_kernel=True)
    expected = layer(x)
    flat.build(x.shape)
    assert flat.kernel.shape == (2**rank * 3, 5)
    kernel, bias = layer.get_weights()
    flat.set_weights([kernel.reshape(flat.kernel.shape), bias])
    _assert_close(flat(x), ops.convert_to_numpy(expected), 1e-6)
    pixels = np.stack([x[(0, *place)] for place in np.ndindex(*(2,) * rank)])  # the first patch
    _assert_close(flat(x)[(0,) * (rank + 1)], pixels.ravel() @ flat.get_weights()[0] + bias)


class _PlainChannelwise(torch.nn.Module):
    def __init__(self, rank: int, channels: int, factor: int) -> None:
        super().__init__()
        conv = torch.nn.Conv2d if rank == 2 else torch.nn.Conv3d
        self.pwconv1 = conv(channels, factor * channels, 1, groups=channels)
        self.pwconv2 = conv(factor * channels, channels, 1, groups=channels)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.pwconv2(torch.nn.functional.gelu(self.pwconv1(images)))


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("factor", [1, 4])
def test_channelwise_feed_forward_equals_plain_pytorch(rank: int, factor: int) -> None:
    peer = _PlainChannelwise(rank, 3, factor)
    layer = layers.ChannelwiseFeedForward(factor)
    _assert_equals_peer(layer, peer, _inputs(rank, 3, 3))
    fresh = layers.ChannelwiseFeedForward(4)
    fresh.build((None, *[4] * rank, 500))
    limits = [np.abs(weight).max() for weight in fresh.get_weights()]
    np.testing.assert_allclose(limits, [1, 1, 0.5, 0.5], rtol=0.02)  # 1 / √fan_in


@pytest.mark.parametrize("rank", [2, 3])
def test_positions_are_added_row_by_row(rank: int) -> None:
    x = _inputs(rank, 2, 3)
    layer = layers.PositionEmbedding()
    _assert_close(layer(x), x)  # as long as nothing is learned
    table = np.arange(x[:1].size, dtype="float32").reshape(1, -1, 3)
    layer.set_weights([table])
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x)), x + table.reshape(x[:1].shape))


@pytest.mark.parametrize("rank", [2, 3])
def test_standardized_convolution_equals_plain_pytorch(rank: int) -> None:
    x = _inputs(rank, 4, 3)
    layer = layers.StandardizedConv(5, 3, strides=2, bias_initializer="random_normal")
    layer.build(x.shape)
    kernel, bias = (ops.convert_to_numpy(weight) for weight in (layer.kernel, layer.bias))
    images = _to_torch(x).requires_grad_()
    weight = torch.from_numpy(np.moveaxis(kernel, (-1, -2), (0, 1)).copy())
    axes = tuple(range(1, rank + 2))
    variance, mean = torch.var_mean(weight, dim=axes, keepdim=True, unbiased=False)
    standardized = (weight - mean) / torch.sqrt(variance + 1e-5)
    conv = torch.nn.functional.conv2d if rank == 2 else torch.nn.functional.conv3d
    expected = conv(images, standardized, torch.from_numpy(bias), stride=2, padding=1)
    _assert_close(layer(x), _from_torch(expected))
    expected.square().sum().backward()
    _assert_close(gradients(layer, x)[0], _from_torch(images.grad), 1e-4)


@pytest.mark.parametrize("rank", [2, 3])
def test_squeeze_excitation_equals_plain_pytorch(rank: int) -> None:
    x = _inputs(rank, 3, 4)
    layer = layers.SqueezeExcitation(2, bias_initializer=initializers.FanInUniform())
    layer.build(x.shape)
    images = _to_torch(x).requires_grad_()
    weights = [
        torch.from_numpy(np.moveaxis(ops.convert_to_numpy(weight), (-1, -2), (0, 1)).copy())
        if len(weight.shape) > 1
        else torch.from_numpy(ops.convert_to_numpy(weight).copy())
        for weight in layer.weights
    ]
    conv = torch.nn.functional.conv2d if rank == 2 else torch.nn.functional.conv3d
    means = images.mean(dim=tuple(range(2, rank + 2)), keepdim=True)
    reduced = conv(means, *weights[:2]).relu()
    expected = images * conv(reduced, *weights[2:]).sigmoid()
    _assert_close(layer(x), _from_torch(expected))
    expected.square().sum().backward()
    _assert_close(gradients(layer, x)[0], _from_torch(images.grad))


@pytest.mark.parametrize("rank", [2, 3])
def test_global_response_normalization_equals_plain_pytorch(rank: int) -> None:
    x = _inputs(rank, 3, 4)
    x[..., 1] = 0  # a channel that does not respond, where the root has no finite gradient
    layer = layers.GlobalResponseNormalization()
    _assert_close(layer(x), x)  # as long as nothing is learned
    gamma, beta = np.random.default_rng(1).random((2, 4), "float32")
    layer.set_weights([weight.reshape((1,) * (rank + 1) + (4,)) for weight in (gamma, beta)])
    images = torch.from_numpy(x).requires_grad_()
    responses = torch.linalg.vector_norm(images, dim=tuple(range(1, rank + 1)), keepdim=True)
    relative = responses / (responses.mean(dim=-1, keepdim=True) + 1e-6)
    expected = (torch.from_numpy(gamma) * relative + 1) * images + torch.from_numpy(beta)
    _assert_close(layer(x), expected.detach().numpy())
    expected.square().sum().backward()
    _assert_close(gradients(layer, x)[0], images.grad.numpy())


def test_sums_over_large_float16_images_do_not_overflow() -> None:
    x = 100 * np.ones((1, 256, 256, 4), "float16")
    norm = layers.GlobalResponseNormalization(dtype="float16")
    norm.build(x.shape)
    norm.set_weights([np.ones((1, 1, 1, 4)), np.zeros((1, 1, 1, 4))])
    np.testing.assert_array_equal(ops.convert_to_numpy(norm(x)), 2 * x)
    squeeze = layers.SqueezeExcitation(4, dtype="float16")
    squeeze.build(x.shape)
    squeeze.set_weights([np.eye(4)[None, None], np.zeros(4)] * 2)
    # Of a mean of 100 the sigmoid is 1.
    np.testing.assert_array_equal(ops.convert_to_numpy(squeeze(x)), x)


def test_layer_scale_by_hand() -> None:
    layer = layers.LayerScale(0.5)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(np.ones((1, 2, 2, 3)))), 0.5)
    layer.set_weights([np.float32([1, 2, 3])])
    outputs = ops.convert_to_numpy(layer(np.ones((1, 2, 2, 2, 3))))
    np.testing.assert_array_equal(outputs, np.tile(np.float32([1, 2, 3]), (1, 2, 2, 2, 1)))


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize(
    ("branches", "identity"), [([(5, 1), (3, 2), (3, 1)], False), ([(3, 1), (1, 1)], True)]
)
def test_parallel_depthwise_convolutions_equal_plain_pytorch(
    branches: list, identity: bool, rank: int
) -> None:
    x = _inputs(rank, 4, 3)
    layer = layers.ParallelDepthwiseConv(branches, identity)
    layer.build(x.shape)
    generator = np.random.default_rng(1)
    conv = torch.nn.functional.conv2d if rank == 2 else torch.nn.functional.conv3d
    images = _to_torch(x).requires_grad_()
    for training in (True, False):  # in training first, which moves the statistics
        expected = images if identity else 0
        parts = zip(branches, layer.convolutions, layer.norms, strict=True)
        for (size, dilation), convolution, norm in parts:
            if training:
                norm.set_weights([0.5 + generator.random(3) for _ in range(4)])
            kernel = np.moveaxis(ops.convert_to_numpy(convolution.kernel), (-1, -2), (0, 1))
            padding = dilation * (size // 2)
            y = conv(images, torch.tensor(kernel), None, 1, padding, dilation, groups=3)
            gamma, beta, mean, variance = map(torch.tensor, norm.get_weights())
            statistics = (None, None) if training else (mean, variance)
            expected = expected + torch.nn.functional.batch_norm(
                y, *statistics, gamma, beta, training, eps=1e-5
            )
        _assert_close(layer(x, training=training), _from_torch(expected))
    expected.square().sum().backward()
    (gradient,) = gradients(lambda images: layer(images, training=False), x)
    _assert_close(gradient, _from_torch(images.grad), 1e-4)


@pytest.mark.parametrize("groups", [1, 2, 6, -1])
def test_group_normalization(groups: int) -> None:
    x = 5 + 3 * _inputs(3, 4, 6)
    norm = torch.nn.GroupNorm(6 if groups == -1 else groups, 6)
    expected = _from_torch(norm(_to_torch(x)))
    _assert_close(layers.GroupNormalization(groups)(x), expected)
    _assert_close(layers.GroupNormalization(groups, center=False, scale=False)(x), expected)


@pytest.mark.parametrize(("center", "scale"), [(True, False), (False, True)])
def test_group_normalization_with_an_offset_or_a_scale_only(center: bool, scale: bool) -> None:
    x = 5 + 3 * _inputs(2, 4, 6)
    weights = np.arange(1, 7, dtype="float32")
    layer = layers.GroupNormalization(3, center=center, scale=scale)
    layer.build(x.shape)
    layer.set_weights([weights])
    normalized = _from_torch(torch.nn.functional.group_norm(_to_torch(x), 3))
    expected = normalized * (weights if scale else 1) + (weights if center else 0)
    for training in (False, True):
        _assert_close(layer(x, training=training), expected)


@pytest.mark.parametrize("groups", [1, 2, 6, -1])
def test_group_normalization_has_pytorchs_gradient(groups: int) -> None:
    x = 5 + 3 * _inputs(2, 4, 6)
    weights = 1 + np.random.default_rng(1).random((2, 6), "float32")
    weight, bias = map(torch.tensor, weights)
    images = _to_torch(x).requires_grad_()
    number = 6 if groups == -1 else groups
    normalized = torch.nn.functional.group_norm(images, number, weight, bias)
    normalized.square().sum().backward()
    layer = layers.GroupNormalization(groups)
    layer.build(x.shape)
    layer.set_weights(list(weights))
    _assert_close(layer(x, training=True), _from_torch(normalized))
    (gradient,) = gradients(lambda images: layer(images, training=True), x)
    _assert_close(gradient, _from_torch(images.grad))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # PyTorch's
def test_pytorch_compiles_group_normalization_whole() -> None:
    if keras.backend.backend() != "torch":
        return
    x = _inputs(3, 4, 8)
    layer = layers.GroupNormalization(4)
    layer.build(x.shape)
    step = torch.compile(lambda x: layer(x, training=True), fullgraph=True, backend="aot_eager")
    expected = gradients(lambda images: layer(images, training=True), x)
    _assert_close(gradients(step, x)[0], expected[0])


@pytest.mark.parametrize("kind", ["instance", "batch"])
def test_what_is_recomputed_is_not_kept_for_the_gradient(kind: str) -> None:
    """Of blocks on JAX, whose kept tensors can be seen; a block's weights count, too."""
    if keras.backend.backend() != "jax":
        assert choose_recomputation(3)(ops.gelu) is ops.gelu
        return
    import jax

    x = _inputs(3, 8, 4, batch=1)
    layer = layers.ConvNormActivation(4, 1, normalization=kind)
    layer.build(x.shape)
    variables = [v.value for v in layer.trainable_variables]
    others = [v.value for v in layer.non_trainable_variables]

    def call(images: jax.Array) -> jax.Array:
        return layer.stateless_call(variables, others, images, training=True)[0]

    kept = sum(tensor.size for tensor in jax.tree.leaves(jax.vjp(call, x)[1]))
    # The convolution keeps its input and its kernel, what follows it the convolution's output.
    least = 2 * x.size
    assert kept < least + 100 if kind == "instance" else kept > 2 * least


def test_xla_recomputes_no_sooner_than_the_gradient_needs_it() -> None:
    """The buffers of a chain of activations, which XLA's CPU compiler likes to make early."""
    if keras.backend.backend() != "jax":
        return
    import jax

    def buffers(activation: Callable) -> int:
        def chain(x: jax.Array, kernels: list[jax.Array]) -> jax.Array:
            for kernel in kernels:
                x = activation(x @ kernel)
            return x.sum()

        x, kernels = np.ones((2**14, 8), "float32"), [np.ones((8, 8), "float32")] * 8
        compiled = jax.jit(jax.grad(chain, argnums=1)).lower(x, kernels).compile()
        return compiled.memory_analysis().temp_size_in_bytes / x.nbytes

    def activation(x: jax.Array) -> jax.Array:
        return ops.tanh(ops.gelu(x, approximate=False))

    assert buffers(choose_recomputation(3)(activation)) < 0.7 * buffers(activation)


@pytest.mark.parametrize("rank", [2, 3])
def test_batch_normalization_trains_as_pytorchs_does(rank: int) -> None:
    x = 3 + 2 * _inputs(rank, 4, 3)
    peer = (torch.nn.BatchNorm2d if rank == 2 else torch.nn.BatchNorm3d)(3)
    expected = _from_torch(peer.train()(_to_torch(x)))
    layer = normalization.BatchNormalization()
    _assert_close(layer(x, training=True), expected)
    _assert_close(layer.moving_mean, peer.running_mean.numpy())
    pixels = x.size // 3  # PyTorch corrects the variance it keeps
    kept = 0.9 + (peer.running_var.numpy() - 0.9) * (pixels - 1) / pixels
    _assert_close(layer.moving_variance, kept)


@pytest.mark.parametrize("axis", [-1, 1])
def test_ghost_batch_normalization_is_as_many_calls_in_a_row(axis: int) -> None:
    parts = 16
    x = np.concatenate([0.1 * number + _inputs(2, 2, 4) for number in range(parts)])
    layer = layers.GhostBatchNormalization(parts, axis=axis)
    in_a_row = normalization.BatchNormalization(axis=axis)
    for norm in (layer, in_a_row):
        norm.build(x.shape)
        norm.set_weights(
            [0.5 + number + weight for number, weight in enumerate(norm.get_weights())]
        )

    def call_in_a_row(x):
        return ops.concatenate([in_a_row(part, training=True) for part in ops.split(x, parts)])

    def call(x):
        return layer(x, training=True)

    _assert_close(call(x), ops.convert_to_numpy(call_in_a_row(x)))
    for name in ("moving_mean", "moving_variance"):
        expected = ops.convert_to_numpy(getattr(in_a_row, name))
        _assert_close(getattr(layer, name), expected)
    _assert_close(layer(x), ops.convert_to_numpy(in_a_row(x)))
    layer.trainable = False
    _assert_close(call(x), ops.convert_to_numpy(layer(x)))


def test_ghost_batch_normalization_trains_in_float64_and_refuses_a_remainder() -> None:
    # JAX has float64 only where it was told to from the start.
    dtype = "float32" if keras.backend.backend() == "jax" else "float64"
    layer = layers.GhostBatchNormalization(2, dtype=dtype)
    outputs = layer(np.ones((4, 2, 2, 3), dtype), training=True)
    assert keras.backend.standardize_dtype(outputs.dtype) == dtype
    assert np.isfinite(ops.convert_to_numpy(outputs)).all()
    with pytest.raises(ValueError, match=r"2 equal parts.*a batch of 3"):
        layer(np.ones((3, 2, 2, 3)), training=True)


def test_group_normalization_of_large_float16_images_does_not_overflow() -> None:
    x = 100 * np.ones((1, 256, 256, 4), "float16")
    x[:, :128] *= -1
    outputs = ops.convert_to_numpy(layers.GroupNormalization(2, dtype="float16")(x))
    np.testing.assert_array_equal(outputs, np.sign(x))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("rank", [2, 3])
def test_blocks_compute_in_half_precision(policy: str, rank: int) -> None:
    x = _inputs(rank, 4, 4)
    for layer in (
        layers.AtrousPyramidPooling(4, (1, 9), dtype=policy),
        layers.LMSBlock((3, 5), dtype=policy),
        layers.GMSBlock(4, dtype=policy),
        layers.MultiHeadAttention(2, dtype=policy),
        layers.WindowAttention(2, 2, 1, dtype=policy),
        layers.PatchEmbedding(4, 2, dtype=policy),
        layers.ChannelwiseFeedForward(dtype=policy),
        layers.PatchMerging(4, dtype=policy),
        layers.PatchExpansion(4, dtype=policy),
        layers.FusionBlock(4, dtype=policy),
        layers.AxialAttention(1, 2, dtype=policy),
        layers.ParallelDepthwiseConv([(5, 1), (3, 2)], identity=True, dtype=policy),
        layers.SqueezeExcitation(2, dtype=policy),
        layers.GlobalResponseNormalization(dtype=policy),
        layers.LayerScale(dtype=policy),
        layers.StandardizedConv(4, 3, dtype=policy),
    ):
        layer.build(x.shape)
        outputs = compiled(layer)(x)
        assert keras.backend.standardize_dtype(outputs.dtype) == policy.removeprefix("mixed_")
        assert np.isfinite(ops.convert_to_numpy(ops.cast(outputs, "float32"))).all()


@pytest.mark.parametrize(
    "layer",
    [
        layers.AtrousPyramidPooling(4, (1, 9), dropout=0.1),
        layers.AxialShift(2),
        layers.ConvNormActivation(4, 3, "relu", use_bias=True, normalization="instance"),
        layers.DepthwiseConv(5, use_bias=False),
        layers.DepthwiseResidual(),
        layers.FusionBlock(4, normalization="batch"),
        layers.GMSBlock(4, transformer_ratio=0.5),
        layers.GroupedConv(4, 3, groups=2),
        layers.GroupedConv(4, 3, strides=2),
        layers.DepthwiseConv(3, dilation=2),
        layers.ConvNormActivation(4, 3, strides=2),
        layers.GlobalResponseNormalization(1e-5),
        layers.GroupNormalization(2, center=False, scale=False),
        layers.LayerScale(0.1),
        layers.ParallelDepthwiseConv([(5, 1), (3, 2)], identity=True),
        layers.SqueezeExcitation(2, bias_initializer="ones", kernel_initializer="he_normal"),
        layers.LMSBlock((3, 5), activation="silu", bias_initializer="random_normal"),
        layers.LinearUpsampling(),
        layers.LinearUpsampling(3, align_corners=True),
        layers.CubicUpsampling(3),
        layers.MaxPooling(),
        layers.MaxPooling(3),
        layers.MultiHeadAttention(2, "key_value", False, "he_normal", initializers.FanInUniform()),
        layers.NearestUpsampling(),
        layers.PositionEmbedding("random_normal"),
        layers.ResidualBlock(4),
        layers.ResidualBlock(6, strides=2, normalization="batch", activation="silu"),
        layers.ResidualBlock(4, strides=2, bottleneck=2),
        layers.SparseTransformer(8),
        layers.StandardizedConv(6, 3, groups=2, epsilon=1e-3),
        layers.ThreeOrderMamba(2, states=3),
        layers.TransposedConv(3),
        layers.TransposedDepthwiseConv(initializers.FanInUniform(), "he_normal"),
        layers.TransposedPointwiseConv(3, 2, "ones", "he_normal"),
        layers.WindowAttention(2, 4, 1, "he_normal", initializers.FanInUniform()),
        layers.ChannelwiseFeedForward(3),
        layers.PatchEmbedding(3, 2, "he_normal", initializers.FanInUniform(), flat_kernel=True),
        layers.PatchMerging(3, kernel_initializer="he_normal"),
        layers.PatchExpansion(3, 3, "he_normal"),
        layers.GMSBlock(4, feed_forward_dim=3, bias_initializer=initializers.FanInUniform()),
        layers.GroupedConv(4, 3, bias_initializer=initializers.FanInUniform(seed=1, fan_in=9)),
        layers.ConvNormActivation(4, 3, use_bias=True, bias_initializer="ones"),
        layers.ConvNormActivation(4, 3, kernel_initializer="he_normal"),
        layers.FusionBlock(4, bias_initializer=initializers.FanInUniform()),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_config_round_trip_and_output_shape(layer: keras.layers.Layer) -> None:
    for rank in (2, 3):
        x = _inputs(rank, 4, 4)
        copy = type(layer).from_config(layer.get_config())
        assert copy.get_config() == layer.get_config()
        outputs = copy(x)
        assert tuple(outputs.shape) == copy.compute_output_shape(x.shape)
        twin = type(layer).from_config(layer.get_config())
        twin.build(x.shape)
        twin.set_weights(copy.get_weights())
        _assert_close(twin(x), ops.convert_to_numpy(outputs), 1e-6)


@pytest.mark.parametrize("affine", [True, False])
def test_configs_of_version_0_1_are_read(affine: bool) -> None:
    norm = layers.GroupNormalization.from_config({"groups": 2, "affine": affine, "epsilon": 0.1})
    assert (norm.groups, norm.center, norm.scale, norm.epsilon) == (2, affine, affine, 0.1)
    upsampling = layers.LinearUpsampling.from_config({"name": "up", "factor": 2})
    assert upsampling.name == "up"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: layers.LMSBlock((3, 4)), "must be odd.*kernel_sizes=4"),
        (lambda: layers.LMSBlock(()), "at least one size"),
        (lambda: layers.LMSBlock(activation="gelo"), "such as 'gelu'.*activation='gelo'"),
        (lambda: layers.LMSBlock((3, 5)).build((1, 8, 8, 5)), "divisible by the 2 kernel sizes"),
        (lambda: layers.GMSBlock(0), "positive integer.*filters=0"),
        (lambda: layers.GMSBlock(8, 1.5), "from 0 to 1.*transformer_ratio=1.5"),
        (lambda: layers.GMSBlock(8).build((1, 7, 8, 4)), "all must be even"),
        (lambda: layers.GMSBlock(8, normalization="layer"), "'batch', 'instance' or None"),
        (lambda: layers.FusionBlock(8).build((1, 8, 8, 3)), "must be even.*8, 8, 3"),
        (lambda: layers.FusionBlock(8, normalization="x"), "normalization='x'"),
        (lambda: layers.GroupedConv(3, 3, groups=2), "filters=3, groups=2"),
        (lambda: layers.GroupedConv(4, 3, groups=2).build((1, 8, 8, 3)), "groups must divide"),
        (lambda: layers.GroupNormalization(3).build((1, 8, 8, 4)), "groups must divide"),
        (lambda: layers.AtrousPyramidPooling(4, (6, 0)), "positive integer.*dilations=0"),
        (lambda: layers.AxialShift(3).build((1, 8, 8, 4)), "from 1 to 2.*axis=3"),
        (lambda: layers.AxialAttention(0), "positive integer.*axis=0"),
        (lambda: layers.AxialAttention(3).build((1, 8, 8, 16)), "from 1 to 2.*axis=3"),
        (lambda: layers.AxialAttention(1, 3).build((1, 8, 8, 16)), "twice num_heads.*num_heads=3"),
        (lambda: layers.AxialAttention(1).build((1, None, 8, 16)), "all sides known.*None, 8, 16"),
        (lambda: layers.GhostBatchNormalization(0), "positive integer.*parts=0"),
        (lambda: layers.CubicUpsampling(0), "positive integer.*factor=0"),
        (lambda: layers.SqueezeExcitation(0), "positive integer.*filters=0"),
        (lambda: layers.ParallelDepthwiseConv([]), r"pairs of .*branches=\[\]"),
        (lambda: layers.ParallelDepthwiseConv([(3, 1), (5,)]), r"pairs of .*\(5,\)"),
        (lambda: layers.ParallelDepthwiseConv([(4, 1)]), "must be odd.*kernel_size=4"),
        (lambda: layers.DepthwiseConv(2), "must be odd"),
        (lambda: layers.DepthwiseConv(3, strides=0), "positive integer.*strides=0"),
        (lambda: layers.GroupedConv(4, 3, strides=2, dilation=2), "both.*strides=2, dilation=2"),
        (lambda: layers.DepthwiseConv(3).build((8, 8, 4)), "image batch"),
        (lambda: layers.DepthwiseConv(3).build((1, 8, 8, None)), "static number of channels"),
        (lambda: layers.MaxPooling().build((1, 8, 9, 4)), "all must be even"),
        (lambda: layers.MaxPooling(4), "2 or odd.*kernel_size=4"),
        (lambda: layers.MultiHeadAttention(0), "positive integer.*num_heads=0"),
        (lambda: layers.MultiHeadAttention(2, "all"), "'key_value'.*joined='all'"),
        (lambda: layers.MultiHeadAttention(3).build((1, 5, 8)), "divide.*num_heads=3"),
        (
            lambda: layers.MultiHeadAttention(2, "query_key_value").build((1, 5, 8), (1, 3, 8)),
            r"without a source.*\(1, 3, 8\)",
        ),
        (lambda: layers.PositionEmbedding().build((1, 8, None, 4)), r"must be known.*\(1, 8, None"),
        (lambda: layers.WindowAttention(0, 7), "positive integer.*num_heads=0"),
        (lambda: layers.WindowAttention(2, 4, 4), "less than window.*shift=4, window=4"),
        (lambda: layers.WindowAttention(3, 4).build((1, 8, 8, 4)), "divide.*num_heads=3"),
        (lambda: layers.WindowAttention(2, 4).build((1, None, 8, 4)), r"known sides.*\(1, None"),
        (lambda: layers.ChannelwiseFeedForward(0), "positive integer.*factor=0"),
        (lambda: layers.PatchEmbedding(4, 0), "positive integer.*size=0"),
        (lambda: layers.PatchEmbedding(4, 4).build((1, 8, 6, 3)), "divisible by 4.*8, 6, 3"),
        (lambda: layers.PatchMerging(0), "positive integer.*filters=0"),
        (lambda: layers.PatchMerging(4).build((1, 8, 7, 3)), "all must be even"),
        (lambda: layers.PatchMerging(4, [(0, 2)]).build((1, 8, 8, 3)), r"0 or 1.*\(0, 2\)"),
        (lambda: layers.PatchExpansion(4, 0), "positive integer.*factor=0"),
        (lambda: layers.ResidualBlock(0), "positive integer.*filters=0"),
        (lambda: layers.ResidualBlock(4, bottleneck=0), "positive integer.*bottleneck=0"),
    ],
)
def test_bad_arguments_and_shapes_are_refused(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_channels_first_is_refused() -> None:
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match=r"channels-last.*'channels_first'"):
            layers.LMSBlock()
    finally:
        keras.config.set_image_data_format("channels_last")


def test_initial_biases_are_pytorchs() -> None:
    layer = layers.GroupedConv(500, 3, bias_initializer=initializers.FanInUniform(seed=0))
    layer.build((None, 8, 8, 4))
    peer = plain_pytorch.conv(2, 4, 500, 3)
    bound = float(peer.weight.detach().abs().max())  # PyTorch draws both within ±1/√36
    kernel, bias = map(ops.convert_to_numpy, (layer.kernel, layer.bias))
    for values in (kernel, bias):
        assert 0.98 * bound < np.abs(values).max() <= 1 / 6
    assert abs(bias.mean()) < 0.02
    fusion = layers.FusionBlock(4, bias_initializer=initializers.FanInUniform())
    fusion.build((None, 8, 8, 8))
    for part, fan_in in zip(fusion.convolutions, (36, 8, 16), strict=True):
        bias = ops.convert_to_numpy(part.bias)
        assert 0.5 < np.abs(bias).max() * np.sqrt(fan_in) < 1


def test_a_seed_gives_the_same_kernel_on_every_backend() -> None:
    kernel = initializers.FanInUniform(seed=7)((1, 1, 4, 1))
    # NumPy's own numbers for the seed, within ±1/√4.
    expected = np.random.default_rng(7).uniform(-0.5, 0.5, 4)
    np.testing.assert_allclose(ops.convert_to_numpy(kernel).ravel(), expected, atol=1e-7)
