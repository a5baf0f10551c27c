"""Attention in plain PyTorch, which layers and blocks are compared with."""

import numpy as np
import torch


class AxialAttention(torch.nn.Module):
    """Attention along one axis of images or volumes, with positions or without."""

    def __init__(self, axis: int, length: int, channels: int, heads: int, positions: bool) -> None:
        super().__init__()
        self.axis, self.heads, self.positions = axis, heads, positions
        kinds, outputs, features = (3, 2, channels // heads) if positions else (1, 1, 0)
        self.qkv_transform = torch.nn.Conv1d(channels, 2 * channels, 1, bias=False)
        self.bn_qkv = torch.nn.BatchNorm1d(2 * channels)
        self.bn_similarity = torch.nn.BatchNorm2d(kinds * heads)
        self.bn_output = torch.nn.BatchNorm1d(outputs * channels)
        if positions:
            self.relative = torch.nn.Parameter(torch.zeros(2 * features, 2 * length - 1))
            for name in ("f_qr", "f_kr", "f_sve", "f_sv"):
                setattr(self, name, torch.nn.Parameter(torch.tensor(0.0)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        channels = images.shape[1]
        lines = images.movedim(1 + self.axis, -1).movedim(1, -2)
        shape = lines.shape
        lines = lines.reshape(-1, *shape[-2:])
        features, length = channels // self.heads, shape[-1]
        parts = self.bn_qkv(self.qkv_transform(lines))
        parts = parts.reshape(-1, self.heads, 2 * features, length)
        query, key, value = parts.split([features // 2, features // 2, features], 2)
        scores = torch.einsum("nhci,nhcj->nhij", query, key)
        if self.positions:
            tokens = torch.arange(length)
            tables = self.relative[:, tokens[:, None] - tokens + length - 1]
            of_query, of_key, of_value = tables.split([features // 2, features // 2, features])
            of_query = self.f_qr * torch.einsum("nhci,cij->nhij", query, of_query)
            of_key = self.f_kr * torch.einsum("nhcj,cji->nhij", key, of_key)
            scores = torch.cat([scores, of_query, of_key], 1)
        scores = self.bn_similarity(scores)
        scores = sum(scores.split(self.heads, 1))
        weights = scores.softmax(-1)
        outputs = torch.einsum("nhij,nhcj->nhci", weights, value)
        if self.positions:
            of_value = self.f_sve * torch.einsum("nhij,cij->nhci", weights, of_value)
            outputs = torch.stack([self.f_sv * outputs, of_value], 3)
        outputs = self.bn_output(outputs.reshape(len(lines), -1, length))
        outputs = outputs.reshape(len(lines), channels, -1, length).sum(2)
        return outputs.reshape(shape).movedim(-2, 1).movedim(-1, 1 + self.axis)


class WindowAttention(torch.nn.Module):
    """Attention between all pixels at once, those of other windows masked."""

    def __init__(
        self, sides: tuple[int, ...], channels: int, heads: int, window: int, shift: int
    ) -> None:
        super().__init__()
        self.heads, self.sides, rank = heads, sides, len(sides)
        windows = [min(side, window) for side in sides]
        shifts = [shift if side > size else 0 for side, size in zip(sides, windows, strict=True)]
        self.filled = [-(-side // size) * size for side, size in zip(sides, windows, strict=True)]
        number = (2 * window - 1) ** rank
        self.relative_position_bias_table = torch.nn.Parameter(torch.zeros(number, self.heads))
        self.qkv = torch.nn.Linear(channels, 3 * channels)
        self.proj = torch.nn.Linear(channels, channels)

        places = np.indices(self.filled).reshape(rank, -1)
        shifted = np.stack(
            [(p - s) % n for p, s, n in zip(places, shifts, self.filled, strict=True)]
        )
        tile = shifted // np.array(windows)[:, None]
        self.is_elsewhere = torch.from_numpy((tile[:, :, None] != tile[:, None]).any(0))
        # What the shift brought to the other end lies apart from what was there.
        was_moved = places < np.array(shifts)[:, None]
        self.is_apart = torch.from_numpy((was_moved[:, :, None] != was_moved[:, None]).any(0))
        # The number of a pixel within its window, which is taken for that within a whole window.
        number = np.ravel_multi_index(tuple(shifted % np.array(windows)[:, None]), windows)
        place = np.stack(np.unravel_index(number, (window,) * rank)).astype(int)
        steps = place[:, :, None] - place[:, None] + window - 1
        rows = sum(step * (2 * window - 1) ** (rank - 1 - axis) for axis, step in enumerate(steps))
        self.rows = torch.from_numpy(rows)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        filling = [(0, n - side) for side, n in zip(self.sides, self.filled, strict=True)]
        x = torch.nn.functional.pad(images, [n for pair in filling[::-1] for n in pair])
        x = x.flatten(2).mT
        parts = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = parts[0] @ parts[1].mT / parts.shape[-1] ** 0.5
        scores = scores + self.relative_position_bias_table[self.rows].permute(2, 0, 1)
        scores = scores - 100 * self.is_apart
        weights = scores.masked_fill(self.is_elsewhere, -torch.inf).softmax(-1)
        x = self.proj((weights @ parts[2]).transpose(1, 2).flatten(2))
        x = x.mT.unflatten(2, self.filled)
        return x[(slice(None), slice(None), *map(slice, self.sides))]
