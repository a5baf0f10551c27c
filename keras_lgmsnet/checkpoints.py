"""Weights of published PyTorch programs, in and out of our networks.

Every key and every shape is accounted for. Which variable a published name means, which parameters
the program has and never uses, and which of its buffers are computed here, the network's own module
in `models/` knows.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

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
    if isinstance(state_dict.get("state_dict"), Mapping):
        state_dict = state_dict["state_dict"]
    given, problems = {}, []
    for full_name, value in state_dict.items():
        name = full_name.removeprefix("module.")
        if name.endswith("num_batches_tracked"):
            continue
        if name in given:
            problems.append(f"{name} twice, with and without the prefix 'module.'")
        given[name] = _to_array(value)
    variables, buffers = dict(named_variables(model)), model.recomputed_buffers()
    shapes = {name: _torch_shape(variable) for name, variable in variables.items()}
    shapes |= model.idle_parameters()
    problems += [f"missing {name}" for name in shapes if name not in given]
    problems += [f"unknown {name}" for name in given if name not in shapes and name not in buffers]
    problems += [
        f"{name} of shape {given[name].shape} instead of {tuple(shape)}"
        for name, shape in shapes.items()
        if name in given and given[name].shape != tuple(shape)
    ]
    problems += [
        f"{name}, which is computed here, with other values"
        for name, buffer in buffers.items()
        if name in given and not _are_equal(given[name], buffer)
    ]
    if problems:
        raise ValueError(
            f"The state dictionary does not fit {model.name}, which is unchanged: "
            + "; ".join(sorted(problems))
        )
    for name, variable in variables.items():
        variable.assign(np.transpose(given[name], np.argsort(_torch_axes(variable))))


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
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint file {path}.")
    if path.suffix == ".safetensors":
        state_dict = _read_safetensors(path)
    elif path.suffix in (".pth", ".pt"):
        state_dict = _read_pth(path)
    else:
        raise ValueError(f"A checkpoint ends in .pth, .pt or .safetensors. Received: path={path}")
    if not isinstance(state_dict, Mapping):
        raise ValueError(
            f"{path} holds a {type(state_dict).__name__}, not a mapping of names to tensors."
        )
    load_torch_state_dict(model, state_dict)


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
        # In memory as they read, since safetensors writes it as it lies.
        name: np.ascontiguousarray(
            np.transpose(ops.convert_to_numpy(variable), _torch_axes(variable))
        )
        for name, variable in named_variables(model)
    }
    idle = {name: np.zeros(shape, "float32") for name, shape in model.idle_parameters().items()}
    return parameters | idle | dict(model.recomputed_buffers())


def _torch_axes(variable: Any) -> tuple[int, ...]:
    """Return a variable's axes in the order that PyTorch has them.

    Kernels, of convolutions and dense layers, are `(*sides, in, out)` here and `(out, in, *sides)`
    there; whatever else a network learns, such as a table of positions, has one shape.
    """
    axes = tuple(range(len(variable.shape)))
    return (*axes[:-3:-1], *axes[:-2]) if variable.name == "kernel" else axes


def _torch_shape(variable: Any) -> tuple[int, ...]:
    return tuple(variable.shape[axis] for axis in _torch_axes(variable))


def _are_equal(given: np.ndarray, buffer: np.ndarray) -> bool:
    return given.shape == np.shape(buffer) and np.allclose(given, buffer, rtol=1e-6, atol=1e-6)


def _to_array(value: Any) -> np.ndarray:
    # A torch tensor may require gradients, lie on a GPU or be bfloat16; NumPy takes none of these.
    if hasattr(value, "detach"):
        return value.detach().cpu().float().numpy()
    return np.asarray(value).astype("float32")


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable .safetensors file: {error}") from error


def _read_pth(path: Path) -> Any:
    import pickle

    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{path} is not a readable PyTorch checkpoint of plain tensors."
        ) from error
