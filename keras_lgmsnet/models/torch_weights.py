"""Weights in PyTorch's layout, from files and into variables; every key is accounted for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops


def fit(
    state_dict: Mapping[str, Any],
    variables: Mapping[str, Any],
    idle: Mapping[str, tuple[int, ...]] | None = None,
    buffers: Mapping[str, np.ndarray] | None = None,
    unused: tuple[str, ...] = (),
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the arrays for variables by their names, and in words what does not fit.

    `*.num_batches_tracked` entries, a `module.` prefix (of `DataParallel`) and a `state_dict`
    wrapper are accepted.

    Args:
        state_dict: Maps names to arrays or tensors in PyTorch's layout.
        variables: Maps names to the variables that must be there.
        idle: Maps names to the shapes of what must be there and is not used.
        buffers: Maps names to what may be there, but must then have these values.
        unused: What the names begin with of what may be there with any values.
    """
    if isinstance(state_dict.get("state_dict"), Mapping):
        state_dict = state_dict["state_dict"]
    buffers = buffers or {}
    given: dict[str, np.ndarray] = {}
    problems = []
    for full_name, value in state_dict.items():
        name = str(full_name).removeprefix("module.")
        if name.endswith("num_batches_tracked") or name.startswith(unused):
            continue
        if name in given:
            problems.append(f"{name} twice, with and without the prefix 'module.'")
        given[name] = _to_array(value)
    shapes = {name: _torch_shape(variable) for name, variable in variables.items()}
    shapes.update(idle or {})
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
    return given, sorted(problems)


def assign(variables: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Set variables to arrays of their names, in PyTorch's layout."""
    for name, variable in variables.items():
        variable.assign(np.transpose(arrays[name], np.argsort(_torch_axes(variable))))


def to_torch(variable: Any) -> np.ndarray:
    """Return a variable in PyTorch's layout."""
    array = np.transpose(ops.convert_to_numpy(variable), _torch_axes(variable))
    # In memory as it reads, since safetensors writes it as it lies; NumPy gives a number an axis.
    return np.ascontiguousarray(array).reshape(array.shape)


def read(path: str | Path) -> Mapping[str, Any]:
    """Return the names and tensors of a `.pth` (or `.pt`) or `.safetensors` file.

    A `.pth` file needs PyTorch; it is read with `weights_only=True`, so it runs no code. A
    `.safetensors` file needs the package of that name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not a checkpoint.
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
    return state_dict


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


def tell(misfits: list[str]) -> str:
    """Return the first misfits for a message: of another network there would be hundreds."""
    more = [f"and {len(misfits) - 3} more"] if len(misfits) > 3 else []
    return "; ".join([*misfits[:3], *more])
