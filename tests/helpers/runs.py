"""A network that trains in a moment, and what it takes for two runs to be the same."""

import io
import struct
import zipfile
from pathlib import Path
from typing import NoReturn

import h5py
import keras
import numpy as np
import pytest
from matplotlib.figure import Figure
from tensorboardX.proto.event_pb2 import Event

from keras_lgmsnet.models import registry

_create = registry.create


def create_small(name: str, **arguments) -> keras.Model:
    """Stand in for `registry.create`: in the place of LGMSNet, return what compiles in a moment."""
    return small_network(**arguments) if name == "lgmsnet" else _create(name, **arguments)


def small_network(input_shape, num_classes, dtype, **arguments) -> keras.Model:
    """Return one convolution, normalized, and the logits."""
    image = keras.Input(input_shape)
    conv = keras.layers.Conv2D if len(input_shape) == 3 else keras.layers.Conv3D
    x = conv(4, 5, padding="same", dtype=dtype)(image)
    x = keras.layers.BatchNormalization(momentum=0.9, dtype=dtype)(x)
    x = keras.layers.Activation("relu", dtype=dtype)(x)
    model = keras.Model(image, conv(num_classes, 1, dtype="float32")(x))
    model.dtype_policy = keras.dtype_policies.get(dtype)
    return model


def stop(*args: object, **kwargs: object) -> NoReturn:
    """Stand for a function during which the process is stopped."""
    raise KeyboardInterrupt


def leave_figures_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write reports whose figures hold nothing: they take longer than a tiny network's training."""
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **options: None)


def saved_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the weights and the optimizer's state in a `.keras` file."""
    arrays = {}

    def collect(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[name] = item[()]

    with zipfile.ZipFile(path) as archive:
        h5py.File(io.BytesIO(archive.read("model.weights.h5"))).visititems(collect)
    return arrays


def saved_scalars(tensorboard: Path) -> dict[tuple[str, str], list[tuple[int, float]]]:
    """Return the points of every curve, by the part of the data and the name."""
    curves = {}
    for path in tensorboard.glob("*/events.out.tfevents.*"):
        records = io.BytesIO(path.read_bytes())
        while header := records.read(12):  # the length, and its checksum
            event = Event.FromString(records.read(struct.unpack("<Q", header[:8])[0]))
            records.read(4)
            for value in event.summary.value:
                points = curves.setdefault((path.parent.name, value.tag), [])
                points.append((event.step, value.simple_value))
    return curves


def assert_same_run(run: Path, expected: Path) -> None:
    names = sorted(path.name for path in expected.iterdir())
    assert sorted(path.name for path in run.iterdir()) == names
    for name in names:
        if name == "tensorboard":
            assert saved_scalars(run / name) == saved_scalars(expected / name)
        elif name.endswith(".keras"):
            arrays, expected_arrays = saved_arrays(run / name), saved_arrays(expected / name)
            assert arrays.keys() == expected_arrays.keys()
            for key, array in arrays.items():
                np.testing.assert_array_equal(array, expected_arrays[key])
        elif name != "report.html":  # matplotlib gives elements of figures random names
            assert (run / name).read_bytes() == (expected / name).read_bytes()


def scatter(network: keras.Model, seed: int = 0) -> keras.Model:
    """Move every weight and statistic away from where it starts; return the network."""
    rng = np.random.default_rng(seed)
    for variable in network.weights:
        start = 1 if variable.name in ("gamma", "moving_variance") else 0
        # Kernels double the variance of their input, of which the activations halve it.
        is_kernel = len(variable.shape) > 1 and variable.name not in ("gamma", "beta")
        width = np.sqrt(6 / np.prod(variable.shape[:-1])) if is_kernel else 0.4
        variable.assign((start + rng.uniform(-width, width, variable.shape)).astype("float32"))
    return network
