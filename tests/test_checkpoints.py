"""The published checkpoints' names, shapes and files."""

import keras
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file

import keras_lgmsnet as kl
from keras_lgmsnet.benchmark.peers import lgmsnet as plain_pytorch
from keras_lgmsnet.models.published_names import named_variables

DIMS = (4, 4, 8, 8, 8)


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
