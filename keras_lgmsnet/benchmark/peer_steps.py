"""A forward pass or a training step of a peer, the network in plain PyTorch."""

import contextlib
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from keras_lgmsnet.benchmark.cases import Case, channels_first

if TYPE_CHECKING:
    import torch

# PyTorch's types by Keras's names of precisions.
AMP_TYPES = {"mixed_float16": "float16", "mixed_bfloat16": "bfloat16"}


def peer_step(
    case: Case,
    images: np.ndarray,
    targets: np.ndarray,
    *,
    precision: str = "float32",
    compiled: bool = False,
) -> Callable[[], "torch.Tensor"]:
    """Return what computes a case's batch with its peer, on the GPU where there is one.

    Args:
        case: Which network, and whether it trains.
        images: Channels last.
        targets: As the case's loss takes them, channels last.
        precision: `"float32"`, or `"mixed_float16"` or `"mixed_bfloat16"` for what PyTorch calls
            automatic mixed precision; in float16 with its scaling of gradients.
        compiled: Whether by `torch.compile`.

    Returns:
        A function of no arguments. It returns the loss of a step of the published training, or the
        logits; on a GPU they may not be computed yet.

    Example:
    ```python
    case = Case((256, 256, 3), batch_size=16, training=True)
    step = peer_step(case, *case.draw_batch(), precision="mixed_bfloat16")
    loss = step().item()
    ```
    """
    import torch

    from keras_lgmsnet.benchmark.torch_losses import bce_dice_loss, dice_ce_loss

    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = case.create_peer().to(device)
    compute = torch.compile(network) if compiled else network
    images = channels_first(images)

    def forward() -> torch.Tensor:
        batch = torch.from_numpy(images).to(device)
        with contextlib.ExitStack() as stack:
            if precision in AMP_TYPES:
                dtype = getattr(torch, AMP_TYPES[precision])
                stack.enter_context(torch.autocast(device, dtype))
            return compute(batch)

    if not case.training:
        network.eval()
        return torch.inference_mode()(forward)

    # The published training.
    create_optimizer = case.kind.choose(
        images=functools.partial(torch.optim.SGD, lr=0.02, momentum=0.9, weight_decay=1e-4),
        volumes=functools.partial(torch.optim.AdamW, lr=1e-3, weight_decay=1e-5),
    )
    optimizer: torch.optim.Optimizer = create_optimizer(network.parameters())
    scaler = torch.amp.GradScaler(device, enabled=precision == "mixed_float16")
    loss_function = bce_dice_loss if case.has_masks else dice_ce_loss
    targets = channels_first(targets) if case.has_masks else targets.astype("int64")

    def train() -> torch.Tensor:
        loss = loss_function(forward().float(), torch.from_numpy(targets).to(device))
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss.detach()

    return train
