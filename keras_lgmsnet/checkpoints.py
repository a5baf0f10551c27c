"""Weights of published PyTorch programs, in and out of our networks.

Every key and every shape is accounted for. Which variable a published name means, the network's
own module in `models/` knows.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_lgmsnet.models.published_names import named_variables


def load_torch_state_dict(model: keras.Model, state_dict: Mapping[str, Any]) -> None:
    """Set a network's weights from a state dictionary with the published parameter names.

    `*.num_batches_tracked` entries, a `module.` prefix (of `DataParallel`) and a `state_dict`
    wrapper are accepted. Nothing is changed unless every parameter is there with its shape.

    Args:
        model: A network of the checkpoint's configuration.
        state_dict: Maps names to arrays or tensors in PyTorch's layout.

    Raises:
        ValueError: If a parameter is missing, unknown or of another shape; all are listed.
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
    wanted = dict(named_variables(model))
    problems += [f"missing {name}" for name in wanted if name not in given]
    problems += [f"unknown {name}" for name in given if name not in wanted]
    values = {}
    for name in wanted.keys() & given.keys():
        values[name] = _to_keras(given[name])
        if values[name].shape != tuple(wanted[name].shape):
            expected = _to_torch(np.empty(wanted[name].shape)).shape
            problems.append(f"{name} of shape {given[name].shape} instead of {expected}")
    if problems:
        raise ValueError(
            f"The state dictionary does not fit {model.name}, which is unchanged: "
            + "; ".join(sorted(problems))
        )
    for name, variable in wanted.items():
        variable.assign(values[name])


def load_torch_checkpoint(model: keras.Model, path: str | Path) -> None:
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


def torch_state_dict(model: keras.Model) -> dict[str, np.ndarray]:
    """Return a network's weights under the published names, in PyTorch's layout.

    Args:
        model: A network that was published with PyTorch, such as `LGMSNet2D`.

    Returns:
        Float32 arrays by name; `torch.nn.Module.load_state_dict` takes them, once made tensors,
        with `strict=False` where the module counts batches.

    Raises:
        TypeError: If the network's parameters have no published names.

    Example:
    ```python
    safetensors.numpy.save_file(kl.checkpoints.torch_state_dict(model), "lgmsnet.safetensors")
    ```
    """
    return {
        name: _to_torch(keras.ops.convert_to_numpy(variable))
        for name, variable in named_variables(model)
    }


def _to_keras(array: np.ndarray) -> np.ndarray:
    """Move axes from (out, in, *kernel) to (*kernel, in, out); vectors stay as they are."""
    return array if array.ndim < 2 else np.moveaxis(array, (0, 1), (-1, -2))


def _to_torch(array: np.ndarray) -> np.ndarray:
    """Move the axes back."""
    return array if array.ndim < 2 else np.moveaxis(array, (-1, -2), (0, 1))


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
