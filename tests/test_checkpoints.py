"""The published checkpoints' names, shapes and files."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch_file

import keras_lgmsnet as kl
from keras_lgmsnet.benchmark.peers import lgmsnet as plain_pytorch
from keras_lgmsnet.layers import GroupedConv
from keras_lgmsnet.models import registry
from keras_lgmsnet.models.base import SegmentationNetwork
from keras_lgmsnet.models.network import Network, fixed
from keras_lgmsnet.models.published_names import named_variables

DIMS = (4, 4, 8, 8, 8)
MASK = np.array([[0, 1, 2], [3, 4, 5]])


@pytest.fixture(scope="module")
def peer() -> torch.nn.Module:
    torch.manual_seed(0)
    return plain_pytorch.LGMSNet(2, 3, 1, dims=DIMS).eval()


@pytest.fixture
def model() -> keras.Model:
    return kl.LGMSNet2D((32, 32, 3), dims=DIMS)


def test_weights_survive_the_round_trip(model: keras.Model, peer: torch.nn.Module) -> None:
    kl.checkpoints.load_torch_state_dict(model, peer.state_dict())
    back = kl.checkpoints.torch_state_dict(model)
    wanted = {name: value for name, value in peer.state_dict().items() if "num_batches" not in name}
    assert back.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(back[name], value.numpy())


def test_the_published_program_takes_them_strictly(
    model: keras.Model, peer: torch.nn.Module
) -> None:
    written = kl.checkpoints.torch_state_dict(model)
    other = plain_pytorch.LGMSNet(2, 3, 1, dims=DIMS)
    other.load_state_dict({name: torch.from_numpy(value) for name, value in written.items()})
    assert set(written) | {n for n in other.state_dict() if "num_batches" in n} == set(
        peer.state_dict()
    )


def test_they_are_written_as_they_read(model: keras.Model, tmp_path) -> None:
    written = kl.checkpoints.torch_state_dict(model)
    save_file(written, tmp_path / "checkpoint.safetensors")
    for name, value in load_file(tmp_path / "checkpoint.safetensors").items():
        np.testing.assert_array_equal(value, written[name], err_msg=name)


@pytest.mark.parametrize("suffix", ["pth", "pt", "safetensors"])
def test_files_are_read(model: keras.Model, peer: torch.nn.Module, tmp_path, suffix: str) -> None:
    path = tmp_path / f"checkpoint.{suffix}"
    if suffix == "safetensors":
        save_file({name: value.numpy() for name, value in peer.state_dict().items()}, path)
    else:
        prefixed = {f"module.{name}": value for name, value in peer.state_dict().items()}
        torch.save({"epoch": 3, "state_dict": prefixed}, path)
    kl.checkpoints.load_torch_checkpoint(model, path)
    kernel = keras.ops.convert_to_numpy(model.get_layer("logits").kernel)
    np.testing.assert_array_equal(kernel[0, 0].T, peer.Conv_1x1.weight.detach().numpy()[:, :, 0, 0])


@pytest.mark.parametrize(
    ("save", "name"), [(torch.save, "a.pth"), (save_torch_file, "a.safetensors")]
)
def test_bfloat16_tensors_are_read(
    save, name: str, model: keras.Model, peer: torch.nn.Module, tmp_path
) -> None:
    halves = {name: value.bfloat16() for name, value in peer.state_dict().items()}
    save(halves, tmp_path / name)
    kl.checkpoints.load_torch_checkpoint(model, tmp_path / name)
    kernel = kl.checkpoints.torch_state_dict(model)["Conv_1x1.weight"]
    np.testing.assert_array_equal(kernel, halves["Conv_1x1.weight"].float().numpy())


def test_every_misfit_is_listed_and_nothing_is_loaded(
    model: keras.Model, peer: torch.nn.Module
) -> None:
    state_dict = dict(peer.state_dict())
    del state_dict["stem.conv.0.weight"]
    state_dict["head.weight"] = torch.zeros(1)
    state_dict["Conv_1x1.bias"] = torch.zeros(2)
    state_dict["module.stem.conv.0.bias"] = torch.zeros(4)
    before = model.get_weights()
    with pytest.raises(ValueError) as error:
        kl.checkpoints.load_torch_state_dict(model, state_dict)
    message = str(error.value)
    assert "missing stem.conv.0.weight" in message
    assert "unknown head.weight" in message
    assert "stem.conv.0.bias twice, with and without" in message
    assert "Conv_1x1.bias of shape (2,) instead of (1,)" in message
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


class _Payload:
    def __reduce__(self):
        return (print, ("executed",))


def test_bad_files_are_refused(model: keras.Model, tmp_path, capsys) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint file"):
        kl.checkpoints.load_torch_checkpoint(model, tmp_path / "absent.pth")
    (tmp_path / "weights.h5").touch()
    with pytest.raises(ValueError, match=r"ends in \.pth, \.pt or \.safetensors"):
        kl.checkpoints.load_torch_checkpoint(model, tmp_path / "weights.h5")
    for name in ("broken.pth", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"not a checkpoint")
        with pytest.raises(ValueError, match=name):
            kl.checkpoints.load_torch_checkpoint(model, tmp_path / name)
    torch.save({"weights": _Payload()}, tmp_path / "hostile.pth")
    with pytest.raises(ValueError, match="plain tensors"):
        kl.checkpoints.load_torch_checkpoint(model, tmp_path / "hostile.pth")
    assert "executed" not in capsys.readouterr().out
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds a list"):
        kl.checkpoints.load_torch_checkpoint(model, tmp_path / "list.pth")


def test_layers_outside_the_network_have_no_published_names() -> None:
    with pytest.raises(TypeError, match="not part of a published network"):
        list(named_variables(keras.layers.Flatten()))


class _Positions(keras.layers.Layer):
    """A table added to the input, as transformers learn it."""

    def build(self, input_shape) -> None:
        self.table = self.add_weight(name="table", shape=(1, 4, 4, 2), initializer="ones")

    def call(self, inputs: Any) -> Any:
        return inputs + self.table


class _WithLeftovers(SegmentationNetwork):
    """A network whose published program has parameters that it never uses, and buffers."""

    rank = 2

    def __init__(self, input_shape=(4, 4, 2), num_classes=1, **kwargs) -> None:
        image, dtype = self.begin(input_shape, num_classes, kwargs)
        x = _Positions(dtype=dtype, name="positions")(image)
        logits = GroupedConv(num_classes, 3, dtype="float32", name="logits")(x)
        super().__init__(image, logits, num_classes, dtype, **kwargs)

    def published_parts(self) -> list[tuple[str, Any]]:
        return [("pos", self.get_layer("positions").table), ("head", self.get_layer("logits"))]

    def idle_parameters(self) -> Mapping[str, tuple[int, ...]]:
        return {"old_head.weight": (1, 2, 1, 1), "old_head.bias": (1,)}

    def recomputed_buffers(self) -> Mapping[str, np.ndarray]:
        return {"mask": MASK}


class _Program(torch.nn.Module):
    """The published program of that network, so far as its parameters go."""

    def __init__(self) -> None:
        super().__init__()
        self.pos = torch.nn.Parameter(torch.randn(1, 4, 4, 2))
        self.head = torch.nn.Conv2d(2, 1, 3)
        self.old_head = torch.nn.Conv2d(2, 1, 1)
        self.register_buffer("mask", torch.tensor(MASK))


@pytest.fixture
def with_leftovers(monkeypatch: pytest.MonkeyPatch) -> SegmentationNetwork:
    network = Network(
        name="leftovers",
        rank=2,
        title="Leftovers",
        module=__name__,
        class_name="_WithLeftovers",
        stages=(),
        sides=fixed(),
        paper="",
        program=None,
    )
    monkeypatch.setattr(registry, "NETWORKS", (*registry.NETWORKS, network))
    return kl.models.create("leftovers", input_shape=(4, 4, 2), num_classes=1)


def test_parameters_that_are_never_used_are_asked_for_and_left(
    with_leftovers: SegmentationNetwork,
) -> None:
    state_dict = _Program().state_dict()
    kl.checkpoints.load_torch_state_dict(with_leftovers, state_dict)
    table = keras.ops.convert_to_numpy(with_leftovers.get_layer("positions").table)
    np.testing.assert_array_equal(table, state_dict["pos"].numpy())  # its axes as they were
    kernel = keras.ops.convert_to_numpy(with_leftovers.get_layer("logits").kernel)
    expected = state_dict["head.weight"].numpy().transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(kernel, expected)

    back = kl.checkpoints.torch_state_dict(with_leftovers)
    assert back.keys() == state_dict.keys()
    for name, value in state_dict.items():
        if name.startswith("old_head"):
            value = torch.zeros_like(value)
        np.testing.assert_array_equal(back[name], value.numpy(), err_msg=name)
    program = _Program()
    program.load_state_dict({name: torch.from_numpy(value) for name, value in back.items()})
    torch.testing.assert_close(program.mask, torch.tensor(MASK))


def test_buffers_may_be_absent(with_leftovers: SegmentationNetwork) -> None:
    state_dict = _Program().state_dict()
    del state_dict["mask"]
    kl.checkpoints.load_torch_state_dict(with_leftovers, state_dict)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"old_head.bias": None}, "missing old_head.bias"),
        ({"old_head.weight": torch.zeros(2)}, r"old_head.weight of shape \(2,\) instead of"),
        ({"old_head.other": torch.zeros(1)}, "unknown old_head.other"),
        ({"pos": torch.zeros(4, 4, 2)}, r"pos of shape \(4, 4, 2\) instead of \(1, 4, 4, 2\)"),
        ({"mask": torch.tensor(MASK + 1)}, "mask, which is computed here, with other values"),
        ({"mask": torch.tensor(MASK * 1.00001)}, "mask, which is computed here"),
        ({"mask": torch.tensor(MASK[:1])}, "mask, which is computed here"),
        ({"mask": torch.tensor(MASK[..., None])}, "mask, which is computed here"),
        ({"mask": torch.zeros(2, 3), "pos": None}, "mask, .* values; missing pos"),
    ],
)
def test_leftovers_that_do_not_fit_are_listed(
    changes: dict, words: str, with_leftovers: SegmentationNetwork
) -> None:
    state_dict = _Program().state_dict() | changes
    state_dict = {name: value for name, value in state_dict.items() if value is not None}
    before = with_leftovers.get_weights()
    with pytest.raises(ValueError, match=words):
        kl.checkpoints.load_torch_state_dict(with_leftovers, state_dict)
    for old, new in zip(before, with_leftovers.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
