"""Weights of published PyTorch programs, in and out of our networks.

Every key and every shape is accounted for. Which variable a published name means, which parameters
the program has and never uses, and which of its buffers are computed here, the network's own module
in `models/` knows.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_lgmsnet.models import torch_weights
from keras_lgmsnet.models.base import SegmentationNetwork
from keras_lgmsnet.models.published_names import named_variables


def load_torch_state_dict(model: SegmentationNetwork, state_dict: Mapping[str, Any]) -> None:
    """Set a network's weights from a state dictionary with the published parameter names.

    `*.num_batches_tracked` entries, a `module.` prefix (of `DataParallel`) and a `state_dict`
    wrapper are accepted. Nothing is changed unless every parameter is there with its shape. That
    holds for the network's `idle_parameters` too, whose values are of no use; of its
    `recomputed_buffers`, those that are there must be equal to within 1e-6.

    Args:
        model: A network of the checkpoint's configuration.
        state_dict: Maps names to arrays or tensors in PyTorch's layout.

    Raises:
        ValueError: If a parameter is missing, unknown or of another shape, or a buffer differs; all
            are listed.
        TypeError: If the network's parameters have no published names.

    Example:
    ```python
    model = kl.LGMSNet2D()
    kl.checkpoints.load_torch_state_dict(model, torch_model.state_dict())
    ```
    """
    variables = dict(named_variables(model))
    arrays, problems = torch_weights.fit(
        state_dict, variables, model.idle_parameters(), model.recomputed_buffers()
    )
    if problems:
        raise ValueError(
            f"The state dictionary does not fit {model.name}, which is unchanged: "
            + "; ".join(problems)
        )
    torch_weights.assign(variables, arrays)


def load_torch_checkpoint(model: SegmentationNetwork, path: str | Path) -> None:
    """Set a network's weights from a `.pth` (or `.pt`) or `.safetensors` file.

    A `.pth` file needs PyTorch; it is read with `weights_only=True`, so it runs no code. A
    `.safetensors` file needs the package of that name.

    Args:
        model: A network of the checkpoint's configuration.
        path: The file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not a checkpoint or does not fit the model.
        TypeError: If the network's parameters have no published names.

    Example:
    ```python
    model = kl.LGMSNet2D()
    kl.checkpoints.load_torch_checkpoint(model, "lgmsnet_isic18.pth")
    ```
    """
    load_torch_state_dict(model, torch_weights.read(path))


def torch_state_dict(model: SegmentationNetwork) -> dict[str, np.ndarray]:
    """Return a network's weights under the published names, in PyTorch's layout.

    Args:
        model: A network that was published with PyTorch, such as `LGMSNet2D`.

    Returns:
        Arrays by name, all that the published program's `load_state_dict` asks for, once they are
        made tensors: besides the parameters, in float32, the network's `recomputed_buffers` and,
        as zeros, its `idle_parameters`. (PyTorch itself adds the `num_batches_tracked` that a
        plain dictionary lacks.)

    Raises:
        TypeError: If the network's parameters have no published names.

    Example:
    ```python
    safetensors.numpy.save_file(kl.checkpoints.torch_state_dict(model), "lgmsnet.safetensors")
    ```
    """
    parameters = {
        name: torch_weights.to_torch(variable) for name, variable in named_variables(model)
    }
    idle = {name: np.zeros(shape, "float32") for name, shape in model.idle_parameters().items()}
    return parameters | idle | dict(model.recomputed_buffers())
