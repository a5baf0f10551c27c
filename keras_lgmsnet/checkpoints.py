"""Weights of the published PyTorch program, in and out of our networks."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_lgmsnet import layers

_LMS_DEPTHWISE = ("local_dwc", "global_dwc_s", "global_dwc_m", "global_dwc_l")


def load_torch_state_dict(model: keras.Model, state_dict: Mapping[str, Any]) -> None:
    """Set a network's weights from a state dictionary with the published parameter names.

    `*.num_batches_tracked` entries, a `module.` prefix (of `DataParallel`) and a `state_dict`
    wrapper are accepted. Nothing is changed unless every parameter is there with its shape.

    Args:
        model: A `LGMSNet2D` or `LGMSNet3D` of the checkpoint's configuration.
        state_dict: Maps names to arrays or tensors in PyTorch's layout.

    Raises:
        ValueError: If a parameter is missing, unknown or of another shape; all are listed.

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
        model: A `LGMSNet2D` or `LGMSNet3D` of the checkpoint's configuration.
        path: The file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not a checkpoint or does not fit the model.

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
        model: A `LGMSNet2D` or `LGMSNet3D`.

    Returns:
        Float32 arrays by name; `torch.nn.Module.load_state_dict` takes them, once made tensors,
        with `strict=False` where the module counts batches.

    Example:
    ```python
    safetensors.numpy.save_file(kl.checkpoints.torch_state_dict(model), "lgmsnet.safetensors")
    ```
    """
    return {
        name: _to_torch(keras.ops.convert_to_numpy(variable))
        for name, variable in named_variables(model)
    }


def named_variables(layer: keras.layers.Layer, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the published name and the Keras variable of each parameter of a network or block.

    Args:
        layer: A network, or one of the blocks, norms and convolutions it is made of; built.
        prefix: What the names begin with, dot included.

    Raises:
        TypeError: If the layer is not one of the published network's.
    """
    for name, part in _published_parts(layer):
        if isinstance(part, keras.layers.Layer):
            yield from named_variables(part, f"{prefix}{name}.")
        elif part is not None:
            yield f"{prefix}{name}", part


def _published_parts(layer: keras.layers.Layer) -> list[tuple[str, Any]]:
    """Return the published names of a layer's immediate parts: layers, variables or `None`."""
    match layer:
        case keras.Model():
            return _network_parts(layer)
        case layers.GroupedConv() | layers.DepthwiseConv() | keras.layers.Dense():
            return [("weight", layer.kernel), ("bias", layer.bias)]
        case keras.layers.BatchNormalization():
            return [
                ("weight", layer.gamma),
                ("bias", layer.beta),
                ("running_mean", layer.moving_mean),
                ("running_var", layer.moving_variance),
            ]
        case layers.GroupNormalization() | keras.layers.LayerNormalization():
            return [("weight", layer.gamma), ("bias", layer.beta)]
        case layers.ConvNormActivation():
            return [("0", layer.convolution), ("1", layer.norm)]
        case layers.LMSBlock():
            numbered = [f"dwc_{number}" for number in range(len(layer.depthwise))]
            names = _LMS_DEPTHWISE if len(numbered) == len(_LMS_DEPTHWISE) else numbered
            return [
                ("norm_act.0", layer.group_normalization),
                *zip(names, layer.depthwise, strict=True),
                ("conv_1x1_bn", layer.squeeze),
                ("conv_nxn_bn", layer.expand),
            ]
        case layers.GMSBlock():
            branches = (
                ("conv_spilt", layer.depthwise),
                ("transformer.layers.0", layer.transformer),
            )
            return [
                ("conv1", layer.local),
                ("conv2", layer.project),
                *((name, branch) for name, branch in branches if branch is not None),
                ("conv3", layer.mix),
                ("conv4", layer.merge),
            ]
        case layers.SparseTransformer():
            return [
                ("0.norm", layer.attention_norm),
                ("0.to_qkv", layer.query_key_value),
                ("0.to_out.0", layer.attention_output),
                ("1.net.0", layer.feed_forward_norm),
                ("1.net.1", layer.feed_forward),
                ("1.net.4", layer.feed_forward_output),
            ]
        case layers.DepthwiseResidual():
            return [
                ("dwconv" + "x".join("3" * layer.rank), layer.depthwise),
                ("bn1", layer.norm),
                ("dwconv" + "x".join("1" * layer.rank), layer.scale),
                ("bn2", layer.scale_norm),
            ]
        case layers.FusionBlock():
            steps = zip(layer.convolutions, layer.norms, strict=True)
            return [
                (f"conv.{3 * number + offset}", part)
                for number, (convolution, norm) in enumerate(steps)
                for offset, part in ((0, convolution), (2, norm))
            ]
    raise TypeError(f"{layer.name} ({type(layer).__name__}) is not part of a published network.")


def _network_parts(model: keras.Model) -> list[tuple[str, Any]]:
    stage = model.get_layer
    stem, *ups = (
        [
            (f"{name}.{step}.{first}", stage(layer).convolution),
            (f"{name}.{step}.{first + 1}", stage(layer).norm),
        ]
        for name, layer, step, first in (
            ("stem", "stem", "conv", 0),
            *((f"Up{level}", f"up{level}", "up", 1) for level in (5, 4, 3, 2)),
        )
    )
    return [
        *stem,
        ("encoder1.0", stage("encoder1_lms")),
        ("encoder1.1", stage("encoder1")),
        ("encoder2.0", stage("encoder2_lms")),
        ("encoder2.1", stage("encoder2")),
        ("encoder3.0", stage("encoder3_lms")),
        ("encoder3.1", stage("encoder3")),
        ("encoder4.0", stage("encoder4")),
        ("encoder5.0", stage("encoder5")),
        *(part for up in ups for part in up),
        ("Up_conv5", stage("decoder5")),
        ("Up_conv4.0", stage("decoder4_fusion")),
        ("Up_conv4.1", stage("decoder4")),
        ("Up_conv3", stage("decoder3")),
        ("Up_conv2", stage("decoder2")),
        ("Conv_1x1", stage("logits")),
    ]


def _to_keras(array: np.ndarray) -> np.ndarray:
    """(out, in, *kernel) → (*kernel, in, out); vectors stay as they are."""
    return array if array.ndim < 2 else np.moveaxis(array, (0, 1), (-1, -2))


def _to_torch(array: np.ndarray) -> np.ndarray:
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
