"""U-Net in plain PyTorch, as published: for images with LGMSNet's blocks or without, for volumes.

In two dimensions it is the form that LGMSNet's paper compares, in three that of Çiçek et al. (3D
U-Net, MICCAI 2016) with padded convolutions.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from keras_lgmsnet.benchmark.peers.lgmsnet import GMSBlock, LMSBlock, conv, conv_norm_silu


class UNet(nn.Module):
    """The whole network, 2D or 3D; its output is the logits.

    Args:
        rank: 2 for images, 3 for volumes.
        in_channels: Channels of the input.
        num_classes: Channels of the logits.
        filters: Channels of the levels; by default the published ones of that rank.
        block: What replaces the convolutions of the encoder but for the first stage's, in 2D:
            nothing, "lms", or "gms" for LMS blocks and a GMS block in the last stage but one.
    """

    def __init__(
        self,
        rank: int,
        in_channels: int,
        num_classes: int,
        filters: Sequence[int] | None = None,
        block: str | None = None,
    ):
        super().__init__()
        if filters is None:
            filters = (64, 128, 256, 512, 1024) if rank == 2 else (64, 128, 256, 512)
        self.pool = functional.max_pool2d if rank == 2 else functional.max_pool3d
        self.encoders, self.ups, self.decoders, self.logits = stage_names(rank, len(filters))

        def encoder(level: int, in_channels: int, width: int) -> nn.Module:
            if block is None or level == 0:
                return double_conv(rank, in_channels, width if rank == 2 else width // 2, width)
            is_global = block == "gms" and level == len(filters) - 2
            multiscale = (
                GMSBlock(rank, in_channels, in_channels, feed_forward_dim=in_channels)
                if is_global
                else LMSBlock(rank, in_channels)
            )
            return nn.Sequential(multiscale, conv_norm_silu(rank, in_channels, width, 1))

        incoming = in_channels, *filters[:-1]
        for level, name in enumerate(self.encoders):
            self.add_module(name, encoder(level, incoming[level], filters[level]))
        widths = filters[::-1]
        for below, width, up, decoder in zip(
            widths[:-1], widths[1:], self.ups, self.decoders, strict=True
        ):
            upsampled = width if rank == 2 else below
            self.add_module(up, upsampling(rank, below, upsampled))
            self.add_module(decoder, double_conv(rank, width + upsampled, width, width))
        self.add_module(self.logits, conv(rank, filters[0], num_classes, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of images or volumes."""
        first, *deeper = map(self.get_submodule, self.encoders)
        x = first(image)
        skips = []
        for encoder in deeper:
            skips.append(x)
            x = encoder(self.pool(x, 2))
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            upsampled = self.get_submodule(up)(x)
            x = self.get_submodule(decoder)(torch.cat([skips.pop(), upsampled], dim=1))
        return self.get_submodule(self.logits)(x)


def stage_names(rank: int, levels: int) -> tuple[list[str], list[str], list[str], str]:
    """Return the names of encoders, upsamplings, decoders (the deepest first) and last layer."""
    down, up = range(1, levels + 1), range(levels, 1, -1)
    if rank == 2:
        return (
            [f"Conv{level}" for level in down],
            [f"Up{level}" for level in up],
            [f"Up_conv{level}" for level in up],
            "Conv_1x1",
        )
    return (
        [*(f"enc{level}" for level in down[:-1]), "bottom"],
        [f"up{level - 1}" for level in up],
        [f"dec{level - 1}" for level in up],
        "out",
    )


def double_conv(rank: int, in_channels: int, inner: int, filters: int) -> nn.Module:
    """Return two convolutions, each with batch norm and ReLU."""
    steps = *conv_norm_relu(rank, in_channels, inner), *conv_norm_relu(rank, inner, filters)
    if rank == 2:
        return nn.Sequential(OrderedDict(conv=nn.Sequential(*steps)))
    names = "conv1", "bn1", "relu1", "conv2", "bn2", "relu2"
    return nn.Sequential(OrderedDict(zip(names, steps, strict=True)))


def upsampling(rank: int, in_channels: int, filters: int) -> nn.Module:
    """Return what doubles every side: pixels repeated and convolved; voxels transposed."""
    if rank == 3:
        return nn.ConvTranspose3d(in_channels, filters, 2, stride=2, bias=False)
    steps = nn.Upsample(scale_factor=2), *conv_norm_relu(rank, in_channels, filters)
    return nn.Sequential(OrderedDict(up=nn.Sequential(*steps)))


def conv_norm_relu(rank: int, in_channels: int, filters: int) -> tuple[nn.Module, ...]:
    """Return a convolution, its batch norm and ReLU."""
    batch_norm = nn.BatchNorm2d if rank == 2 else nn.BatchNorm3d
    return conv(rank, in_channels, filters, 3), batch_norm(filters), nn.ReLU()


create = UNet
