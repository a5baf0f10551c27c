"""LGMSNet in plain PyTorch, written from the paper and the published program's behaviour.

The parameters carry the names of the published checkpoints, misspellings included.
Attention is written out, softmax(QKᵀ/√8)V, as the published program does.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

PUBLISHED_DEPTHWISE_NAMES = ("local_dwc", "global_dwc_s", "global_dwc_m", "global_dwc_l")


class LGMSNet(nn.Module):
    """The whole network, 2D or 3D; its output is the logits.

    Args:
        rank: 2 for images (batch normalisation), 3 for volumes (instance normalisation).
        in_channels: Channels of the input.
        num_classes: Channels of the logits.
        dims: Channels of the five encoder stages.
        kernel_sizes: One odd kernel size for each channel group of the LMS blocks.
        transformer_ratio: Share of a GMS block's channels that goes through the transformer, 0 … 1.
        activation: Activation after the group normalisation of the LMS blocks, "gelu" or "silu".
    """

    def __init__(
        self,
        rank: int,
        in_channels: int,
        num_classes: int,
        dims: Sequence[int] = (16, 32, 64, 128, 128),
        kernel_sizes: Sequence[int] = (3, 5, 7, 9),
        transformer_ratio: float = 0.75,
        activation: str = "gelu",
    ):
        super().__init__()

        def lms(channels: int) -> LMSBlock:
            return LMSBlock(rank, channels, kernel_sizes, activation)

        def gms(in_channels: int, filters: int) -> GMSBlock:
            return GMSBlock(rank, in_channels, filters, transformer_ratio)

        c1, c2, c3, c4, c5 = dims
        self.pool = functional.max_pool2d if rank == 2 else functional.max_pool3d

        self.stem = stem(rank, in_channels, c1)
        self.encoder1 = nn.Sequential(lms(c1), conv_norm_silu(rank, c1, c1, 1))
        self.encoder2 = nn.Sequential(lms(c1), conv_norm_silu(rank, c1, c2, 1))
        self.encoder3 = nn.Sequential(lms(c2), conv_norm_silu(rank, c2, c3, 1))
        self.encoder4 = nn.Sequential(gms(c3, c4))
        self.encoder5 = nn.Sequential(gms(c4, c5))

        self.Up5 = up(rank, c5, c4)
        self.Up_conv5 = gms(2 * c4, c4)
        self.Up4 = up(rank, c4, c3)
        self.Up_conv4 = nn.Sequential(FusionBlock(rank, 2 * c3, c3), gms(c3, c3))
        self.Up3 = up(rank, c3, c2)
        self.Up_conv3 = FusionBlock(rank, 2 * c2, c2)
        self.Up2 = up(rank, c2, c1)
        self.Up_conv2 = FusionBlock(rank, 2 * c1, c1)
        self.Conv_1x1 = conv(rank, c1, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of images or volumes."""
        e1 = self.encoder1(self.stem(image))
        e2 = self.encoder2(self.pool(e1, 2))
        e3 = self.encoder3(self.pool(e2, 2))
        e4 = self.encoder4(self.pool(e3, 2))
        e5 = self.encoder5(self.pool(e4, 2))

        d5 = self.Up_conv5(torch.cat([e4, self.Up5(e5)], dim=1))
        d4 = self.Up_conv4(torch.cat([e3, self.Up4(d5)], dim=1))
        d3 = self.Up_conv3(torch.cat([e2, self.Up3(d4)], dim=1))
        d2 = self.Up_conv2(torch.cat([e1, self.Up2(d3)], dim=1))
        return self.Conv_1x1(d2)


class LMSBlock(nn.Module):
    """Local multi-scale: a depthwise convolution of another kernel size on each channel group.

    With four kernel sizes the depthwise convolutions carry the published names; with any other
    number they are called `dwc_0`, `dwc_1`, …, in the order of `kernel_sizes`.
    """

    def __init__(
        self,
        rank: int,
        channels: int,
        kernel_sizes: Sequence[int] = (3, 5, 7, 9),
        activation: str = "gelu",
    ):
        super().__init__()
        groups = len(kernel_sizes)
        width = channels // groups
        self.depthwise_names = (
            PUBLISHED_DEPTHWISE_NAMES if groups == 4 else [f"dwc_{i}" for i in range(groups)]
        )
        self.norm_act = nn.Sequential(
            nn.GroupNorm(groups, channels), {"gelu": nn.GELU, "silu": nn.SiLU}[activation]()
        )
        for name, kernel_size in zip(self.depthwise_names, kernel_sizes, strict=True):
            self.add_module(name, conv(rank, width, width, kernel_size, groups=width))
        bottleneck = max(1, channels // 4)
        self.conv_1x1_bn = conv_norm_silu(rank, channels, bottleneck, 1)
        self.conv_nxn_bn = conv_norm_silu(rank, bottleneck, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        groups = x.chunk(len(self.depthwise_names), dim=1)
        convolved = [
            self.get_submodule(name)(group)
            for name, group in zip(self.depthwise_names, groups, strict=True)
        ]
        y = self.norm_act(torch.cat(convolved, dim=1) + x)
        return self.conv_nxn_bn(self.conv_1x1_bn(y)) + x


class GMSBlock(nn.Module):
    """Global multi-scale: a transformer on some channels beside a depthwise branch on the rest.

    `round(filters * transformer_ratio)` channels go through the transformer; a branch without
    channels does not exist. The transformer's perceptron is `feed_forward_dim` wide, by default
    twice as wide as the block.
    """

    def __init__(
        self,
        rank: int,
        in_channels: int,
        filters: int,
        transformer_ratio: float = 0.75,
        feed_forward_dim: int | None = None,
    ):
        super().__init__()
        transformer_channels = round(filters * transformer_ratio)
        conv_channels = filters - transformer_channels
        self.widths = [transformer_channels, conv_channels]
        self.conv1 = conv_norm_silu(rank, in_channels, filters, 3)
        self.conv2 = conv_norm_silu(rank, filters, filters, 1)
        self.conv_spilt = DepthwiseBranch(rank, conv_channels) if conv_channels else None
        self.transformer = (
            Transformer(transformer_channels, feed_forward_dim or 2 * filters)
            if transformer_channels
            else None
        )
        self.conv3 = conv_norm_silu(rank, filters, filters, 1)
        self.conv4 = conv_norm_silu(rank, filters + in_channels, filters, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same sides."""
        to_transformer, to_conv = self.conv2(self.conv1(x)).split(self.widths, dim=1)
        branches = []
        if self.transformer is not None:
            sides = to_transformer.shape[2:]
            tokens = self.transformer(unfold_patches(to_transformer))
            branches.append(fold_patches(tokens, sides))
        if self.conv_spilt is not None:
            branches.append(self.conv_spilt(to_conv))
        y = self.conv3(torch.cat(branches, dim=1))
        return self.conv4(torch.cat([y, x], dim=1))


class FusionBlock(nn.Sequential):
    """Merges a skip connection with the decoder: two groups, then an inverted bottleneck."""

    def __init__(self, rank: int, in_channels: int, filters: int):
        super().__init__()
        self.conv = nn.Sequential(
            conv(rank, in_channels, in_channels, 3, groups=2),
            nn.GELU(),
            norm(rank, in_channels),
            conv(rank, in_channels, 4 * filters, 1),
            nn.GELU(),
            norm(rank, 4 * filters),
            conv(rank, 4 * filters, filters, 1),
            nn.GELU(),
            norm(rank, filters),
        )


class DepthwiseBranch(nn.Module):
    """Residual depthwise branch of a GMS block; it keeps batch normalisation in 3D too."""

    def __init__(self, rank: int, channels: int):
        super().__init__()
        batch_norm = nn.BatchNorm2d if rank == 2 else nn.BatchNorm3d
        self.names = [f"dwconv{'x'.join([side] * rank)}" for side in "31"]
        spatial, pointwise = self.names
        self.add_module(spatial, conv(rank, channels, channels, 3, groups=channels, bias=False))
        self.bn1 = batch_norm(channels)
        self.add_module(pointwise, conv(rank, channels, channels, 1, groups=channels, bias=False))
        self.bn2 = batch_norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        spatial, pointwise = map(self.get_submodule, self.names)
        return self.bn2(pointwise(functional.relu(self.bn1(spatial(x))))) + x


class Transformer(nn.Module):
    """One pre-norm encoder layer on tokens of shape (batch, sequences, tokens, channels)."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.layers = nn.ModuleList(
            [nn.ModuleList([Attention(channels), feed_forward(channels, hidden)])]
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens of the same shape."""
        attention, perceptron = map(self.get_submodule, ("layers.0.0", "layers.0.1"))
        tokens = tokens + attention(tokens)
        return tokens + perceptron(tokens)


class Attention(nn.Module):
    """Layer norm and self-attention, four heads of eight features whatever the channels."""

    def __init__(self, channels: int, num_heads: int = 4, head_size: int = 8):
        super().__init__()
        self.num_heads = num_heads
        self.scale = head_size**-0.5
        inner = num_heads * head_size
        self.norm = nn.LayerNorm(channels)
        self.to_qkv = nn.Linear(channels, 3 * inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, channels))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return what the tokens of each sequence gather from one another."""
        query, key, value = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)
            for part in self.to_qkv(self.norm(tokens)).chunk(3, dim=-1)
        )
        weights = (query @ key.transpose(-2, -1) * self.scale).softmax(dim=-1)
        return self.to_out((weights @ value).transpose(-3, -2).flatten(-2))


def feed_forward(channels: int, hidden: int) -> nn.Module:
    """Return layer norm and a two-layer perceptron; the identity holds the place of a dropout."""
    layers = nn.LayerNorm(channels), nn.Linear(channels, hidden), nn.SiLU(), nn.Identity()
    return nn.Sequential(OrderedDict(net=nn.Sequential(*layers, nn.Linear(hidden, channels))))


def stem(rank: int, in_channels: int, filters: int) -> nn.Module:
    """Return convolution, norm and ReLU at full resolution."""
    layers = conv(rank, in_channels, filters, 3), norm(rank, filters), nn.ReLU()
    return nn.Sequential(OrderedDict(conv=nn.Sequential(*layers)))


def up(rank: int, in_channels: int, filters: int) -> nn.Module:
    """Return what doubles every side linearly, then convolution, norm and ReLU."""
    upsample = nn.Upsample(scale_factor=2, mode="bilinear" if rank == 2 else "trilinear")
    layers = upsample, conv(rank, in_channels, filters, 3), norm(rank, filters), nn.ReLU()
    return nn.Sequential(OrderedDict(up=nn.Sequential(*layers)))


def conv(
    rank: int, in_channels: int, filters: int, kernel_size: int, groups: int = 1, bias: bool = True
) -> nn.Module:
    """Return a convolution that keeps the sides."""
    layer = nn.Conv2d if rank == 2 else nn.Conv3d
    padding = kernel_size // 2
    return layer(in_channels, filters, kernel_size, padding=padding, groups=groups, bias=bias)


def norm(rank: int, channels: int) -> nn.Module:
    """Return the published norm: batch; in 3D, instance without parameters or statistics."""
    return nn.BatchNorm2d(channels) if rank == 2 else nn.InstanceNorm3d(channels)


def conv_norm_silu(rank: int, in_channels: int, filters: int, kernel_size: int) -> nn.Sequential:
    """Return convolution, norm and SiLU."""
    return nn.Sequential(
        conv(rank, in_channels, filters, kernel_size, bias=False), norm(rank, filters), nn.SiLU()
    )


def unfold_patches(x: Tensor) -> Tensor:
    """Turn (batch, channels, *sides) into (batch, 2^rank positions, tokens, channels).

    The pixels at one position inside every patch of side 2 make one sequence.
    """
    rank = x.ndim - 2
    for axis in range(rank):
        x = x.unflatten(2 + 2 * axis, (-1, 2))
    grid_axes, position_axes = range(2, 2 + 2 * rank, 2), range(3, 3 + 2 * rank, 2)
    x = x.permute(0, *position_axes, *grid_axes, 1)
    return x.flatten(1, rank).flatten(2, -2)


def fold_patches(tokens: Tensor, sides: Sequence[int]) -> Tensor:
    """Invert `unfold_patches`; `sides` are those of what was unfolded."""
    rank = len(sides)
    x = tokens.unflatten(2, [side // 2 for side in sides]).unflatten(1, [2] * rank)
    interleaved = [axis for i in range(rank) for axis in (1 + rank + i, 1 + i)]
    return x.permute(0, x.ndim - 1, *interleaved).reshape(len(x), -1, *sides)


create = LGMSNet
