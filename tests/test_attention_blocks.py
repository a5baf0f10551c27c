"""Blocks that attend, in training, against plain PyTorch.

They are parts of tiny networks. What a block computes, its running means and its gradients are
compared with those of a twin that has the published names and computes in float64.
"""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import ops
from torch import nn
from torch.nn import functional

import keras_lgmsnet as kl
from keras_lgmsnet.models import torch_weights
from keras_lgmsnet.models.erdunet_blocks import Blocks
from keras_lgmsnet.models.erdunet_names import PublishedParts
from keras_lgmsnet.models.madgnet import FREQUENCIES
from keras_lgmsnet.models.published_names import named_variables, variables_within
from tests.fixtures import generate
from tests.helpers import frozen, twins
from tests.helpers.gradients import compiled, gradients


def _network(name: str, sides: tuple[int, int], **arguments: Any) -> keras.Model:
    return kl.models.create(name, input_shape=(*sides, 3), num_classes=1, **arguments)


def _between(network: keras.Model, first: str, last: str) -> keras.Model:
    """Return what leads from the output of a layer to that of another."""
    return keras.Model(network.get_layer(first).output, network.get_layer(last).output)


class _Training:
    """A pass of a block of a network, and that of its twin, with the same weights drawn by name.

    The loss is a sum of squares, each with a factor: of what was normalized that of squares alone
    would hardly depend on any weight.

    Args:
        block: The part of a network, called with images, channels last.
        names: The published names of its variables, and the variables; others are left out.
        prefix: What these names begin with, where the twin's do not.
        peer: The twin.
        shapes: Those of the images.
    """

    def __init__(
        self,
        block: Any,
        names: Iterable[tuple[str, Any]],
        prefix: str,
        peer: nn.Module,
        *shapes: tuple[int, ...],
    ) -> None:
        held = {id(variable) for variable in block.weights}
        self.variables = {
            name.removeprefix(prefix): variable for name, variable in names if id(variable) in held
        }
        weights = frozen.draw_weights(generate.shapes(peer))
        assert self.variables.keys() == weights.keys()
        torch_weights.assign(self.variables, weights)
        tensors = {name: torch.from_numpy(values) for name, values in weights.items()}
        peer.load_state_dict(tensors, strict=False)  # which lacks the counters of batches

        draw = np.random.default_rng(0)
        images = [draw.standard_normal(shape).astype("float32") for shape in shapes]
        self.peer = peer.double().train()
        self.images = [torch.from_numpy(x).double().requires_grad_() for x in images]
        outputs = self.peer(*(x.movedim(-1, 1) for x in self.images)).movedim(1, -1)
        self.factors = draw.random(outputs.shape).astype("float32")
        self.expected = outputs.detach().numpy()
        self.loss = (outputs * torch.from_numpy(self.factors)).square().sum()

        self.block = block
        self.trained, self.others = (
            [ops.convert_to_numpy(variable) for variable in variables]
            for variables in (block.trainable_variables, block.non_trainable_variables)
        )
        self.arguments = [*images, *self.trained]

    def _call(self, *arguments: Any) -> tuple[Any, list[Any]]:
        images, weights = arguments[: len(self.images)], arguments[len(self.images) :]
        return self.block.stateless_call(weights, self.others, *images, training=True)

    def assert_outputs_are_equal(self) -> None:
        """Compare outputs, loss, and the statistics that the pass moved."""
        outputs, moved = compiled(self._call)(*self.arguments)
        outputs = ops.convert_to_numpy(outputs)
        np.testing.assert_allclose(outputs, self.expected, rtol=0, atol=1e-4 * self.expected.std())
        loss = np.square(outputs * self.factors, dtype="float64").sum()
        np.testing.assert_allclose(loss, self.loss.item(), rtol=1e-4)
        buffers = dict(self.peer.named_buffers())
        values = {
            id(variable): ops.convert_to_numpy(value)
            for variable, value in zip(self.block.non_trainable_variables, moved, strict=True)
        }
        for name, variable in self.variables.items():
            if name.endswith("running_mean"):  # of variances PyTorch keeps larger ones
                expected = buffers[name].numpy()
                np.testing.assert_allclose(
                    values[id(variable)],
                    expected,
                    rtol=1e-4,
                    atol=1e-4 * np.abs(expected).max(),
                    err_msg=name,
                )

    def assert_gradients_are_equal(self) -> None:
        """Compare the norms of the gradients of images and weights."""

        def weighted(*arguments: Any) -> Any:
            return ops.multiply(self._call(*arguments)[0], self.factors)

        self.loss.backward()
        received = gradients(weighted, *self.arguments)
        for gradient, images in zip(received, self.images, strict=False):
            expected = images.grad.numpy()
            np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-3 * expected.std())
        names = {id(variable): name for name, variable in self.variables.items()}
        norms = {
            names[id(variable)]: np.linalg.norm(gradient)
            for variable, gradient in zip(
                self.block.trainable_variables, received[len(self.images) :], strict=True
            )
        }
        expected = {
            name: parameter.grad.norm().item() for name, parameter in self.peer.named_parameters()
        }
        assert norms.keys() == expected.keys()
        for name, norm in norms.items():
            # Absolutely, of biases before a norm, which has no use for them.
            np.testing.assert_allclose(
                norm, expected[name], rtol=1e-3, atol=1e-6 * max(expected.values()), err_msg=name
            )


# === Swin-Unet ===


class _SwinBlock(nn.Module):
    def __init__(
        self, sides: tuple[int, int], channels: int, heads: int, window: int, shift: int
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = twins.WindowAttention(sides, channels, heads, window, shift)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(channels, 4 * channels), "fc2": nn.Linear(4 * channels, channels)}
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = images.movedim(1, -1)
        x = x + self.attn(self.norm1(x).movedim(-1, 1)).movedim(1, -1)
        x = x + self.mlp["fc2"](functional.gelu(self.mlp["fc1"](self.norm2(x))))
        return x.movedim(-1, 1)


def test_blocks_of_windows_train_as_plain_pytorch_does() -> None:
    """One whose windows tile the image, then one with shifted windows."""
    network = _network(
        "swin_unet",
        (96, 192),
        filters=(8, 8, 8, 8),
        depths=(2, 1, 1, 1),
        num_heads=(2, 1, 1, 1),
        window=3,
        drop_rate=0,
    )
    block = _between(network, "embedding_norm", "encoder1")
    sides = (24, 48)
    peer = nn.Sequential(_SwinBlock(sides, 8, 2, 3, 0), _SwinBlock(sides, 8, 2, 3, 1))
    training = _Training(
        block, named_variables(network), "swin_unet.layers.0.blocks.", peer, (1, *sides, 8)
    )
    training.assert_outputs_are_equal()
    training.assert_gradients_are_equal()


# === MADGNet ===


class _Frequencies(nn.Module):
    def __init__(self, width: int, side: int, frequencies: int) -> None:
        super().__init__()
        self.side = side
        self.fc = nn.Sequential(
            nn.Conv2d(width, width // 16, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(width // 16, width, 1, bias=False),
        )
        times = (torch.arange(side).double() + 0.5) / side

        def cosine(frequency: int) -> torch.Tensor:
            wave = torch.cos(torch.pi * frequency * (side // 7) * times) / side**0.5
            return wave * 2**0.5 if frequency else wave

        self.maps = [
            torch.outer(cosine(row), cosine(column)).float().double()
            for row, column in FREQUENCIES[:frequencies]
        ]

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        resized = functional.adaptive_avg_pool2d(features, self.side)
        products = torch.stack([resized * cosines for cosines in self.maps])
        axes = (3, 4)
        statistics = (products.mean(axes), products.amax(axes), products.amin(axes))
        shares = sum(self.fc(values.mean(0)[:, :, None, None]) for values in statistics)
        return features * shares.sigmoid()


class _MultipleScales(nn.Module):
    def __init__(self, channels: int, least: int, scales: int, side: int, frequencies: int) -> None:
        super().__init__()
        for name in (
            "multi_scale_branches",
            "multi_frequency_branches",
            "multi_frequency_branches_conv1",
            "multi_frequency_branches_conv2",
        ):
            setattr(self, name, nn.ModuleList())
        self.alpha_list, self.beta_list = nn.ParameterList(), nn.ParameterList()
        for scale in range(scales):
            width = max(channels // 2**scale, least)
            wide = {"groups": 32, "dilation": 1 + scale, "padding": 1 + scale, "bias": False}
            self.multi_scale_branches.append(
                nn.Sequential(
                    nn.Conv2d(channels, channels, 3, **wide),
                    nn.BatchNorm2d(channels),
                    nn.ReLU(),
                    nn.Conv2d(channels, width, 1, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(),
                )
            )
            attention = _Frequencies(width, side, frequencies)
            self.multi_frequency_branches.append(nn.Sequential(attention))
            self.multi_frequency_branches_conv1.append(
                nn.Sequential(nn.Conv2d(width, 1, 1, bias=False))
            )
            self.multi_frequency_branches_conv2.append(
                nn.Sequential(
                    nn.Conv2d(width, channels, 3, padding=1, bias=False),
                    nn.BatchNorm2d(channels),
                    nn.ReLU(),
                )
            )
            self.alpha_list.append(torch.ones(1))
            self.beta_list.append(torch.ones(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        parts = zip(
            self.multi_scale_branches,
            self.multi_frequency_branches,
            self.multi_frequency_branches_conv1,
            self.multi_frequency_branches_conv2,
            self.alpha_list,
            self.beta_list,
            strict=True,
        )
        total = 0
        for scale, (branch, attention, find, finish, alpha, beta) in enumerate(parts):
            is_pooled = images.shape[2] // 2**scale >= 8
            x = functional.avg_pool2d(images, 2**scale) if is_pooled else images
            x = attention(branch(x))
            found = find(x).sigmoid()
            x = finish(x * (1 - found) * alpha + x * found * beta)
            if x.shape != images.shape:
                x = functional.interpolate(x, scale_factor=2**scale, mode="bilinear")
            total = total + x
        return images + total / len(self.alpha_list)


def test_a_block_of_scales_and_frequencies_trains_as_plain_pytorch_does() -> None:
    """Of maps of 16 × 8 pixels, which are pooled at the second scale and not at the third."""
    network = _network(
        "madgnet",
        (64, 32),
        filters=(4, 4, 4, 4, 4),
        depths=(1, 1, 1, 1),
        decoder_filters=(32, 32, 32, 32),
        frequencies=3,
        least_filters=16,
    )
    block = _between(network, "decoder1_fusion", "decoder1_attention")
    peer = _MultipleScales(32, 16, 3, 56, 3)
    training = _Training(
        block,
        named_variables(network),
        "decoder_stage3.attention_layer.",
        peer,
        (2, *block.input_shape[1:]),
    )
    training.assert_outputs_are_equal()
    training.assert_gradients_are_equal()


# === MedT ===


class _AxialBlock(nn.Module):
    def __init__(self, channels: int, width: int, side: int, stride: int, heads: int) -> None:
        super().__init__()

        def attention(axis: int) -> nn.Module:
            return twins.AxialAttention(axis, side, width, heads, positions=False)

        self.conv_down, self.bn1 = nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.hight_block, self.width_block = attention(1), attention(2)
        self.stride = stride
        self.conv_up = nn.Conv2d(width, 2 * width, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.downsample = nn.Sequential(
            nn.Conv2d(channels, 2 * width, 1, stride, bias=False), nn.BatchNorm2d(2 * width)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.bn1(self.conv_down(images)).relu()
        x = self.width_block(self.hight_block(x))
        x = functional.avg_pool2d(x, self.stride).relu()
        return (self.bn2(self.conv_up(x)) + self.downsample(images)).relu()


class _LocalBranch(nn.Module):
    """One patch after the other; four levels of as many channels, a block each."""

    def __init__(self, stem: int, middle: int, width: int, heads: int, patches: int) -> None:
        super().__init__()
        self.patches = patches
        steps = ((3, stem, 7), (stem, middle, 3), (middle, stem, 3))
        for number, (channels, filters, taps) in enumerate(steps, start=1):
            convolution = nn.Conv2d(
                channels, filters, taps, 2 if number == 1 else 1, taps // 2, bias=False
            )
            self.add_module(f"conv{number}_p", convolution)
            self.add_module(f"bn{number}_p", nn.BatchNorm2d(filters))
        for level in (1, 2, 3, 4):
            channels, stride = (stem, 1) if level == 1 else (2 * width, 2)
            side = 16 // 2 ** max(level - 2, 0)
            block = _AxialBlock(channels, width, side, stride, heads)
            self.add_module(f"layer{level}_p", nn.Sequential(block))
        for number in (1, 2, 3, 4, 5):
            filters, stride = width if number == 5 else 2 * width, 2 if number == 1 else 1
            convolution = nn.Conv2d(2 * width, filters, 3, stride, 1)
            self.add_module(f"decoder{number}_p", convolution)

    def forward(self, images: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        outputs = features.clone()
        for row in range(self.patches):
            for column in range(self.patches):
                place = (..., slice(32 * row, 32 * row + 32), slice(32 * column, 32 * column + 32))
                outputs[place] = self._patch(images[place])
        return outputs

    def _patch(self, x: torch.Tensor) -> torch.Tensor:
        part = self.get_submodule
        for number in (1, 2, 3):
            x = part(f"bn{number}_p")(part(f"conv{number}_p")(x)).relu()
        levels = []
        for level in (1, 2, 3, 4):
            x = part(f"layer{level}_p")(x)
            levels.append(x)
        for number, skip in enumerate((*reversed(levels), 0), start=1):
            x = part(f"decoder{number}_p")(x)
            x = functional.interpolate(x, scale_factor=2, mode="bilinear").relu() + skip
        return x


def test_patches_at_once_train_as_one_after_the_other_in_plain_pytorch() -> None:
    """But for gradients, which are ill conditioned."""
    network = _network(
        "medt",
        (72, 68),
        filters=(4, 4, 4, 4, 4, 4, 4),
        depths=(1, 1, 1, 1),
        num_heads=2,
        patches=2,
    )
    peer = _LocalBranch(4, 4, 4, 2, 2)
    block, shapes = network.get_layer("local"), ((2, 72, 68, 3), (2, 72, 68, 4))
    _Training(block, named_variables(network), "", peer, *shapes).assert_outputs_are_equal()


# === ERDUnet ===


class _ConvNorm(nn.Module):
    def __init__(self, channels: int, filters: int, taps: int, use_bias: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, filters, taps, padding=taps // 2, bias=use_bias)
        self.bn = nn.BatchNorm2d(filters)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(images))


class _Attention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        for number in (1, 3):
            self.add_module(f"fc{number}", nn.Conv2d(channels, channels // 4, 1))
            self.add_module(f"fc{number + 1}", nn.Conv2d(channels // 4, channels, 1))
        self.spatial = _ConvNorm(2, 1, 7, use_bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        means = images.mean((2, 3), keepdim=True)
        x = images * self.fc2(self.fc1(means).relu()).sigmoid()
        both = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], 1)
        x = x * self.spatial(both).sigmoid()
        return x * self.fc4(self.fc3(x).relu()).sigmoid()


class _Encoder(nn.Module):
    def __init__(self, channels: int, filters: int, kind: str) -> None:
        super().__init__()
        self.kind = kind

        def step(channels: int = filters) -> list[nn.Module]:
            return [nn.Conv2d(channels, filters, 1), nn.BatchNorm2d(filters), nn.GELU()]

        self.proj = nn.Sequential(
            nn.Conv2d(channels, filters, 3, 2, 1), nn.Conv2d(filters, filters, 1)
        )
        if kind == "attentive":
            self.att = _Attention(filters)
        self.norm = nn.LayerNorm(filters)
        self.dwconv = nn.Sequential(nn.Conv2d(filters, filters, 3, padding=1, groups=filters))
        self.fc0 = _ConvNorm(filters, filters, 3)
        if kind != "large":
            self.proj_c = nn.Sequential(
                nn.Conv2d(channels, filters, 3, padding=1), nn.MaxPool2d(2), *step()
            )
            pairs = nn.Conv2d(2 * filters, filters, 3, padding=1, groups=filters)
            self.dwconv_2 = nn.Sequential(pairs, nn.GELU(), *step(), *step())
        self.turn_channel = nn.Sequential(*step(2 * filters))
        if kind == "large":
            self.fc1 = nn.Linear(filters, filters)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.proj(images)
        if self.kind == "attentive":
            x = self.att(x)
        normalized = self.norm(x.movedim(1, -1)).movedim(-1, 1)
        y = functional.gelu(self.fc0(normalized + functional.gelu(self.dwconv(x))))
        if self.kind != "large":
            y = self.dwconv_2(torch.cat([y, self.proj_c(images)], 1))
        y = self.turn_channel(torch.cat([y, x], 1))
        if self.kind == "large":
            y = self.fc1(y.movedim(1, -1)).movedim(-1, 1)
        return y + normalized


@pytest.mark.parametrize("kind", ["small", "attentive", "large"])
def test_an_encoders_block_trains_as_plain_pytorch_does(kind: str) -> None:
    image = keras.Input((16, 12, 6))
    blocks = Blocks(num_classes=1, dtype=keras.dtype_policies.get("float32"))
    block = keras.Model(image, blocks.encode(image, 8, "encoder", kind))
    names = variables_within(PublishedParts(block).encoder("encoder", "encoder", kind))
    training = _Training(block, names, "encoder.", _Encoder(6, 8, kind), (2, *image.shape[1:]))
    training.assert_outputs_are_equal()
    training.assert_gradients_are_equal()
