"""The published losses in plain PyTorch, channels first."""

from torch import Tensor
from torch.nn import functional


def bce_dice_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the published 2D loss: half the cross-entropy plus the images' mean Dice loss."""
    probability, mask = logits.sigmoid().flatten(1), masks.flatten(1)
    overlap, total = (probability * mask).sum(1), (probability + mask).sum(1)
    dice = ((2 * overlap + 1e-5) / (total + 1e-5)).mean()
    return 0.5 * functional.binary_cross_entropy_with_logits(logits, masks) + 1 - dice


def dice_ce_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the published 3D loss: squared soft Dice of every class plus cross-entropy."""
    axes = tuple(range(2, logits.ndim))
    probability = logits.softmax(dim=1)
    one_hot = functional.one_hot(labels, logits.shape[1]).movedim(-1, 1)
    overlap = (probability * one_hot).sum(axes)
    total = (probability**2 + one_hot).sum(axes)
    dice = ((2 * overlap + 1e-5) / (total + 1e-5)).mean()
    return functional.cross_entropy(logits, labels) + 1 - dice
