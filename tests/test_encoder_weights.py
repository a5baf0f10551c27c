"""Encoders that start with the weights of torchvision's ResNets, or of a Swin Transformer."""

from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import keras_lgmsnet as kl
from keras_lgmsnet.recipe.loading import load_recipe, override
from tests.helpers import frozen

FILTERS, DEPTHS = (4, 4, 6, 6, 8), (2, 1, 1, 1)
# Of bottlenecks, whose 3-wide convolutions have a quarter of the channels.
WIDE_FILTERS = (4, 8, 16, 16, 24)
STAGES = ("layer1", "layer2", "layer3", "layer4")
IMAGES = np.random.default_rng(0).random((1, 32, 32, 3)).astype("float32")


def _torchvision_weights(
    filters: tuple[int, ...] = FILTERS, bottlenecks: bool = False
) -> dict[str, np.ndarray]:
    """Return weights by the frozen numbers' rule, with the names of torchvision's ResNets."""
    shapes: dict[str, tuple[int, ...]] = {}

    def convolve(name: str, norm: str, channels: int, width: int, taps: int) -> None:
        shapes[f"{name}.weight"] = (width, channels, taps, taps)
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{part}"] = (width,)

    convolve("conv1", "bn1", 3, filters[0], 7)
    channels = filters[0]
    for stage, (width, depth) in enumerate(zip(filters[1:], DEPTHS, strict=True), start=1):
        steps = [(width, 3), (width, 3)]
        if bottlenecks:
            steps = [(width // 4, 1), (width // 4, 3), (width, 1)]
        for block in range(depth):
            name, inputs = f"layer{stage}.{block}", channels
            for number, (outputs, taps) in enumerate(steps, start=1):
                convolve(f"{name}.conv{number}", f"{name}.bn{number}", inputs, outputs, taps)
                inputs = outputs
            if block == 0 and (stage > 1 or channels != width):
                convolve(f"{name}.downsample.0", f"{name}.downsample.1", channels, width, 1)
            channels = width
    shapes |= {"fc.weight": (1000, filters[-1]), "fc.bias": (1000,)}
    return frozen.draw_weights(shapes)


def _save(path: Path, weights: dict[str, np.ndarray]) -> Path:
    if path.suffix == ".safetensors":
        save_file(weights, path)
        return path
    tensors = {name: torch.from_numpy(values) for name, values in weights.items()}
    counters = {
        name.replace("running_mean", "num_batches_tracked"): torch.tensor(7)
        for name in weights
        if name.endswith("running_mean")
    }
    torch.save(tensors | counters, path)
    return path


def _create(path: Path | None, channels: int = 3, network: str = "unet_plus_plus") -> keras.Model:
    keras.utils.set_random_seed(0)
    arguments = {"filters": FILTERS}
    if network == "madgnet":
        arguments = {"filters": WIDE_FILTERS, "decoder_filters": (32, 32, 32, 32), "scales": 1}
    return kl.models.create(
        network,
        input_shape=(32, 32, channels),
        num_classes=1,
        depths=DEPTHS,
        encoder_weights=path,
        **arguments,
    )


@pytest.mark.parametrize(
    ("network_name", "file_name", "channels"),
    [
        ("unet_plus_plus", "resnet.pth", 3),
        ("unet_plus_plus", "resnet.safetensors", 3),
        ("madgnet", "resnet.safetensors", 1),
    ],
)
def test_the_encoder_has_them_and_nothing_else_has(
    network_name: str, file_name: str, channels: int, tmp_path: Path
) -> None:
    is_wide = network_name == "madgnet"
    weights = _torchvision_weights(WIDE_FILTERS if is_wide else FILTERS, bottlenecks=is_wide)
    path = _save(tmp_path / file_name, weights)
    received, untouched = (
        kl.checkpoints.torch_state_dict(_create(each, channels, network_name))
        for each in (path, None)
    )
    prefix = {"unet_plus_plus": "", "madgnet": "feature_encoding."}[network_name]
    theirs = {"firstconv": "conv1", "firstbn": "bn1"} | {
        f"encoder{stage}": name for stage, name in enumerate(STAGES, start=1)
    }
    if prefix:
        theirs = {name: name for name in ("conv1", "bn1", *STAGES)}
    loaded = set()
    for ours, values in received.items():
        first, dot, rest = ours.removeprefix(prefix).partition(".")
        if first in theirs and ours.startswith(prefix):
            loaded.add(f"{theirs[first]}{dot}{rest}")
            np.testing.assert_array_equal(values, weights[f"{theirs[first]}{dot}{rest}"])
        else:
            np.testing.assert_array_equal(values, untouched[ours])
    assert weights.keys() - loaded == {"fc.weight", "fc.bias"}


@pytest.mark.no_backend  # the config is the same on every backend
def test_a_saved_network_needs_the_file_no_more(tmp_path: Path) -> None:
    path = _save(tmp_path / "resnet.pth", _torchvision_weights())
    network = _create(path)
    assert network.get_config()["encoder_weights"] is None
    network.save(tmp_path / "network.keras")
    path.unlink()
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    np.testing.assert_allclose(
        loaded.predict_on_batch(IMAGES), network.predict_on_batch(IMAGES), atol=1e-6
    )


@pytest.mark.no_backend
def test_a_stage_that_an_encoder_lacks_is_left_out(tmp_path: Path) -> None:
    weights = _torchvision_weights((16, 16, 4, 4, 8))
    network = kl.models.create(
        "erdunet",
        input_shape=(16, 16, 3),
        num_classes=1,
        filters=(16, 16, 4, 4),
        depths=DEPTHS[:3],
        encoder_weights=_save(tmp_path / "resnet.safetensors", weights),
    )
    loaded = set()
    for name, values in kl.checkpoints.torch_state_dict(network).items():
        if name.startswith("resnet."):
            loaded.add(name.removeprefix("resnet."))
            np.testing.assert_array_equal(values, weights[name.removeprefix("resnet.")])
    assert {name.partition(".")[0] for name in weights.keys() - loaded} == {"fc", "layer4"}


@pytest.mark.no_backend
def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    weights = _torchvision_weights()
    with pytest.raises(FileNotFoundError, match=r"no checkpoint file .*absent\.pth"):
        _create(tmp_path / "absent.pth")
    path = _save(tmp_path / "resnet.pth", weights)
    with pytest.raises(ValueError, match=r"of 3 channels.*, with conv1\.weight of sh"):
        _create(path, channels=1)
    del weights["layer1.1.bn2.running_var"]
    weights["layer4.1.conv1.weight"] = np.zeros((8, 8, 3, 3), "float32")
    weights["bn1.weight"] = weights["bn1.weight"][:-1]
    weights["layer3.0.bn1.bias"] = weights["layer3.0.bn1.bias"][:-1]
    with pytest.raises(ValueError, match="torchvision's ResNet") as raised:
        _create(_save(path, weights))
    assert str(raised.value).endswith(
        f"Received: {path}, with bn1.weight of shape (3,) instead of (4,); "
        "layer3.0.bn1.bias of shape (5,) instead of (6,); "
        "missing layer1.1.bn2.running_var; and 1 more"
    )


@pytest.mark.no_backend
def test_a_recipe_names_the_file() -> None:
    recipe = override(
        load_recipe("busi"),
        ["model.network=unet_plus_plus", "model.encoder_weights=weights/resnet34-b627a593.pth"],
    )
    arguments = recipe.model.arguments
    assert arguments["encoder_weights"] == "weights/resnet34-b627a593.pth"


def _create_swin(path: Path | None, window: int = 2) -> keras.Model:
    keras.utils.set_random_seed(0)
    return kl.models.create(
        "swin_unet",
        input_shape=(32 * window, 32 * window, 3),
        num_classes=1,
        filters=(4, 4, 4, 4),
        depths=(2, 1, 1, 1),
        num_heads=(2, 1, 1, 1),
        window=window,
        encoder_weights=path,
    )


def _swin_weights() -> dict[str, np.ndarray]:
    """Return weights by the frozen numbers' rule, with the names of Swin Transformer."""
    shapes = {
        name.removeprefix("swin_unet."): array.shape
        for name, array in kl.checkpoints.torch_state_dict(_create_swin(None)).items()
        if name.startswith(("swin_unet.patch_embed.", "swin_unet.layers.", "swin_unet.norm."))
    }
    deeper = {  # Swin-T has six blocks at the third level
        name.replace("layers.2.blocks.0", "layers.2.blocks.10"): shape
        for name, shape in shapes.items()
        if name.startswith("layers.2.blocks.0.")
    }
    return frozen.draw_weights(shapes | deeper | {"head.weight": (10, 4), "head.bias": (10,)})


@pytest.mark.no_backend
@pytest.mark.parametrize("publisher", ["timm", "authors"])
def test_a_swin_transformer_starts_both_sides_of_swin_unet(publisher: str, tmp_path: Path) -> None:
    weights = _swin_weights()
    path = tmp_path / "swin.pth"
    if publisher == "timm":
        renamed = {name.replace("head.", "head.fc."): value for name, value in weights.items()}
        for level in (3, 2, 1):
            renamed = {
                name.replace(f"layers.{level - 1}.downsample", f"layers.{level}.downsample"): value
                for name, value in renamed.items()
            }
        _save(path, renamed)
    else:
        # With the prefix of a network that was trained in parallel.
        tensors = {f"module.{name}": torch.from_numpy(values) for name, values in weights.items()}
        torch.save({"model": tensors}, path)
    network = _create_swin(path)
    assert network.get_config()["encoder_weights"] is None
    received, untouched = map(kl.checkpoints.torch_state_dict, (network, _create_swin(None)))
    for ours, values in received.items():
        name = ours.removeprefix("swin_unet.")
        if name.startswith("layers_up.") and ".blocks." in name:
            level = int(name.split(".")[1])
            name = name.replace(f"layers_up.{level}", f"layers.{3 - level}")
        is_computed = name.endswith(("attn_mask", "relative_position_index"))
        expected = untouched[ours] if is_computed else weights.get(name, untouched[ours])
        np.testing.assert_array_equal(values, expected, err_msg=ours)


@pytest.mark.no_backend
def test_swin_transformers_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    weights = _swin_weights()
    del weights["norm.bias"]
    path = _save(tmp_path / "swin.safetensors", weights)
    with pytest.raises(ValueError, match=r"num_heads and window.*; and \d+ more$"):
        _create_swin(path, window=3)
    with pytest.raises(ValueError, match=r"with missing norm\.bias$"):
        _create_swin(path)
