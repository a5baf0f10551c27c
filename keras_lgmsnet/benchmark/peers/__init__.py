"""Networks in plain PyTorch, one module each, of the name that the network is registered by.

They are the independent references of the tests and the peers of the benchmarks. Tensors are
channels first, and the parameters carry the published names, so that `load_state_dict` takes what
`keras_lgmsnet.checkpoints.torch_state_dict` returns of the Keras network; initial weights are
PyTorch's.

To give a network a peer, write its module here. It ends with `create`, which takes the rank, the
channels of the input, the number of classes, and by name the arguments of the Keras network's
constructor.
"""

import importlib
import importlib.util
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def has(network: str) -> bool:
    """Return whether a network has a peer; it imports no PyTorch.

    Args:
        network: The name that it is registered by.
    """
    return importlib.util.find_spec(f"{__name__}.{network}") is not None


def create(
    network: str, rank: int, in_channels: int, num_classes: int, **arguments: Any
) -> "torch.nn.Module":
    """Return the peer of a network, whose output is the logits.

    Args:
        network: The name that it is registered by.
        rank: 2 for images, 3 for volumes.
        in_channels: Channels of the input.
        num_classes: Channels of the logits.
        **arguments: Those of the Keras network's constructor.

    Raises:
        ModuleNotFoundError: If the network has none, or PyTorch is not installed.
        ValueError: If the peer has no such argument.

    Example:
    ```python
    peer = peers.create("unet", 2, 3, 1, filters=(16, 32, 64))
    ```
    """
    module = importlib.import_module(f"{__name__}.{network}")
    unknown = arguments.keys() - inspect.signature(module.create).parameters.keys()
    if unknown:
        raise ValueError(
            f"The peer of {network!r} in PyTorch does not know {', '.join(sorted(unknown))}: leave "
            f"it out. Received: {arguments}"
        )
    return module.create(rank, in_channels, num_classes, **arguments)
